//! Asks guardians until the volume is open: one round asks all open holders in parallel and ends at the first moment
//! when there are enough good shares. Publishes every answer; the key lives only from combining to opening.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use orama_keyshare::collector::{Collector, Refusal};
use orama_keyshare::{VolumeKey, secret_name};
use orama_mesh::PrivateKey;
use orama_volume::{DataVolume, EarlyState, OpenError};
use zeroize::Zeroizing;

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

/// What the gathering needs besides the early state.
pub(super) struct Gathering {
    pub registry: Registry,
    pub volume: Arc<dyn DataVolume>,
    pub console: Arc<dyn Console>,
    pub guardian_port: u16,
}

impl Gathering {
    /// Returns when the volume is open.
    pub async fn run(&self, state: &EarlyState) {
        let identity = loop {
            match PrivateKey::from_base64(state.wireguard.private_key.expose()) {
                Ok(key) => break orama_mesh::identity(&key),
                // The early state checks its key when it is read, so this is not reached; it must not panic either.
                Err(error) => {
                    self.tell(boot::Event::Waiting { why: format!("wireguard key of the header: {error}") });
                    tokio::time::sleep(Duration::from_secs(16)).await;
                }
            }
        };
        let client = GuardianClient::new(identity, self.guardian_port);
        let name = secret_name(state.volume_uuid, state.shares.generation());
        let mut collector = new_collector(state);
        let (mut machine, mut todo) = State::start();
        loop {
            let mut event = None;
            for action in todo {
                event = match action {
                    Action::Ask => Some(self.ask(&client, &name, &mut collector, machine.attempts).await),
                    Action::OpenVolume => Some(self.open(&mut collector).await),
                    Action::Forget => {
                        collector = new_collector(state);
                        None
                    }
                    Action::Pause(pause) => {
                        tokio::time::sleep(pause).await;
                        Some(Event::PauseOver)
                    }
                    Action::Done => return,
                };
            }
            let Some(event) = event else { return };
            let (next, actions) = machine::step(machine, event);
            if let Some(pause) = actions.iter().find_map(|action| match action {
                Action::Pause(pause) => Some(*pause),
                Action::Ask | Action::OpenVolume | Action::Forget | Action::Done => None,
            }) {
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
    ) -> Event {
        let set = collector.set().clone();
        self.tell(boot::Event::Gathering { needed: set.k(), holders: set.n() });
        round(client, name, collector, |collector| {
            self.facts().set_unlock(collector.status(attempts, None));
        })
        .await;
        if collector.enough() {
            self.console.line(&format!("shares gathered {} of {}", collector.good(), set.n()));
        }
        Event::RoundOver { enough: collector.enough(), jitter: jitter() }
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
        match open_volume(&self.volume, key).await {
            Ok(()) => {
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

fn new_collector(state: &EarlyState) -> Collector {
    Collector::new(state.shares.clone(), state.volume_uuid, state.node_id.clone())
}

/// Asks every holder without a good share, all at once (at most 250, the bound of a share set), and stops at the
/// first moment when there are enough.
async fn round(
    client: &GuardianClient,
    name: &str,
    collector: &mut Collector,
    mut note: impl FnMut(&Collector),
) {
    let open = collector.ask_again();
    note(collector);
    if collector.enough() {
        return;
    }
    let mut asks = ask_all(client, name, collector, &open);
    while let Some((index, answer)) = asks.next().await {
        if let Err(error) = collector.answer(index, answer) {
            tracing::error!("answer of an unknown guardian: {error}");
        }
        note(collector);
        if collector.enough() {
            return;
        }
    }
}

type Answer = (usize, Result<Zeroizing<Vec<u8>>, Refusal>);

/// One request per holder, under way at once.
pub(super) fn ask_all(
    client: &GuardianClient,
    name: &str,
    collector: &Collector,
    holders: &[usize],
) -> FuturesUnordered<impl Future<Output = Answer> + use<>> {
    let set = collector.set().holders();
    let known = holders.iter().filter_map(|index| set.get(*index).map(|holder| (*index, holder.wg_ip)));
    known
        .map(|(index, guardian)| {
            let (client, name) = (client.clone(), name.to_owned());
            async move { (index, client.get(guardian, &name).await) }
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

/// Opens on a blocking thread; the key is gone when this returns.
async fn open_volume(volume: &Arc<dyn DataVolume>, key: VolumeKey) -> Result<(), OpenProblem> {
    let volume = Arc::clone(volume);
    match tokio::task::spawn_blocking(move || volume.open(&key)).await {
        Ok(result) => result.map_err(OpenProblem::Open),
        Err(_) => Err(OpenProblem::Panicked),
    }
}

fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    (f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0) * JITTER
}
