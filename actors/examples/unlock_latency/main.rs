//! From "WireGuard is up" to "the volume is open", over a link with a delay: the real UnlockActor, fifteen real
//! guardians, five of them silent and one with a wrong share. Run by `cargo xtask bench unlock`, as root. The volume is a
//! directory: what LUKS itself takes is measured there. Prints one line of milliseconds for each kind.

mod link;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use orama_actors::ports::Console;
use orama_actors::registry::Registry;
use orama_actors::supervise::{INTENSITY, supervise};
use orama_actors::unlock::{
    Close, Guardian, GuardianClient, Keeper, NodeSetup, Provision, Unlock, UnlockActor, UnlockSettings,
};
use orama_keyshare::secret_name;
use orama_mesh::PrivateKey;
use orama_protocol::Redacted;
use orama_volume::vault::AgentToken;
use orama_volume::{DataVolume, DirectoryVolume, EarlyState, Probe};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const GUARDIANS: u8 = 15;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
const FIRST: u8 = 11;
const PORT: u16 = 7500;
/// Every third is dead: five of fifteen, the first one among them.
const DEAD: [u8; 5] = [0, 3, 6, 9, 12];
const LIAR: u8 = 1;
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// What the first agent gave a peer before it asked the next one.
const FIRST_AGENT_TIMEOUT: Duration = Duration::from_secs(10);

fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, FIRST + index)
}

struct Silent;

impl Console for Silent {
    fn line(&self, _: &str) {}
}

fn main() -> Result<(), Failure> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(11);
    let folder = tempfile::tempdir()?;
    let stores = folder.path().join("guardians");
    let (ready, started) = channel();
    let (dead, silenced) = channel();
    std::thread::spawn(move || {
        if let Err(error) = guardians(&stores, &ready, &silenced) {
            let _ = ready.send(Err(error));
        }
    });
    let theirs = started.recv()??;
    let ours = link::enter(&[NODE])?;
    let delay = link::Delay::default();
    link::join(&ours, &theirs, &delay)?;
    let base = folder.path().join("volume");
    std::fs::create_dir(&base)?;
    actix::System::new().block_on(async move {
        provision(&base).await?;
        dead.send(())?;
        started.recv()?.map(drop)?;
        measure(&base, &delay, rounds).await
    })
}

/// The other side: all guardians, and when told so, silence where the dead ones were.
fn guardians(
    stores: &std::path::Path,
    ready: &Sender<Result<std::fs::File, Failure>>,
    silenced: &Receiver<()>,
) -> Result<(), Failure> {
    let all: Vec<Ipv4Addr> = (0..GUARDIANS).map(address).collect();
    let tun = link::enter(&all)?;
    let system = actix::System::new();
    system.block_on(async {
        for guardian in all {
            let store = stores.join(guardian.to_string());
            std::fs::create_dir_all(&store)?;
            let mut config = vault_guardian::Config::new((guardian, PORT).into(), store);
            config.requests_per_minute = 1_000_000;
            actix_rt::spawn(vault_guardian::serve(config)?.1);
        }
        ready.send(Ok(tun.try_clone()?))?;
        // The server works on threads of its own meanwhile; this one only waits.
        while silenced.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for index in DEAD {
            link::silence(address(index))?;
        }
        ready.send(Ok(tun))?;
        std::future::pending().await
    })
}

fn unlocker(base: &std::path::Path) -> Result<(Registry, Arc<dyn DataVolume>), Failure> {
    let registry = Registry::default();
    let volume: Arc<dyn DataVolume> = Arc::new(DirectoryVolume::power_on(base)?);
    let settings = UnlockSettings { guardian_port: PORT, owner: None };
    let (of_node, of_volume) = (registry.clone(), Arc::clone(&volume));
    let escalate = |gave_up| panic!("{gave_up}");
    supervise("unlock", &registry.unlock, &registry.restarts, INTENSITY, escalate, move |_| {
        UnlockActor::new(of_node.clone(), of_volume.clone(), Arc::new(Silent), settings)
    });
    Ok((registry, volume))
}

async fn provision(base: &std::path::Path) -> Result<(), Failure> {
    let (registry, volume) = unlocker(base)?;
    volume.probe()?;
    let guardians = (0..GUARDIANS)
        .map(|index| Guardian { node_id: format!("node-{}", address(index)), wg_ip: address(index) });
    let setup = NodeSetup {
        node_id: format!("node-{NODE}"),
        private_key: PrivateKey::generate(),
        address: format!("{NODE}/24").parse()?,
        listen_port: 51820,
        peers: vec![],
        gateway_url: "https://10.77.0.1".into(),
        agent_token: AgentToken::generate()?,
        cluster_secret: Redacted::new("the cluster's secret".into()),
        keeper: Keeper::Guardians(guardians.collect()),
        recovery: None,
    };
    let (progress, mut steps) = mpsc::channel(1);
    actix_rt::spawn(async move { while steps.recv().await.is_some() {} });
    registry.unlock.ask(Provision { setup, progress }).await??;
    registry.unlock.ask(Close).await??;
    Ok(())
}

fn early_state(volume: &dyn DataVolume) -> Result<Arc<EarlyState>, Failure> {
    match volume.probe()? {
        Probe::Enrolled { state, .. } => Ok(Arc::new(state)),
        _ => Err("the volume was not provisioned".into()),
    }
}

async fn measure(base: &std::path::Path, delay: &link::Delay, rounds: u32) -> Result<(), Failure> {
    let (registry, volume) = unlocker(base)?;
    let state = early_state(&*volume)?;
    let key = PrivateKey::from_base64(state.wireguard.private_key.expose())?;
    let client = GuardianClient::new(orama_mesh::identity(&key), PORT);
    let name = secret_name(state.volume_uuid, 1);
    client.put(address(LIAR), &name, 2, &[7; 120]).await.map_err(|refusal| format!("{refusal:?}"))?;
    let (mut near, mut far, mut trips) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (round_trip, times) in [(Duration::ZERO, &mut near), (ROUND_TRIP, &mut far)] {
            delay.set_round_trip(round_trip);
            let begun = Instant::now();
            registry.unlock.ask(Unlock { state: Arc::clone(&state) }).await?;
            times.push(begun.elapsed());
            registry.unlock.ask(Close).await??;
        }
        let begun = Instant::now();
        TcpStream::connect((address(2), PORT)).await?;
        trips.push(begun.elapsed());
    }
    print("near", &near);
    print("far", &far);
    print("round-trip", &trips);
    print("one-by-one", &[one_by_one(&client, &state, &name).await]);
    Ok(())
}

/// The order of the first agent: one guardian after the other, until there are enough.
async fn one_by_one(client: &GuardianClient, state: &EarlyState, name: &str) -> Duration {
    let begun = Instant::now();
    let mut good = 0;
    for index in 0..GUARDIANS {
        let reached = TcpStream::connect((address(index), PORT));
        if matches!(tokio::time::timeout(FIRST_AGENT_TIMEOUT, reached).await, Ok(Ok(_))) {
            let share = client.get(address(index), name).await;
            good += u8::from(share.is_ok() && index != LIAR);
        }
        if state.custody.shares().is_some_and(|set| good >= set.k()) {
            break;
        }
    }
    begun.elapsed()
}

/// `far 201.3 202.1`: milliseconds.
fn print(what: &str, times: &[Duration]) {
    let times: Vec<String> = times.iter().map(|time| format!("{:.3}", time.as_secs_f64() * 1e3)).collect();
    println!("{what} {}", times.join(" "));
}
