use proptest::prelude::*;

use super::*;

fn at(phase: Phase) -> State {
    State { phase, reason: String::new(), exit: None }
}

fn check(phase: Phase, event: Event, expect: Phase, actions: &[Action]) {
    let step = step(&at(phase), event.clone());
    assert_eq!((step.state.phase, step.actions.as_slice()), (expect, actions), "{phase:?} on {event:?}");
    assert_eq!(step.verdict, Verdict::Accepted, "{phase:?} on {event:?}");
}

fn why() -> String {
    "because".into()
}

#[test]
fn the_way_of_a_new_node() {
    check(Phase::Starting, Event::Started, Phase::Starting, &[Action::Probe]);
    let found = Found::NotEnrolled { why: why() };
    check(Phase::Starting, Event::Probed(found), Phase::Enrolling, &[Action::OpenEnrollment]);
    let begin = Event::BeginProvisioning { node_id: "node-10.0.0.4".into() };
    check(Phase::Enrolling, begin, Phase::Provisioning, &[]);
    let failed = Event::ProvisioningFailed { why: why() };
    check(Phase::Provisioning, failed, Phase::Enrolling, &[Action::OpenEnrollment]);
    check(Phase::Provisioning, Event::Provisioned, Phase::StartingServices, &[Action::StartServices]);
    check(Phase::StartingServices, Event::AllSpawned, Phase::Running, &[Action::AnnounceSpawned]);
}

#[test]
fn the_way_of_an_enrolled_node() {
    let found = Found::Enrolled { node_id: "node-10.0.0.4".into() };
    check(Phase::Starting, Event::Probed(found), Phase::Joining, &[Action::BringUpMesh]);
    check(Phase::Joining, Event::MeshFailed { why: why() }, Phase::Joining, &[Action::Retry]);
    check(Phase::Joining, Event::RetryDue, Phase::Joining, &[Action::BringUpMesh]);
    check(Phase::Joining, Event::MeshUp, Phase::Unlocking, &[Action::StartEarly, Action::Unlock]);
    check(Phase::Unlocking, Event::Waiting { why: why() }, Phase::WaitingForPeers, &[]);
    let gathering = Event::Gathering { needed: 3, holders: 5 };
    check(Phase::WaitingForPeers, gathering, Phase::Unlocking, &[]);
    check(Phase::Unlocking, Event::WaitingForOwner { why: why() }, Phase::WaitingForOwner, &[]);
    check(Phase::WaitingForOwner, Event::VolumeOpen, Phase::Mounting, &[Action::Mount]);
    check(Phase::Unlocking, Event::VolumeOpen, Phase::Mounting, &[Action::Mount]);
    check(Phase::Mounting, Event::MountFailed { why: why() }, Phase::Mounting, &[Action::Retry]);
    check(Phase::Mounting, Event::Mounted, Phase::StartingServices, &[Action::StartServices]);
}

#[test]
fn a_damaged_header_and_an_edited_early_state_end_in_degraded() {
    let step_one = step(&at(Phase::Starting), Event::Probed(Found::Damaged { why: why() }));
    assert_eq!(step_one.state.phase, Phase::Degraded);
    assert!(matches!(step_one.actions.as_slice(), [Action::Alarm(text)] if text.contains("because")));
    let step_two = step(&at(Phase::Mounting), Event::EarlyStateEdited { why: why() });
    assert_eq!(step_two.state.phase, Phase::Degraded);
    assert!(matches!(
        step_two.actions.as_slice(),
        [Action::Alarm(text), Action::StopEarly { .. }] if text.contains("edited")
    ));
}

#[test]
fn a_node_that_leaves_its_cluster_erases_its_header_and_goes_on_with_it_after_a_boot() {
    let order = || Event::LeaveCluster { why: why() };
    for phase in [Phase::Running, Phase::StartingServices] {
        check(phase, order(), Phase::Leaving, &[Action::CloseDown]);
    }
    check(Phase::Leaving, Event::Closed, Phase::Leaving, &[Action::Erase]);
    check(Phase::Starting, Event::Probed(Found::Leaving), Phase::Leaving, &[Action::Erase]);
    check(Phase::Leaving, Event::EraseFailed { why: why() }, Phase::Leaving, &[Action::Retry]);
    check(Phase::Leaving, Event::RetryDue, Phase::Leaving, &[Action::Erase]);
    let erased = step(&at(Phase::Leaving), Event::Erased);
    assert!(matches!(erased.actions.as_slice(), [Action::Exit { exit: Exit::Reboot, .. }]));
    for phase in [Phase::WaitingForPeers, Phase::Enrolling, Phase::Rebooting, Phase::Degraded] {
        assert!(matches!(step(&at(phase), order()).verdict, Verdict::Denied(_)), "{phase:?}");
        assert_eq!(step(&at(phase), Event::Erased).verdict, Verdict::Ignored, "{phase:?}");
    }
    for late in [order(), Event::Leave { exit: Exit::PowerOff, why: why() }] {
        assert_eq!(step(&at(Phase::Leaving), late).verdict, Verdict::Ignored);
    }
}

#[test]
fn leaving_goes_once_and_through_closing_down() {
    let reboot = Event::Leave { exit: Exit::Reboot, why: "asked by the operator".into() };
    let first = step(&at(Phase::Running), reboot.clone());
    assert_eq!((first.state.phase, first.actions.as_slice()), (Phase::Rebooting, &[Action::CloseDown][..]));
    let second = step(&first.state, Event::Leave { exit: Exit::PowerOff, why: why() });
    assert_eq!((second.verdict, second.state.phase), (Verdict::Ignored, Phase::Rebooting));
    let last = step(&first.state, Event::Closed);
    let exit = Action::Exit { exit: Exit::Reboot, why: "asked by the operator".into() };
    assert_eq!(last.actions, [exit]);
    assert!(matches!(step(&at(Phase::Provisioning), reboot).verdict, Verdict::Denied(_)));
}

#[test]
fn only_an_enrolling_node_may_be_provisioned() {
    for phase in ALL {
        let step = step(&at(phase), Event::BeginProvisioning { node_id: "node-10.0.0.4".into() });
        let allowed = step.verdict == Verdict::Accepted;
        assert_eq!(allowed, phase == Phase::Enrolling, "{phase:?}: {:?}", step.verdict);
    }
}

const ALL: [Phase; 13] = [
    Phase::Starting,
    Phase::Enrolling,
    Phase::Provisioning,
    Phase::Joining,
    Phase::Unlocking,
    Phase::WaitingForPeers,
    Phase::WaitingForOwner,
    Phase::Mounting,
    Phase::StartingServices,
    Phase::Running,
    Phase::Degraded,
    Phase::Rebooting,
    Phase::PoweringOff,
];

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Started),
        Just(Event::Probed(Found::NotEnrolled { why: why() })),
        Just(Event::Probed(Found::Enrolled { node_id: "node-10.0.0.4".into() })),
        Just(Event::Probed(Found::Damaged { why: why() })),
        Just(Event::ProbeFailed { why: why() }),
        Just(Event::BeginProvisioning { node_id: "node-10.0.0.4".into() }),
        Just(Event::ProvisioningFailed { why: why() }),
        Just(Event::Provisioned),
        Just(Event::MeshUp),
        Just(Event::MeshFailed { why: why() }),
        Just(Event::Gathering { needed: 3, holders: 5 }),
        Just(Event::Waiting { why: why() }),
        Just(Event::VolumeOpen),
        Just(Event::Mounted),
        Just(Event::MountFailed { why: why() }),
        Just(Event::EarlyStateEdited { why: why() }),
        Just(Event::AllSpawned),
        Just(Event::Leave { exit: Exit::Reboot, why: why() }),
        Just(Event::Leave { exit: Exit::PowerOff, why: why() }),
        Just(Event::Closed),
        Just(Event::RetryDue),
    ]
}

proptest! {
    /// Any order of events: services start only after a mount or a finished provisioning, provisioning is only
    /// begun on a header that said "not enrolled", degraded and leaving are not left.
    #[test]
    fn no_order_of_events_breaks_the_rules(events in proptest::collection::vec(any_event(), 0..60)) {
        let mut state = State::default();
        let (mut volume_ready, mut not_enrolled) = (false, false);
        for event in events {
            let before = state.clone();
            let step = step(&state, event.clone());
            state = step.state;
            match (&event, before.phase) {
                (Event::Mounted, Phase::Mounting) | (Event::Provisioned, Phase::Provisioning) => volume_ready = true,
                (Event::Probed(Found::NotEnrolled { .. }), Phase::Starting) => not_enrolled = true,
                _ => {}
            }
            if step.actions.contains(&Action::StartServices) {
                prop_assert!(volume_ready, "services started without a volume on {event:?} in {before:?}");
            }
            if state.phase == Phase::Provisioning {
                prop_assert!(not_enrolled, "provisioning an enrolled node");
            }
            if before.phase.is_going_down() || before.phase == Phase::Degraded {
                prop_assert!(state.phase == before.phase || state.phase.is_going_down());
            }
            if step.verdict != Verdict::Accepted {
                prop_assert_eq!(&state, &before);
                prop_assert!(step.actions.is_empty());
            }
        }
    }
}
