//! Real vault-guardians on 127.0.0.11 and up, all on one port, and servers that stand in for bad ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const COUNT: u8 = 5;
/// How long they hold shares of absent owners down.
pub const HOLD_DOWN: Duration = Duration::from_secs(8);

pub struct Guardians {
    pub port: u16,
    folder: tempfile::TempDir,
    running: Vec<Option<ServerHandle>>,
    impostors: Vec<JoinHandle<()>>,
    /// How far the guardians' clocks are ahead, seconds.
    ahead: Arc<AtomicU64>,
}

pub fn ip(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 11 + u8::try_from(index).unwrap())
}

pub fn node_id(index: usize) -> String {
    format!("node-{}", ip(index))
}

impl Guardians {
    pub fn start() -> Self {
        let port = super::free_address(ip(0)).port();
        let folder = tempfile::tempdir().unwrap();
        let mut guardians =
            Self { port, folder, running: Vec::new(), impostors: Vec::new(), ahead: Arc::default() };
        for index in 0..usize::from(COUNT) {
            let handle = guardians.run(index);
            guardians.running.push(Some(handle));
        }
        guardians
    }

    fn address(&self, index: usize) -> SocketAddr {
        SocketAddr::new(ip(index).into(), self.port)
    }

    fn store(&self, index: usize) -> PathBuf {
        self.folder.path().join(index.to_string())
    }

    fn run(&self, index: usize) -> ServerHandle {
        let mut config = vault_guardian::Config::new(self.address(index), self.store(index));
        config.requests_per_minute = 10_000;
        config.rules.hold_down = HOLD_DOWN;
        let ahead = Arc::clone(&self.ahead);
        config.clock = vault_guardian::Clock::from_fn(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            now as i128 + i128::from(ahead.load(Ordering::Relaxed)) * 1_000_000_000
        });
        let (_, server) = vault_guardian::serve(config).unwrap();
        let handle = server.handle();
        actix_rt::spawn(server);
        handle
    }

    /// Nobody is heard of for so long.
    pub fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Starts one more than there are; its index.
    pub fn join(&mut self) -> usize {
        let index = self.running.len();
        let handle = self.run(index);
        self.running.push(Some(handle));
        index
    }

    /// Generations of the shares that a guardian keeps, in order.
    pub fn generations(&self, index: usize) -> Vec<u64> {
        let name = |path: PathBuf| path.file_name()?.to_str()?.rsplit_once("-g")?.1.parse().ok();
        let mut found: Vec<u64> = self.files(index).into_iter().filter_map(name).collect();
        found.sort_unstable();
        found
    }

    pub async fn stop(&mut self, index: usize) {
        if let Some(handle) = self.running[index].take() {
            handle.stop(true).await;
        }
    }

    pub fn restart(&mut self, index: usize) {
        assert!(self.running[index].is_none());
        self.running[index] = Some(self.run(index));
    }

    /// Takes the guardian's place by one that accepts connections and never answers.
    pub async fn make_silent(&mut self, index: usize) {
        self.stop(index).await;
        let listener = TcpListener::bind(self.address(index)).await.unwrap();
        self.impostors.push(actix_rt::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                kept.push(stream);
            }
        }));
    }

    /// Takes the guardian's place by one that speaks the protocol and always gives this answer for the share.
    pub async fn make_liar(&mut self, index: usize, status: u16, share_answer: String) {
        self.stop(index).await;
        let listener = TcpListener::bind(self.address(index)).await.unwrap();
        self.impostors.push(actix_rt::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let (status, body) = if head.contains("/auth/challenge") {
                    let nonce = "0".repeat(64);
                    (
                        200,
                        format!(r#"{{"nonce":"{nonce}","created_ns":1750000000000000001,"tag":"{nonce}"}}"#),
                    )
                } else if head.contains("/auth/session") {
                    let text = "0".repeat(64);
                    (
                        200,
                        format!(r#"{{"identity":"{text}","expiry_ns":1750000000000000001,"tag":"{text}"}}"#),
                    )
                } else {
                    (status, share_answer.clone())
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }));
    }

    /// Files of a guardian's store, for tests that corrupt them.
    pub fn files(&self, index: usize) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.store(index)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    }
}

impl Drop for Guardians {
    fn drop(&mut self) {
        for impostor in &self.impostors {
            impostor.abort();
        }
        for handle in self.running.iter().flatten() {
            drop(handle.stop(false));
        }
    }
}
