//! A whole node in a test: the real actors over a directory volume, real guardians on loopback addresses, and ports
//! that remember what was asked of them.
#![allow(dead_code)]

pub mod enrolled;
pub mod gateway;
pub mod guardians;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orama_actors::boot::machine::Phase;
use orama_actors::boot::{BootActor, GetStatus, NodeStatus};
use orama_actors::custody::{CustodyActor, CustodySettings, Record};
use orama_actors::enroll::{EnrollActor, EnrollMode, EnrollSettings, Pin};
use orama_actors::held::HeldShares;
use orama_actors::ports::{Child, Console, LaunchFailure, Launcher, Mesh, MeshFailure, Power};
use orama_actors::registry::Registry;
use orama_actors::service::launch::LaunchThread;
use orama_actors::services::{Roster, ServicesActor, supervise_services};
use orama_actors::supervise::{INTENSITY, supervise};
use orama_actors::unlock::{UnlockActor, UnlockSettings};
use orama_actors::wg::WgActor;
use orama_mesh::{InterfaceStatus, PeerConfig, PeerStatus, PublicKey, WgConfig};
use orama_volume::{DataVolume, DirectoryVolume};

/// Remembers lines, and breaks once when a line begins with a given text: that panics the actor that prints it.
#[derive(Default)]
pub struct Screen {
    lines: Mutex<Vec<String>>,
    break_on: Mutex<Option<&'static str>>,
}

impl Console for Screen {
    fn line(&self, text: &str) {
        println!("console: {text}");
        self.lines.lock().unwrap().push(text.to_owned());
        let breaks = self.break_on.lock().unwrap().take_if(|on| text.starts_with(*on)).is_some();
        assert!(!breaks, "the console broke on `{text}`");
    }
}

impl Screen {
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn break_on(&self, text: &'static str) {
        *self.break_on.lock().unwrap() = Some(text);
    }

    pub fn says(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}

#[derive(Default)]
pub struct Switch(pub Mutex<Option<String>>);

impl Power for Switch {
    fn reboot(&self, why: &str) {
        *self.0.lock().unwrap() = Some(format!("reboot: {why}"));
    }
    fn power_off(&self, why: &str) {
        *self.0.lock().unwrap() = Some(format!("power off: {why}"));
    }
}

/// An interface that is up as soon as it is asked: loopback reaches every guardian already.
/// Every peer has just made a handshake.
#[derive(Default)]
pub struct Loopback(pub Mutex<Option<InterfaceStatus>>);

impl Loopback {
    pub fn peers(&self) -> Option<usize> {
        self.0.lock().unwrap().as_ref().map(|interface| interface.peers.len())
    }

    fn with<T>(&self, call: impl FnOnce(&mut InterfaceStatus) -> T) -> Result<T, MeshFailure> {
        let mut interface = self.0.lock().unwrap();
        interface.as_mut().map(call).ok_or_else(|| MeshFailure("no such interface".into()))
    }
}

fn heard(peer: &PeerConfig) -> PeerStatus {
    PeerStatus {
        public_key: peer.public_key,
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.clone(),
        keepalive_seconds: peer.keepalive_seconds,
        last_handshake: Some(std::time::SystemTime::now()),
        rx_bytes: 0,
        tx_bytes: 0,
    }
}

impl Mesh for Loopback {
    fn up(&self, config: &WgConfig) -> Result<(), MeshFailure> {
        let key = config.private_key.as_ref().expect("a private key");
        *self.0.lock().unwrap() = Some(InterfaceStatus {
            name: "orama0".into(),
            public_key: key.public(),
            listen_port: 51820,
            addresses: config.addresses.clone(),
            peers: config.peers.iter().map(heard).collect(),
        });
        Ok(())
    }
    fn set_peer(&self, peer: &PeerConfig) -> Result<(), MeshFailure> {
        self.remove_peer(&peer.public_key)?;
        self.with(|interface| interface.peers.push(heard(peer)))
    }
    fn remove_peer(&self, key: &PublicKey) -> Result<(), MeshFailure> {
        self.with(|interface| interface.peers.retain(|peer| peer.public_key != *key))
    }
    fn read(&self) -> Result<InterfaceStatus, MeshFailure> {
        self.with(|interface| interface.clone())
    }
}

struct NoServices;

impl Launcher for NoServices {
    fn spawn(&self, service: &str, _: OwnedFd, _: OwnedFd) -> Result<Box<dyn Child>, LaunchFailure> {
        Err(LaunchFailure(format!("{service} is not in this test")))
    }

    fn prepare(
        &self,
        service: &str,
        _: usize,
        _: OwnedFd,
        _: OwnedFd,
    ) -> Result<Option<Box<dyn Child>>, LaunchFailure> {
        Err(LaunchFailure(format!("{service} is not in this test")))
    }
}

pub struct Node {
    pub registry: Registry,
    pub console: Arc<Screen>,
    pub power: Arc<Switch>,
    pub mesh: Arc<Loopback>,
    pub page: SocketAddr,
    pub held: HeldShares,
    record: Record,
    _logs: tempfile::TempDir,
}

pub struct Options {
    pub guardian_port: u16,
    pub gateway_url: String,
    pub pin: Pin,
    pub mode: EnrollMode,
    pub owner: Option<orama_wallet::Address>,
    /// Whether the node takes care of its key after it is up. Without, nothing changes at the guardians.
    pub custody: bool,
    /// Whether the uplink has its address at once.
    pub network: bool,
}

impl Options {
    /// For nodes that do not enrol in this test.
    pub fn without_gateway(guardian_port: u16) -> Self {
        Self {
            guardian_port,
            gateway_url: "https://127.0.0.1:1".into(),
            pin: Pin::Fingerprint([0; 32]),
            mode: EnrollMode::Websocket,
            owner: None,
            custody: false,
            network: true,
        }
    }
}

/// Powers a node on: all actors under supervision, as the agent wires them.
pub fn power_on(base: &Path, options: Options) -> Node {
    power_on_with(Arc::new(DirectoryVolume::power_on(base).unwrap()), options)
}

pub fn power_on_with(volume: Arc<dyn DataVolume>, options: Options) -> Node {
    let registry = Registry::default();
    if options.network {
        registry.facts.set_network_up();
    }
    let console = Arc::new(Screen::default());
    let screen: Arc<dyn Console> = console.clone();
    let power = Arc::new(Switch::default());
    let switch: Arc<dyn Power> = power.clone();
    let mesh = Arc::new(Loopback::default());
    let logs = tempfile::tempdir().unwrap();
    let page = free_address(Ipv4Addr::LOCALHOST);
    let escalate = |gave_up| panic!("{gave_up}");
    let restarts = &registry.restarts;

    let (wg_mesh, wg_screen): (Arc<dyn Mesh>, _) = (mesh.clone(), screen.clone());
    supervise("wg", &registry.wg, restarts, INTENSITY, escalate, move |_| {
        WgActor::new(wg_mesh.clone(), wg_screen.clone())
    });
    let settings = UnlockSettings { guardian_port: options.guardian_port, owner: options.owner };
    let (of_node, of_volume, of_screen) = (registry.clone(), volume.clone(), screen.clone());
    supervise("unlock", &registry.unlock, restarts, INTENSITY, escalate, move |_| {
        UnlockActor::new(of_node.clone(), of_volume.clone(), of_screen.clone(), settings)
    });
    let record = Record::new(volume.clone());
    let held = HeldShares::new(volume.clone(), record.clone(), registry.clone(), screen.clone());
    actix_rt::spawn(held.clone().follow_volume());
    let settings = Arc::new(EnrollSettings {
        mode: options.mode,
        gateway_url: options.gateway_url,
        pin: options.pin,
        owner: options.owner,
        listen: page,
        wireguard_port: 51820,
        version: "0.1.0".into(),
        arch: "amd64".into(),
        addresses: Arc::new(|| vec![Ipv4Addr::LOCALHOST]),
    });
    let (of_node, of_screen) = (registry.clone(), screen.clone());
    supervise("enroll", &registry.enroll, restarts, INTENSITY, escalate, move |_| {
        EnrollActor::new(of_node.clone(), settings.clone(), of_screen.clone())
            .in_overlay("127.0.0.0/24".parse().unwrap())
    });
    let roster = Arc::new(Roster::default());
    let launch = LaunchThread::start(Arc::new(NoServices), logs.path()).unwrap();
    let links = supervise_services(&registry, &roster, &launch, &screen, escalate);
    let of_node = registry.clone();
    supervise("services", &registry.services, restarts, INTENSITY, escalate, move |_| {
        ServicesActor::new(of_node.clone(), roster.clone(), launch.clone(), links.clone())
    });
    let of_node = registry.clone();
    supervise("boot", &registry.boot, restarts, INTENSITY, escalate, move |_| {
        BootActor::new(of_node.clone(), volume.clone(), screen.clone(), switch.clone())
    });
    let node = Node { registry, console, power, mesh, page, held, record, _logs: logs };
    if options.custody {
        node.start_custody(options.guardian_port);
    }
    node
}

impl Node {
    pub fn start_custody(&self, guardian_port: u16) {
        let mut settings = CustodySettings::new(guardian_port);
        settings.look_every = Duration::from_millis(500);
        let (registry, record) = (self.registry.clone(), self.record.clone());
        let screen: Arc<dyn Console> = self.console.clone();
        let escalate = |gave_up| panic!("{gave_up}");
        supervise(
            "custody",
            &self.registry.custody,
            &self.registry.restarts,
            INTENSITY,
            escalate,
            move |_| CustodyActor::new(registry.clone(), record.clone(), screen.clone(), settings),
        );
    }

    /// As the enroll actor does it before provisioning; tests that provision by themselves have none.
    pub fn mesh_up(&self) {
        let key = orama_mesh::PrivateKey::generate();
        let addresses = vec!["127.0.0.4/24".parse().unwrap()];
        let config = WgConfig { private_key: Some(key), addresses, listen_port: None, peers: Vec::new() };
        self.mesh.up(&config).unwrap();
    }

    pub async fn status(&self) -> NodeStatus {
        self.registry.boot.ask(GetStatus).await.expect("the boot actor answers")
    }

    pub async fn wait_for(&self, phase: Phase, limit: Duration) {
        let mut facts = self.registry.facts.watch();
        let reached = tokio::time::timeout(limit, facts.wait_for(|node| node.phase == phase)).await;
        if reached.is_err() {
            let node = self.registry.facts.node();
            panic!("not {} within {limit:?} but {}: {}", phase.name(), node.phase.name(), node.reason);
        }
    }

    /// Waits for a reason that contains the text.
    pub async fn wait_for_reason(&self, text: &str, limit: Duration) -> String {
        let mut facts = self.registry.facts.watch();
        let reached = tokio::time::timeout(limit, facts.wait_for(|node| node.reason.contains(text))).await;
        match reached {
            Ok(node) => node.unwrap().reason.clone(),
            Err(_) => panic!(
                "no reason with `{text}` within {limit:?}, last: {}",
                self.registry.facts.node().reason
            ),
        }
    }

    /// The code on the console.
    pub async fn code(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let lines = self.console.lines();
            if let Some(line) = lines.iter().rev().find_map(|line| line.strip_prefix("registration code ")) {
                return line.split([' ', ',']).next().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "no code on the console: {lines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A port that was free a moment ago.
pub fn free_address(ip: Ipv4Addr) -> SocketAddr {
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
