//! Our own supervision: builds an actor, watches its task, builds the next one when it panics.
//! actix's `Supervisor` does not restart after a panic, and a restart with the old struct would carry the
//! broken state on; here every generation is made afresh from facts. Owns the current address of each
//! actor ([`Link`]) and the count of panics; does not decide what a restarted actor does first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{Actor, AsyncContext, Context, Handler, Message};

/// How many restarts in which time are taken for bad luck; one more and the supervisor gives up.
#[derive(Clone, Copy, Debug)]
pub struct Intensity {
    pub restarts: usize,
    pub within: Duration,
}

/// Five in a minute: a panic that a retry cures has been cured by then, and a node that only
/// panics is rebooted while someone who watches its console still sees why.
pub const INTENSITY: Intensity = Intensity { restarts: 5, within: Duration::from_secs(60) };

/// Pause before the first restart in a window, doubled for each further one. Zero would let an actor
/// that panics at start use up its window within a millisecond.
pub const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// Mailbox bound of every actor. Messages come from the HTTP handlers (one worker, at most 64
/// connections) and from a dozen siblings; 128 takes both without ever waiting.
pub const MAILBOX: usize = 128;

/// The one place where an actor's current address is kept; a stored `Addr` goes stale after a restart.
pub struct Link<A: Actor>(Arc<Mutex<Option<actix::Addr<A>>>>);

impl<A: Actor> Clone for Link<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> Default for Link<A> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

/// Why an actor did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the actor is not running")]
    Absent,
    #[error("the actor stopped before it answered")]
    Closed,
    #[error("the actor's mailbox is full")]
    Full,
}

impl<A: Actor<Context = Context<A>>> Link<A> {
    fn set(&self, addr: Option<actix::Addr<A>>) {
        *lock(&self.0) = addr;
    }

    /// Sends and waits for the answer. `Closed` when the actor panicked on this message.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Unavailable>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
        A::Context: ToEnvelope<A, M>,
    {
        let request = lock(&self.0).as_ref().map(|addr| addr.send(message));
        request.ok_or(Unavailable::Absent)?.await.map_err(|_| Unavailable::Closed)
    }

    /// Sends without waiting; respects the mailbox bound, unlike actix's `do_send`.
    pub fn tell<M>(&self, message: M) -> Result<(), Unavailable>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
        A::Context: ToEnvelope<A, M>,
    {
        // Never through a clone of the address: actix lets every new clone queue one message beyond the bound.
        let sent = lock(&self.0).as_ref().map(|addr| addr.try_send(message));
        sent.ok_or(Unavailable::Absent)?.map_err(|error| match error {
            actix::dev::SendError::Full(_) => Unavailable::Full,
            actix::dev::SendError::Closed(_) => Unavailable::Closed,
        })
    }
}

/// Panics per actor, for status.
#[derive(Clone, Default)]
pub struct RestartBook(Arc<Mutex<BTreeMap<String, Panics>>>);

/// What is known about one actor's panics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panics {
    pub count: u32,
    /// Message and place of the last one.
    pub last: String,
}

impl RestartBook {
    fn note(&self, actor: &str, what: String) -> u32 {
        let mut book = lock(&self.0);
        let entry = book.entry(actor.to_owned()).or_default();
        entry.count = entry.count.saturating_add(1);
        entry.last = what;
        entry.count
    }

    /// Every actor that ever panicked.
    pub fn read(&self) -> BTreeMap<String, Panics> {
        lock(&self.0).clone()
    }
}

/// Handed over when an actor panicked more often than its intensity allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{actor} panicked {panics} times within {within_seconds} s, last: {last}")]
pub struct GaveUp {
    pub actor: String,
    pub panics: usize,
    pub within_seconds: u64,
    pub last: String,
}

/// Runs `make(generation)` under supervision on the current arbiter, the first generation being 0.
/// An actor that stops by itself has finished and is not started again. `escalate` is called once, when
/// the intensity is exceeded: the node reboots then, because nothing watches what this actor watched.
pub fn supervise<A, F>(
    name: impl Into<String>,
    link: &Link<A>,
    book: &RestartBook,
    intensity: Intensity,
    escalate: impl Fn(GaveUp) + 'static,
    make: F,
) -> tokio::task::JoinHandle<()>
where
    A: Actor<Context = Context<A>>,
    F: Fn(u32) -> A + 'static,
{
    let name = name.into();
    let link = link.clone();
    let book = book.clone();
    // The first generation is made here and not in the task, so that whoever called may send at once.
    let mut running = spawn_generation(&link, make(0));
    actix_rt::spawn(async move {
        let mut recent: Vec<Instant> = Vec::new();
        for generation in 1u32.. {
            let ended = running.await;
            link.set(None);
            let Err(error) = ended else { return };
            if !error.is_panic() {
                return;
            }
            let what = panic_text(error.into_panic());
            let count = book.note(&name, what.clone());
            let now = Instant::now();
            recent.retain(|at| now.duration_since(*at) < intensity.within);
            recent.push(now);
            tracing::error!(actor = %name, panics = count, "actor panicked: {what}");
            if recent.len() > intensity.restarts {
                escalate(GaveUp {
                    actor: name,
                    panics: recent.len(),
                    within_seconds: intensity.within.as_secs(),
                    last: what,
                });
                return;
            }
            let pause = RESTART_PAUSE.saturating_mul(1 << (recent.len() - 1).min(6));
            tokio::time::sleep(pause).await;
            running = spawn_generation(&link, make(generation));
            tracing::warn!(actor = %name, generation, "actor restarted");
        }
    })
}

fn spawn_generation<A: Actor<Context = Context<A>>>(link: &Link<A>, actor: A) -> tokio::task::JoinHandle<()> {
    let mut context = Context::new();
    context.set_mailbox_capacity(MAILBOX);
    link.set(Some(context.address()));
    actix_rt::spawn(context.into_future(actor))
}

thread_local! {
    /// Message and place of this thread's last panic; the payload that a join handle gives has no place.
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Keeps the place of each panic for [`supervise`] and logs panics outside of actors. Install once, first thing.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let message = payload_text(info.payload());
        let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
        tracing::error!("panic at {place}: {message}");
        LAST_PANIC.with_borrow_mut(|last| *last = Some((message, place)));
    }));
}

fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = payload_text(&*payload);
    let seen = LAST_PANIC.with_borrow_mut(Option::take);
    match seen {
        Some((seen_message, place)) if seen_message == message => format!("{message} ({place})"),
        Some(_) | None => message,
    }
}

fn payload_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic without a message".to_owned()
    }
}

/// A lock whose holder panicked still guards whole data here: every critical section only replaces values.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "supervise_tests.rs"]
mod tests;
