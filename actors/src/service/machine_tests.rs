use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    steps: Vec::new(),
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
    rules: Rules,
    state: State,
    now: Duration,
}

impl Service {
    fn new() -> Self {
        Self { rules: RULES, state: State::default(), now: Duration::ZERO }
    }

    /// With two prepare steps of at most 10 and 20 s.
    fn with_steps() -> Self {
        let mut service = Self::new();
        service.rules.steps = [10, 20].map(Duration::from_secs).into();
        service
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let (state, actions) = step(&self.rules, &self.state, event, self.now, EVEN);
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
    let actions = service.on(Event::Timer(number));
    assert_eq!(actions[0], Action::KillAll);
    assert_eq!(service.state.reason, "operator; after 5 s it had to be killed");
    service.on(Event::Timer(Service::timer(&actions).0));
    assert_eq!(service.state.reason, "operator; after 5 s it had to be killed", "said once");
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
    assert_eq!(service.on(Event::Adopted { ready: true, step: None }), [Action::Watch]);
    assert!(service.on(Event::Start).is_empty());
    assert_eq!(service.state.phase, Phase::Running);
    let mut service = Service::new();
    assert_eq!(service.on(Event::Adopted { ready: false, step: None })[0], Action::AwaitReady);
}

#[test]
fn prepare_steps_run_one_after_the_other_before_the_service() {
    let mut service = Service::with_steps();
    assert_eq!(service.on(Event::Start), [Action::Prepare(0)]);
    assert_eq!(service.state.reason, "prepare step 1 of 2");
    assert_eq!(Service::timer(&service.on(Event::Spawned)).1, Duration::from_secs(10));
    assert_eq!(service.on(Event::StepDone), [Action::Prepare(1)]);
    assert!(service.on(Event::Start).is_empty(), "it is on its way");
    // There was nothing to do: no child, no timer.
    assert_eq!(service.on(Event::StepDone), [Action::Spawn]);
    assert_eq!(service.state.phase, Phase::Starting);
    service.on(Event::Spawned);
    service.on(Event::Ready);
    let timer = Service::timer(&service.on(Event::Exited("exit code 1".into()))).0;
    assert_eq!(service.on(Event::Timer(timer)), [Action::Prepare(0)], "before each start");
}

#[test]
fn a_failed_or_late_step_is_a_failed_start() {
    let mut service = Service::with_steps();
    service.on(Event::Start);
    service.on(Event::StepDone);
    service.on(Event::Spawned);
    let actions = service.on(Event::Exited("exit code 2: no space".into()));
    assert_eq!((service.state.phase, &actions[0]), (Phase::Backoff, &Action::KillAll));
    assert!(service.state.reason.starts_with("prepare step 2: exit code 2: no space; next"));
    service.on(Event::Timer(Service::timer(&actions).0));
    let limit = Service::timer(&service.on(Event::Spawned)).0;
    let actions = service.on(Event::Timer(limit));
    assert_eq!((service.state.phase, &actions[0]), (Phase::Backoff, &Action::KillAll));
    assert!(service.state.reason.starts_with("prepare step 1 was not done within 10 s; next"));
    assert!(service.on(Event::StepDone).is_empty(), "too late");
    service.on(Event::Timer(Service::timer(&actions).0));
    let actions = service.on(Event::SpawnFailed("no such file".into()));
    assert!(service.state.reason.starts_with("prepare step 1 not started: no such file"));
    service.on(Event::Timer(Service::timer(&actions).0));
    service.on(Event::Spawned);
    service.on(Event::Exited("exit code 2".into()));
    assert_eq!(service.state.phase, Phase::Failed);
}

#[test]
fn a_stop_during_a_step_ends_the_step_and_starts_nothing() {
    let mut service = Service::with_steps();
    service.on(Event::Start);
    service.on(Event::Spawned);
    assert_eq!(service.on(Event::Stop("leaving".into()))[0], Action::Signal);
    assert_eq!(service.on(Event::StepDone), [Action::KillAll]);
    assert_eq!(service.state.phase, Phase::Stopped);
    let mut service = Service::with_steps();
    assert!(matches!(
        service.on(Event::Adopted { ready: false, step: Some(1) })[..],
        [Action::SetTimer { after, .. }] if after == Duration::from_secs(20)
    ));
    assert_eq!(service.on(Event::StepDone), [Action::Spawn]);
}

#[test]
fn only_what_runs_is_reloaded() {
    let mut service = Service::new();
    assert!(service.on(Event::Reload).is_empty());
    service.run();
    assert_eq!(service.on(Event::Reload), [Action::Reload]);
    assert_eq!(service.state.phase, Phase::Running);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Adopted { ready: true, step: None }),
        Just(Event::Adopted { ready: false, step: Some(0) }),
        Just(Event::Spawned),
        Just(Event::StepDone),
        Just(Event::Reload),
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
        steps in 0usize..3,
    ) {
        let rules = Rules { steps: vec![Duration::from_secs(10); steps], ..RULES };
        let mut state = State::default();
        let mut now = Duration::ZERO;
        for (event, pause, jitter) in events {
            now += Duration::from_secs(pause);
            let ordered = matches!(event, Event::Start | Event::Restart(_));
            let (next, actions) = step(&rules, &state, event, now, jitter);
            if matches!(state.phase, Phase::Stopped | Phase::Failed) && !ordered {
                let starts = |action: &Action| matches!(action, Action::Spawn | Action::Prepare(_));
                prop_assert!(!actions.iter().any(starts));
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
