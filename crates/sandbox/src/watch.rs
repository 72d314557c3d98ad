//! The watcher: one thread that answers the refused calls of all services. Fair: in one round every service that
//! waits gets one answer, so a service that floods it with refused calls delays itself and nobody else.
//!
//! When it ends, or a listener is dropped, the kernel answers the refused calls itself, with ENOSYS: none runs.

mod answer;
pub(crate) mod kernel;
mod process;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::refusal::{Refusal, Seen};
use answer::Dying;
pub(crate) use answer::Terms;
pub use kernel::SeccompData;

/// The kernel's end of one started service: its refused calls come out of here. Give it to a [`Watcher`].
#[derive(Debug)]
pub struct Listener {
    pub(crate) fd: OwnedFd,
    pub(crate) terms: Arc<Terms>,
}

/// The thread that answers refused calls. Dropping it ends the thread and drops all listeners.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    wake: EventFd,
}

#[derive(Debug, Default)]
struct Inbox {
    added: Vec<Listener>,
    stop: bool,
}

type Sink = Box<dyn Fn(Seen) + Send>;

impl Watcher {
    /// Starts the thread. `sink` gets each refusal before its call is answered, so whoever sees a service end has
    /// had its refusals; while it runs no service gets an answer.
    pub fn start(sink: impl Fn(Refusal) + Send + 'static) -> io::Result<Watcher> {
        Watcher::start_tracing(move |seen| match seen {
            Seen::Refused(refusal) => sink(refusal),
            Seen::Denied { .. } | Seen::Allowed { .. } => {}
        })
    }

    /// As [`Watcher::start`], for services whose allowed calls are to be seen too ([`crate::Preparation::trace`]).
    pub fn start_tracing(sink: impl Fn(Seen) + Send + 'static) -> io::Result<Watcher> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { inbox: Mutex::default(), wake });
        let mut work = Work {
            shared: Arc::clone(&shared),
            sink: Box::new(sink),
            listeners: Vec::new(),
            dying: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("watcher".to_owned()).spawn(move || work.run())?;
        Ok(Watcher { shared, thread: Some(thread) })
    }

    /// From now on this service's refused calls are answered.
    pub fn add(&self, listener: Listener) {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner).added.push(listener);
        self.shared.wake();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It catches the sink's panics and has none of its own.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _awake = self.wake.write(1);
    }
}

struct Work {
    shared: Arc<Shared>,
    sink: Sink,
    listeners: Vec<Listener>,
    dying: Vec<Dying>,
}

impl Work {
    fn run(&mut self) {
        loop {
            let ready = self.wait();
            let _count = self.shared.wake.read();
            if self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner).stop {
                return;
            }
            self.dying.retain_mut(|dying| !dying.settled(Instant::now()));
            self.round(&ready);
            let added =
                std::mem::take(&mut self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner).added);
            self.listeners.extend(added);
        }
    }

    /// Which listeners have something, in their order.
    fn wait(&self) -> Vec<Readiness> {
        let mut polled: Vec<libc::pollfd> = std::iter::once(self.shared.wake.as_fd().as_raw_fd())
            .chain(self.listeners.iter().map(|listener| listener.fd.as_raw_fd()))
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
            .collect();
        let patience = if self.dying.is_empty() { None } else { Some(DYING_POLL) };
        kernel::poll(&mut polled, patience);
        polled[1..]
            .iter()
            .map(|polled| match polled.revents {
                events if events & libc::POLLIN != 0 => Readiness::Waiting,
                0 => Readiness::Quiet,
                _ => Readiness::Ended,
            })
            .collect()
    }

    /// One notification of each listener that has some; those whose last process has gone are closed.
    fn round(&mut self, ready: &[Readiness]) {
        for (listener, readiness) in self.listeners.iter().zip(ready) {
            if *readiness != Readiness::Waiting {
                continue;
            }
            if let Some(notification) = kernel::receive(listener.fd.as_fd()) {
                let tell = |seen| {
                    // A sink that panics loses one message; without this thread no service would get an answer.
                    let _lost = catch_unwind(AssertUnwindSafe(|| (self.sink)(seen)));
                };
                self.dying.extend(answer::answer(listener, &notification, tell));
            }
        }
        let mut ready = ready.iter();
        self.listeners.retain(|_| ready.next() != Some(&Readiness::Ended));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Quiet,
    Waiting,
    Ended,
}

/// Between looks at processes that should be dead.
const DYING_POLL: Duration = Duration::from_millis(50);
