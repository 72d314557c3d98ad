//! The composition root: the only place where actors are started and given what they need. Ends when the boot actor
//! (or a supervisor that gave up) has decided how the machine ends.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_actors::boot::machine::Exit;
use orama_actors::boot::{BootActor, Leave};
use orama_actors::custody::{CustodyActor, CustodySettings, Record};
use orama_actors::enroll::{EnrollActor, EnrollMode, EnrollSettings};
use orama_actors::health::{HealthActor, REPORT_URL};
use orama_actors::held::HeldShares;
use orama_actors::held::socket::GuardianSocket;
use orama_actors::ports::{Console, Mesh, Power};
use orama_actors::registry::Registry;
use orama_actors::service::SandboxLauncher;
use orama_actors::service::launch::LaunchThread;
use orama_actors::service::log::Logs;
use orama_actors::services::{EARLY_SERVICE, Roster, ServicesActor, supervise_services};
use orama_actors::supervise::{GaveUp, INTENSITY, Link, supervise};
use orama_actors::unlock::{UnlockActor, UnlockSettings};
use orama_actors::update::UpdateActor;
use orama_actors::wg::WgActor;
use orama_slots::disk::BootDisk;
use orama_uplink::UplinkStatus;
use orama_volume::{DataVolume, LuksVolume};
use tokio::sync::watch;

use crate::api::{self, Node};
use crate::config::{Config, EnrollmentMode, Gateway};
use crate::image::Image;
use crate::pid1::orphans::{self, Orphans};
use crate::pid1::power::End;
use crate::pid1::watchdog::{FEED_EVERY, Watchdog};
use crate::ports::{KernelMesh, PowerSwitch, Screen};
use crate::{roster, trial};

/// Where the data volume is mounted.
const VOLUME_ROOT: &str = "/opt/orama/.orama";
/// Below [`VOLUME_ROOT`].
const SERVICE_LOGS: &str = "/opt/orama/.orama/logs";
/// Where the logs of what runs before the volume is open go, in memory.
const EARLY_LOGS: &str = "/run/orama/early-logs";
/// Where the guardian of this node asks for what it keeps; its profile names the same.
const GUARDIAN_SOCKET: &str = "/run/orama/guardian/agent.sock";
/// Number of the data partition: the last of the image's four.
const DATA_PARTITION: u32 = 4;
const POLICIES: &str = "/etc/orama/policies";
const RESOLV_CONF: &str = "/run/orama/resolv.conf";
/// Pause before the API is bound again: its address appears a moment after the interface.
const BIND_AGAIN: Duration = Duration::from_millis(500);

/// The data volume, and the one writer of its header while it is open.
struct Header {
    volume: Arc<dyn DataVolume>,
    record: Record,
}

type Failure = Box<dyn std::error::Error>;

pub async fn run(config: Config, image: Image, screen: Arc<Screen>) -> Result<End, Failure> {
    let started = Instant::now();
    let disk = BootDisk::find()?;
    let registry = Registry::default();
    let (end, mut ended) = watch::channel(None);
    let power: Arc<dyn Power> = Arc::new(PowerSwitch { end, screen: Arc::clone(&screen) });
    let console: Arc<dyn Console> = screen.clone();
    guard_machine(&registry);

    let uplink = bring_up_network(&config, &registry, &console);
    let escalate = {
        let power = Arc::clone(&power);
        move |gave_up: GaveUp| power.reboot(&gave_up.to_string())
    };
    let volume: Arc<dyn DataVolume> =
        Arc::new(LuksVolume::new(disk.data, VOLUME_ROOT).growing(disk.disk, DATA_PARTITION));
    let header = Header { record: Record::new(Arc::clone(&volume)), volume: Arc::clone(&volume) };
    let roster = Arc::new(start_services(&registry, &console, escalate.clone())?);
    serve_guardian(&registry, &roster, &header, &console);
    start_workers(&registry, &config, &image, header, &console, uplink, escalate.clone())?;
    {
        let (version, reporting) = (Arc::clone(&image.version), registry.clone());
        start(&registry, "health", &registry.health, escalate.clone(), move |_| {
            HealthActor::new(reporting.clone(), REPORT_URL, &*version, started)
        });
        tracing::info!(
            "{} services have a policy, {} were refused",
            roster.plans.len(),
            roster.refused.len()
        );
    }
    let node = Node {
        registry: registry.clone(),
        log: screen.log.clone(),
        version: Arc::clone(&image.version),
        slot: image.booted.slot.letter(),
    };
    actix_rt::spawn(serve_api(node));
    actix_rt::spawn(trial::await_good(registry.facts.clone(), disk.esp));

    // Last, because its first act needs all the others.
    let boot = registry.clone();
    start(&registry, "boot", &registry.boot, escalate, move |_| {
        BootActor::new(boot.clone(), Arc::clone(&volume), Arc::clone(&console), Arc::clone(&power))
    });
    let end = ended.wait_for(Option::is_some).await?;
    end.ok_or_else(|| "the end of the machine was not decided".into())
}

fn start<A, F>(registry: &Registry, name: &str, link: &Link<A>, escalate: impl Fn(GaveUp) + 'static, make: F)
where
    A: actix::Actor<Context = actix::Context<A>>,
    F: Fn(u32) -> A + 'static,
{
    // The supervisor's task lives as long as the System; nobody waits for it.
    drop(supervise(name, link, &registry.restarts, INTENSITY, escalate, make));
}

/// The actors that do the work of enrollment, mesh and volume.
fn start_workers(
    registry: &Registry,
    config: &Config,
    image: &Image,
    header: Header,
    console: &Arc<dyn Console>,
    uplink: watch::Receiver<UplinkStatus>,
    escalate: impl Fn(GaveUp) + Clone + 'static,
) -> Result<(), Failure> {
    let Header { volume, record } = header;
    let mesh: Arc<dyn Mesh> = Arc::new(KernelMesh::default());
    let screen = Arc::clone(console);
    start(registry, "wg", &registry.wg, escalate.clone(), move |_| {
        WgActor::new(Arc::clone(&mesh), Arc::clone(&screen))
    });

    let settings = UnlockSettings {
        guardian_port: config.guardian.port,
        owner: config.owner.as_ref().map(|owner| owner.wallet),
    };
    let (unlocking, of_volume, screen) = (registry.clone(), volume, Arc::clone(console));
    start(registry, "unlock", &registry.unlock, escalate.clone(), move |_| {
        UnlockActor::new(unlocking.clone(), Arc::clone(&of_volume), Arc::clone(&screen), settings)
    });

    let settings = CustodySettings::new(config.guardian.port);
    let (keeping, screen) = (registry.clone(), Arc::clone(console));
    start(registry, "custody", &registry.custody, escalate.clone(), move |_| {
        CustodyActor::new(keeping.clone(), record.clone(), Arc::clone(&screen), settings)
    });

    let settings = Arc::new(enroll_settings(config, image, uplink)?);
    let (enrolling, screen) = (registry.clone(), Arc::clone(console));
    start(registry, "enroll", &registry.enroll, escalate.clone(), move |_| {
        EnrollActor::new(enrolling.clone(), Arc::clone(&settings), Arc::clone(&screen))
    });
    start(registry, "update", &registry.update, escalate, |_| UpdateActor);
    Ok(())
}

fn enroll_settings(
    config: &Config,
    image: &Image,
    uplink: watch::Receiver<UplinkStatus>,
) -> Result<EnrollSettings, Failure> {
    Ok(EnrollSettings {
        mode: match config.enrollment.mode {
            EnrollmentMode::Websocket => EnrollMode::Websocket,
            EnrollmentMode::SealedPush => EnrollMode::SealedPush,
        },
        gateway_url: config.gateway.url.clone(),
        pin: pin(&config.gateway)?,
        owner: config.owner.as_ref().map(|owner| owner.wallet),
        listen: (Ipv4Addr::UNSPECIFIED, orama_protocol::ENROLL_PORT).into(),
        wireguard_port: config.wireguard.port,
        version: image.version.to_string(),
        arch: "amd64".into(),
        addresses: Arc::new(move || {
            uplink.borrow().lease().map(|lease| lease.address.address()).into_iter().collect()
        }),
    })
}

/// Services that have a policy get an actor each; refused ones stay visible with their reason.
fn start_services(
    registry: &Registry,
    console: &Arc<dyn Console>,
    escalate: impl Fn(GaveUp) + Clone + 'static,
) -> Result<Roster, Failure> {
    let (policies, roster) = roster::load(Path::new(POLICIES), &registry.facts)?;
    let launcher = Arc::new(SandboxLauncher::new(policies.clone(), registry.facts.clone())?);
    let facts = registry.facts.clone();
    let ready = move || facts.node().volume_ready;
    let logs = Logs::with_early(Path::new(SERVICE_LOGS), Path::new(EARLY_LOGS), ready);
    let launch = LaunchThread::start_with(launcher, logs)?;
    registry.facts.refusals().open(&policies, launch.logs().clone());
    let links = supervise_services(registry, &roster, &launch, console, escalate.clone());
    let (shared, starting) =
        (Arc::new(Roster { plans: roster.plans.clone(), refused: roster.refused.clone() }), registry.clone());
    start(registry, "services", &registry.services, escalate, move |_| {
        ServicesActor::new(starting.clone(), Arc::clone(&shared), launch.clone(), Arc::clone(&links))
    });
    Ok(roster)
}

/// What this node's guardian keeps, and the socket at which it asks for it; an image without a guardian has none.
fn serve_guardian(registry: &Registry, roster: &Roster, header: &Header, console: &Arc<dyn Console>) {
    let Some(guardian) = roster.plans.iter().find(|plan| plan.name == EARLY_SERVICE) else { return };
    let held = HeldShares::new(
        Arc::clone(&header.volume),
        header.record.clone(),
        registry.clone(),
        Arc::clone(console),
    );
    actix_rt::spawn(held.clone().follow_volume());
    match GuardianSocket::bind(Path::new(GUARDIAN_SOCKET), guardian.uid) {
        Ok(socket) => drop(actix_rt::spawn(socket.serve(held))),
        Err(error) => registry.facts.raise_alarm(&orama_actors::describe(&error)),
    }
}

/// Starts the uplink and narrates it. Nobody waits for it: an enrolled node reads its header meanwhile.
fn bring_up_network(
    config: &Config,
    registry: &Registry,
    console: &Arc<dyn Console>,
) -> watch::Receiver<UplinkStatus> {
    let (task, status) = orama_uplink::bring_up(config.network.clone(), PathBuf::from(RESOLV_CONF));
    actix_rt::spawn(task);
    let (mut told, facts, console) = (status.clone(), registry.facts.clone(), Arc::clone(console));
    actix_rt::spawn(async move {
        while told.changed().await.is_ok() {
            let (line, has_address) = {
                let status = told.borrow_and_update();
                (format!("network: {}", *status), status.lease().is_some())
            };
            console.line(&line);
            if has_address {
                facts.set_network_up();
            }
        }
    });
    status
}

/// Listens once the node has a WireGuard address and a token, and not before.
async fn serve_api(node: Node) {
    let mut facts = node.registry.facts.watch();
    let ready = facts.wait_for(|facts| facts.identity.is_some() && facts.api_token.is_some()).await;
    let Some(identity) = ready.ok().and_then(|facts| facts.identity.clone()) else { return };
    let mut said = false;
    loop {
        match api::serve(node.clone(), identity.wg_ip) {
            Ok(server) => {
                tracing::info!("agent API listens on {}:{}", identity.wg_ip, orama_protocol::AGENT_PORT);
                said = false;
                if let Err(error) = server.await {
                    tracing::error!("agent API ended: {error}; starting it again");
                }
            }
            Err(error) if !said => {
                tracing::info!("agent API waits for {}: {error}", identity.wg_ip);
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

/// Watchdog, orphans and Ctrl-Alt-Del: what PID 1 owes the machine while the actors work.
fn guard_machine(registry: &Registry) {
    actix_rt::spawn(async {
        let mut watchdog = match Watchdog::arm(Path::new("/dev/watchdog")) {
            Ok(watchdog) => watchdog,
            Err(error) => return tracing::warn!("no watchdog guards this node: {error}"),
        };
        loop {
            if let Err(error) = watchdog.feed() {
                tracing::error!("the watchdog does not take its food: {error}");
            }
            tokio::time::sleep(FEED_EVERY).await;
        }
    });
    actix_rt::spawn(async {
        let mut known = Orphans::default();
        loop {
            tokio::time::sleep(orphans::SCAN_EVERY).await;
            orphans::collect(&mut known, Path::new("/proc"), 1);
        }
    });
    let boot = registry.boot.clone();
    actix_rt::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut pressed) = signal(SignalKind::interrupt()) else { return };
        while pressed.recv().await.is_some() {
            let _ = boot.ask(Leave { exit: Exit::Reboot, why: "Ctrl-Alt-Del".into() }).await;
        }
    });
}

fn pin(gateway: &Gateway) -> Result<orama_actors::enroll::Pin, Failure> {
    use orama_actors::enroll::Pin;
    match (&gateway.ca, &gateway.fingerprint) {
        (Some(file), None) => Ok(Pin::Authority(std::fs::read(file)?)),
        (None, Some(text)) => Ok(Pin::fingerprint(text)?),
        (Some(_), Some(_)) | (None, None) => {
            Err("exactly one of gateway.ca and gateway.fingerprint is needed".into())
        }
    }
}
