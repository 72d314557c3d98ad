//! What the clients of each service do to it: the ordinary things, and a mistake of each kind. Every function may run
//! any number of times on the same node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qemu_tests::dns::{self, Over};
use qemu_tests::guardian_client;
use qemu_tests::http::{Answer, Request, send};
use qemu_tests::net::Namespace;
use qemu_tests::node::{execute, query};
use qemu_tests::outcome::OrFail;
use qemu_tests::resp;

/// Under emulation a service may be busy for a while, but answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows that one load leaves in rqlite.
pub const ROWS: usize = 20;
/// Larger than one block of kubo (256 KiB), so that a file is a tree.
const FILE_BYTES: usize = 600_000;
/// Whose secret the guardian keeps: any 64 hexadecimal digits.
const IDENTITY: &str = "5e0000000000000000000000000000000000000000000000000000000000005e";

/// How often the secret has been stored.
static STORED: AtomicU64 = AtomicU64::new(0);

/// The node as a member of the overlay reaches it.
pub struct Node<'a> {
    pub network: &'a Namespace,
    pub address: Ipv4Addr,
}

impl Node<'_> {
    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    fn http(&self, port: u16, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let headers = [("Content-Type", kind)];
        let request = Request { method, path, headers: &headers, body };
        send(self.network, self.at(port), &request, PATIENCE).or_fail()
    }

    fn expect(&self, status: u16, port: u16, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let answer = self.http(port, method, path, kind, body);
        assert_eq!(answer.status, status, "{method} {path} on {port}: {}", answer.text());
        answer
    }
}

/// Everybody's, one after the other.
pub fn everything(node: &Node<'_>) {
    rqlite(node);
    olric(node);
    let file = ipfs(node);
    ipfs_cluster(node, &file);
    gateway(node);
    coredns(node);
    guardian(node);
}

pub fn rqlite(node: &Node<'_>) {
    let run = |statement: &str| {
        let answer = execute(node.network, node.address, statement).or_fail();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.text().contains("\"error\""), "{statement}: {}", answer.text());
    };
    run("CREATE TABLE IF NOT EXISTS load (id INTEGER PRIMARY KEY, text TEXT)");
    run("CREATE INDEX IF NOT EXISTS by_text ON load (text)");
    for row in 0..ROWS {
        run(&format!("INSERT OR REPLACE INTO load (id, text) VALUES ({row}, hex(randomblob(200)))"));
    }
    run("UPDATE load SET text = text || 'x' WHERE id % 2 = 0");
    assert_eq!(rows(node), ROWS);
    let wrong = execute(node.network, node.address, "INSERT INTO nowhere VALUES (1)").or_fail();
    assert!(wrong.text().contains("no such table"), "{}", wrong.text());
    let backup = node.expect(200, 4001, "GET", "/db/backup", "", b"");
    assert!(backup.body.starts_with(b"SQLite format 3\0"));
    node.expect(200, 4001, "POST", "/snapshot", "", b"");
    node.expect(200, 4001, "POST", "/db/load", "application/octet-stream", &backup.body);
    assert_eq!(rows(node), ROWS);
    node.expect(200, 4001, "GET", "/status", "", b"");
    node.expect(200, 4001, "GET", "/nodes", "", b"");
}

/// How many rows of the load are in rqlite.
pub fn rows(node: &Node<'_>) -> usize {
    let answer = query(node.network, node.address, "SELECT count(*) FROM load").or_fail();
    let count = answer.json()["results"][0]["values"][0][0].as_u64();
    count.map(|count| count as usize).unwrap_or_else(|| panic!("{}", answer.text()))
}

pub fn olric(node: &Node<'_>) {
    let value = vec![b'v'; 2000];
    let keys: Vec<String> = (0..50).map(|key| format!("key-{key}")).collect();
    let mut commands: Vec<Vec<&[u8]>> = Vec::new();
    for key in &keys {
        commands.push(vec![b"dm.put", b"load", key.as_bytes(), &value]);
        commands.push(vec![b"dm.get", b"load", key.as_bytes()]);
    }
    commands.push(vec![b"dm.del", b"load", keys[0].as_bytes()]);
    commands.push(vec![b"dm.get", b"load", keys[0].as_bytes()]);
    commands.push(vec![b"stats"]);
    commands.push(vec![b"no.such.command"]);
    let borrowed: Vec<&[&[u8]]> = commands.iter().map(Vec::as_slice).collect();
    let answers = resp::ask(node.network, node.at(3320), &borrowed, PATIENCE).or_fail();
    let (pairs, rest) = answers.split_at(keys.len() * 2);
    for pair in pairs.chunks(2) {
        assert_eq!(pair[0], resp::Answer::Text(b"OK".to_vec()));
        assert_eq!(pair[1], resp::Answer::Text(value.clone()));
    }
    assert_eq!(rest[0], resp::Answer::Number(1));
    assert!(
        matches!(&rest[1], resp::Answer::Error(text) if text.starts_with("KEYNOTFOUND")),
        "{:?}",
        rest[1]
    );
    assert!(matches!(&rest[2], resp::Answer::Text(_)), "{:?}", rest[2]);
    assert!(matches!(&rest[3], resp::Answer::Error(_)), "{:?}", rest[3]);
}

/// The same bytes each time, without a pattern that a filter could like.
fn file() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..FILE_BYTES).map(|_| next()).collect()
}

/// Adds a file and gives its content id.
pub fn ipfs(node: &Node<'_>) -> String {
    let contents = file();
    let head = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"load\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n";
    let form = [&head[..], &contents, b"\r\n--edge--\r\n"].concat();
    let kind = "multipart/form-data; boundary=edge";
    let added = node.expect(200, 5001, "POST", "/api/v0/add?cid-version=1&pin=true", kind, &form);
    let id = added.json()["Hash"].as_str().unwrap_or_else(|| panic!("{}", added.text())).to_owned();
    still_has(node, &id);
    node.expect(200, 5001, "POST", &format!("/api/v0/pin/add?arg={id}"), "", b"");
    let pins = node.expect(200, 5001, "POST", "/api/v0/pin/ls?type=recursive", "", b"");
    assert!(!pins.body.is_empty());
    node.expect(200, 5001, "POST", "/api/v0/repo/gc", "", b"");
    node.expect(500, 5001, "POST", "/api/v0/cat?arg=nonsense", "", b"");
    id
}

/// Over the RPC and over HTTP as a browser would.
pub fn still_has(node: &Node<'_>, id: &str) {
    let contents = file();
    let cat = node.expect(200, 5001, "POST", &format!("/api/v0/cat?arg={id}"), "", b"");
    assert!(cat.body == contents, "cat gave {} other bytes", cat.body.len());
    let got = node.expect(200, 8080, "GET", &format!("/ipfs/{id}"), "", b"");
    assert!(got.body == contents, "the gateway of kubo gave {} other bytes", got.body.len());
}

pub fn ipfs_cluster(node: &Node<'_>, id: &str) {
    node.expect(200, 9094, "POST", &format!("/pins/{id}"), "", b"");
    pinned(node, id);
    node.expect(200, 9094, "GET", "/id", "", b"");
    node.expect(200, 9094, "GET", "/peers", "", b"");
    node.expect(400, 9094, "POST", "/pins/nonsense", "", b"");
    node.expect(200, 9094, "DELETE", &format!("/pins/{id}"), "", b"");
    node.expect(200, 9094, "POST", &format!("/pins/{id}"), "", b"");
    pinned(node, id);
}

/// Waits until the cluster says so.
pub fn pinned(node: &Node<'_>, id: &str) {
    let started = Instant::now();
    loop {
        let answer = node.expect(200, 9094, "GET", &format!("/pins/{id}"), "", b"");
        if answer.text().contains("\"status\":\"pinned\"") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not pinned: {}", answer.text());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The public side of the node's own gateway, with a certificate that it made for itself.
pub fn gateway(node: &Node<'_>) {
    for (method, path) in [("GET", "/v1/health"), ("GET", "/v1/node/status"), ("POST", "/v1/node/enroll")] {
        let mut curl = node.network.command("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--max-time", "60", "--output", "/dev/null"]);
        curl.args(["--write-out", "%{http_code}", "--request", method]);
        let output = curl.arg(format!("https://{}{path}", node.address)).output().or_fail();
        let code = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && code.len() == 3, "{method} {path}: {code} {output:?}");
    }
    // No TLS at all: it must say so and go on.
    let plain = send(node.network, node.at(443), &Request::get("/"), PATIENCE);
    assert!(plain.is_err(), "{plain:?}");
}

pub fn coredns(node: &Node<'_>) {
    for over in [Over::Udp, Over::Tcp] {
        let ask = |name: &str| dns::resolve(node.network, node.at(53), over, name, PATIENCE).or_fail();
        for _ in 0..20 {
            assert_eq!(ask("node.orama.internal").addresses, [node.address]);
        }
        assert_eq!(ask("nobody.node.orama.internal").code, 3);
        assert_eq!(ask("localhost").addresses, [Ipv4Addr::LOCALHOST]);
        // The uplink's resolver is out of reach in here: the failure is an answer.
        assert_ne!(ask("example.com").code, 0);
    }
    let metrics = node.expect(200, 9153, "GET", "/metrics", "", b"");
    assert!(metrics.text().contains("coredns_dns_requests_total"));
}

pub fn guardian(node: &Node<'_>) {
    let (network, address) = (node.network, node.at(7500));
    let version = STORED.fetch_add(1, Ordering::Relaxed) + 1;
    guardian_client::store(network, address, IDENTITY, "load", version, b"a share").or_fail();
    let again = guardian_client::store(network, address, IDENTITY, "load", version, b"a share");
    assert!(again.is_err(), "the guardian took version {version} twice");
    keeps(node);
    assert!(guardian_client::fetch(network, address, IDENTITY, "nothing").is_err());
    node.expect(404, 7500, "GET", "/nowhere", "", b"");
}

pub fn keeps(node: &Node<'_>) {
    let share = guardian_client::fetch(node.network, node.at(7500), IDENTITY, "load").or_fail();
    assert_eq!(share, b"a share");
}
