//! When to ask guardians again, as a pure function `step(state, event)`. Which guardian gave what is the collector's
//! (orama-keyshare); this machine owns attempts, waiting and what a key that does not open means.

use std::time::Duration;

use orama_keyshare::backoff;

/// ```text
///   Asking ──enough shares──► Opening ──► Open
///     ▲  │                      │
///     │  └─too few──► Waiting ◄─┘ wrong key, cannot open
///     └────pause over────┘
/// ```
/// It never gives up: a node without enough peers waits for them, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Asking,
    Opening,
    Waiting,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Attempts since boot, the running one included.
    pub attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// Every guardian that counts has answered.
    RoundOver {
        enough: bool,
        jitter: f64,
    },
    Opened,
    /// The header does not take the key that the shares make.
    WrongKey {
        jitter: f64,
    },
    /// The volume could not be opened for another reason.
    CannotOpen {
        jitter: f64,
    },
    PauseOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Ask,
    OpenVolume,
    /// Forget all shares: one of them cannot be right although its digest is.
    Forget,
    Pause(Duration),
    Done,
}

impl State {
    /// The state to begin with, and what to do at once.
    pub fn start() -> (Self, Vec<Action>) {
        (Self { phase: Phase::Asking, attempts: 1 }, vec![Action::Ask])
    }

    fn pause(self, jitter: f64) -> (Self, Action) {
        // Attempts count from 1, the cycle of pauses from 0.
        let pause = backoff::delay(self.attempts - 1, jitter);
        (Self { phase: Phase::Waiting, ..self }, Action::Pause(pause))
    }
}

pub fn step(state: State, event: Event) -> (State, Vec<Action>) {
    match (state.phase, event) {
        (Phase::Asking, Event::RoundOver { enough: true, .. }) => {
            (State { phase: Phase::Opening, ..state }, vec![Action::OpenVolume])
        }
        (Phase::Asking, Event::RoundOver { enough: false, jitter })
        | (Phase::Opening, Event::CannotOpen { jitter }) => {
            let (state, pause) = state.pause(jitter);
            (state, vec![pause])
        }
        (Phase::Opening, Event::WrongKey { jitter }) => {
            let (state, pause) = state.pause(jitter);
            (state, vec![Action::Forget, pause])
        }
        (Phase::Opening, Event::Opened) => (State { phase: Phase::Open, ..state }, vec![Action::Done]),
        (Phase::Waiting, Event::PauseOver) => {
            let attempts = state.attempts.saturating_add(1);
            (State { phase: Phase::Asking, attempts }, vec![Action::Ask])
        }
        (Phase::Asking | Phase::Opening | Phase::Waiting | Phase::Open, _) => (state, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_longer_and_longer_and_then_from_the_start_for_ever() {
        let (mut state, _) = State::start();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let (waiting, actions) = step(state, Event::RoundOver { enough: false, jitter: 0.0 });
            let [Action::Pause(pause)] = actions[..] else { panic!("{actions:?}") };
            pauses.push(pause.as_secs());
            let (asking, actions) = step(waiting, Event::PauseOver);
            assert_eq!(actions, [Action::Ask]);
            state = asking;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 1, 2]);
        assert_eq!(state.attempts, 8);
    }

    #[test]
    fn a_wrong_key_is_forgotten_and_tried_again() {
        let state = State { phase: Phase::Opening, attempts: 1 };
        let (state, actions) = step(state, Event::WrongKey { jitter: 0.0 });
        assert_eq!(actions, [Action::Forget, Action::Pause(Duration::from_secs(1))]);
        assert_eq!(state.phase, Phase::Waiting);
    }

    proptest! {
        #[test]
        fn never_opens_without_enough_shares(choices in proptest::collection::vec(0u8..6, 0..40)) {
            let (mut state, _) = State::start();
            let mut enough = false;
            for choice in choices {
                let event = match choice {
                    0 => Event::RoundOver { enough: true, jitter: 0.1 },
                    1 => Event::RoundOver { enough: false, jitter: -0.1 },
                    2 => Event::Opened,
                    3 => Event::WrongKey { jitter: f64::NAN },
                    4 => Event::CannotOpen { jitter: 7.0 },
                    _ => Event::PauseOver,
                };
                enough |= state.phase == Phase::Asking && choice == 0;
                let (next, actions) = step(state, event);
                prop_assert!(enough || !actions.contains(&Action::OpenVolume));
                prop_assert!(state.phase != Phase::Open || actions.is_empty());
                state = next;
            }
        }
    }
}
