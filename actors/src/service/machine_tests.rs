use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    ready_within: Some(Duration::from_secs(30)),
    backoff_initial: Duration::from_secs(1),
    backoff_maximum: Duration::from_secs(10),
    intensity: 3,
    window: Duration::from_secs(60),
    stop_grace: Duration::from_secs(5),
};

/// No jitter: 100 percent.
const EVEN: u32 = JITTER_PERCENT;

struct Service {
    state: State,
    now: Duration,
}

impl Service {
    fn new() -> Self {
        Self { state: State::default(), now: Duration::ZERO }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let (state, actions) = step(&RULES, &self.state, event, self.now, EVEN);
        self.state = state;
        actions
    }

    fn run(&mut self) {
        assert_eq!(self.on(Event::Start), [Action::Spawn]);
        let actions = self.on(Event::Spawned);
        assert!(matches!(actions[..], [Action::AwaitReady, Action::SetTimer { .. }]), "{actions:?}");
        assert_eq!(self.on(Event::Ready), [Action::Announce, Action::Watch]);
        assert_eq!(self.state.phase, Phase::Running);
    }

    fn timer(actions: &[Action]) -> (u64, Duration) {
        let timer = actions.iter().find_map(|action| match action {
            Action::SetTimer { number, after } => Some((*number, *after)),
            _ => None,
        });
        timer.unwrap_or_else(|| panic!("no timer in {actions:?}"))
    }
}

#[test]
fn a_service_that_dies_is_backed_off_longer_and_longer_and_then_given_up() {
    let mut service = Service::new();
    service.run();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        service.now += Duration::from_secs(1);
        let actions = service.on(Event::Exited("killed by SIGKILL".into()));
        assert_eq!(actions[0], Action::KillAll, "what it left behind goes too");
        let (number, pause) = Service::timer(&actions);
        pauses.push(pause.as_secs());
        assert_eq!(service.state.phase, Phase::Backoff);
        assert_eq!(service.on(Event::Timer(number)), [Action::Spawn]);
        service.on(Event::Spawned);
        service.on(Event::Ready);
    }
    assert_eq!(pauses, [1, 2, 4]);
    let actions = service.on(Event::Exited("exit code 1".into()));
    assert_eq!(service.state.phase, Phase::Failed);
    assert!(
        matches!(&actions[1], Action::Report(why) if why.contains("4 times within 60 s, last: exit code 1"))
    );
    assert_eq!(service.state.restarts, 3);
    assert_eq!(service.on(Event::Restart("operator".into())), [Action::Spawn], "an order starts it again");
}

#[test]
fn a_service_that_ran_for_a_window_has_recovered() {
    let mut service = Service::new();
    service.run();
    for _ in 0..20 {
        service.now += Duration::from_secs(61);
        let actions = service.on(Event::Exited("exit code 1".into()));
        let (number, pause) = Service::timer(&actions);
        assert_eq!(pause, Duration::from_secs(1));
        service.on(Event::Timer(number));
        service.on(Event::Spawned);
        service.on(Event::Ready);
    }
    assert_eq!(service.state.phase, Phase::Running);
}

#[test]
fn not_ready_in_time_is_a_failed_start() {
    let mut service = Service::new();
    service.on(Event::Start);
    let (number, limit) = Service::timer(&service.on(Event::Spawned));
    assert_eq!(limit, Duration::from_secs(30));
    let actions = service.on(Event::Timer(number));
    assert_eq!((service.state.phase, &actions[0]), (Phase::Backoff, &Action::KillAll));
    assert!(
        service.state.reason.starts_with("not ready within 30 s; next start in"),
        "{}",
        service.state.reason
    );
    assert!(service.on(Event::Exited("killed by SIGKILL".into())).is_empty(), "its end is expected then");
}

#[test]
fn stop_asks_then_kills_and_restart_starts_again() {
    let mut service = Service::new();
    service.run();
    let actions = service.on(Event::Restart("operator".into()));
    assert_eq!(actions[0], Action::Signal);
    let (number, grace) = Service::timer(&actions);
    assert_eq!(grace, RULES.stop_grace);
    assert_eq!(service.on(Event::Timer(number))[0], Action::KillAll);
    assert_eq!(service.on(Event::Exited("killed".into())), [Action::KillAll, Action::Spawn]);
    service.on(Event::Spawned);
    service.on(Event::Ready);
    service.on(Event::Stop("leaving".into()));
    assert_eq!(service.on(Event::Exited("ended".into())), [Action::KillAll]);
    assert_eq!(service.state.phase, Phase::Stopped);
    assert!(service.on(Event::Stop("again".into())).is_empty());
}

#[test]
fn an_order_taken_back_while_spawning_leaves_no_child() {
    let mut service = Service::new();
    service.on(Event::Start);
    service.on(Event::Stop("never mind".into()));
    assert_eq!(service.on(Event::Spawned), [Action::Signal]);
    assert_eq!(service.on(Event::Exited("ended".into())), [Action::KillAll]);
    assert_eq!(service.state.phase, Phase::Stopped);
}

#[test]
fn what_still_runs_is_adopted_and_not_started_again() {
    let mut service = Service::new();
    assert_eq!(service.on(Event::Adopted { ready: true }), [Action::Watch]);
    assert!(service.on(Event::Start).is_empty());
    assert_eq!(service.state.phase, Phase::Running);
    let mut service = Service::new();
    assert_eq!(service.on(Event::Adopted { ready: false })[0], Action::AwaitReady);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Adopted { ready: true }),
        Just(Event::Spawned),
        Just(Event::SpawnFailed("no".into())),
        Just(Event::Ready),
        Just(Event::Unresponsive("mute".into())),
        Just(Event::Exited("gone".into())),
        Just(Event::Stop("order".into())),
        Just(Event::Restart("order".into())),
        (0u64..40).prop_map(Event::Timer),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_the_rules(
        events in proptest::collection::vec((any_event(), 0u64..30, any::<u32>()), 0..80),
    ) {
        let mut state = State::default();
        let mut now = Duration::ZERO;
        for (event, pause, jitter) in events {
            now += Duration::from_secs(pause);
            let ordered = matches!(event, Event::Start | Event::Restart(_));
            let (next, actions) = step(&RULES, &state, event, now, jitter);
            if matches!(state.phase, Phase::Stopped | Phase::Failed) && !ordered {
                prop_assert_eq!(next.phase == Phase::Starting || actions.contains(&Action::Spawn), false);
            }
            for action in &actions {
                if let Action::SetTimer { after, .. } = action {
                    prop_assert!(*after > Duration::ZERO && *after <= RULES.ready_within.unwrap());
                }
            }
            let burst = next.recent.iter().filter(|at| now.saturating_sub(**at) < RULES.window).count();
            prop_assert!(burst <= RULES.intensity as usize);
            state = next;
        }
    }
}
