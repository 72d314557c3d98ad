//! A guardian in this process and a client for it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use vault_guardian::{Clock, Config, serve};

pub const START_NS: i64 = 1_763_800_000_123_456_789;
pub const SECOND_NS: i64 = 1_000_000_000;
/// No answer may take longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running guardian; its clock stands still unless a test moves it.
pub struct Guardian {
    pub address: SocketAddr,
    pub clock: Arc<AtomicI64>,
    pub folder: PathBuf,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

pub struct Answer {
    pub status: u16,
    /// Head as text, with the status line.
    pub head: String,
    pub body: Value,
}

impl Answer {
    /// The text of `{"error": "..."}`, which must be all there is.
    pub fn error(&self) -> &str {
        let members = self.body.as_object().unwrap_or_else(|| panic!("{} {}", self.status, self.body));
        assert_eq!(members.len(), 1, "{}", self.body);
        members["error"].as_str().unwrap()
    }
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// With a rate limit that no test reaches by accident: all of them share one client address.
pub fn start(folder: &Path) -> Guardian {
    start_with(folder, |config| config.requests_per_minute = 100_000)
}

pub fn start_with(folder: &Path, edit: impl FnOnce(&mut Config)) -> Guardian {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap(), folder);
    let clock = Arc::new(AtomicI64::new(START_NS));
    let hand = clock.clone();
    config.clock = Clock::from_fn(move || hand.load(Ordering::Relaxed).into());
    edit(&mut config);
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let (address, server) = serve(config).expect("the guardian starts");
            sender.send((address, server.handle())).unwrap();
            server.await.unwrap();
        });
    });
    let (address, handle) = receiver.recv().expect("the guardian started");
    Guardian { address, clock, folder: folder.to_owned(), handle, thread: Some(thread) }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let stopped = self.handle.stop(true);
        actix_rt::System::new().block_on(stopped);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the guardian panicked");
    }
}

impl Guardian {
    pub fn sleep(&self, nanoseconds: i64) {
        self.clock.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub fn restart(self) -> Guardian {
        let folder = self.folder.clone();
        drop(self);
        start(&folder)
    }

    pub fn file(&self, identity: &str, name: &str) -> PathBuf {
        self.folder.join(identity).join(name)
    }

    /// One request with the body as it is.
    pub fn send(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        request(self.address, method, path, token, body)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, None, body.to_string().as_bytes())
    }

    pub fn challenge(&self, identity: &str) -> Value {
        let answer = self.post("/v2/vault/auth/challenge", &json!({ "identity": identity }));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Answers a challenge with its own members, untouched.
    pub fn answer(&self, identity: &str, challenge: &Value) -> Answer {
        let mut request = challenge.clone();
        request["identity"] = json!(identity);
        self.post("/v2/vault/auth/session", &request)
    }

    pub fn session(&self, identity: &str) -> String {
        let answer = self.answer(identity, &self.challenge(identity));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let session = answer.body;
        assert_eq!(session["identity"], identity);
        format!("{identity}:{}:{}", session["expiry_ns"], session["tag"].as_str().unwrap())
    }

    pub fn put(&self, token: &str, name: &str, share: &[u8], version: u64) -> Answer {
        let body = json!({ "share": STANDARD.encode(share), "version": version }).to_string();
        self.send("PUT", &path(name), Some(token), body.as_bytes())
    }

    pub fn get(&self, token: &str, name: &str) -> Answer {
        self.send("GET", &path(name), Some(token), b"")
    }

    pub fn delete(&self, token: &str, name: &str) -> Answer {
        self.send("DELETE", &path(name), Some(token), b"")
    }

    pub fn list(&self, token: &str) -> Answer {
        self.send("GET", "/v2/vault/secrets", Some(token), b"")
    }

    /// The stored share, decoded.
    pub fn share(&self, token: &str, name: &str) -> Vec<u8> {
        let answer = self.get(token, name);
        assert_eq!(answer.status, 200, "{}", answer.body);
        STANDARD.decode(answer.body["share"].as_str().unwrap()).unwrap()
    }
}

pub fn path(name: &str) -> String {
    format!("/v2/vault/secrets/{name}")
}

pub fn identity(digit: char) -> String {
    String::from(digit).repeat(64)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn request(address: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
    let mut stream = connect(address);
    let token = token.map(|token| format!("X-Session-Token: {token}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: guardian\r\n{token}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A guardian that refuses a body may close before it has read it; its answer still counts.
    let _ = stream.write_all(body);
    read_answer(stream)
}

/// Reads to the end of the connection, which must come: every answer closes it.
pub fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(!bytes.is_empty(), "no answer: {error}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(head.to_lowercase().contains("\r\nconnection: close"), "{head}");
    assert_eq!(head.to_lowercase().matches("connection:").count(), 1, "{head}");
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    Answer { status, head: head.to_owned(), body }
}
