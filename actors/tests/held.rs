//! What a node keeps for others, with its own real guardian at the agent's socket: given out before the volume is open,
//! changed after, and still there whenever the power went.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use orama_actors::boot::machine::Phase;
use orama_actors::held::socket::GuardianSocket;
use orama_actors::unlock::GuardianClient;
use orama_keyshare::collector::Refusal;
use orama_protocol::guardian_store::{FACTS_LIMIT_BYTES, LINE_LIMIT_BYTES};
use orama_volume::{CrashPoint, DirectoryVolume, HELD_FACTS_LIMIT_BYTES, HELD_SECRETS_LIMIT_BYTES};
use support::enrolled::enrolled;
use support::guardians::Guardians;
use support::{Node, Options, power_on_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vault_guardian::{
    AgentError, AgentStore, Config, DeleteError, FactsError, Identity, PutError, ReadError, SecretName,
    Store, StorePlace,
};
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(20);
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// A node with its own guardian, in a thread of its own as it is a process of its own elsewhere.
struct Keeper {
    node: Node,
    volume: Arc<DirectoryVolume>,
    socket: PathBuf,
    port: u16,
    guardian: ServerHandle,
    _folder: tempfile::TempDir,
}

fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

async fn boot(base: &Path, guardians: &Guardians) -> Keeper {
    boot_with(DirectoryVolume::power_on(base).unwrap(), guardians).await
}

async fn boot_with(volume: DirectoryVolume, guardians: &Guardians) -> Keeper {
    let volume = Arc::new(volume);
    let options = Options { custody: true, ..Options::without_gateway(guardians.port) };
    let node = power_on_with(volume.clone(), options);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("guardian").join("agent.sock");
    actix_rt::spawn(GuardianSocket::bind(&socket, uid()).unwrap().serve(node.held.clone()));
    let listen = support::free_address(OWN);
    let (started, starting) = tokio::sync::oneshot::channel();
    let config = Config {
        store: StorePlace::Agent(socket.clone()),
        requests_per_minute: 10_000,
        ..Config::new(listen, "")
    };
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let (address, server) = vault_guardian::serve(config).expect("the guardian starts");
            started.send((address, server.handle())).unwrap();
            server.await.unwrap();
        });
    });
    let (address, guardian): (SocketAddr, _) = starting.await.unwrap();
    Keeper { node, volume, socket, port: address.port(), guardian, _folder: folder }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        actix_rt::spawn(self.guardian.stop(false));
    }
}

impl Keeper {
    fn client(&self, digit: char) -> GuardianClient {
        GuardianClient::new(String::from(digit).repeat(64), self.port)
    }

    /// The guardian's store, called from a thread that may block.
    async fn store<T: Send + 'static>(&self, call: impl FnOnce(&AgentStore) -> T + Send + 'static) -> T {
        let socket = self.socket.clone();
        let called = tokio::task::spawn_blocking(move || call(&AgentStore::open(&socket).unwrap()));
        called.await.unwrap()
    }

    async fn running(&self) {
        self.node.wait_for(Phase::Running, SOON).await;
        // The operators' digest is the first thing that is written.
        for _ in 0..500 {
            if self.store(|store| store.operator_sha256().unwrap()).await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the guardian never got to know the operators' digest");
    }
}

fn alice() -> Identity {
    Identity::parse(&"a".repeat(64)).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn bytes(length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0x5a; length])
}

async fn all_down(guardians: &mut Guardians) {
    for index in 0..5 {
        guardians.stop(index).await;
    }
}

/// The way of a share through a power loss of everything: taken while the node ran, given out while it waits, and changed
/// again once it is open, by one and the same guardian.
#[actix::test]
async fn a_waiting_node_gives_what_it_has_and_takes_nothing() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let keeper = boot(base.path(), &guardians).await;
    keeper.running().await;
    keeper.client('a').put(OWN, "one", 1, b"a share").await.unwrap();
    assert_eq!(*keeper.client('a').get(OWN, "one").await.unwrap(), *b"a share");
    let status = keeper.node.registry.facts.held().unwrap();
    assert_eq!((status.secrets, status.owners, status.writable), (1, 1, true));
    keeper.volume.cut_power();
    drop(keeper);

    all_down(&mut guardians).await;
    let keeper = boot(base.path(), &guardians).await;
    keeper.node.wait_for(Phase::WaitingForPeers, SOON).await;
    let client = keeper.client('a');
    assert_eq!(*client.get(OWN, "one").await.unwrap(), *b"a share");
    assert_eq!(client.list(OWN).await.unwrap(), ["one"]);
    assert!(matches!(keeper.client('b').get(OWN, "one").await, Err(Refusal::NoShare)));
    let Err(Refusal::Refused(why)) = client.put(OWN, "two", 1, b"more").await else { panic!("it was taken") };
    assert!(why.contains("not open yet"), "{why}");
    assert!(matches!(client.delete(OWN, "one").await, Err(Refusal::Refused(_))));
    let locked = keeper
        .store(|store| {
            assert!(
                store.operator_sha256().unwrap().is_some(),
                "the digest is known before the volume is open"
            );
            (store.set_facts(b"note"), store.forget(&alice()), store.facts().unwrap().len())
        })
        .await;
    assert!(matches!(locked, (Err(FactsError::Locked(_)), Err(DeleteError::Locked(_)), 0)));
    let status = keeper.node.registry.facts.held().unwrap();
    assert_eq!((status.secrets, status.owners, status.writable), (1, 1, false));
    assert!(keeper.node.console.says("guardian serves 1 secrets of 1 nodes before the volume is open"));

    for index in 0..3 {
        guardians.restart(index);
    }
    keeper.running().await;
    client.put(OWN, "two", 1, b"more").await.unwrap();
    client.delete(OWN, "one").await.unwrap();
    assert_eq!(client.list(OWN).await.unwrap(), ["two"]);
    assert!(keeper.node.registry.facts.held().unwrap().writable);
}

#[actix::test]
async fn the_store_keeps_versions_bounds_the_note_and_addresses() {
    assert_eq!(FACTS_LIMIT_BYTES, HELD_FACTS_LIMIT_BYTES);
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let keeper = boot(base.path(), &guardians).await;
    keeper.running().await;
    keeper
        .store(|store| {
            let put = |version, share| store.put(&alice(), &name("one"), version, share, 7);
            put(2, bytes(3)).unwrap();
            assert!(matches!(put(2, bytes(3)), Err(PutError::Version { offered: 2, stored: 2 })));
            put(3, bytes(4)).unwrap();
            let record = store.get(&alice(), &name("one")).ok().unwrap();
            assert_eq!((record.version, record.created_ns, record.share.len()), (3, 7, 4));
            assert!(matches!(store.get(&alice(), &name("two")), Err(ReadError::None)));
            let too_large = store.put(&alice(), &name("two"), 1, bytes(HELD_SECRETS_LIMIT_BYTES), 7);
            assert!(matches!(&too_large, Err(PutError::Full(why)) if why.contains("needs")), "taken");
            store.put(&alice(), &name("two"), 1, bytes(HELD_SECRETS_LIMIT_BYTES - 1000), 7).unwrap();
            assert_eq!(
                store.get(&alice(), &name("two")).ok().unwrap().share.len(),
                HELD_SECRETS_LIMIT_BYTES - 1000
            );
            assert_eq!(store.list(&alice()).unwrap().len(), 2);

            store.set_facts(&[9; FACTS_LIMIT_BYTES]).unwrap();
            assert_eq!(store.facts().unwrap().len(), FACTS_LIMIT_BYTES);
            assert!(matches!(store.set_facts(&[9; FACTS_LIMIT_BYTES + 1]), Err(FactsError::TooLong(_))));
            store.set_facts(b"").unwrap();

            store.delete(&alice(), &name("two")).unwrap();
            assert!(matches!(store.delete(&alice(), &name("two")), Err(DeleteError::None)));
            store.forget(&alice()).unwrap();
            store.forget(&alice()).unwrap();
            assert!(store.list(&alice()).unwrap().is_empty());

            let known = store.endpoint(support::guardians::ip(0)).unwrap();
            assert_eq!(known, Some("192.0.2.1:51820".parse().unwrap()));
            assert_eq!(store.endpoint("127.0.0.99".parse().unwrap()).unwrap(), None);
        })
        .await;
    // As RFC 2104 and the agent's token file say.
    let token = std::fs::read_to_string(base.path().join("mounted/agent/agent.token")).unwrap();
    let told = keeper.store(|store| store.operator_sha256().unwrap()).await;
    assert_eq!(told, Some(operator_sha256(&token)));
}

/// By hand, so that it is not the product's own line that is compared with itself.
fn operator_sha256(token: &str) -> String {
    use sha2::{Digest, Sha256};
    let pad = |byte: u8| -> Vec<u8> { token.bytes().map(|key| key ^ byte).collect() };
    assert_eq!(token.len(), 64);
    let inner = Sha256::digest([pad(0x36), b"orama guardian operator v1".to_vec()].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    hex(&Sha256::digest(hex(&outer).as_bytes()))
}

/// An acknowledged share is there after the cut; one that was not acknowledged is whole or absent.
#[actix::test]
async fn a_power_cut_at_a_write_leaves_the_old_or_the_new() {
    for (point, there) in [(CrashPoint::BeforeHeld, false), (CrashPoint::AfterHeld, true)] {
        let guardians = Guardians::start();
        let base = enrolled(&guardians).await;
        let keeper = boot(base.path(), &guardians).await;
        keeper.running().await;
        let client = keeper.client('a');
        client.put(OWN, "kept", 1, b"acknowledged").await.unwrap();
        keeper.volume.crash_at(point);
        let cut = client.put(OWN, "cut", 1, b"in the air").await;
        assert!(
            matches!(cut, Err(Refusal::Refused(_))),
            "{point:?}: acknowledged without a word of the disk"
        );
        drop(keeper);
        let keeper = boot(base.path(), &guardians).await;
        let client = keeper.client('a');
        assert_eq!(*client.get(OWN, "kept").await.unwrap(), *b"acknowledged");
        assert_eq!(client.get(OWN, "cut").await.is_ok(), there, "{point:?}");
        keeper.running().await;
        let (again, expect) = (client.put(OWN, "cut", 1, b"in the air").await, !there);
        assert_eq!(again.is_ok(), expect, "{point:?}: a version that is there is not greater");
        assert_eq!(*client.get(OWN, "cut").await.unwrap(), *b"in the air");
        keeper.volume.cut_power();
    }
}

/// Shares of others arrive while the node splits its own key anew: both write the header.
#[actix::test]
async fn many_at_once_and_the_nodes_own_record_lose_nothing() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let keeper = boot(base.path(), &guardians).await;
    keeper.running().await;
    let puts = (0..40).map(|index| {
        let client = keeper.client(char::from(b'a' + index % 6));
        async move { client.put(OWN, &format!("luks-{index}"), 1, &[index; 90]).await }
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let start = std::time::Instant::now();
    while keeper.node.registry.facts.custody().is_none_or(|(custody, _)| custody.generation < 2) {
        assert!(start.elapsed() < SOON, "its own key was not split anew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeper.volume.cut_power();
    drop(keeper);
    let keeper = boot(base.path(), &guardians).await;
    for index in 0..40 {
        let client = keeper.client(char::from(b'a' + index % 6));
        assert_eq!(*client.get(OWN, &format!("luks-{index}")).await.unwrap(), [index; 90]);
    }
    keeper.running().await;
}

#[actix::test]
async fn what_was_edited_outside_is_an_alarm_and_nothing_runs() {
    for (from, to) in [("\"mac\":\"", "\"mac\":\"0"), ("\"version\":1", "\"version\":9")] {
        let guardians = Guardians::start();
        let base = enrolled(&guardians).await;
        let keeper = boot(base.path(), &guardians).await;
        keeper.running().await;
        keeper.client('a').put(OWN, "one", 1, b"a share").await.unwrap();
        keeper.volume.cut_power();
        drop(keeper);
        let volume = DirectoryVolume::power_on(base.path()).unwrap();
        let text = std::fs::read_to_string(volume.held_path()).unwrap();
        let mut edited = text.replacen(from, to, 1);
        if from.contains("mac") {
            // As long as before.
            edited.replace_range(edited.len() - 3..edited.len() - 2, "");
        }
        assert_ne!(text, edited);
        std::fs::write(volume.held_path(), edited).unwrap();
        let options = Options { custody: true, ..Options::without_gateway(guardians.port) };
        let node = power_on_with(Arc::new(volume), options);
        node.wait_for(Phase::Degraded, SOON).await;
        let alarms = node.status().await.alarms;
        assert!(alarms.iter().any(|alarm| alarm.contains("what the header holds for others")), "{alarms:?}");
        assert!(!node.registry.facts.node().volume_ready);
    }
}

/// What reaches the socket and is no request of the guardian.
#[actix::test]
async fn strangers_and_nonsense_get_nothing_and_stop_nobody() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let keeper = boot(base.path(), &guardians).await;
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("agent.sock");
    // Root may give the socket to somebody else; whoever runs this test is not that one.
    if uid() == 0 {
        actix_rt::spawn(GuardianSocket::bind(&other, 4711).unwrap().serve(keeper.node.held.clone()));
        let asked = tokio::task::spawn_blocking(move || AgentStore::open(&other).err().is_some());
        assert!(asked.await.unwrap(), "another user was answered");
    }
    let ask = async |text: &[u8]| {
        let mut stream = tokio::net::UnixStream::connect(&keeper.socket).await.unwrap();
        // The other side may hang up before it has read everything.
        let _ = stream.write_all(text).await;
        let _ = stream.shutdown().await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    for nonsense in [
        "{}\n",
        "\"hello\"\n",
        "{\"hello\":{\"x\":1}}\n",
        "{\"get\":{\"identity\":\"a\",\"name\":\"b\"}}\n",
        "{\"put\":{\"identity\":\"a\",\"name\":\"b\",\"version\":1,\"share\":\"!\",\"now_ns\":1}}\n",
        "\u{0}\n",
    ] {
        let answer = ask(nonsense.as_bytes()).await;
        assert!(answer.starts_with("{\"error\":{\"error\":\""), "{nonsense}: {answer}");
    }
    for cut in [&b""[..], b"{\"hello\":{}}", &vec![b' '; LINE_LIMIT_BYTES + 10]] {
        assert_eq!(ask(cut).await, "");
    }
    // Eight that say nothing take all the places; a ninth is served when one of them is late.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::UnixStream::connect(&keeper.socket).await.unwrap());
    }
    let late = std::time::Instant::now();
    assert!(ask(b"{\"hello\":{}}\n").await.contains("\"hello\":"));
    assert!(late.elapsed() > Duration::from_secs(5), "they did not take the places");
    drop(silent);
}

/// The guardian's end of the socket believes no agent that answers nonsense.
#[test]
fn an_agent_that_answers_nonsense_is_an_error() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers: [&[u8]; 6] = [
        b"",
        b"{\"done\":{}}",
        b"{\"done\":{}}\n",
        b"nonsense\n",
        &[b' '; LINE_LIMIT_BYTES + 1],
        b"{\"error\":{\"error\":\"no\"}}\n",
    ];
    let agent = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            let _ = stream.write_all(answer);
        }
    });
    let asked: Vec<_> =
        answers.iter().map(|_| AgentStore::open(&socket).err().map(|error| cause(&error))).collect();
    let expect = [
        "too long or cut short",
        "too long or cut short",
        "not understood",
        "not understood",
        "too long or cut short",
        "it says: no",
    ];
    for (asked, expect) in asked.iter().zip(expect) {
        assert!(asked.as_ref().is_some_and(|why| why.contains(expect)), "{asked:?} is not {expect}");
    }
    agent.join().unwrap();
    let gone = AgentStore::open(&folder.path().join("nowhere")).err().map(|error| cause(&error));
    assert_eq!(gone, Some(AgentError::Connect(std::io::ErrorKind::NotFound.into()).to_string()));
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
