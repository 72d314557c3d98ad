//! What is known about the node outside of any actor, so that an actor which is made anew after a panic starts
//! from what is true: phase, identity, API token, alarms, running children. Every value has one writer, named at
//! its setter. Holds no secret but the digest of the API token.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use orama_policy::Variables;
use orama_protocol::agent::{HeldStatus, ServiceStatus, UnlockStatus};
use orama_protocol::peers::CustodyStatus;
use tokio::sync::watch;

use crate::boot::machine::Phase;
use crate::refusals::RefusalBook;
use crate::service::Run;
use crate::supervise::lock;

/// Most alarms kept; further ones are dropped, the first are what a person needs.
pub const ALARMS_MAX: usize = 64;

/// A cloneable handle; all clones see the same facts.
#[derive(Clone)]
pub struct Facts(Arc<Inner>);

struct Inner {
    node: watch::Sender<NodeFacts>,
    unlock: Mutex<Option<UnlockStatus>>,
    custody: Mutex<Option<CustodyFact>>,
    held: Mutex<Option<HeldStatus>>,
    enrolled_now: AtomicBool,
    services: Mutex<BTreeMap<String, ServiceStatus>>,
    runs: Mutex<BTreeMap<String, Run>>,
    refusals: RefusalBook,
}

/// What a reader may watch for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub phase: Phase,
    pub reason: String,
    /// The uplink has had an address since power-on.
    pub network_up: bool,
    pub identity: Option<Identity>,
    /// None: the API must not listen.
    pub api_token: Option<ApiToken>,
    /// The volume is mounted and its early state was found genuine.
    pub volume_ready: bool,
    /// Newest last.
    pub alarms: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: String,
    pub wg_ip: Ipv4Addr,
}

/// What a presented bearer token is compared with, in constant time: `sha256(token text) == digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub digest: [u8; 32],
    pub scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The digest comes from the unauthenticated header: status, health and logs, nothing that changes anything.
    ReadOnly,
    /// The token was read from the open volume.
    Full,
}

/// What the custody actor knows; the status counts the seconds when it is read.
#[derive(Clone)]
pub(crate) struct CustodyFact {
    pub status: CustodyStatus,
    pub next_try: Option<Instant>,
    pub peers_revision: u64,
}

impl Default for Facts {
    fn default() -> Self {
        let node = NodeFacts {
            phase: Phase::Starting,
            reason: String::new(),
            network_up: false,
            identity: None,
            api_token: None,
            volume_ready: false,
            alarms: Vec::new(),
        };
        Self(Arc::new(Inner {
            node: watch::Sender::new(node),
            unlock: Mutex::default(),
            custody: Mutex::default(),
            held: Mutex::default(),
            enrolled_now: AtomicBool::new(false),
            services: Mutex::default(),
            runs: Mutex::default(),
            refusals: RefusalBook::default(),
        }))
    }
}

impl Facts {
    /// Follows changes: the API starts to listen when identity and token are there.
    pub fn watch(&self) -> watch::Receiver<NodeFacts> {
        self.0.node.subscribe()
    }

    pub fn node(&self) -> NodeFacts {
        self.0.node.borrow().clone()
    }

    /// Written by the boot actor.
    pub(crate) fn set_phase(&self, phase: Phase, reason: &str) {
        self.0.node.send_modify(|node| {
            node.phase = phase;
            reason.clone_into(&mut node.reason);
        });
    }

    /// Written by whoever brings up the uplink; the agent's composition.
    pub fn set_network_up(&self) {
        self.0.node.send_if_modified(|node| !std::mem::replace(&mut node.network_up, true));
    }

    /// What policies may refer to, once the node has a name.
    pub fn variables(&self) -> Option<Variables> {
        let node = self.0.node.borrow();
        let identity = node.identity.as_ref()?;
        Some(Variables { node_id: identity.node_id.clone(), wg_ip: identity.wg_ip.into() })
    }

    /// Written by the boot actor after the probe, by the unlock actor when provisioning makes the identity.
    pub(crate) fn set_identity(&self, identity: Identity) {
        self.0.node.send_modify(|node| node.identity = Some(identity));
    }

    /// Written by the boot actor from the header, then by the unlock actor from the volume.
    pub fn set_api_token(&self, token: ApiToken) {
        self.0.node.send_modify(|node| node.api_token = Some(token));
    }

    /// Written by the unlock actor: when the mounted volume was checked, and when it is closed.
    pub(crate) fn set_volume_ready(&self, ready: bool) {
        self.0.node.send_modify(|node| node.volume_ready = ready);
    }

    /// Anybody may raise an alarm (the agent does, for refused policies); one that stands is not repeated.
    pub fn raise_alarm(&self, text: &str) {
        self.0.node.send_if_modified(|node| {
            let fresh = node.alarms.len() < ALARMS_MAX && !node.alarms.iter().any(|alarm| alarm == text);
            if fresh {
                tracing::error!("alarm: {text}");
                node.alarms.push(text.to_owned());
            }
            fresh
        });
    }

    /// How the gathering of key shares goes or went.
    pub fn unlock(&self) -> Option<UnlockStatus> {
        lock(&self.0.unlock).clone()
    }

    /// Written by the unlock actor.
    pub(crate) fn set_unlock(&self, status: UnlockStatus) {
        *lock(&self.0.unlock) = Some(status);
    }

    /// Who keeps the volume key, once the record was found genuine, and the revision of the list of peers.
    pub fn custody(&self) -> Option<(CustodyStatus, u64)> {
        let fact = lock(&self.0.custody).clone()?;
        let now = Instant::now();
        let next_try_seconds = fact.next_try.map(|at| at.saturating_duration_since(now).as_secs());
        Some((CustodyStatus { next_try_seconds, ..fact.status }, fact.peers_revision))
    }

    /// Written by the custody actor.
    pub(crate) fn set_custody(&self, fact: Option<CustodyFact>) {
        *lock(&self.0.custody) = fact;
    }

    /// What the node's own guardian keeps; `None` where none has ever asked for it.
    pub fn held(&self) -> Option<HeldStatus> {
        lock(&self.0.held).clone()
    }

    /// Written by [`crate::held::HeldShares`].
    pub(crate) fn set_held(&self, status: HeldStatus) {
        *lock(&self.0.held) = Some(status);
    }

    /// Whether the volume was made since this agent started.
    pub(crate) fn enrolled_now(&self) -> bool {
        self.0.enrolled_now.load(Ordering::Relaxed)
    }

    /// Written by the unlock actor, once.
    pub(crate) fn set_enrolled_now(&self) {
        self.0.enrolled_now.store(true, Ordering::Relaxed);
    }

    /// Every service with its state, refused ones included.
    pub fn services(&self) -> BTreeMap<String, ServiceStatus> {
        let mut services = lock(&self.0.services).clone();
        let runs = lock(&self.0.runs);
        for (name, status) in &mut services {
            let run = runs.get(name).filter(|run| run.step.is_none());
            status.uptime_seconds = run.map(|run| run.since.elapsed().as_secs());
            status.refusals = self.0.refusals.total(name);
        }
        services
    }

    /// Written by each service's actor, and by the services actor for refused ones.
    pub(crate) fn set_service(&self, name: &str, status: ServiceStatus) {
        lock(&self.0.services).insert(name.to_owned(), status);
    }

    /// What services were refused. Written by the sandbox's watcher.
    pub fn refusals(&self) -> &RefusalBook {
        &self.0.refusals
    }

    /// The running child of a service: outlives the actor that watches it.
    pub fn run(&self, service: &str) -> Option<Run> {
        lock(&self.0.runs).get(service).cloned()
    }

    /// Written by the launching thread's caller and by the service's actor when the child was collected.
    pub(crate) fn set_run(&self, service: &str, run: Option<Run>) {
        let mut runs = lock(&self.0.runs);
        match run {
            Some(run) => runs.insert(service.to_owned(), run),
            None => runs.remove(service),
        };
    }
}
