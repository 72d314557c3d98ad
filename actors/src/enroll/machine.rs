//! The node's side of an enrollment as a pure function `step(state, event, jitter)`. Owns when to connect, when a code is
//! replaced and what is said to the gateway; knows no socket, no clock and no content of a configuration.

use std::time::Duration;

/// First and longest pause before the gateway is called again.
pub const RECONNECT_FIRST: Duration = Duration::from_secs(1);
pub const RECONNECT_LONGEST: Duration = Duration::from_secs(30);
/// Largest part of a pause that jitter adds or takes, percent: a rack that is switched on at once spreads out.
pub const JITTER_PERCENT: u32 = 20;

/// ```text
///             open        connected         waiting        configuration     registered
///   Closed ──────► Offline ──────► Greeting ──────► Waiting ──────► Agreed ──────► Provisioning ──► Done
///                   ▲  ▲ rejected: new code, hello │    ▲ refused     │aborted       │   provisioned
///                   │  └────────── lost ───────────┴────┴─────────────┘              │
///                   └───────────────── failed: new code ─────────────────────────────┘
///   Offline, Greeting, Waiting ── the owner signed ──► Provisioning
/// ```
/// A lost socket does not stop a provisioning: the operator has been answered, the volume is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Enrollment mode is off.
    Closed,
    Offline,
    Greeting,
    Waiting,
    /// The configuration is accepted and the gateway has to store the node's row.
    Agreed,
    Provisioning,
    /// For good.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Whether a socket to the gateway is open.
    pub connected: bool,
    /// Failed calls since the gateway last acknowledged a hello.
    pub failures: u32,
    /// No socket at all: the compatibility mode, in which the gateway comes to us.
    pub push_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Open,
    Connected,
    Lost,
    ReconnectDue,
    Acknowledged,
    Rejected,
    ConfigGood,
    ConfigBad(String),
    /// The owner's wallet configures the node; no gateway has a part in it.
    OwnerSigned,
    Registered,
    Aborted,
    CodeExpired,
    Provisioned,
    ProvisioningFailed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make and show a new code; the old one is worth nothing from now on.
    NewCode,
    Connect,
    HangUp,
    ReconnectAfter(Duration),
    Hello,
    Accept,
    Refuse(String),
    Provision,
    SayProvisioned,
    SayFailed(String),
    /// Close the socket and port 9999.
    CloseForGood,
}

impl State {
    pub fn new(push_only: bool) -> Self {
        Self { phase: Phase::Closed, connected: false, failures: 0, push_only }
    }

    fn to(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}

/// `jitter` is any number; only its remainder is used.
pub fn step(state: State, event: Event, jitter: u32) -> (State, Vec<Action>) {
    let waits = matches!(state.phase, Phase::Greeting | Phase::Waiting | Phase::Agreed);
    match (state.phase, event) {
        (Phase::Closed, Event::Open) => open(state),
        (Phase::Offline, Event::Connected) if !state.connected => {
            (State { connected: true, ..state }.to(Phase::Greeting), vec![Action::Hello])
        }
        (Phase::Offline, Event::ReconnectDue) if !state.connected => (state, vec![Action::Connect]),
        (Phase::Provisioning, Event::Lost) => (State { connected: false, ..state }, vec![]),
        (_, Event::Lost) if waits || state.phase == Phase::Offline => {
            let pause = reconnect_pause(state.failures, jitter);
            let failures = state.failures.saturating_add(1);
            let state = State { connected: false, failures, ..state };
            (state.to(Phase::Offline), vec![Action::ReconnectAfter(pause)])
        }
        (Phase::Greeting, Event::Acknowledged) => (State { failures: 0, ..state }.to(Phase::Waiting), vec![]),
        (Phase::Greeting, Event::Rejected) => (state, vec![Action::NewCode, Action::Hello]),
        (Phase::Waiting, Event::ConfigGood) => (state.to(Phase::Agreed), vec![Action::Accept]),
        // The compatibility mode: the answer to the push is the acceptance, and nothing is registered after it.
        (Phase::Offline, Event::ConfigGood) if state.push_only => {
            (state.to(Phase::Provisioning), vec![Action::Provision])
        }
        (Phase::Offline | Phase::Greeting | Phase::Waiting, Event::OwnerSigned) => {
            (state.to(Phase::Provisioning), vec![Action::HangUp, Action::Provision])
        }
        (Phase::Waiting, Event::ConfigBad(why)) => (state, vec![Action::Refuse(why)]),
        (Phase::Agreed, Event::Registered) => (state.to(Phase::Provisioning), vec![Action::Provision]),
        // The gateway ends the socket after an abort; what follows is the way of a lost one.
        (_, Event::Aborted) if waits => (state, vec![Action::HangUp]),
        (Phase::Offline, Event::CodeExpired) => (state, vec![Action::NewCode]),
        (Phase::Greeting | Phase::Waiting, Event::CodeExpired) => {
            (state.to(Phase::Greeting), vec![Action::NewCode, Action::Hello])
        }
        (Phase::Provisioning, Event::Provisioned) => {
            (state.to(Phase::Done), vec![Action::SayProvisioned, Action::CloseForGood])
        }
        (Phase::Provisioning, Event::ProvisioningFailed(why)) if state.connected => {
            (state.to(Phase::Greeting), vec![Action::SayFailed(why), Action::NewCode, Action::Hello])
        }
        (Phase::Provisioning, Event::ProvisioningFailed(_)) => open(state),
        // Said out of turn: the gateway is confused or not ours. A new socket starts from a known place.
        (
            Phase::Greeting | Phase::Waiting | Phase::Agreed,
            Event::Acknowledged
            | Event::Rejected
            | Event::ConfigGood
            | Event::ConfigBad(_)
            | Event::Registered,
        ) => (state, vec![Action::HangUp]),
        (
            Phase::Closed
            | Phase::Offline
            | Phase::Greeting
            | Phase::Waiting
            | Phase::Agreed
            | Phase::Provisioning
            | Phase::Done,
            _,
        ) => (state, vec![]),
    }
}

fn open(state: State) -> (State, Vec<Action>) {
    let mut actions = vec![Action::NewCode];
    if !state.push_only {
        actions.push(Action::Connect);
    }
    (State { connected: false, failures: 0, ..state }.to(Phase::Offline), actions)
}

fn reconnect_pause(failures: u32, jitter: u32) -> Duration {
    let doubled = RECONNECT_FIRST.saturating_mul(1 << failures.min(10)).min(RECONNECT_LONGEST);
    doubled.saturating_mul(100 - JITTER_PERCENT + jitter % (2 * JITTER_PERCENT + 1)) / 100
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
