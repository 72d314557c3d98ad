//! Asks guardians until the volume is open: one round asks all open holders in parallel and ends at the first moment
//! when there are enough good shares. Publishes every answer; the key lives only from combining to opening.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use orama_keyshare::collector::{Collector, Refusal};
use orama_keyshare::{ShareSeal, ShareSet, VolumeKey, secret_name};
use orama_mesh::PrivateKey;
use orama_protocol::agent::UnlockStatus;
use orama_volume::{DataVolume, EarlyState, OpenError};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::comeback;
use super::guardian_client::GuardianClient;
use super::machine::{self, Action, Event, State};
use crate::boot::BootEvent;
use crate::boot::machine as boot;
use crate::describe;
use crate::facts::Facts;
use crate::ports::Console;
use crate::registry::Registry;

/// Largest part of a pause that jitter adds or takes: nodes that lost power together shall not ask together.
const JITTER: f64 = 0.2;

/// Shortest pause for the sake of a guardian that releases its share soon: four rounds take at most 12 of the 120 requests
/// that a guardian allows in a minute, each.
const RELEASE_PAUSE_MIN: Duration = Duration::from_secs(4);

/// What the gathering needs besides the early state.
pub(super) struct Gathering {
    pub registry: Registry,
    pub volume: Arc<dyn DataVolume>,
    pub console: Arc<dyn Console>,
    pub guardian_port: u16,
    pub opening: Arc<Mutex<()>>,
}

impl Gathering {
    /// Returns when the volume is open.
    pub async fn run(&self, state: &EarlyState) {
        let (private_key, set) = loop {
            let why = match PrivateKey::from_base64(state.wireguard.private_key.expose()) {
                Ok(key) => match state.custody.shares() {
                    Some(set) => break (key, set),
                    None => "the owner's wallet keeps the volume key".to_owned(),
                },
                // The early state checks its key when it is read, so this is not reached; it must not panic either.
                Err(error) => format!("wireguard key of the header: {error}"),
            };
            self.tell(boot::Event::Waiting { why });
            tokio::time::sleep(Duration::from_secs(16)).await;
        };
        let client = GuardianClient::new(orama_mesh::identity(&private_key), self.guardian_port);
        let name = secret_name(state.volume_uuid, set.generation());
        let fresh = new_collector(state, set, private_key);
        let mut collector = fresh();
        // Asked and not yet heard of when there were enough shares.
        let mut late = Asks::new();
        let (mut machine, mut todo) = State::start();
        let mut asked = Instant::now();
        loop {
            let mut event = None;
            for action in todo {
                event = match action {
                    Action::Ask => {
                        asked = Instant::now();
                        let (event, left) = self.ask(&client, &name, &mut collector, machine.attempts).await;
                        late = left;
                        Some(event)
                    }
                    Action::OpenVolume => Some(self.open(&mut collector).await),
                    Action::Forget => {
                        collector = fresh();
                        None
                    }
                    Action::Pause(pause) => {
                        let waiting = collector.status(machine.attempts, None);
                        tokio::select! {
                            () = tokio::time::sleep(until_release(pause, &collector)) => {}
                            back = comeback::somebody(&self.registry, &waiting, asked) => {
                                tracing::info!("guardian {back} came up: asking again");
                            }
                        }
                        Some(Event::PauseOver)
                    }
                    Action::Done => {
                        let status = collector.status(machine.attempts, None);
                        actix_rt::spawn(hear_out(self.facts().clone(), fresh, status, late));
                        return;
                    }
                };
            }
            let Some(event) = event else { return };
            let (next, actions) = machine::step(machine, event);
            if let Some(pause) = actions.iter().find_map(|action| match action {
                Action::Pause(pause) => Some(*pause),
                Action::Ask | Action::OpenVolume | Action::Forget | Action::Done => None,
            }) {
                let pause = until_release(pause, &collector);
                self.report_waiting(&collector, machine.attempts, event, pause);
            }
            (machine, todo) = (next, actions);
        }
    }

    async fn ask(
        &self,
        client: &GuardianClient,
        name: &str,
        collector: &mut Collector,
        attempts: u32,
    ) -> (Event, Asks) {
        let set = collector.set().clone();
        self.tell(boot::Event::Gathering { needed: set.k(), holders: set.n() });
        let late = round(client, name, collector, |collector| {
            self.facts().set_unlock(collector.status(attempts, None));
        })
        .await;
        if collector.enough() {
            self.console.line(&format!("shares gathered {} of {}", collector.good(), set.n()));
        }
        (Event::RoundOver { enough: collector.enough(), jitter: jitter() }, late)
    }

    async fn open(&self, collector: &mut Collector) -> Event {
        let jitter = jitter();
        let key = match collector.key() {
            Some(Ok(key)) => key,
            Some(Err(error)) => {
                self.alarm(&format!("the shares of the guardians contradict each other: {error}"));
                return Event::WrongKey { jitter };
            }
            None => return Event::RoundOver { enough: false, jitter },
        };
        match open_volume(&self.volume, &self.opening, key).await {
            Ok(_) => {
                self.console.line("volume open");
                Event::Opened
            }
            Err(OpenProblem::Open(error @ OpenError::WrongKey { .. })) => {
                self.alarm(&format!(
                    "{} good shares make a key that is not the volume's: {error}",
                    collector.good()
                ));
                Event::WrongKey { jitter }
            }
            Err(error) => {
                self.alarm(&format!("the volume does not open: {}", describe(&error)));
                Event::CannotOpen { jitter }
            }
        }
    }

    fn report_waiting(&self, collector: &Collector, attempts: u32, event: Event, pause: Duration) {
        let seconds = pause.as_secs_f64().round().max(1.0) as u64;
        self.facts().set_unlock(collector.status(attempts, Some(seconds)));
        let what = match event {
            Event::WrongKey { .. } => "the key from these shares does not open the volume".to_owned(),
            Event::CannotOpen { .. } => "the volume does not open".to_owned(),
            Event::RoundOver { .. } | Event::Opened | Event::PauseOver => collector.describe(),
        };
        self.tell(boot::Event::Waiting { why: format!("{what}, next try in {seconds} s") });
    }

    fn tell(&self, event: boot::Event) {
        // A boot actor between two generations asks us again, and hears the next event.
        let _ = self.registry.boot.tell(BootEvent(event));
    }

    fn alarm(&self, text: &str) {
        self.facts().raise_alarm(text);
    }

    fn facts(&self) -> &Facts {
        &self.registry.facts
    }
}

/// A pause ends when the first guardian releases its share, but is never so short that one guardian with a strange idea of
/// time makes the node ask the others more often than they allow.
fn until_release(pause: Duration, collector: &Collector) -> Duration {
    let release = collector.held_down().map(|seconds| Duration::from_secs(seconds.saturating_add(1)));
    release.map_or(pause, |release| pause.min(release.max(RELEASE_PAUSE_MIN)))
}

/// Makes empty collectors for the split that opens the volume.
fn new_collector(state: &EarlyState, set: &ShareSet, key: PrivateKey) -> impl Fn() -> Collector + 'static {
    let (set, volume, node) = (set.clone(), state.volume_uuid, state.node_id.clone());
    move || {
        let seal = ShareSeal::new(key.expose(), volume);
        Collector::new(set.clone(), volume, node.clone()).sealed_to(seal)
    }
}

/// Asks every holder without a good share, all at once (at most 250, the bound of a share set), and stops at the
/// first moment when there are enough. Gives back the requests that are still under way then.
async fn round(
    client: &GuardianClient,
    name: &str,
    collector: &mut Collector,
    mut note: impl FnMut(&Collector),
) -> Asks {
    let open = collector.ask_again();
    note(collector);
    if collector.enough() {
        return Asks::new();
    }
    let mut asks = ask_all(client, name, collector, &open);
    while let Some((index, answer)) = asks.next().await {
        if let Err(error) = collector.answer(index, answer) {
            tracing::error!("answer of an unknown guardian: {error}");
        }
        note(collector);
        if collector.enough() {
            break;
        }
    }
    asks
}

/// Listens to the guardians that were slower than enough others, so that status names one that is down or lies
/// although nobody had to wait for it. Every share is judged by itself and wiped at once: the key that they would
/// make together is never in memory again.
async fn hear_out(facts: Facts, fresh: impl Fn() -> Collector, mut status: UnlockStatus, mut late: Asks) {
    while let Some((index, answer)) = late.next().await {
        let mut one = fresh();
        if one.answer(index, answer).is_err() {
            continue;
        }
        let heard = one.status(status.attempts, None).guardians.into_iter().nth(index);
        if let (Some(place), Some(heard)) = (status.guardians.get_mut(index), heard) {
            if heard.answer != "good" {
                tracing::warn!(
                    "guardian {} ({}): {} {}",
                    heard.node_id,
                    heard.wg_ip,
                    heard.answer,
                    heard.detail
                );
            }
            status.good += u8::from(heard.answer == "good");
            *place = heard;
            facts.set_unlock(status.clone());
        }
    }
}

pub(crate) type GuardianAnswer = (usize, Result<Zeroizing<Vec<u8>>, Refusal>);
pub(crate) type Asks = FuturesUnordered<LocalBoxFuture<'static, GuardianAnswer>>;

/// One request per holder, under way at once.
pub(crate) fn ask_all(client: &GuardianClient, name: &str, collector: &Collector, holders: &[usize]) -> Asks {
    let set = collector.set().holders();
    let known = holders.iter().filter_map(|index| set.get(*index).map(|holder| (*index, holder.wg_ip)));
    known
        .map(|(index, guardian)| {
            let (client, name) = (client.clone(), name.to_owned());
            async move { (index, client.get(guardian, &name).await) }.boxed_local()
        })
        .collect()
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenProblem {
    #[error("opening the volume")]
    Open(#[source] OpenError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

/// Opens on a blocking thread, and gives the key back when it was the right one.
pub(super) async fn open_volume(
    volume: &Arc<dyn DataVolume>,
    opening: &Arc<Mutex<()>>,
    key: VolumeKey,
) -> Result<VolumeKey, OpenProblem> {
    // Held by the blocking call itself: one that nobody waits for any more is under way all the same.
    let turn = Arc::clone(opening).lock_owned().await;
    let volume = Arc::clone(volume);
    let open = tokio::task::spawn_blocking(move || {
        let opened = volume.open(&key);
        drop(turn);
        opened.map(|()| key)
    });
    match open.await {
        Ok(result) => result.map_err(OpenProblem::Open),
        Err(_) => Err(OpenProblem::Panicked),
    }
}

fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    (f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0) * JITTER
}
