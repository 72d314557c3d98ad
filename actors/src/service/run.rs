//! A started child as a fact outside of the actor that watches it, and the wait for its end.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

use super::output::Output;
use crate::ports::{Child, Exit, Usage};

/// How long a killed child may take to become collectable before a new one is started all the same: after that
/// the start fails on its own (port taken) and is backed off.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions whether a child has ended, when its descriptor cannot be watched.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A running child with what must be known about it to adopt it.
#[derive(Clone)]
pub struct Run {
    pub child: Arc<dyn Child>,
    /// It is this prepare step, not the service.
    pub step: Option<usize>,
    pub since: Instant,
    pub ready: Arc<AtomicBool>,
    pub output: Arc<Output>,
    /// What its box had counted before it began.
    pub before: Usage,
}

impl Run {
    pub(super) fn new(child: Box<dyn Child>, step: Option<usize>, output: Arc<Output>) -> Self {
        let before = Usage { oom_kills: 0, forks_refused: 0, ..Usage::default() };
        Self {
            child: Arc::from(child),
            step,
            since: Instant::now(),
            ready: Arc::new(AtomicBool::new(false)),
            output,
            before,
        }
    }

    pub(super) fn is(&self, other: &Run) -> bool {
        Arc::ptr_eq(&self.child, &other.child)
    }
}

/// Waits until the main process has ended, and collects it.
pub(super) async fn wait_for_exit(child: &dyn Child) -> Exit {
    // Deprecated because a type may change the descriptor behind the reactor's back; an `OwnedFd` that nobody else
    // sees cannot, and the replacement is an unsafe function, which this crate forbids.
    #[expect(deprecated)]
    let descriptor = match child.pidfd().as_fd().try_clone_to_owned().and_then(AsyncFd::new) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            tracing::error!(pid = child.pid(), "cannot watch the process, asking in turns: {error}");
            return poll_for_exit(child).await;
        }
    };
    loop {
        let Ok(mut guard) = descriptor.readable().await else { return poll_for_exit(child).await };
        match child.try_reap() {
            Ok(Some(exit)) => return exit,
            Ok(None) => guard.clear_ready(),
            Err(_) => return Exit::Unknown,
        }
    }
}

async fn poll_for_exit(child: &dyn Child) -> Exit {
    loop {
        match child.try_reap() {
            Ok(Some(exit)) => return exit,
            Ok(None) => tokio::time::sleep(ASK_EVERY).await,
            Err(_) => return Exit::Unknown,
        }
    }
}

pub(super) async fn collect_leftover(run: &Run) {
    if let Err(error) = run.child.kill_all() {
        tracing::warn!(pid = run.child.pid(), "cannot kill what is left of the service: {error}");
    }
    let _ = tokio::time::timeout(COLLECT_TIMEOUT, wait_for_exit(&*run.child)).await;
}
