//! The one thread that makes children. A child with a parent-death signal dies with the thread that made it, so this
//! thread lives as long as the agent. Where the children's output goes is `service/output.rs`'s matter.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use nix::fcntl::OFlag;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::log::Logs;
use super::output::{Output, pump};
use crate::ports::{Child, LaunchFailure, Launcher};

/// Orders that may wait: every service has at most one spawn under way, and an image has a dozen services.
const QUEUE: usize = 64;

type Launched = Result<Option<Box<dyn Child>>, LaunchFailure>;

struct Order {
    service: String,
    /// A prepare step; none: the service itself.
    step: Option<usize>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    answer: oneshot::Sender<Launched>,
}

/// A cloneable handle to the launch thread.
#[derive(Clone)]
pub struct LaunchThread {
    orders: mpsc::SyncSender<Order>,
    logs: Logs,
}

impl LaunchThread {
    /// Starts the thread; it ends when the last handle is dropped. `logs` is where service logs go.
    pub fn start(launcher: Arc<dyn Launcher>, logs: &Path) -> std::io::Result<Self> {
        Self::start_with(launcher, Logs::at(logs))
    }

    /// With logs that move.
    pub fn start_with(launcher: Arc<dyn Launcher>, logs: Logs) -> std::io::Result<Self> {
        let (orders, waiting) = mpsc::sync_channel::<Order>(QUEUE);
        std::thread::Builder::new().name("launch".into()).spawn(move || {
            for order in waiting {
                let Order { service, step, stdout, stderr, answer } = order;
                let launch = std::panic::AssertUnwindSafe(|| match step {
                    Some(step) => launcher.prepare(&service, step, stdout, stderr),
                    None => launcher.spawn(&service, stdout, stderr).map(Some),
                });
                let result = std::panic::catch_unwind(launch)
                    .unwrap_or_else(|_| Err(LaunchFailure("the launcher panicked".into())));
                if let Err(Ok(Some(orphan))) = answer.send(result) {
                    // Nobody is there to watch it: a child that is not watched must not run.
                    let _ = orphan.kill_all();
                }
            }
        })?;
        Ok(Self { orders, logs })
    }

    /// Where service logs go.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Starts the service, or one of its prepare steps, with its output going to its log. `None`: the step has
    /// nothing to do.
    pub async fn spawn(
        &self,
        service: &str,
        step: Option<usize>,
    ) -> Result<Option<(Box<dyn Child>, Arc<Output>)>, String> {
        let (reader, writer) = pipe_pair().map_err(|error| format!("making the log pipe: {error}"))?;
        let stderr = writer.try_clone().map_err(|error| format!("making the log pipe: {error}"))?;
        let (answer, answered) = oneshot::channel();
        let order = Order { service: service.to_owned(), step, stdout: writer, stderr, answer };
        self.orders.try_send(order).map_err(|_| "the launch thread takes no orders".to_owned())?;
        let child = answered.await.map_err(|_| "the launch thread is gone".to_owned())?;
        let Some(child) = child.map_err(|failure| failure.to_string())? else { return Ok(None) };
        let output = Arc::new(Output::default());
        actix_rt::spawn(pump(reader, self.logs.clone(), service.to_owned(), Arc::clone(&output)));
        Ok(Some((child, output)))
    }
}

fn pipe_pair() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
    // Only our end is made non-blocking (by tokio): a service's own stdout must behave like any other.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}
