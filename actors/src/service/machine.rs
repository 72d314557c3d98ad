//! One service's life as a pure function `step(state, event, now)`. Owns readiness, back-off and restart
//! intensity; reads no clock (time is a `Duration` since the agent's start), draws no random number (the caller
//! passes the jitter in), starts nothing.

use std::time::Duration;

/// Why back-off times are jittered: services that died together shall not all come back in one instant.
/// A quarter either way keeps the order of magnitude that the policy asked for.
pub const JITTER_PERCENT: u32 = 25;

/// The part of a policy that this machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
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
///             go            ready
///  Waiting ───────► Starting ─────► Running ◄─┐
///                    │  ▲  exited │           │ adopted
///            not ready  │ timer   ▼           │
///                    └─►Backoff ◄─┘        (facts)
///                        │ too often
///                        ▼                 stop (from anywhere)
///                      Failed           Stopping ──exited──► Stopped
/// ```
/// `Failed` and `Stopped` are left by an order only. A `restart` is a stop that starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Waiting,
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
    },
    /// The child runs.
    Spawned,
    SpawnFailed(String),
    Ready,
    /// The liveness probe failed too often.
    Unresponsive(String),
    /// The main process ended.
    Exited(String),
    Stop(String),
    Restart(String),
    /// The timer that an action set, by its number.
    Timer(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn,
    /// Probe until ready, or say ready at once when the policy has no readiness probe.
    AwaitReady,
    SetTimer {
        number: u64,
        after: Duration,
    },
    /// The policy's stop signal.
    Signal,
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
        Event::Start => next.start(),
        Event::Adopted { ready } => next.adopt(rules, ready, now),
        Event::Spawned => match state.phase {
            Phase::Starting => next.await_ready(rules),
            Phase::Stopping => vec![Action::Signal],
            // Its order was taken back while it was being made.
            Phase::Waiting | Phase::Running | Phase::Backoff | Phase::Stopped | Phase::Failed => {
                vec![Action::KillAll]
            }
        },
        Event::SpawnFailed(why) => match state.phase {
            Phase::Starting => next.back_off(rules, format!("not started: {why}"), now, jitter),
            Phase::Stopping => next.stopped(),
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
            Phase::Starting | Phase::Running => next.back_off(rules, how, now, jitter),
            Phase::Stopping => next.stopped(),
            _ => Vec::new(),
        },
        Event::Stop(why) => next.stop_order(rules, why),
        Event::Restart(why) => match state.phase {
            Phase::Starting | Phase::Running => next.stop(rules, why, true),
            Phase::Stopping => {
                next.again = true;
                Vec::new()
            }
            Phase::Waiting | Phase::Backoff | Phase::Stopped | Phase::Failed => next.start(),
        },
        Event::Timer(number) if number == state.timer => next.timer_due(rules, now, jitter),
        Event::Timer(_) => Vec::new(),
    };
    (next, actions)
}

impl State {
    fn start(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Waiting | Phase::Stopped | Phase::Backoff => {}
            // An operator's start forgives what was before.
            Phase::Failed => {
                self.recent.clear();
                self.failures = 0;
            }
            Phase::Starting | Phase::Running => return Vec::new(),
            Phase::Stopping => {
                self.again = true;
                return Vec::new();
            }
        }
        self.spawn()
    }

    fn spawn(&mut self) -> Vec<Action> {
        self.phase = Phase::Starting;
        self.again = false;
        self.reason = "being started".into();
        self.timer += 1;
        vec![Action::Spawn]
    }

    fn await_ready(&mut self, rules: &Rules) -> Vec<Action> {
        self.phase = Phase::Starting;
        self.reason = "not ready yet".into();
        let mut actions = vec![Action::AwaitReady];
        match rules.ready_within {
            Some(after) => actions.push(self.set_timer(after)),
            None => self.timer += 1,
        }
        actions
    }

    fn adopt(&mut self, rules: &Rules, ready: bool, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Waiting if ready => {
                self.phase = Phase::Running;
                self.reason.clear();
                self.running_since = Some(now);
                vec![Action::Watch]
            }
            Phase::Waiting => self.await_ready(rules),
            _ => Vec::new(),
        }
    }

    fn ready(&mut self, now: Duration) -> Vec<Action> {
        self.phase = Phase::Running;
        self.reason.clear();
        self.running_since = Some(now);
        self.timer += 1;
        vec![Action::Announce, Action::Watch]
    }

    fn back_off(&mut self, rules: &Rules, why: String, now: Duration, jitter: u32) -> Vec<Action> {
        // A service that ran for a whole window had recovered: the next back-off is short again.
        if self.running_since.take().is_some_and(|since| now.saturating_sub(since) >= rules.window) {
            self.failures = 0;
        }
        self.recent.retain(|at| now.saturating_sub(*at) < rules.window);
        if self.recent.len() >= rules.intensity as usize {
            self.phase = Phase::Failed;
            let times = self.recent.len() + 1;
            self.reason = format!("failed {times} times within {} s, last: {why}", rules.window.as_secs());
            self.timer += 1;
            return vec![Action::KillAll, Action::Report(self.reason.clone())];
        }
        self.recent.push(now);
        self.restarts = self.restarts.saturating_add(1);
        let pause = jittered(backoff(rules, self.failures), jitter);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Backoff;
        self.reason = format!("{why}; next start in {:.1} s", pause.as_secs_f64());
        // What the main process left behind must not hold the ports that the next one needs.
        vec![Action::KillAll, self.set_timer(pause)]
    }

    fn stop_order(&mut self, rules: &Rules, why: String) -> Vec<Action> {
        match self.phase {
            Phase::Starting | Phase::Running => self.stop(rules, why, false),
            Phase::Waiting | Phase::Backoff | Phase::Failed => {
                self.phase = Phase::Stopped;
                self.reason = why;
                self.timer += 1;
                Vec::new()
            }
            Phase::Stopping => {
                self.again = false;
                Vec::new()
            }
            Phase::Stopped => Vec::new(),
        }
    }

    fn stop(&mut self, rules: &Rules, why: String, again: bool) -> Vec<Action> {
        self.phase = Phase::Stopping;
        self.reason = why;
        self.again = again;
        self.running_since = None;
        vec![Action::Signal, self.set_timer(rules.stop_grace)]
    }

    fn stopped(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::KillAll];
        if self.again {
            self.restarts = self.restarts.saturating_add(1);
            actions.extend(self.spawn());
        } else {
            self.phase = Phase::Stopped;
            self.timer += 1;
        }
        actions
    }

    fn timer_due(&mut self, rules: &Rules, now: Duration, jitter: u32) -> Vec<Action> {
        match self.phase {
            Phase::Backoff => self.spawn(),
            Phase::Starting => {
                let why = match rules.ready_within {
                    Some(limit) => format!("not ready within {} s", limit.as_secs()),
                    None => "not ready".to_owned(),
                };
                self.back_off(rules, why, now, jitter)
            }
            Phase::Stopping => {
                // Asked again after the grace time: a kill that did not take (or a child that cannot be
                // collected yet) must not leave the service in `stopping` for ever.
                vec![Action::KillAll, self.set_timer(rules.stop_grace)]
            }
            Phase::Waiting | Phase::Running | Phase::Stopped | Phase::Failed => Vec::new(),
        }
    }

    fn set_timer(&mut self, after: Duration) -> Action {
        self.timer += 1;
        Action::SetTimer { number: self.timer, after }
    }
}

fn backoff(rules: &Rules, failures: u32) -> Duration {
    let doubled = rules.backoff_initial.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
    doubled.min(rules.backoff_maximum)
}

fn jittered(pause: Duration, jitter: u32) -> Duration {
    let percent = 100 - JITTER_PERCENT + jitter % (2 * JITTER_PERCENT + 1);
    pause.saturating_mul(percent) / 100
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
