//! CustodyActor: runs the machine of the volume key's life (`orama_keyshare::lifecycle`) while the volume is open, and
//! takes the gateway's lists of peers. It is the only writer of the header's record then. Decides nothing about
//! splits: it carries out what the machine asks for and tells it what happened.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, SpawnHandle, WrapFuture};
use orama_keyshare::lifecycle::{Action, Event, Lifecycle, Note};
use orama_mesh::PrivateKey;
use orama_protocol::guardian::PRESENCE_SECONDS;
use orama_protocol::peers::{CustodyHolder, CustodyStatus, PeerList};
use tokio::sync::{Mutex, Notify};

use crate::describe;
use crate::facts::CustodyFact;
use crate::ports::Console;
use crate::registry::Registry;
use crate::unlock::GuardianClient;
use crate::wg::GetWireguard;

mod ask;
mod hand;
mod peers;
mod presence;
mod record;
mod set_peers;
mod signs;
mod withdraw;

use ask::Asker;
use hand::{Hand, Owner};
pub use peers::ListProblem;
use presence::{Candidates, LastHeard};
pub use record::{Record, RecordProblem};
pub use signs::AnnounceReboot;
use signs::Signs;
use withdraw::Withdrawal;
pub(crate) use withdraw::{MAY_BE_LEFT, OPEN_LIMIT, UntilOpen, WITHDRAW_LIMIT, WithdrawShares};

/// Pause before a record that could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub struct CustodySettings {
    /// TCP port on which every guardian listens, on its overlay address.
    pub guardian_port: u16,
    /// How often WireGuard is asked who is alive.
    pub look_every: Duration,
    /// How often the holders of the key get a sign of life.
    pub show_every: Duration,
}

impl CustodySettings {
    pub fn new(guardian_port: u16) -> Self {
        let show_every = Duration::from_secs(PRESENCE_SECONDS);
        Self { guardian_port, look_every: Duration::from_secs(15), show_every }
    }
}

pub struct CustodyActor {
    registry: Registry,
    record: Record,
    console: Arc<dyn Console>,
    settings: CustodySettings,
    started: Instant,
    open: Option<Open>,
    /// Told whenever `open` is filled.
    opened: Arc<Notify>,
}

/// While the volume is open and its record genuine.
struct Open {
    record: Record,
    owner: Rc<Owner>,
    asker: Asker,
    /// Taken out while it makes a step, and for good when the node leaves its cluster.
    lifecycle: Option<Lifecycle>,
    hand: Hand,
    candidates: Candidates,
    last_heard: LastHeard,
    peers_revision: u64,
    /// One list of peers at a time, from the disk to WireGuard; true when WireGuard does not have the last one.
    peers_turn: Arc<Mutex<bool>>,
    alarm: Option<SpawnHandle>,
    gathering: Option<SpawnHandle>,
    why: Option<String>,
    signs: Signs,
    withdrawal: Option<Withdrawal>,
}

/// Takes the cluster as the gateway knows it; answered with the revision.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<u64, PeersProblem>")]
pub struct SetPeers(pub PeerList);

#[derive(Debug, thiserror::Error)]
pub enum PeersProblem {
    #[error("the volume is not open yet; try again when the node is running")]
    NotOpen,
    #[error("revision {revision} is older than {known}, which this node has")]
    Older { revision: u64, known: u64 },
    #[error("{0}")]
    List(#[source] ListProblem),
    #[error("the list of peers was not recorded")]
    Record(#[source] RecordProblem),
    #[error("the list of peers is recorded, but WireGuard does not take it: {0}; send it again")]
    WireGuard(String),
}

impl CustodyActor {
    pub fn new(
        registry: Registry,
        record: Record,
        console: Arc<dyn Console>,
        settings: CustodySettings,
    ) -> Self {
        Self {
            registry,
            record,
            console,
            settings,
            started: Instant::now(),
            open: None,
            opened: Arc::default(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for the volume to be open, or not any more.
    fn await_volume(&self, ready: bool, context: &mut Context<Self>) {
        let mut facts = self.registry.facts.watch();
        let wait = async move { facts.wait_for(|node| node.volume_ready == ready).await.is_ok() };
        context.spawn(wait.into_actor(self).map(move |changed, actor, context| match (changed, ready) {
            (true, true) => actor.read_record(context),
            (true, false) => {
                actor.close(context);
                actor.await_volume(true, context);
            }
            (false, _) => {}
        }));
    }

    fn read_record(&self, context: &mut Context<Self>) {
        let record = self.record.clone();
        let read = async move {
            // The volume may have been closed, or made anew, since it was last looked at.
            record.forget().await;
            let look = record.look(|state| {
                let private_key = PrivateKey::from_base64(state.wireguard.private_key.expose());
                let owner = private_key.map(|private_key| Owner {
                    volume: state.volume_uuid,
                    node_id: state.node_id.clone(),
                    private_key,
                });
                (owner, state.custody.clone(), presence::candidates(state), state.peers_revision)
            });
            (look.await, record)
        };
        context.spawn(read.into_actor(self).map(|(read, record), actor, context| {
            let problem = match read {
                Ok((Ok(owner), custody, candidates, peers_revision)) => {
                    let lifecycle = if actor.registry.facts.enrolled_now() {
                        Lifecycle::enrolled(custody, actor.now())
                    } else {
                        Lifecycle::start(custody, actor.now())
                    };
                    let identity = orama_mesh::identity(&owner.private_key);
                    let client = GuardianClient::new(identity, actor.settings.guardian_port);
                    actor.open = Some(Open {
                        record,
                        asker: Asker::new(client, owner.volume),
                        owner: Rc::new(owner),
                        lifecycle: Some(lifecycle),
                        hand: Hand::default(),
                        candidates,
                        last_heard: LastHeard::default(),
                        peers_revision,
                        peers_turn: Arc::default(),
                        alarm: None,
                        gathering: None,
                        why: None,
                        signs: Signs::default(),
                        withdrawal: None,
                    });
                    actor.opened.notify_waiters();
                    actor.await_volume(false, context);
                    actor.look(context);
                    actor.feed(Event::Clock, context);
                    actor.show_alive(context);
                    return;
                }
                Ok((Err(error), ..)) => error.to_string(),
                Err(error) => describe(&error),
            };
            tracing::error!("the header's record: {problem}; read again in {} s", READ_AGAIN.as_secs());
            context.run_later(READ_AGAIN, |actor, context| actor.await_volume(true, context));
        }));
    }

    fn close(&mut self, context: &mut Context<Self>) {
        if let Some(open) = self.open.take() {
            for handle in [open.alarm, open.gathering].into_iter().flatten() {
                context.cancel_future(handle);
            }
        }
        self.registry.facts.set_custody(None);
    }

    /// Asks WireGuard who is alive, and tells the machine.
    fn look(&self, context: &mut Context<Self>) {
        let wg = self.registry.wg.clone();
        let read = async move { wg.ask(GetWireguard).await };
        context.spawn(read.into_actor(self).map(|status, actor, context| {
            let now = actor.now();
            let (Some(open), Ok(Ok(status))) = (actor.open.as_mut(), status) else { return };
            let members = open.last_heard.members(&open.candidates, &presence::heard(&status), now);
            actor.feed(Event::Members(members), context);
        }));
    }

    /// Gives the machine an event, and does what it asks for; what is answered at once goes round again.
    fn feed(&mut self, event: Event, context: &mut Context<Self>) {
        let now = self.now();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(lifecycle) = self.open.as_mut().and_then(|open| open.lifecycle.take()) else { return };
            let (lifecycle, actions) = lifecycle.step(event, now);
            if let Some(open) = self.open.as_mut() {
                open.lifecycle = Some(lifecycle);
            }
            events.extend(actions.into_iter().filter_map(|action| self.carry_out(action, context)));
        }
        self.set_alarm(now, context);
        self.publish(now);
    }

    fn set_alarm(&mut self, now: Duration, context: &mut Context<Self>) {
        let Some(open) = self.open.as_mut() else { return };
        if let Some(alarm) = open.alarm.take() {
            context.cancel_future(alarm);
        }
        let wake = open.lifecycle.as_ref().and_then(|lifecycle| lifecycle.wake(now));
        open.alarm = wake.map(|at| {
            // A moment later than asked for: a timer that fires early would find nothing due.
            let pause = at.saturating_sub(now) + Duration::from_millis(5);
            context.run_later(pause, |actor, context| {
                if let Some(open) = actor.open.as_mut() {
                    open.alarm = None;
                }
                actor.feed(Event::Clock, context);
            })
        });
    }

    fn carry_out(&mut self, action: Action, context: &mut Context<Self>) -> Option<Event> {
        let open = self.open.as_mut()?;
        match action {
            Action::Gather => {
                let gather = gather(open);
                let done = gather.into_actor(self).map(|key, actor, context| {
                    let Some(open) = actor.open.as_mut() else { return };
                    let got = key.is_some();
                    (open.hand.key, open.gathering) = (key, None);
                    actor.feed(Event::Gathered(got), context);
                });
                let handle = context.spawn(done);
                self.open.as_mut()?.gathering = Some(handle);
            }
            Action::WriteRecord(custody) => {
                let record = open.record.clone();
                self.answered(context, async move {
                    let written = record.write_custody(custody).await;
                    let failed = |error: &RecordProblem| tracing::error!("custody: {}", describe(error));
                    Event::Recorded(written.inspect_err(failed).is_ok())
                });
            }
            Action::ReadRecord => {
                let record = open.record.clone();
                self.answered(context, async move {
                    let read = record.reread().await;
                    let failed = |error: &RecordProblem| tracing::error!("custody: {}", describe(error));
                    Event::Record(read.inspect_err(failed).ok())
                });
            }
            Action::Deal { generation, guardians } => {
                let set = open.hand.deal(&open.owner, generation, &guardians);
                return Some(Event::Dealt { generation, set });
            }
            Action::Put { generation, guardian } => {
                let (asker, envelope) = (open.asker.clone(), open.hand.envelope(&guardian));
                self.answered(context, async move {
                    let answer = match envelope {
                        Some(envelope) => asker.put(generation, &guardian, &envelope).await,
                        None => orama_keyshare::lifecycle::Answer::Silent,
                    };
                    Event::Put { generation, guardian, answer }
                });
            }
            Action::Get { generation, guardian } => {
                let asker = open.asker.clone();
                let get = async move { (asker.get(generation, &guardian).await, guardian) };
                context.spawn(get.into_actor(self).map(move |(given, guardian), actor, context| {
                    let Some(open) = actor.open.as_mut() else { return };
                    let answer = open.hand.judge(generation, &guardian, given);
                    actor.feed(Event::Got { generation, guardian, answer }, context);
                }));
            }
            Action::Compare { generation } => {
                return Some(Event::Compared { generation, same: open.hand.same_key(generation) });
            }
            Action::Sweep { guardian, custody } => {
                let asker = open.asker.clone();
                self.answered(context, async move {
                    let answer = asker.sweep(&guardian, &custody).await;
                    Event::Swept { guardian, answer }
                });
            }
            Action::Forget => {
                if let Some(handle) = open.gathering.take() {
                    context.cancel_future(handle);
                }
                open.hand = Hand::default();
            }
            Action::Tell(note) => self.tell(&note),
        }
        None
    }

    fn answered(&self, context: &mut Context<Self>, work: impl Future<Output = Event> + 'static) {
        context.spawn(work.into_actor(self).map(|event, actor, context| actor.feed(event, context)));
    }

    fn tell(&mut self, note: &Note) {
        let Some(open) = self.open.as_mut() else { return };
        match note {
            Note::Committed { .. } => {
                open.why = None;
                self.console.line(&note.to_string());
            }
            Note::Failed { why, .. } => {
                open.why = Some(why.to_string());
                self.console.line(&note.to_string());
            }
            Note::NoRecord => self.console.line(&note.to_string()),
            Note::Attempt { .. } | Note::LeftBehind { .. } => {}
        }
        tracing::info!("custody: {note}");
    }

    fn publish(&self, now: Duration) {
        let Some(open) = &self.open else { return };
        let Some(lifecycle) = &open.lifecycle else { return };
        let custody = lifecycle.custody();
        let (k, n) = custody.shares().map_or((0, 0), |set| (set.k(), set.n()));
        let holder = |guardian: orama_keyshare::lifecycle::Guardian| CustodyHolder {
            node_id: guardian.node_id,
            wg_ip: guardian.wg_ip.to_string(),
        };
        let status = CustodyStatus {
            keeper: if custody.shares().is_some() { "guardians" } else { "wallet" }.into(),
            generation: custody.generation(),
            begun: custody.begun(),
            k,
            n,
            holders: custody.guardians().into_iter().map(holder).collect(),
            state: lifecycle.state().into(),
            why: open.why.clone(),
            next_try_seconds: None,
            stale: custody.stale().len() as u64,
        };
        let next_try = lifecycle.next_attempt(now).map(|at| self.started + at);
        let fact = CustodyFact { status, next_try, peers_revision: open.peers_revision };
        self.registry.facts.set_custody(Some(fact));
    }
}

/// The key, tested against the volume: from the holders of the current split, or from inside the volume.
fn gather(open: &Open) -> impl Future<Output = Option<orama_keyshare::VolumeKey>> + 'static {
    let (record, asker, owner) = (open.record.clone(), open.asker.clone(), Rc::clone(&open.owner));
    let set = open.lifecycle.as_ref().and_then(|lifecycle| lifecycle.custody().shares().cloned());
    async move {
        match set {
            None => record.kept_key().await,
            // After a recovery there may be nobody to gather from.
            Some(set) => match record.recovered_key(set.generation()).await {
                Some(key) => Some(key),
                None => record.tested(asker.gather(owner.collector(set)).await?).await,
            },
        }
    }
}

impl Actor for CustodyActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.await_volume(true, context);
        context.run_interval(self.settings.look_every, |actor, context| {
            if actor.open.is_some() {
                actor.look(context);
            }
        });
        context.run_interval(self.settings.show_every, |actor, context| actor.show_alive(context));
    }
}
