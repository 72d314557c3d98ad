//! The life of the uplink: choose, set up, get an address, apply it, keep it. Reports through a watch channel.
//! One task on the caller's runtime (a current_thread runtime will do); never ends by itself.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{Mode, UplinkConfig};
use crate::dhcp::{Client, Event};
use crate::interfaces::{self, Interface};
use crate::lease::Lease;
use crate::netlink::Netlink;
use crate::resolver;

/// How long a link may take to come up after the interface was set up.
const LINK_WAIT: Duration = Duration::from_secs(5);
/// How often the link is looked at meanwhile.
const LINK_POLL: Duration = Duration::from_millis(100);
/// Longest pause between two attempts, in seconds.
const MAX_BACKOFF_SECONDS: u64 = 16;

/// How the uplink is doing. Its text is meant for the console and the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkStatus {
    /// Nothing was tried yet.
    Starting,
    /// An attempt failed; the next one comes after `next`.
    Retrying { reason: String, tries: u32, next: Duration },
    /// The interface is configured.
    Up(Lease),
    /// The lease ran out. The address stays in use while a new lease is asked for: on a network whose DHCP server is
    /// down, a node that drops its address is lost, and one that keeps it is not.
    Expired(Lease),
}

impl UplinkStatus {
    /// The configuration in use, if there is any.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Up(lease) | Self::Expired(lease) => Some(lease),
            Self::Starting | Self::Retrying { .. } => None,
        }
    }
}

impl fmt::Display for UplinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("bringing up the network"),
            Self::Retrying { reason, tries, next } => {
                let plural = if *tries == 1 { "try" } else { "tries" };
                write!(f, "{reason} after {tries} {plural}, next in {} s", next.as_secs())
            }
            Self::Up(lease) => {
                write!(f, "{} has {}", lease.interface, lease.address)?;
                lease.gateway.map_or(Ok(()), |gateway| write!(f, ", gateway {gateway}"))
            }
            Self::Expired(lease) => {
                write!(f, "the lease of {} on {} ran out, asking again", lease.address, lease.interface)
            }
        }
    }
}

/// Starts to bring the uplink up. The caller spawns the future, which keeps the uplink for as long as it lives, and
/// watches the status. `resolv_conf` is rewritten with every lease.
pub fn bring_up(
    config: UplinkConfig,
    resolv_conf: PathBuf,
) -> (impl Future<Output = Infallible> + Send + 'static, watch::Receiver<UplinkStatus>) {
    let (status, watcher) = watch::channel(UplinkStatus::Starting);
    (Uplink { config, resolv_conf, status, current: None }.run(), watcher)
}

struct Uplink {
    config: UplinkConfig,
    resolv_conf: PathBuf,
    status: watch::Sender<UplinkStatus>,
    /// What is on an interface now, with the interface's index.
    current: Option<(u32, Lease)>,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Uplink {
    async fn run(mut self) -> Infallible {
        let mut tries = 0u32;
        loop {
            tries = tries.saturating_add(1);
            let before = self.current.clone();
            let Err(failure) = self.attempt(tries).await;
            let reason = chain(failure.as_ref());
            if self.current != before {
                // It was up in between: a new misfortune, counted from the start.
                tries = 1;
            }
            let next = backoff(tries);
            tracing::warn!(reason, tries, "uplink is not up");
            self.status.send_replace(UplinkStatus::Retrying { reason, tries, next });
            sleep(next).await;
        }
    }

    /// From nothing to a lease that is kept until it breaks.
    async fn attempt(&mut self, attempt: u32) -> Result<Infallible, Failure> {
        let netlink = Netlink::open()?;
        let mode = self.config.mode.clone();
        let interface = self.prepare(&netlink, attempt, mode == Mode::Dhcp).await?;
        let mut client = match mode {
            Mode::Static(config) => {
                self.take(&netlink, &interface, Lease::from_config(&interface.name, &config)).await?;
                return Ok(std::future::pending().await);
            }
            Mode::Dhcp => {
                let (client, answer) = Client::acquire(&interface.name).await?;
                self.take(&netlink, &interface, Lease::from_dhcp(&interface.name, &answer)?).await?;
                client
            }
        };
        loop {
            match client.next(&interface.name).await? {
                Event::Lease(answer) => {
                    self.take(&netlink, &interface, Lease::from_dhcp(&interface.name, &answer)?).await?;
                }
                Event::Expired => {
                    if let Some((_, lease)) = self.current.clone() {
                        self.status.send_replace(UplinkStatus::Expired(lease));
                    }
                }
            }
        }
    }

    /// Sets `lo` and the candidates up and chooses the one to use.
    async fn prepare(&self, netlink: &Netlink, attempt: u32, needs_link: bool) -> Result<Interface, Failure> {
        let named = self.config.interface.as_deref();
        let all = netlink.interfaces().await?;
        let loopback = all.iter().filter(|interface| interface.name == "lo");
        for interface in loopback.chain(interfaces::candidates(&all, named)) {
            netlink.set_up(interface).await?;
        }
        let mut waited = Duration::ZERO;
        loop {
            let all = netlink.interfaces().await?;
            match interfaces::choose(&all, named, needs_link, attempt) {
                Ok(interface) => return Ok(interface.clone()),
                Err(reason) if waited >= LINK_WAIT || interfaces::candidates(&all, named).is_empty() => {
                    return Err(reason.into());
                }
                Err(_) => {}
            }
            sleep(LINK_POLL).await;
            waited += LINK_POLL;
        }
    }

    /// Puts a lease in place and tells about it. A renewal that changes nothing only refreshes the kernel's state.
    async fn take(&mut self, netlink: &Netlink, interface: &Interface, lease: Lease) -> Result<(), Failure> {
        let old =
            self.current.as_ref().filter(|(index, _)| *index == interface.index).map(|(_, lease)| lease);
        let changed =
            old != Some(&lease) || !netlink.addresses(interface.index).await?.contains(&lease.address);
        if changed {
            netlink.apply(interface.index, old, &lease).await?;
            write_resolver(&self.resolv_conf, &lease)?;
            tracing::info!(interface = lease.interface, address = %lease.address, "uplink is up");
        }
        self.current = Some((interface.index, lease.clone()));
        self.status.send_if_modified(|status| {
            let up = UplinkStatus::Up(lease);
            let modified = *status != up;
            *status = up;
            modified
        });
        Ok(())
    }
}

fn write_resolver(path: &Path, lease: &Lease) -> Result<(), Failure> {
    resolver::write(path, &lease.dns)
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// 1, 2, 4, 8, 16, 16, … seconds.
fn backoff(tries: u32) -> Duration {
    Duration::from_secs(
        1u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX).min(MAX_BACKOFF_SECONDS),
    )
}

/// An error with all its causes on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit() {
        let seconds: Vec<u64> = [1, 2, 3, 4, 5, 6, 70, u32::MAX].map(|tries| backoff(tries).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 16, 16, 16]);
    }

    #[test]
    fn texts_are_for_people() {
        let reason = "no DHCP answer on eth0".to_owned();
        let status = UplinkStatus::Retrying { reason, tries: 3, next: Duration::from_secs(4) };
        assert_eq!(status.to_string(), "no DHCP answer on eth0 after 3 tries, next in 4 s");
    }
}
