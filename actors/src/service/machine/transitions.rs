//! What each order and event does to the state, for `step` above; in the phases where it does nothing, `step` says so.

use std::time::Duration;

use super::{Action, JITTER_PERCENT, Phase, Rules, State};

/// What is said of a service that its stop signal did not end.
const DEAF: &str = "it had to be killed";

impl State {
    pub(super) fn start(&mut self, rules: &Rules) -> Vec<Action> {
        match self.phase {
            Phase::Waiting | Phase::Stopped | Phase::Backoff => {}
            // An operator's start forgives what was before.
            Phase::Failed => {
                self.recent.clear();
                self.failures = 0;
            }
            Phase::Preparing | Phase::Starting | Phase::Running => return Vec::new(),
            Phase::Stopping => {
                self.again = true;
                return Vec::new();
            }
        }
        self.launch(rules)
    }

    /// From the first prepare step on: a step that was done says so by what it made.
    pub(super) fn launch(&mut self, rules: &Rules) -> Vec<Action> {
        self.again = false;
        self.step = 0;
        self.go_on(rules)
    }

    pub(super) fn go_on(&mut self, rules: &Rules) -> Vec<Action> {
        self.timer += 1;
        if self.step < rules.steps.len() {
            self.phase = Phase::Preparing;
            self.reason = format!("prepare step {} of {}", self.step + 1, rules.steps.len());
            return vec![Action::Prepare(self.step)];
        }
        self.phase = Phase::Starting;
        self.reason = "being started".into();
        vec![Action::Spawn]
    }

    pub(super) fn next_step(&mut self, rules: &Rules) -> Vec<Action> {
        self.step += 1;
        self.go_on(rules)
    }

    pub(super) fn await_step(&mut self, rules: &Rules) -> Vec<Action> {
        rules.steps.get(self.step).map(|limit| self.set_timer(*limit)).into_iter().collect()
    }

    pub(super) fn await_ready(&mut self, rules: &Rules) -> Vec<Action> {
        self.phase = Phase::Starting;
        self.reason = "not ready yet".into();
        let mut actions = vec![Action::AwaitReady];
        match rules.ready_within {
            Some(after) => actions.push(self.set_timer(after)),
            None => self.timer += 1,
        }
        actions
    }

    pub(super) fn adopt(
        &mut self,
        rules: &Rules,
        ready: bool,
        step: Option<usize>,
        now: Duration,
    ) -> Vec<Action> {
        if self.phase != Phase::Waiting {
            return Vec::new();
        }
        match step {
            Some(step) => {
                self.phase = Phase::Preparing;
                self.step = step;
                self.reason = format!("prepare step {} of {}", step + 1, rules.steps.len());
                self.await_step(rules)
            }
            None if ready => {
                self.phase = Phase::Running;
                self.reason.clear();
                self.running_since = Some(now);
                vec![Action::Watch]
            }
            None => self.await_ready(rules),
        }
    }

    pub(super) fn ready(&mut self, now: Duration) -> Vec<Action> {
        self.phase = Phase::Running;
        self.reason.clear();
        self.running_since = Some(now);
        self.timer += 1;
        vec![Action::Announce, Action::Watch]
    }

    pub(super) fn back_off(&mut self, rules: &Rules, why: String, now: Duration, jitter: u32) -> Vec<Action> {
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

    pub(super) fn stop_order(&mut self, rules: &Rules, why: String) -> Vec<Action> {
        match self.phase {
            Phase::Preparing | Phase::Starting | Phase::Running => self.stop(rules, why, false),
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

    pub(super) fn stop(&mut self, rules: &Rules, why: String, again: bool) -> Vec<Action> {
        self.phase = Phase::Stopping;
        self.reason = why;
        self.again = again;
        self.running_since = None;
        vec![Action::Signal, self.set_timer(rules.stop_grace)]
    }

    pub(super) fn stopped(&mut self, rules: &Rules) -> Vec<Action> {
        let mut actions = vec![Action::KillAll];
        if self.again {
            self.restarts = self.restarts.saturating_add(1);
            actions.extend(self.launch(rules));
        } else {
            self.phase = Phase::Stopped;
            self.timer += 1;
        }
        actions
    }

    pub(super) fn timer_due(&mut self, rules: &Rules, now: Duration, jitter: u32) -> Vec<Action> {
        match self.phase {
            Phase::Backoff => self.launch(rules),
            Phase::Preparing => {
                let limit = rules.steps.get(self.step).map_or(0, Duration::as_secs);
                let why = format!("prepare step {} was not done within {limit} s", self.step + 1);
                self.back_off(rules, why, now, jitter)
            }
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
                if !self.reason.ends_with(DEAF) {
                    self.reason.push_str(&format!("; after {} s {DEAF}", rules.stop_grace.as_secs_f64()));
                }
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
