//! The one service that runs before the volume is open.

use super::*;
use crate::services::{EARLY_SERVICE, StartEarly};

const SLEEP: &[&str] = &["/bin/sleep", "60"];
/// Says something now and again, so that its log has something after the volume is open too.
const TALKS: &[&str] = &["/bin/sh", "-c", "echo early; while sleep 0.05; do echo still here; done"];

fn shut(programs: &[(&'static str, &[&'static str])]) -> House {
    let plans = programs.iter().map(|(name, _)| plan(name, &[])).collect();
    house_in(BootPhase::Unlocking, false, plans, programs)
}

#[actix::test]
async fn nobody_else_starts_and_it_is_the_same_process_after() {
    let house = shut(&[(EARLY_SERVICE, TALKS), ("olric", SLEEP)]);
    house.registry.services.ask(StartEarly).await.unwrap();
    let early = house.running(EARLY_SERVICE).await;
    let services = &house.registry.services;
    let other = services.ask(RestartService { name: "olric".into() }).await.unwrap();
    assert!(matches!(other, Err(OrderError::NotNow { .. })));
    house.start().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(house.registry.facts.services()["olric"].state, "waiting", "started on a volume that is shut");
    assert!(house.tail(EARLY_SERVICE, 100).await.unwrap().starts_with("early\n"));
    assert!(matches!(house.tail("olric", 5).await, Err(TailError::Locked)));
    assert!(house.logs.path().join("early/vault-guardian.log").exists());
    assert!(!house.logs.path().join("vault-guardian.log").exists());

    house.registry.facts.set_volume_ready(true);
    house.registry.facts.set_phase(BootPhase::StartingServices, "");
    house.start().await;
    house.running("olric").await;
    assert_eq!(house.running(EARLY_SERVICE).await.pid, early.pid);
    let deadline = Instant::now() + SOON;
    while !house.logs.path().join("vault-guardian.log").exists() {
        assert!(Instant::now() < deadline, "its log stays in memory");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = house.tail(EARLY_SERVICE, 1000).await.unwrap();
    assert!(log.starts_with("early\n") && log.ends_with("still here\n"), "{log}");
    assert!(!house.logs.path().join("early/vault-guardian.log").exists());
    house.stop_all().await;
}

#[actix::test]
async fn it_can_be_ordered_about_and_is_stopped_with_the_others() {
    let house = shut(&[(EARLY_SERVICE, SLEEP)]);
    house.registry.services.ask(StartEarly).await.unwrap();
    let first = house.running(EARLY_SERVICE).await;
    let restart = RestartService { name: EARLY_SERVICE.into() };
    house.registry.services.ask(restart.clone()).await.unwrap().unwrap();
    house.wait(EARLY_SERVICE, |status| status.state == "running" && status.pid != first.pid).await;
    house.stop_all().await;
    assert_eq!(house.registry.facts.services()[EARLY_SERVICE].state, "stopped");
    house.registry.facts.set_phase(BootPhase::Degraded, "");
    let degraded = house.registry.services.ask(restart).await.unwrap();
    assert!(
        matches!(degraded, Err(OrderError::NotNow { .. })),
        "a node whose header was edited serves nothing"
    );
}

#[actix::test]
async fn an_image_without_it_starts_nothing_and_a_panic_starts_it_again() {
    let house = shut(&[("olric", SLEEP)]);
    house.registry.services.ask(StartEarly).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(house.registry.facts.services()["olric"].state, "waiting");
    // Made anew while the node waits: nobody tells the new generation to start it.
    let house = house_in(
        BootPhase::WaitingForPeers,
        false,
        vec![plan(EARLY_SERVICE, &[])],
        &[(EARLY_SERVICE, SLEEP)],
    );
    house.running(EARLY_SERVICE).await;
    house.stop_all().await;
}
