//! The shell around the machine: one task per enrolling node, between its WebSocket, the operator's attempt, the
//! registry of waiting nodes and the store.

use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, CloseCode, CloseReason, MessageStream, Session};
use orama_protocol::enroll::{ENROLL_FRAME_LIMIT_BYTES, GatewayMessage, NodeMessage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::attempt::remove_from_mesh;
use super::machine::{Action, Event, Phase, step};
use super::waiting::{Answer, Call, Seat};
use crate::state::{State, now};

/// From the upgrade, or from a rejected or failed code, to a hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// From the offer to the end of the attempt; the attempt itself is shorter.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(60);
/// From registration to the committed volume: formatting and storing shares takes seconds, a slow disk minutes.
const PROVISIONING_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Nodes wait for their operator for a day at most, then connect anew.
const WAITING_LIMIT: Duration = Duration::from_secs(24 * 3600);
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Three missed pongs.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
/// How long a peer that does not read may hold us up.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Messages that one socket may send: an enrollment takes about twenty, a new code every few minutes some more.
const MESSAGES: u32 = 10_000;

/// Why a socket ends: for the log, and in the close frame.
type Ending = &'static str;

struct Conversation {
    state: Arc<State>,
    seat: Seat,
    session: Session,
    phase: Phase,
    deadline: Instant,
    /// Our own end of the channel that goes into the registry with the code.
    calls: mpsc::Sender<Call>,
    /// The attempt that waits for the node's word.
    answer: Option<oneshot::Sender<Answer>>,
    registered: Option<Registered>,
}

struct Registered {
    node_id: String,
    public_key: String,
    last_step: String,
}

pub async fn serve(state: Arc<State>, seat: Seat, session: Session, messages: MessageStream) {
    // One attempt at a time talks to a node, and it waits after each call.
    let (calls, incoming) = mpsc::channel(4);
    let conversation = Conversation {
        state,
        seat,
        session: session.clone(),
        phase: Phase::Greeting,
        deadline: Instant::now() + HELLO_LIMIT,
        calls,
        answer: None,
        registered: None,
    };
    conversation.run(messages, incoming, session).await;
}

impl Conversation {
    async fn run(mut self, messages: MessageStream, mut calls: mpsc::Receiver<Call>, session: Session) {
        let mut messages = messages
            .max_frame_size(ENROLL_FRAME_LIMIT_BYTES)
            .aggregate_continuations()
            .max_continuation_size(ENROLL_FRAME_LIMIT_BYTES);
        let mut ping = interval(PING_INTERVAL);
        let mut heard = Instant::now();
        let mut budget = MESSAGES;
        let (code, ending) = loop {
            let outcome = tokio::select! {
                message = messages.recv() => {
                    heard = Instant::now();
                    budget = budget.saturating_sub(1);
                    match message {
                        Some(Ok(message)) if budget > 0 => self.message(message).await,
                        Some(Ok(_)) => Err((CloseCode::Policy, "too many messages")),
                        Some(Err(error)) => {
                            tracing::debug!(%error, "an enrollment socket broke");
                            Err((CloseCode::Protocol, "broken or oversized frame"))
                        }
                        None => Err((CloseCode::Normal, "the node closed the connection")),
                    }
                }
                Some(call) = calls.recv() => self.call(call).await,
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE_LIMIT {
                        Err((CloseCode::Away, "the node fell silent"))
                    } else {
                        self.ping().await
                    }
                }
                () = sleep_until(self.deadline) => Err((CloseCode::Policy, self.overdue())),
            };
            if let Err(end) = outcome {
                break end;
            }
        };
        self.end(ending).await;
        let reason = CloseReason { code, description: Some(ending.to_owned()) };
        let _ = timeout(SEND_LIMIT, session.close(Some(reason))).await;
    }

    fn overdue(&self) -> Ending {
        match self.phase {
            Phase::Greeting => "no hello in time",
            Phase::Waiting => "no operator came",
            Phase::Offered | Phase::Agreed => "the enrollment took too long",
            Phase::Provisioning => "provisioning took too long",
            Phase::Done => "done",
        }
    }

    async fn ping(&mut self) -> Result<(), (CloseCode, Ending)> {
        match timeout(SEND_LIMIT, self.session.ping(b"")).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err((CloseCode::Away, "the node does not read")),
        }
    }

    async fn message(&mut self, message: AggregatedMessage) -> Result<(), (CloseCode, Ending)> {
        match message {
            AggregatedMessage::Text(text) => match serde_json::from_str::<NodeMessage>(&text) {
                Ok(said) => self.advance(Event::Said(said)).await,
                Err(_) => Err((CloseCode::Invalid, "malformed message")),
            },
            AggregatedMessage::Ping(payload) => {
                let pong = timeout(SEND_LIMIT, self.session.pong(&payload)).await;
                if pong.is_ok_and(|sent| sent.is_ok()) {
                    Ok(())
                } else {
                    Err((CloseCode::Away, "the node does not read"))
                }
            }
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Binary(_) => {
                Err((CloseCode::Unsupported, "binary messages are not understood"))
            }
            AggregatedMessage::Close(_) => Err((CloseCode::Normal, "the node closed the connection")),
        }
    }

    async fn call(&mut self, call: Call) -> Result<(), (CloseCode, Ending)> {
        match call {
            Call::Offer { config, recovery, answer } => {
                // Outside Waiting the answer is dropped, which tells the attempt that the node moved on.
                if self.phase == Phase::Waiting {
                    self.answer = Some(answer);
                    return self.advance(Event::Offer(config, recovery)).await;
                }
                Ok(())
            }
            Call::Register { node_id, public_key, sent } => {
                if self.phase == Phase::Agreed {
                    self.advance(Event::Register).await?;
                    self.registered =
                        Some(Registered { node_id, public_key, last_step: "registered".into() });
                    let _ = sent.send(());
                }
                Ok(())
            }
            Call::Abort { reason } => self.advance(Event::Abort(reason)).await,
        }
    }

    /// One event and all that follows from it.
    async fn advance(&mut self, event: Event) -> Result<(), (CloseCode, Ending)> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let before = self.phase;
            let (phase, actions) = step(before, event);
            self.phase = phase;
            if phase != before {
                self.deadline = Instant::now() + limit(phase);
            }
            for action in actions {
                match action {
                    Action::Announce(introduction) => {
                        next = Some(Event::Announced(self.seat.announce(introduction, self.calls.clone())));
                    }
                    Action::Send(message) => self.send(&message).await?,
                    Action::Accepted(token) => self.answer(Answer::Accepted(token)),
                    Action::Refused(reason) => self.answer(Answer::Refused(reason)),
                    Action::Step(text) => self.record_step(text).await,
                    Action::KeepRecovery(answer) => self.keep_recovery(answer).await?,
                    Action::Provisioned => self.provisioned().await,
                    Action::Failed(reason) => self.failed(reason).await,
                    Action::Close(reason) => return Err((CloseCode::Normal, reason)),
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, message: &GatewayMessage) -> Result<(), (CloseCode, Ending)> {
        let Ok(text) = serde_json::to_string(message) else {
            return Err((CloseCode::Error, "a message could not be written"));
        };
        match timeout(SEND_LIMIT, self.session.text(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err((CloseCode::Away, "the node does not read")),
        }
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(waiting) = self.answer.take() {
            let _ = waiting.send(answer);
        }
    }

    async fn record_step(&mut self, text: String) {
        let Some(registered) = &mut self.registered else { return };
        registered.last_step.clone_from(&text);
        let node_id = registered.node_id.clone();
        tracing::info!(node_id, step = ?text, "provisioning");
        self.store(move |state| state.registry.record_step(&node_id, &text)).await;
    }

    async fn keep_recovery(&mut self, answer: String) -> Result<(), (CloseCode, Ending)> {
        let desk = &self.state.recovery;
        let kept = self
            .registered
            .as_ref()
            .is_some_and(|node| desk.bring(&node.node_id, answer, std::time::Instant::now()));
        if !kept {
            return Err((CloseCode::Policy, "nobody asked for this recovery key"));
        }
        self.send(&GatewayMessage::RecoveryKept).await
    }

    async fn provisioned(&mut self) {
        let Some(registered) = self.registered.take() else { return };
        tracing::info!(node_id = registered.node_id, "enrolled");
        self.store(move |state| {
            state.registry.confirm(&registered.node_id, now())?;
            state.membership.notify_one();
            Ok(())
        })
        .await;
    }

    /// The invite stays spent: it admitted this node, and the node knows the cluster's configuration.
    async fn failed(&mut self, reason: String) {
        self.seat.withdraw();
        let Some(registered) = self.registered.take() else { return };
        tracing::warn!(node_id = registered.node_id, ?reason, "provisioning failed");
        self.state.recovery.fail(&registered.node_id, &reason);
        self.store(move |state| {
            if state.registry.fail_enrollment(&registered.node_id, &reason, now())? {
                remove_from_mesh(state, &registered.public_key);
                state.membership.notify_one();
            }
            Ok(())
        })
        .await;
    }

    async fn store(&self, work: impl FnOnce(&State) -> Result<(), crate::store::SqlError> + Send + 'static) {
        match self.state.blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "an enrollment step was not stored"),
            Err(error) => tracing::error!(%error, "an enrollment step was not stored"),
        }
    }

    /// A node that is lost while it provisions keeps its row: it may well have finished, and then its agent says
    /// so to the next report. If it did not, it begins anew or the operator lets it leave.
    async fn end(mut self, ending: Ending) {
        tracing::debug!(address = %self.seat.address(), phase = ?self.phase, ending, "enrollment socket ended");
        if let Some(registered) = self.registered.take() {
            let text = format!("connection lost ({ending}) after: {}", registered.last_step);
            self.state.recovery.fail(&registered.node_id, &text);
            self.store(move |state| state.registry.record_step(&registered.node_id, &text)).await;
        }
    }
}

fn limit(phase: Phase) -> Duration {
    match phase {
        Phase::Greeting | Phase::Done => HELLO_LIMIT,
        Phase::Waiting => WAITING_LIMIT,
        Phase::Offered | Phase::Agreed => ATTEMPT_LIMIT,
        Phase::Provisioning => PROVISIONING_LIMIT,
    }
}
