//! One node's side of an enrollment, as a pure machine: what arrived, what follows. Reads no clock and no socket.
//!
//! ```text
//! Greeting --hello--> Waiting --offer--> Offered --accepted--> Agreed --register--> Provisioning --provisioned--> Done
//!    ^ (code taken)    ^    \-hello (new code)  |refused                               |failed
//!    |                 +------------------------+                                      |
//!    +---------------------------------------------------------------------------------+
//! ```
//! An abort, and every message out of turn, ends the socket: a late answer must never meet the next offer.

use orama_protocol::Redacted;
use orama_protocol::enroll::{ENROLL_PROTOCOL, GatewayMessage, NodeConfig, NodeMessage};
use orama_protocol::recovery::RecoveryRequest;

use super::code::Introduction;
use crate::token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Greeting,
    Waiting,
    Offered,
    Agreed,
    Provisioning,
    Done,
}

pub enum Event {
    Said(NodeMessage),
    /// The registry's answer to [`Action::Announce`].
    Announced(Result<(), String>),
    /// From the operator's attempt.
    Offer(Box<NodeConfig>, Option<RecoveryRequest>),
    Register,
    Abort(String),
}

#[derive(Debug)]
pub enum Action {
    /// Enter the code in the registry and come back with [`Event::Announced`].
    Announce(Introduction),
    Send(GatewayMessage),
    /// Tell the operator's attempt.
    Accepted(Redacted),
    Refused(String),
    /// For the store.
    Step(String),
    /// Keep it for the operator, then tell the node so.
    KeepRecovery(String),
    Provisioned,
    Failed(String),
    /// Close with this reason, after everything before it was sent.
    Close(&'static str),
}

pub fn step(phase: Phase, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Event::Said(message) => said(phase, message),
        Event::Announced(answer) => match (phase, answer) {
            (Phase::Greeting | Phase::Waiting, Ok(())) => {
                (Phase::Waiting, vec![Action::Send(GatewayMessage::Waiting)])
            }
            // The node makes a new code and says hello again on the same socket.
            (Phase::Greeting | Phase::Waiting, Err(reason)) => {
                (Phase::Greeting, vec![Action::Send(GatewayMessage::Rejected { reason })])
            }
            (Phase::Offered | Phase::Agreed | Phase::Provisioning | Phase::Done, Ok(()) | Err(_)) => {
                (phase, vec![])
            }
        },
        Event::Offer(config, recovery) if phase == Phase::Waiting => {
            let configure = GatewayMessage::Configure { config: *config, recovery };
            (Phase::Offered, vec![Action::Send(configure)])
        }
        Event::Register if phase == Phase::Agreed => {
            (Phase::Provisioning, vec![Action::Send(GatewayMessage::Registered)])
        }
        Event::Abort(reason) if matches!(phase, Phase::Offered | Phase::Agreed) => {
            let sent = Action::Send(GatewayMessage::Aborted { reason });
            (Phase::Done, vec![sent, Action::Close("the enrollment was aborted")])
        }
        // The socket moved on before the attempt's wish arrived; the attempt learns it from its dropped channel.
        Event::Offer(..) | Event::Register | Event::Abort(_) => (phase, vec![]),
    }
}

fn said(phase: Phase, message: NodeMessage) -> (Phase, Vec<Action>) {
    match (phase, message) {
        (
            Phase::Greeting | Phase::Waiting,
            NodeMessage::Hello { protocol, code, wireguard_public_key, wireguard_port, version, arch },
        ) => {
            if protocol != ENROLL_PROTOCOL {
                return reject(format!("enrollment protocol {protocol} is not {ENROLL_PROTOCOL}"));
            }
            let introduction = Introduction { code, wireguard_public_key, wireguard_port, version, arch };
            match introduction.check() {
                Ok(()) => (phase, vec![Action::Announce(introduction)]),
                Err(why) => reject(why.to_owned()),
            }
        }
        (Phase::Offered, NodeMessage::Accepted { agent_token }) => {
            if token::well_formed(&agent_token) {
                (Phase::Agreed, vec![Action::Accepted(agent_token)])
            } else {
                let reason = "the agent token is not 64 lowercase hex characters".to_owned();
                (
                    Phase::Done,
                    vec![
                        Action::Refused(reason.clone()),
                        Action::Send(GatewayMessage::Aborted { reason }),
                        Action::Close("malformed agent token"),
                    ],
                )
            }
        }
        (Phase::Offered, NodeMessage::Refused { reason }) => (Phase::Waiting, vec![Action::Refused(reason)]),
        (Phase::Provisioning, NodeMessage::Progress { step }) => (phase, vec![Action::Step(step)]),
        (Phase::Provisioning, NodeMessage::Recovery { answer }) => {
            (phase, vec![Action::KeepRecovery(answer)])
        }
        (Phase::Provisioning, NodeMessage::Provisioned) => {
            (Phase::Done, vec![Action::Provisioned, Action::Close("enrolled")])
        }
        (Phase::Provisioning, NodeMessage::Failed { reason }) => {
            (Phase::Greeting, vec![Action::Failed(reason)])
        }
        (
            Phase::Greeting
            | Phase::Waiting
            | Phase::Offered
            | Phase::Agreed
            | Phase::Provisioning
            | Phase::Done,
            NodeMessage::Hello { .. }
            | NodeMessage::Accepted { .. }
            | NodeMessage::Refused { .. }
            | NodeMessage::Progress { .. }
            | NodeMessage::Recovery { .. }
            | NodeMessage::Provisioned
            | NodeMessage::Failed { .. },
        ) => (Phase::Done, vec![Action::Close("message out of turn")]),
    }
}

fn reject(reason: String) -> (Phase, Vec<Action>) {
    (Phase::Done, vec![Action::Send(GatewayMessage::Rejected { reason }), Action::Close("malformed hello")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;

    fn hello(code: &str, protocol: u32) -> NodeMessage {
        NodeMessage::Hello {
            protocol,
            code: code.into(),
            wireguard_public_key: base64::engine::general_purpose::STANDARD.encode([9u8; 32]),
            wireguard_port: 51820,
            version: "1.0.0".into(),
            arch: "amd64".into(),
        }
    }

    fn accepted() -> NodeMessage {
        NodeMessage::Accepted { agent_token: token::generate().unwrap() }
    }

    fn config() -> Box<NodeConfig> {
        Box::new(NodeConfig {
            node_id: "node-10.0.0.4".into(),
            wireguard_config: String::new(),
            cluster_secret: Redacted::new("s".into()),
            peers: vec![],
            owner_public_key: None,
        })
    }

    /// Runs the events and tells the last phase and the last step's actions, one word each.
    fn run(events: Vec<Event>) -> (Phase, Vec<&'static str>) {
        let mut state = (Phase::Greeting, vec![]);
        for event in events {
            state = step(state.0, event);
        }
        let words = state.1.iter().map(|action| match action {
            Action::Announce(_) => "announce",
            Action::Send(GatewayMessage::Waiting) => "send-waiting",
            Action::Send(GatewayMessage::Rejected { .. }) => "send-rejected",
            Action::Send(GatewayMessage::Configure { .. }) => "send-configure",
            Action::Send(GatewayMessage::Registered) => "send-registered",
            Action::Send(GatewayMessage::RecoveryKept) => "send-kept",
            Action::KeepRecovery(_) => "keep-recovery",
            Action::Send(GatewayMessage::Aborted { .. }) => "send-aborted",
            Action::Accepted(_) => "accepted",
            Action::Refused(_) => "refused",
            Action::Step(_) => "step",
            Action::Provisioned => "provisioned",
            Action::Failed(_) => "failed",
            Action::Close(_) => "close",
        });
        (state.0, words.collect())
    }

    fn to_offered() -> Vec<Event> {
        vec![Event::Said(hello("ABCD2345", 1)), Event::Announced(Ok(())), Event::Offer(config(), None)]
    }

    fn to_provisioning() -> Vec<Event> {
        let mut events = to_offered();
        events.extend([Event::Said(accepted()), Event::Register]);
        events
    }

    fn then(mut events: Vec<Event>, event: Event) -> Vec<Event> {
        events.push(event);
        events
    }

    #[test]
    fn the_whole_way() {
        assert_eq!(run(to_offered()), (Phase::Offered, vec!["send-configure"]));
        assert_eq!(run(then(to_offered(), Event::Said(accepted()))), (Phase::Agreed, vec!["accepted"]));
        assert_eq!(run(to_provisioning()), (Phase::Provisioning, vec!["send-registered"]));
        let progress = NodeMessage::Progress { step: "format".into() };
        assert_eq!(run(then(to_provisioning(), Event::Said(progress))), (Phase::Provisioning, vec!["step"]));
        let recovery = NodeMessage::Recovery { answer: "sealed".into() };
        let kept = then(to_provisioning(), Event::Said(recovery));
        assert_eq!(run(kept), (Phase::Provisioning, vec!["keep-recovery"]));
        let done = then(to_provisioning(), Event::Said(NodeMessage::Provisioned));
        assert_eq!(run(done), (Phase::Done, vec!["provisioned", "close"]));
    }

    #[test]
    fn the_ways_out() {
        let reason = || "r".to_owned();
        let refused = then(to_offered(), Event::Said(NodeMessage::Refused { reason: reason() }));
        assert_eq!(run(refused), (Phase::Waiting, vec!["refused"]));
        let failed = then(to_provisioning(), Event::Said(NodeMessage::Failed { reason: reason() }));
        assert_eq!(run(failed), (Phase::Greeting, vec!["failed"]));
        let aborted = then(to_offered(), Event::Abort(reason()));
        assert_eq!(run(aborted), (Phase::Done, vec!["send-aborted", "close"]));
        let bad = NodeMessage::Accepted { agent_token: Redacted::new("ABC".into()) };
        let bad_token = then(to_offered(), Event::Said(bad));
        assert_eq!(run(bad_token), (Phase::Done, vec!["refused", "send-aborted", "close"]));
    }

    #[test]
    fn hellos() {
        let taken = vec![Event::Said(hello("ABCD2345", 1)), Event::Announced(Err("taken".into()))];
        assert_eq!(run(taken), (Phase::Greeting, vec!["send-rejected"]));
        for bad in [hello("ABCD2345", 2), hello("abc", 1)] {
            assert_eq!(run(vec![Event::Said(bad)]), (Phase::Done, vec!["send-rejected", "close"]));
        }
    }

    fn any_event() -> impl Strategy<Value = u8> {
        0u8..13
    }

    fn event(number: u8) -> Event {
        match number {
            0 => Event::Said(hello("ABCD2345", 1)),
            1 => Event::Said(accepted()),
            2 => Event::Said(NodeMessage::Refused { reason: "r".into() }),
            3 => Event::Said(NodeMessage::Progress { step: "s".into() }),
            4 => Event::Said(NodeMessage::Provisioned),
            5 => Event::Said(NodeMessage::Failed { reason: "r".into() }),
            6 => Event::Announced(Ok(())),
            7 => Event::Announced(Err("taken".into())),
            8 => Event::Offer(config(), None),
            9 => Event::Register,
            10 => Event::Abort("a".into()),
            11 => Event::Said(NodeMessage::Recovery { answer: "r".into() }),
            _ => Event::Said(hello("ABCD234X", 1)),
        }
    }

    proptest! {
        /// Whatever arrives in whatever order: nothing is provisioned that was not registered, nothing is
        /// registered that was not accepted, and a finished socket does and says nothing but close.
        #[test]
        fn no_order_of_events_skips_a_step(numbers in proptest::collection::vec(any_event(), 0..40)) {
            let (mut phase, mut accepted, mut registered) = (Phase::Greeting, 0, 0);
            for number in numbers {
                let before = phase;
                let actions;
                (phase, actions) = step(phase, event(number));
                for action in &actions {
                    match action {
                        Action::Accepted(_) => {
                            prop_assert_eq!(before, Phase::Offered);
                            accepted += 1;
                        }
                        Action::Send(GatewayMessage::Registered) => {
                            prop_assert!(registered < accepted);
                            registered += 1;
                        }
                        Action::Step(_)
                        | Action::KeepRecovery(_)
                        | Action::Provisioned
                        | Action::Failed(_) => {
                            prop_assert!(registered > 0);
                            prop_assert_eq!(before, Phase::Provisioning);
                        }
                        Action::Close(_) => prop_assert_eq!(phase, Phase::Done),
                        Action::Announce(_) | Action::Send(_) | Action::Refused(_) => {}
                    }
                    if before == Phase::Done {
                        prop_assert!(matches!(action, Action::Close(_)));
                    }
                }
                prop_assert!(before != Phase::Done || phase == Phase::Done);
            }
        }
    }
}
