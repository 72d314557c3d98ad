//! One service's life as a pure function `step(state, event, now)`. Owns prepare steps, readiness, back-off and
//! restart intensity; reads no clock (time is a `Duration` since the agent's start), draws no random number (the caller
//! passes the jitter in), starts nothing.

use std::time::Duration;

mod transitions;

/// Why back-off times are jittered: services that died together shall not all come back in one instant.
/// A quarter either way keeps the order of magnitude that the policy asked for.
pub const JITTER_PERCENT: u32 = 25;

/// The part of a policy that this machine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long each prepare step may take, in their order.
    pub steps: Vec<Duration>,
    /// None: ready as soon as it runs.
    pub ready_within: Option<Duration>,
    pub backoff_initial: Duration,
    pub backoff_maximum: Duration,
    /// More restarts than this within `window` are `Failed`.
    pub intensity: u32,
    pub window: Duration,
    /// From the stop signal to the kill of the whole control group.
    pub stop_grace: Duration,
}

/// ```text
///           go             last step done           ready
///  Waiting ────► Preparing ──────────────► Starting ──────► Running ◄── adopted (facts)
///                 │   ▲  failed, late       │ exited,        │ exited
///                 │   │ timer               │ not ready      │
///                 ▼   │                     ▼                ▼
///                Backoff ◄──────────────────┴────────────────┘
///                 │ too often
///                 ▼                       stop (from anywhere)
///                Failed                Stopping ──exited──► Stopped
/// ```
/// A service without prepare steps goes from `Waiting` and `Backoff` to `Starting` at once.
/// `Failed` and `Stopped` are left by an order only. A `restart` is a stop that starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Waiting,
    /// A prepare step runs, or is being started.
    Preparing,
    /// Executed, not ready yet.
    Starting,
    Running,
    Backoff,
    Stopping,
    Stopped,
    Failed,
}

impl Phase {
    /// The name in status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// A service whose `after` names this one need not wait longer: it runs, or has had its first chance.
    /// Order is order, not requirement: a service without its database still says so in its own words.
    pub fn lets_others_start(self) -> bool {
        matches!(self, Self::Running | Self::Backoff | Self::Stopped | Self::Failed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Why it is not running, or how it last ended.
    pub reason: String,
    /// Restarts since the agent started, for status.
    pub restarts: u32,
    /// The prepare step that is under way, from 0.
    step: usize,
    /// Moments of the restarts that still count.
    recent: Vec<Duration>,
    /// Consecutive failures: the exponent of the back-off.
    failures: u32,
    /// Start again once stopped.
    again: bool,
    /// The one timer that counts: an older one that still fires is late.
    timer: u64,
    running_since: Option<Duration>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Waiting,
            reason: "waits for its turn".into(),
            restarts: 0,
            step: 0,
            recent: Vec::new(),
            failures: 0,
            again: false,
            timer: 0,
            running_since: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come, or an operator says start.
    Start,
    /// A child from before this actor's restart still runs.
    Adopted {
        ready: bool,
        /// It is the child of this prepare step, not the service.
        step: Option<usize>,
    },
    /// The child runs: that of the prepare step, or the service.
    Spawned,
    /// The prepare step ended well, or there was nothing to do.
    StepDone,
    SpawnFailed(String),
    Ready,
    /// The liveness probe failed too often.
    Unresponsive(String),
    /// The main process ended.
    Exited(String),
    Stop(String),
    Restart(String),
    /// Read your configuration again.
    Reload,
    /// The timer that an action set, by its number.
    Timer(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this prepare step, from 0.
    Prepare(usize),
    Spawn,
    /// Probe until ready, or say ready at once when the policy has no readiness probe.
    AwaitReady,
    SetTimer {
        number: u64,
        after: Duration,
    },
    /// The policy's stop signal.
    Signal,
    /// The policy's reload signal.
    Reload,
    KillAll,
    /// Console: the service runs.
    Announce,
    /// Probe for liveness, when the policy has such a probe.
    Watch,
    /// Console and alarm: given up.
    Report(String),
}

/// `jitter` is any number; only its remainder is used.
pub fn step(rules: &Rules, state: &State, event: Event, now: Duration, jitter: u32) -> (State, Vec<Action>) {
    let mut next = state.clone();
    let actions = match event {
        Event::Start => next.start(rules),
        Event::Adopted { ready, step } => next.adopt(rules, ready, step, now),
        Event::Spawned => match state.phase {
            Phase::Preparing => next.await_step(rules),
            Phase::Starting => next.await_ready(rules),
            Phase::Stopping => vec![Action::Signal],
            // Its order was taken back while it was being made.
            Phase::Waiting | Phase::Running | Phase::Backoff | Phase::Stopped | Phase::Failed => {
                vec![Action::KillAll]
            }
        },
        Event::StepDone => match state.phase {
            Phase::Preparing => next.next_step(rules),
            Phase::Stopping => next.stopped(rules),
            _ => Vec::new(),
        },
        Event::SpawnFailed(why) => match state.phase {
            Phase::Preparing => {
                let why = format!("prepare step {} not started: {why}", state.step + 1);
                next.back_off(rules, why, now, jitter)
            }
            Phase::Starting => next.back_off(rules, format!("not started: {why}"), now, jitter),
            Phase::Stopping => next.stopped(rules),
            _ => Vec::new(),
        },
        Event::Ready => match state.phase {
            Phase::Starting => next.ready(now),
            _ => Vec::new(),
        },
        Event::Unresponsive(why) => match state.phase {
            Phase::Running => next.stop(rules, why, true),
            _ => Vec::new(),
        },
        Event::Exited(how) => match state.phase {
            Phase::Preparing => {
                next.back_off(rules, format!("prepare step {}: {how}", state.step + 1), now, jitter)
            }
            Phase::Starting | Phase::Running => next.back_off(rules, how, now, jitter),
            Phase::Stopping => next.stopped(rules),
            _ => Vec::new(),
        },
        Event::Stop(why) => next.stop_order(rules, why),
        Event::Restart(why) => match state.phase {
            Phase::Preparing | Phase::Starting | Phase::Running => next.stop(rules, why, true),
            Phase::Stopping => {
                next.again = true;
                Vec::new()
            }
            Phase::Waiting | Phase::Backoff | Phase::Stopped | Phase::Failed => next.start(rules),
        },
        Event::Reload => match state.phase {
            Phase::Running => vec![Action::Reload],
            _ => Vec::new(),
        },
        Event::Timer(number) if number == state.timer => next.timer_due(rules, now, jitter),
        Event::Timer(_) => Vec::new(),
    };
    (next, actions)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
