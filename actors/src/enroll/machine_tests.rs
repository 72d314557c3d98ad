use proptest::prelude::*;

use super::*;

fn at(phase: Phase) -> State {
    State {
        phase,
        connected: phase != Phase::Offline && phase != Phase::Closed,
        failures: 0,
        push_only: false,
    }
}

fn check(phase: Phase, event: Event, expect: Phase, actions: &[Action]) {
    let (state, got) = step(at(phase), event.clone(), 0);
    assert_eq!((state.phase, got.as_slice()), (expect, actions), "{phase:?} on {event:?}");
}

#[test]
fn an_enrollment_from_code_to_done() {
    use Action::*;
    check(Phase::Closed, Event::Open, Phase::Offline, &[NewCode, Connect]);
    check(Phase::Offline, Event::Connected, Phase::Greeting, &[Hello]);
    check(Phase::Greeting, Event::Acknowledged, Phase::Waiting, &[]);
    check(Phase::Waiting, Event::ConfigGood, Phase::Agreed, &[Accept]);
    check(Phase::Agreed, Event::Registered, Phase::Provisioning, &[Provision]);
    check(Phase::Provisioning, Event::Lost, Phase::Provisioning, &[]);
    check(Phase::Provisioning, Event::Provisioned, Phase::Done, &[SayProvisioned, CloseForGood]);
    check(Phase::Done, Event::Open, Phase::Done, &[]);
}

#[test]
fn what_goes_wrong_leaves_a_node_that_can_be_enrolled() {
    use Action::*;
    let bad = || Event::ConfigBad("no guardians".into());
    check(Phase::Waiting, bad(), Phase::Waiting, &[Refuse("no guardians".into())]);
    check(Phase::Greeting, Event::Rejected, Phase::Greeting, &[NewCode, Hello]);
    check(Phase::Agreed, Event::Aborted, Phase::Agreed, &[HangUp]);
    check(Phase::Agreed, Event::Lost, Phase::Offline, &[ReconnectAfter(Duration::from_millis(800))]);
    check(Phase::Waiting, Event::CodeExpired, Phase::Greeting, &[NewCode, Hello]);
    let failed = Event::ProvisioningFailed("a guardian is down".into());
    check(
        Phase::Provisioning,
        failed,
        Phase::Greeting,
        &[SayFailed("a guardian is down".into()), NewCode, Hello],
    );
    check(Phase::Waiting, Event::Registered, Phase::Waiting, &[HangUp]);
}

#[test]
fn a_code_does_not_expire_under_an_operator_who_was_answered() {
    check(Phase::Agreed, Event::CodeExpired, Phase::Agreed, &[]);
    check(Phase::Provisioning, Event::CodeExpired, Phase::Provisioning, &[]);
}

#[test]
fn pauses_grow_to_thirty_seconds() {
    let mut state = at(Phase::Offline);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let (next, actions) = step(state, Event::Lost, JITTER_PERCENT);
        let [Action::ReconnectAfter(pause)] = actions[..] else { panic!("{actions:?}") };
        pauses.push(pause.as_secs());
        state = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn the_compatibility_mode_calls_nobody() {
    let (state, actions) = step(State::new(true), Event::Open, 0);
    assert_eq!(actions, [Action::NewCode]);
    let (state, actions) = step(state, Event::ConfigGood, 0);
    assert_eq!((state.phase, actions), (Phase::Provisioning, vec![Action::Provision]));
    let (state, actions) = step(state, Event::ProvisioningFailed("x".into()), 0);
    assert_eq!((state.phase, actions), (Phase::Offline, vec![Action::NewCode]));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Open),
        Just(Event::Connected),
        Just(Event::Lost),
        Just(Event::ReconnectDue),
        Just(Event::Acknowledged),
        Just(Event::Rejected),
        Just(Event::ConfigGood),
        Just(Event::ConfigBad("bad".into())),
        Just(Event::Registered),
        Just(Event::Aborted),
        Just(Event::CodeExpired),
        Just(Event::Provisioned),
        Just(Event::ProvisioningFailed("failed".into())),
    ]
}

proptest! {
    /// Whatever a gateway says in whatever order: a volume is made only after a good configuration and the gateway's
    /// word, and a node that is done stays done.
    #[test]
    fn no_order_of_messages_formats_a_volume_too_early(
        events in proptest::collection::vec(any_event(), 0..60),
        jitter in any::<u32>(),
    ) {
        let mut state = State::new(false);
        let mut good = false;
        for event in events {
            let before = state;
            good |= before.phase == Phase::Waiting && event == Event::ConfigGood;
            let registered = event == Event::Registered;
            let (next, actions) = step(before, event, jitter);
            state = next;
            if actions.contains(&Action::Provision) {
                prop_assert!(good && registered);
            }
            if state.phase == Phase::Offline {
                good = false;
            }
            prop_assert!(before.phase != Phase::Done || (state == before && actions.is_empty()));
            prop_assert!(!actions.contains(&Action::CloseForGood) || state.phase == Phase::Done);
        }
    }
}
