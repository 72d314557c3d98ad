//! Ends the trial of a freshly installed image: once the node has been well for a minute, the boot counter is taken
//! out of the image's name. A node that waits for its peers proves nothing about its image and stays on trial.

use std::path::{Path, PathBuf};
use std::time::Duration;

use orama_actors::boot::machine::Phase;
use orama_actors::describe;
use orama_actors::facts::Facts;
use orama_slots::boot_count::{self, Marked};

/// How long the node must have been well without a break.
const PROBATION: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where the ESP is mounted for the moment of renaming.
const ESP_AT: &str = "/boot";

/// Waits until the node is well for [`PROBATION`] and marks the running image good. Ends at once when the image is
/// not on trial.
pub async fn await_good(facts: Facts, esp: PathBuf) {
    let trial = match boot_count::pending() {
        Ok(Some(trial)) => trial,
        Ok(None) => return,
        Err(error) => return tracing::warn!("boot counting: {}", describe(&error)),
    };
    tracing::info!("image {} is on trial, {} boots left", trial.name, trial.tries_left);
    let mut well = Duration::ZERO;
    while well < PROBATION {
        tokio::time::sleep(LOOK_EVERY).await;
        well = if is_well(&facts) { well + LOOK_EVERY } else { Duration::ZERO };
    }
    let name = trial.name.clone();
    let marked =
        tokio::task::spawn_blocking(move || boot_count::mark_good(&esp, Path::new(ESP_AT), &trial)).await;
    match marked {
        Ok(Ok(Marked::Now)) => tracing::info!("image {name} is good"),
        Ok(Ok(Marked::Already)) => {}
        Ok(Err(error)) => tracing::warn!("image {name} could not be marked good: {}", describe(&error)),
        Err(_) => tracing::warn!("image {name} could not be marked good: the call panicked"),
    }
}

/// Enrolled nodes must run all their services; a node that was never enrolled has nothing more to prove than that
/// it shows its code.
fn is_well(facts: &Facts) -> bool {
    match facts.node().phase {
        Phase::Running => facts.services().values().all(|service| service.healthy),
        Phase::Enrolling => true,
        Phase::Starting
        | Phase::Provisioning
        | Phase::Joining
        | Phase::Unlocking
        | Phase::WaitingForPeers
        | Phase::WaitingForOwner
        | Phase::Mounting
        | Phase::StartingServices
        | Phase::Degraded
        | Phase::Rebooting
        | Phase::Leaving
        | Phase::PoweringOff => false,
    }
}
