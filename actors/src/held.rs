//! What the node's guardian keeps for others, on the agent's side: given out from the header before the volume is open,
//! changed through the header's one writer once it is. Owns what is in memory of it and what may be done when; the socket
//! that the guardian asks at is `held/socket.rs`.
//!
//! What is kept is replaced in memory when the header has it, and whoever reads never waits for a write.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::Redacted;
use orama_protocol::agent::HeldStatus;
use orama_protocol::guardian::SecretEntry;
use orama_protocol::guardian_store::{StoreRequest, StoreResponse};
use orama_volume::vault::{Vault, VaultError};
use orama_volume::{
    DataVolume, Held, HeldIdentity, HoldError, MacKey, MacMismatch, ProbeError, WriteStateError,
};
use zeroize::Zeroizing;

use crate::custody::{Record, RecordProblem};
use crate::describe;
use crate::ports::Console;
use crate::registry::Registry;
use crate::supervise::lock;
use crate::wg::GetWireguard;

pub mod socket;

/// Why nothing can be changed before the volume is open.
const LOCKED: &str = "the volume of this node is not open yet: its guardian gives the shares that it has, and takes and \
                      deletes none; try again when the node is running";
/// Pause before what failed when the volume was opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A handle; all clones see the same.
#[derive(Clone)]
pub struct HeldShares(Arc<Inner>);

struct Inner {
    volume: Arc<dyn DataVolume>,
    record: Record,
    registry: Registry,
    console: Arc<dyn Console>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// `None`: what the header has is not known.
    kept: Option<Kept>,
    /// Counts what became known, so that a slow reader does not put something old into its place.
    epoch: u64,
    /// The guardian has said hello since this agent started.
    greeted: bool,
}

#[derive(Clone)]
struct Kept {
    /// `None`: the header holds nothing.
    held: Option<Arc<Held>>,
    /// Its MAC was found right.
    genuine: bool,
}

#[derive(Debug, thiserror::Error)]
enum HeldProblem {
    #[error("{LOCKED}")]
    Locked,
    #[error(transparent)]
    Hold(HoldError),
    #[error("reading what the header holds")]
    Read(#[source] ProbeError),
    #[error("{0}")]
    Edited(#[source] MacMismatch),
    #[error("writing the header")]
    Write(#[source] WriteStateError),
    #[error("the header's record")]
    Record(#[source] RecordProblem),
    #[error("reading the agent's files in the volume")]
    Files(#[source] VaultError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

impl HeldShares {
    pub fn new(
        volume: Arc<dyn DataVolume>,
        record: Record,
        registry: Registry,
        console: Arc<dyn Console>,
    ) -> Self {
        Self(Arc::new(Inner { volume, record, registry, console, memory: Mutex::default() }))
    }

    /// Follows the volume for as long as the agent lives: what was read before it was open is not believed after, and the
    /// operators' digest is made from its token.
    pub async fn follow_volume(self) {
        let mut facts = self.0.registry.facts.watch();
        loop {
            if facts.wait_for(|node| node.volume_ready).await.is_err() {
                return;
            }
            self.keep(None);
            while let Err(error) = self.know_operators().await {
                if !self.is_open() {
                    break;
                }
                tracing::error!("what is held for others: {}", describe(&error));
                tokio::time::sleep(AGAIN).await;
            }
            self.publish();
            if facts.wait_for(|node| !node.volume_ready).await.is_err() {
                return;
            }
            self.publish();
        }
    }

    /// Answers one request of the guardian.
    pub async fn answer(&self, request: StoreRequest) -> StoreResponse {
        let answer = match request {
            StoreRequest::Hello {} => self.hello().await,
            StoreRequest::Get { identity, name } => match parse_identity(&identity) {
                Some(identity) => self.get(identity, name).await,
                None => Ok(bad("identity")),
            },
            StoreRequest::List { identity } => match parse_identity(&identity) {
                Some(identity) => self.list(identity).await,
                None => Ok(bad("identity")),
            },
            StoreRequest::Put { identity, name, version, share, now_ns } => {
                match (parse_identity(&identity), decoded(&share)) {
                    (Some(identity), Some(share)) => {
                        let put = move |held: &mut Held| {
                            held.put(&identity, &name, version, share, now_ns).map(|()| true)
                        };
                        self.change(put).await.map(|_| StoreResponse::Done {})
                    }
                    (None, _) => Ok(bad("identity")),
                    (Some(_), None) => Ok(bad("share")),
                }
            }
            StoreRequest::Delete { identity, name } => match parse_identity(&identity) {
                Some(identity) => {
                    let deleted = self.change(move |held| Ok(held.delete(&identity, &name))).await;
                    deleted.map(|was| if was { StoreResponse::Done {} } else { StoreResponse::NoSecret {} })
                }
                None => Ok(bad("identity")),
            },
            StoreRequest::Forget { identity } => match parse_identity(&identity) {
                Some(identity) => {
                    self.change(move |held| Ok(held.forget(&identity))).await.map(|_| StoreResponse::Done {})
                }
                None => Ok(bad("identity")),
            },
            StoreRequest::Facts {} => {
                let facts = |held: Option<&Held>| encoded(held.map_or(&[][..], Held::facts));
                self.read(facts).await.map(|facts| StoreResponse::Facts { facts })
            }
            StoreRequest::SetFacts { facts } => match decoded(&facts) {
                Some(facts) => {
                    let set = move |held: &mut Held| match *held.facts() == **facts {
                        true => Ok(false),
                        false => held.set_facts(facts).map(|()| true),
                    };
                    self.change(set).await.map(|_| StoreResponse::Done {})
                }
                None => Ok(bad("facts")),
            },
            StoreRequest::Endpoint { wg_ip } => {
                Ok(StoreResponse::Endpoint { endpoint: self.endpoint(wg_ip).await })
            }
        };
        answer.unwrap_or_else(refused)
    }

    async fn hello(&self) -> Result<StoreResponse, HeldProblem> {
        let operator =
            self.read(|held| held.and_then(Held::operator_sha256).map(|digest| hex(digest))).await?;
        let first = !std::mem::replace(&mut lock(&self.0.memory).greeted, true);
        self.publish();
        if let (true, false, Some(status)) = (first, self.is_open(), self.0.registry.facts.held()) {
            self.0.console.line(&format!(
                "guardian serves {} secrets of {} nodes before the volume is open",
                status.secrets, status.owners
            ));
        }
        Ok(StoreResponse::Hello { operator_sha256: operator, writable: self.is_open() })
    }

    async fn get(&self, identity: HeldIdentity, name: String) -> Result<StoreResponse, HeldProblem> {
        self.read(|held| match held.and_then(|held| held.secret(&identity, &name)) {
            Some(secret) => StoreResponse::Secret {
                share: encoded(&secret.share),
                version: secret.version,
                created_ns: secret.created_ns,
                updated_ns: secret.updated_ns,
            },
            None => StoreResponse::NoSecret {},
        })
        .await
    }

    async fn list(&self, identity: HeldIdentity) -> Result<StoreResponse, HeldProblem> {
        self.read(|held| {
            let secrets = held.into_iter().flat_map(|held| held.secrets_of(&identity));
            let entry = |(name, secret): (&str, &orama_volume::HeldSecret)| SecretEntry {
                name: name.to_owned(),
                version: secret.version,
                size: secret.share.len() as u64,
                created_ns: secret.created_ns.into(),
                updated_ns: secret.updated_ns.into(),
            };
            StoreResponse::Secrets { secrets: secrets.map(entry).collect() }
        })
        .await
    }

    async fn endpoint(&self, wg_ip: Ipv4Addr) -> Option<SocketAddr> {
        let status = self.0.registry.wg.ask(GetWireguard).await.ok()?.ok()?;
        let address = format!("{wg_ip}/32");
        let peer = status.peers.into_iter().find(|peer| peer.allowed_ips.contains(&address))?;
        peer.endpoint?.parse().ok()
    }

    fn is_open(&self) -> bool {
        self.0.registry.facts.node().volume_ready
    }

    /// What is held, from memory if it is known.
    async fn read<T>(&self, look: impl FnOnce(Option<&Held>) -> T) -> Result<T, HeldProblem> {
        let (kept, epoch) = {
            let memory = lock(&self.0.memory);
            (memory.kept.clone(), memory.epoch)
        };
        if let Some(kept) = kept {
            return Ok(look(kept.held.as_deref()));
        }
        let volume = Arc::clone(&self.0.volume);
        let read = tokio::task::spawn_blocking(move || volume.read_held()).await;
        let read = read.map_err(|_| HeldProblem::Panicked)?.map_err(HeldProblem::Read)?;
        let held = read.map(|(held, _)| Arc::new(held));
        let seen = look(held.as_deref());
        let mut memory = lock(&self.0.memory);
        if memory.epoch == epoch {
            memory.kept = Some(Kept { held, genuine: false });
        }
        Ok(seen)
    }

    /// Changes what is held, if `edit` says that there is something to write; on the disk when it returns.
    async fn change(
        &self,
        edit: impl FnOnce(&mut Held) -> Result<bool, HoldError> + Send + 'static,
    ) -> Result<bool, HeldProblem> {
        if !self.is_open() {
            return Err(HeldProblem::Locked);
        }
        let this = self.clone();
        let changed = self.0.record.with_key(move |volume, uuid, mac_key| {
            let mut held = match this.genuine(volume, mac_key)? {
                Some(held) => held.duplicate(),
                None => Held::empty(uuid),
            };
            if !edit(&mut held).map_err(HeldProblem::Hold)? {
                return Ok(false);
            }
            let written = volume.write_held(&held, mac_key).map_err(HeldProblem::Write);
            // After a failure only the disk knows what it has.
            let kept = written.is_ok().then(|| Kept { held: Some(Arc::new(held)), genuine: true });
            this.keep(kept);
            written.map(|()| true)
        });
        let changed = changed.await.map_err(HeldProblem::Record)??;
        self.publish();
        Ok(changed)
    }

    /// What is held, its MAC checked. Called by the header's one writer only.
    fn genuine(&self, volume: &dyn DataVolume, mac_key: &MacKey) -> Result<Option<Arc<Held>>, HeldProblem> {
        if let Some(kept) = lock(&self.0.memory).kept.as_ref().filter(|kept| kept.genuine) {
            return Ok(kept.held.clone());
        }
        let held = match volume.read_held().map_err(HeldProblem::Read)? {
            Some((held, sealed)) => {
                sealed.verify(mac_key).map_err(HeldProblem::Edited)?;
                Some(Arc::new(held))
            }
            None => None,
        };
        self.keep(Some(Kept { held: held.clone(), genuine: true }));
        Ok(held)
    }

    fn keep(&self, kept: Option<Kept>) {
        let mut memory = lock(&self.0.memory);
        memory.kept = kept;
        memory.epoch += 1;
    }

    /// The token that operators present is made from the agent's own; its digest must be known at the next boot too.
    async fn know_operators(&self) -> Result<(), HeldProblem> {
        let volume = Arc::clone(&self.0.volume);
        let digest = tokio::task::spawn_blocking(move || {
            Vault::at(volume.root()).agent_token().map(|token| token.operator_sha256())
        });
        let digest = digest.await.map_err(|_| HeldProblem::Panicked)?.map_err(HeldProblem::Files)?;
        self.change(move |held| {
            let known = held.operator_sha256() == Some(&digest);
            held.set_operator_sha256(digest);
            Ok(!known)
        })
        .await?;
        Ok(())
    }

    /// For status: only where there is a guardian.
    fn publish(&self) {
        let memory = lock(&self.0.memory);
        let (Some(kept), true) = (&memory.kept, memory.greeted) else { return };
        let (secrets, owners) = kept.held.as_ref().map_or((0, 0), |held| held.count());
        self.0.registry.facts.set_held(HeldStatus {
            secrets: secrets as u64,
            owners: owners as u64,
            writable: self.is_open(),
        });
    }
}

fn bad(field: &str) -> StoreResponse {
    StoreResponse::Error { error: format!("{field} is malformed") }
}

fn refused(problem: HeldProblem) -> StoreResponse {
    let why = problem.to_string();
    match problem {
        HeldProblem::Locked => StoreResponse::Locked { why },
        HeldProblem::Hold(HoldError::Version { stored, .. }) => StoreResponse::Version { stored },
        HeldProblem::Hold(HoldError::TooMany | HoldError::Full { .. } | HoldError::Facts { .. }) => {
            StoreResponse::Full { why }
        }
        HeldProblem::Hold(HoldError::Name | HoldError::Empty) => StoreResponse::Error { error: why },
        HeldProblem::Read(_)
        | HeldProblem::Edited(_)
        | HeldProblem::Write(_)
        | HeldProblem::Record(_)
        | HeldProblem::Files(_)
        | HeldProblem::Panicked => {
            tracing::error!("what is held for others: {}", describe(&problem));
            StoreResponse::Error { error: why }
        }
    }
}

fn parse_identity(text: &str) -> Option<HeldIdentity> {
    let mut identity = [0; 32];
    let lowercase = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 64 || !lowercase {
        return None;
    }
    for (byte, pair) in identity.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(identity)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(bytes: &[u8]) -> Redacted {
    Redacted::new(STANDARD.encode(bytes))
}

fn decoded(text: &Redacted) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text.expose()).map(Zeroizing::new).ok()
}
