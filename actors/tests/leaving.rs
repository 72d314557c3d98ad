//! A node leaves its cluster: the mark first, then everything is stopped and erased, and whenever the power goes the next
//! boot goes on with it. What comes after is a node like any other that was never enrolled.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_actors::boot::machine::{Exit, Phase};
use orama_actors::boot::{Leave, LeaveCluster, LeaveRefused};
use orama_volume::{CrashPoint, DataVolume, DirectoryVolume, LeaveError, Probe, WriteStateError};
use support::enrolled::enrolled;
use support::guardians::Guardians;
use support::{Node, Options, power_on_with};

const SOON: Duration = Duration::from_secs(20);

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

struct Booted {
    node: Node,
    volume: Arc<DirectoryVolume>,
}

fn boot(base: &std::path::Path, guardians: &Guardians) -> Booted {
    let volume = Arc::new(DirectoryVolume::power_on(base).unwrap());
    let options = Options { custody: true, ..Options::without_gateway(guardians.port) };
    Booted { node: power_on_with(volume.clone(), options), volume }
}

async fn leave(node: &Node) -> Result<(), LeaveRefused> {
    node.registry.boot.ask(LeaveCluster { why: "a test".into() }).await.unwrap()
}

async fn ended(node: &Node) -> String {
    let start = Instant::now();
    loop {
        if let Some(end) = node.power.0.lock().unwrap().clone() {
            return end;
        }
        assert!(start.elapsed() < SOON, "it does not end: {:?}", node.console.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_blank(base: &std::path::Path) -> bool {
    matches!(DirectoryVolume::power_on(base).unwrap().probe(), Ok(Probe::Blank))
}

#[actix::test]
async fn a_node_that_leaves_is_blank_and_boots_into_enrollment_mode() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let Booted { node, volume } = boot(base.path(), &guardians);
    let early = leave(&node).await;
    assert!(matches!(early, Err(LeaveRefused::NotNow(_))), "{early:?}");
    node.wait_for(Phase::Running, SOON).await;
    assert!(matches!(volume.erase(), Err(LeaveError::NotMarked { .. })), "without a mark nothing is erased");
    assert!(ALL.iter().all(|index| !guardians.generations(*index).is_empty()));
    leave(&node).await.unwrap();
    // The gateway takes the node out of WireGuard as soon as it has this answer.
    assert!(ALL.iter().all(|index| guardians.generations(*index).is_empty()), "a share is left");
    assert!(node.console.says("this node's shares are deleted at 5 of 5 guardians"));
    leave(&node).await.unwrap();
    let reboot = Leave { exit: Exit::PowerOff, why: "somebody else's order".into() };
    let _ = node.registry.boot.ask(reboot).await.unwrap();
    let end = ended(&node).await;
    assert!(end.starts_with("reboot") && end.contains("blank"), "{end}");
    assert!(node.console.says("this node leaves its cluster"));
    assert!(node.console.says("phase leaving: erasing"));
    assert!(is_blank(base.path()));
    let Booted { node, .. } = boot(base.path(), &guardians);
    node.wait_for(Phase::Enrolling, SOON).await;
}

#[actix::test]
async fn a_node_that_leaves_as_soon_as_it_runs_still_knows_who_has_its_shares() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let volume = Arc::new(DirectoryVolume::power_on(base.path()).unwrap());
    let node = power_on_with(volume, Options::without_gateway(guardians.port));
    node.wait_for(Phase::Running, SOON).await;
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.start_custody(guardians.port);
    };
    let (left, ()) = futures_util::future::join(leave(&node), late).await;
    left.unwrap();
    assert!(ALL.iter().all(|index| guardians.generations(*index).is_empty()), "a share is left");
    assert!(ended(&node).await.contains("blank"));
}

#[actix::test]
async fn a_node_that_cannot_read_its_record_leaves_and_says_what_is_left() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let volume = Arc::new(DirectoryVolume::power_on(base.path()).unwrap());
    let node = power_on_with(volume, Options::without_gateway(guardians.port));
    node.wait_for(Phase::Running, SOON).await;
    leave(&node).await.unwrap();
    assert!(ended(&node).await.contains("blank"));
    assert!(node.console.says("this node's shares may be left at its guardians"));
    assert!(is_blank(base.path()));
}

#[actix::test]
async fn guardians_that_are_gone_or_silent_hold_nothing_up() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let Booted { node, .. } = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    guardians.stop(3).await;
    guardians.make_silent(4).await;
    let start = Instant::now();
    let again = async {
        node.wait_for(Phase::Leaving, SOON).await;
        leave(&node).await
    };
    let (first, second) = futures_util::future::join(leave(&node), again).await;
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let end = ended(&node).await;
    assert!(end.contains("blank"), "{end}");
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert!([0, 1, 2].iter().all(|index| guardians.generations(*index).is_empty()), "a share is left");
    let lines = node.console.lines();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("shares are deleted at")).collect();
    let [told] = told[..] else { panic!("not told once: {told:?}") };
    for words in ["3 of 5 guardians, not at node-127.0.0.14 (", "node-127.0.0.15 (timed out)", "disk"] {
        assert!(told.contains(words), "{told}");
    }
    assert!(is_blank(base.path()));
}

#[actix::test]
async fn power_cuts_do_not_keep_a_node_that_leaves() {
    for point in
        [CrashPoint::AfterMark, CrashPoint::InErase, CrashPoint::BeforeUnmark, CrashPoint::AfterErase]
    {
        let guardians = Guardians::start();
        let base = enrolled(&guardians).await;
        let Booted { node, volume } = boot(base.path(), &guardians);
        node.wait_for(Phase::Running, SOON).await;
        volume.crash_at(point);
        let marked = leave(&node).await;
        assert_eq!(marked.is_ok(), point != CrashPoint::AfterMark, "{point:?}");
        let start = Instant::now();
        while volume.probe().is_ok() {
            assert!(start.elapsed() < SOON, "the power did not go at {point:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = DirectoryVolume::power_on(base.path()).unwrap();
        if point == CrashPoint::AfterErase {
            assert!(is_blank(base.path()));
            continue;
        }
        assert!(matches!(left.probe(), Ok(Probe::Leaving)), "{point:?}");
        assert!(left.format(&orama_keyshare::VolumeKey::generate().unwrap()).is_err());
        let Booted { node, .. } = boot(base.path(), &guardians);
        ended(&node).await;
        assert!(!node.console.says("phase joining"), "it never comes back: {point:?}");
        assert!(is_blank(base.path()), "{point:?}");
    }
}

#[actix::test]
async fn without_the_mark_the_node_stays_and_with_it_the_record_is_written_no_more() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let Booted { node, volume } = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    volume.crash_at(CrashPoint::BeforeMark);
    assert!(matches!(leave(&node).await, Err(LeaveRefused::Mark(_))));
    assert_eq!(node.registry.facts.node().phase, Phase::Running);
    assert!(ALL.iter().all(|index| !guardians.generations(*index).is_empty()), "it is still wanted");

    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    let Ok(Probe::Enrolled { state, .. }) = volume.probe() else { panic!("not enrolled") };
    volume.mark_leaving().unwrap();
    let key = orama_volume::MacKey::generate().unwrap();
    assert!(matches!(volume.write_early_state(&state, &key), Err(WriteStateError::Leaving { .. })));
}
