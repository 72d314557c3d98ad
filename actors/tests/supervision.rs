//! Actors of a whole node panic at bad moments, and the node goes where it was going.

mod support;

use std::time::Duration;

use orama_actors::boot::Leave;
use orama_actors::boot::machine::{Exit, Phase};
use support::enrolled::enrolled;
use support::guardians::Guardians;
use support::{Options, power_on};

const SOON: Duration = Duration::from_secs(20);

#[actix::test]
async fn unlocking_survives_a_panic_of_the_unlock_actor() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let node = power_on(base.path(), Options::without_gateway(guardians.port));
    node.console.break_on("shares gathered");
    node.wait_for(Phase::Running, SOON).await;
    assert_eq!(node.status().await.actor_restarts["unlock"], 1);
    assert_eq!(node.registry.restarts.read()["unlock"].count, 1);
}

#[actix::test]
async fn a_running_node_stays_up_when_its_boot_actor_panics() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let node = power_on(base.path(), Options::without_gateway(guardians.port));
    node.console.break_on("phase running");
    let mut spawned = 0;
    for _ in 0..400 {
        spawned = node.console.lines().iter().filter(|line| *line == "all services spawned").count();
        if spawned == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(spawned, 1);
    let lines = node.console.lines();
    assert!(lines.iter().any(|line| line.contains("volume is still mounted")), "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("shares gathered")).count(),
        1,
        "not unlocked twice"
    );
    assert_eq!(node.status().await.actor_restarts["boot"], 1);
}

#[actix::test]
async fn a_node_on_its_way_down_goes_down_although_its_boot_actor_panics() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let node = power_on(base.path(), Options::without_gateway(guardians.port));
    node.wait_for(Phase::Running, SOON).await;
    node.console.break_on("phase powering-off");
    let leave = Leave { exit: Exit::PowerOff, why: "a test".into() };
    assert!(node.registry.boot.ask(leave).await.is_err(), "the order met the panic");
    for _ in 0..400 {
        if node.power.0.lock().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(node.power.0.lock().unwrap().as_deref(), Some("power off: a test"));
    assert!(!base.path().join("mounted").exists(), "the volume was closed");
}

#[actix::test]
async fn an_enrolling_node_shows_a_new_code_when_its_enroll_actor_panics() {
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), Options::without_gateway(1));
    node.console.break_on("registration code");
    let first = node.code().await;
    let mut second = first.clone();
    for _ in 0..200 {
        second = node.code().await;
        if second != first {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_ne!(first, second);
    let url = format!("http://{}/", node.page);
    let mut shown = None;
    for _ in 0..200 {
        if let Ok(mut response) = awc::Client::default().get(&url).send().await {
            shown = Some(response.json::<orama_protocol::enroll::RegistrationCode>().await.unwrap().code);
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(shown, Some(second), "the page shows the code that counts");
}
