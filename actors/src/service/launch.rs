//! The one thread that makes children, and the pipes that carry their output into the log. A child with a
//! parent-death signal dies with the thread that made it, so this thread lives as long as the agent; the pumps are
//! tasks of their own, so that a service keeps its log when its actor is made anew.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use nix::fcntl::OFlag;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::log::{LogFile, READ_BYTES, log_path};
use crate::ports::{Child, LaunchFailure, Launcher};

/// Orders that may wait: every service has at most one spawn under way, and an image has a dozen services.
const QUEUE: usize = 64;

type Answer = oneshot::Sender<Result<Box<dyn Child>, LaunchFailure>>;

struct Order {
    service: String,
    stdout: OwnedFd,
    stderr: OwnedFd,
    answer: Answer,
}

/// A cloneable handle to the launch thread.
#[derive(Clone)]
pub struct LaunchThread {
    orders: mpsc::SyncSender<Order>,
    logs: Arc<PathBuf>,
}

impl LaunchThread {
    /// Starts the thread; it ends when the last handle is dropped. `logs` is where service logs go.
    pub fn start(launcher: Arc<dyn Launcher>, logs: &Path) -> std::io::Result<Self> {
        let (orders, waiting) = mpsc::sync_channel::<Order>(QUEUE);
        std::thread::Builder::new().name("launch".into()).spawn(move || {
            for order in waiting {
                let Order { service, stdout, stderr, answer } = order;
                let spawn = std::panic::AssertUnwindSafe(|| launcher.spawn(&service, stdout, stderr));
                let result = std::panic::catch_unwind(spawn)
                    .unwrap_or_else(|_| Err(LaunchFailure("the launcher panicked".into())));
                if let Err(Ok(orphan)) = answer.send(result) {
                    // Nobody is there to watch it: a child that is not watched must not run.
                    let _ = orphan.kill_all();
                }
            }
        })?;
        Ok(Self { orders, logs: Arc::new(logs.to_owned()) })
    }

    /// Where service logs go.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts the service with its output going to its log.
    pub async fn spawn(&self, service: &str) -> Result<Box<dyn Child>, String> {
        let path = log_path(&self.logs, service);
        let (reader, writer) = pipe_pair().map_err(|error| format!("making the log pipe: {error}"))?;
        let stderr = writer.try_clone().map_err(|error| format!("making the log pipe: {error}"))?;
        let (answer, answered) = oneshot::channel();
        let order = Order { service: service.to_owned(), stdout: writer, stderr, answer };
        self.orders.try_send(order).map_err(|_| "the launch thread takes no orders".to_owned())?;
        let child = answered.await.map_err(|_| "the launch thread is gone".to_owned())?;
        let child = child.map_err(|failure| failure.to_string())?;
        actix_rt::spawn(pump(reader, path));
        Ok(child)
    }
}

fn pipe_pair() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
    // Only our end is made non-blocking (by tokio): a service's own stdout must behave like any other.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}

/// Carries output into the log until every writer has closed it. When the log cannot be written, output is dropped:
/// a service must not stand still because a disk is full.
async fn pump(mut reader: pipe::Receiver, path: PathBuf) {
    let mut log = None;
    let mut told = false;
    loop {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        match (&mut reader).take(READ_BYTES as u64).read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let path = path.clone();
        let taken = log.take();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = match taken {
                Some(file) => file,
                None => LogFile::open(&path)?,
            };
            file.append(&buffer).map(|()| file)
        })
        .await;
        match written {
            Ok(Ok(file)) => log = Some(file),
            Ok(Err(error)) if !told => {
                told = true;
                tracing::warn!("service log cannot be written, output is dropped: {error}");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
