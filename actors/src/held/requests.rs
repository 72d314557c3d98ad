//! The guardian's requests, each answered from what is held or by a change of it. Owns the wire's texts and bounds; when
//! something may be changed is decided in `held.rs`.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::Redacted;
use orama_protocol::guardian::SecretEntry;
use orama_protocol::guardian_store::{StoreRequest, StoreResponse};
use orama_volume::{Held, HeldIdentity, HeldSecret, HoldError};
use zeroize::Zeroizing;

use super::{HeldProblem, HeldShares};
use crate::describe;
use crate::supervise::lock;
use crate::wg::GetWireguard;

impl HeldShares {
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
            let entry = |(name, secret): (&str, &HeldSecret)| SecretEntry {
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
        | HeldProblem::Panicked
        | HeldProblem::NotWritten => {
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
