//! The life of a key with real guardians: it follows the cluster, it is split anew after a boot, a power cut anywhere
//! leaves something that opens, and lists of peers are taken whole or not at all.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_actors::boot::BootEvent;
use orama_actors::boot::machine::{Event, Phase};
use orama_actors::custody::{PeersProblem, SetPeers};
use orama_keyshare::VolumeKey;
use orama_keyshare::lifecycle::Custody;
use orama_mesh::PrivateKey;
use orama_protocol::peers::{CustodyStatus, Peer, PeerList};
use orama_volume::vault::{AgentToken, Vault};
use orama_volume::{
    CrashPoint, DataVolume, DirectoryVolume, EarlyState, MacKey, PrivateKeyText, Probe, WireguardState,
};
use support::enrolled::{enrolled, setup};
use support::guardians::{self, Guardians};
use support::{Node, Options, power_on_with};

const SOON: Duration = Duration::from_secs(20);

/// A node whose power can be cut.
struct Powered {
    node: Node,
    volume: Arc<DirectoryVolume>,
}

impl std::ops::Deref for Powered {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Powered {
    /// Its actors still breathe, but nothing that they do reaches the disk.
    fn cut_power(&self) {
        self.volume.cut_power();
    }
}

fn boot_with(volume: DirectoryVolume, guardians: &Guardians) -> Powered {
    let volume = Arc::new(volume);
    let options = Options { custody: true, ..Options::without_gateway(guardians.port) };
    Powered { node: power_on_with(volume.clone(), options), volume }
}

fn boot(base: &Path, guardians: &Guardians) -> Powered {
    boot_with(DirectoryVolume::power_on(base).unwrap(), guardians)
}

async fn wait_custody(node: &Node, expect: impl Fn(&CustodyStatus) -> bool) -> CustodyStatus {
    let start = Instant::now();
    loop {
        let custody = node.registry.facts.custody().map(|(custody, _)| custody);
        if let Some(custody) = custody.as_ref().filter(|custody| expect(custody)) {
            return custody.clone();
        }
        assert!(start.elapsed() < SOON, "custody stays {custody:?}; {:?}", node.console.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn peer(index: usize) -> Peer {
    Peer {
        node_id: guardians::node_id(index),
        wg_ip: guardians::ip(index).to_string(),
        public_key: PrivateKey::generate().public().to_string(),
        endpoint: Some("192.0.2.7:51820".into()),
        guardian: true,
        leaving: false,
    }
}

/// A node enrolled just now by this process, so that its first split is no older than its boot.
async fn fresh(base: &Path, guardians: &Guardians) -> Powered {
    use orama_actors::unlock::Provision;
    let node = boot(base, guardians);
    node.wait_for(Phase::Enrolling, SOON).await;
    // Its peers are the cluster's alone: each guardian with a key of its own, as a gateway sends them.
    let mut setup = setup();
    setup.peers.clear();
    let (progress, mut steps) = tokio::sync::mpsc::channel(1);
    actix_rt::spawn(async move { while steps.recv().await.is_some() {} });
    node.registry.unlock.ask(Provision { setup, progress }).await.unwrap().unwrap();
    node.mesh_up();
    node
}

async fn set_peers(node: &Node, revision: u64, indices: &[usize]) -> Result<u64, PeersProblem> {
    let peers = indices.iter().map(|index| peer(*index)).collect();
    node.registry.custody.ask(SetPeers(PeerList { revision, peers })).await.unwrap()
}

fn holders(custody: &CustodyStatus) -> Vec<String> {
    custody.holders.iter().map(|holder| holder.node_id.clone()).collect()
}

#[actix::test]
async fn a_key_follows_the_cluster_and_is_not_split_without_need() {
    let mut guardians = Guardians::start();
    let base = tempfile::tempdir().unwrap();
    let node = fresh(base.path(), &guardians).await;
    let custody = wait_custody(&node, |_| true).await;
    assert_eq!((custody.generation, custody.begun), (1, 1));
    assert_eq!(set_peers(&node, 3, &[0, 1, 2, 3, 4]).await.unwrap(), 3);
    assert_eq!(node.mesh.peers(), Some(5));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wait_custody(&node, |_| true).await.begun, 1, "split again over the same guardians");

    let sixth = guardians.join();
    set_peers(&node, 4, &[0, 1, 2, 3, sixth]).await.unwrap();
    assert_eq!(node.mesh.peers(), Some(5));
    let custody = wait_custody(&node, |custody| custody.generation == 2).await;
    assert_eq!((custody.k, custody.n, custody.keeper.as_str()), (3, 5, "guardians"));
    assert!(holders(&custody).contains(&guardians::node_id(sixth)));
    assert!(!holders(&custody).contains(&guardians::node_id(4)));
    assert_eq!(guardians.generations(sixth), [2]);
    assert!(node.console.says("the volume key is split 3 of 5, generation 2"));

    assert!(matches!(set_peers(&node, 3, &[]).await, Err(PeersProblem::Older { revision: 3, known: 4 })));
    assert_eq!(set_peers(&node, 4, &[]).await.unwrap(), 4, "the same revision again is nothing new");
    assert!(matches!(set_peers(&node, 5, &[1, 1]).await, Err(PeersProblem::List(_))));
    assert_eq!(node.mesh.peers(), Some(5));
    assert_eq!(node.registry.facts.custody().unwrap().1, 4);
}

#[actix::test]
async fn after_a_boot_the_key_is_split_anew_and_the_new_split_opens() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    for generation in 2..4 {
        let node = boot(base.path(), &guardians);
        node.wait_for(Phase::Running, SOON).await;
        let custody = wait_custody(&node, |custody| custody.generation == generation).await;
        assert_eq!((custody.begun, custody.stale > 0, custody.why), (generation, true, None));
        assert_eq!(node.status().await.unlock.unwrap().generation, generation - 1);
        node.cut_power();
    }
    let secret = guardians.files(0).into_iter().find(|path| path.display().to_string().contains("-g"));
    let envelope = std::fs::read_to_string(secret.unwrap()).unwrap();
    let share = envelope.lines().find_map(|line| line.strip_prefix("share ")).unwrap();
    assert_eq!(STANDARD.decode(share).unwrap()[0], 2, "the version of a sealed envelope");
}

/// The power goes at every write of a new split: before it reached the disk, and after.
#[actix::test]
async fn a_power_cut_at_any_write_leaves_a_volume_that_opens() {
    for point in [CrashPoint::BeforeRecord, CrashPoint::AfterRecord] {
        for write in 0..2 {
            let guardians = Guardians::start();
            let base = enrolled(&guardians).await;
            let volume = DirectoryVolume::power_on(base.path()).unwrap();
            volume.crash_after(write, point);
            let node = boot_with(volume, &guardians);
            node.wait_for(Phase::Running, SOON).await;
            let start = Instant::now();
            while node.volume.probe().is_ok() {
                assert!(start.elapsed() < SOON, "the power did not go at write {write}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            node.cut_power();
            let volume = DirectoryVolume::power_on(base.path()).unwrap();
            let Ok(Probe::Enrolled { state, .. }) = volume.probe() else { panic!("not enrolled") };
            let committed = if write == 1 && point == CrashPoint::AfterRecord { 2 } else { 1 };
            assert_eq!(state.custody.generation(), committed, "write {write} {point:?}");
            let node = boot_with(volume, &guardians);
            node.wait_for(Phase::Running, SOON).await;
            let custody = wait_custody(&node, |custody| custody.generation > committed).await;
            assert!(custody.generation > state.custody.begun(), "a generation was used twice: {custody:?}");
            node.cut_power();
        }
    }
}

#[actix::test]
async fn a_new_split_waits_until_all_its_guardians_keep_their_share() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.stop(4).await;
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    let custody = wait_custody(&node, |custody| custody.begun > 1).await;
    assert_eq!(custody.generation, 1);
    guardians.restart(4);
    let custody = wait_custody(&node, |custody| custody.generation > 1).await;
    assert_eq!(custody.n, 5);
}

/// A node whose key only the owner's wallet has, as genesis leaves it.
fn genesis(base: &Path) -> VolumeKey {
    let volume = DirectoryVolume::power_on(base).unwrap();
    let key = VolumeKey::generate().unwrap();
    let volume_uuid = volume.format(&key).unwrap();
    volume.open(&key).unwrap();
    volume.make_filesystem().unwrap();
    volume.mount().unwrap();
    let (vault, mac_key) = (Vault::at(volume.root()), MacKey::generate().unwrap());
    let token = AgentToken::generate().unwrap();
    vault.create().unwrap();
    vault.write_mac_key(&mac_key).unwrap();
    vault.write_agent_token(&token).unwrap();
    vault.write_volume_key(&key).unwrap();
    let state = EarlyState {
        volume_uuid,
        node_id: "node-127.0.0.4".into(),
        wireguard: WireguardState {
            private_key: PrivateKeyText::new(PrivateKey::generate().to_base64()).unwrap(),
            address: "127.0.0.4/24".into(),
            listen_port: 51820,
            peers: Vec::new(),
        },
        gateway_url: "https://127.0.0.1:1".into(),
        agent_token_sha256: token.sha256(),
        peers_revision: 0,
        custody: Custody::wallet(),
        sealed_key: Some("04c0ffee".into()),
    };
    volume.write_early_state(&state, &mac_key).unwrap();
    key
}

#[actix::test]
async fn a_key_that_the_wallet_kept_passes_to_five_guardians_and_is_left_nowhere_else() {
    let guardians = Guardians::start();
    let base = tempfile::tempdir().unwrap();
    let key = genesis(base.path());
    let node = boot(base.path(), &guardians);
    node.wait_for_reason("owner", SOON).await;
    node.volume.open(&key).unwrap();
    node.registry.boot.ask(BootEvent(Event::VolumeOpen)).await.unwrap();
    node.wait_for(Phase::Running, SOON).await;
    let custody = wait_custody(&node, |_| true).await;
    assert_eq!((custody.keeper.as_str(), custody.generation, custody.n), ("wallet", 0, 0));

    set_peers(&node, 1, &[0, 1, 2, 3]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        wait_custody(&node, |_| true).await.begun,
        0,
        "four guardians are too few to leave the wallet"
    );
    assert!(node.volume.root().join("agent/volume.key").exists());
    set_peers(&node, 2, &[0, 1, 2, 3, 4]).await.unwrap();
    let custody = wait_custody(&node, |custody| custody.keeper == "guardians").await;
    assert_eq!((custody.generation, custody.k, custody.n), (1, 3, 5));
    let Ok(Probe::Enrolled { state, .. }) = node.volume.probe() else { panic!("not enrolled") };
    assert!(state.sealed_key.is_none());
    assert!(!node.volume.root().join("agent/volume.key").exists());
    node.cut_power();
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    assert!(node.status().await.unlock.unwrap().good >= 3);
}

/// Breaks the console on the sentence of a commit: the actor panics right after the write.
#[actix::test]
async fn an_actor_made_anew_goes_on_from_the_disk() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let node = boot(base.path(), &guardians);
    node.console.break_on("the volume key is split");
    node.wait_for(Phase::Running, SOON).await;
    let custody = wait_custody(&node, |custody| custody.generation == 3).await;
    assert_eq!((custody.begun, node.registry.restarts.read()["custody"].count), (3, 1));
}
