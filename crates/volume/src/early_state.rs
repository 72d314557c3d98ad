//! What a node must know before its volume is open, and its exact JSON form with all bounds.
//! Owns the payload of the header token; sealing it with a MAC is `seal`, storing it is `luks`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_keyshare::is_node_id;
use orama_keyshare::lifecycle::Custody;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::uuid::{hex, parse_hex, parse_uuid, uuid_text};

mod version_1;

/// Version of the payload's JSON.
pub(crate) const STATE_VERSION: u32 = 2;
/// Most WireGuard peers, and most of their overlay addresses together: an overlay is a /24 (254 hosts).
pub const MAX_PEERS: usize = 250;
/// Largest payload in bytes: its base64 must fit the 1 MiB metadata area of the header together with the rest of it.
pub(crate) const PAYLOAD_LIMIT_BYTES: usize = 512 * 1024;
/// Longest endpoint in bytes: a DNS name (253) and `:65535`.
const MAX_ENDPOINT_BYTES: usize = 259;
/// Longest address with prefix in bytes, IPv6 in full.
const MAX_ADDRESS_BYTES: usize = 43;
/// Longest gateway URL in bytes.
const MAX_URL_BYTES: usize = 512;
/// Longest sealed key in bytes: ECIES of 64 hex digits is 322 hex digits.
const MAX_SEALED_KEY_BYTES: usize = 1024;

/// The record of enrollment. Holds the WireGuard private key, hence no Debug and no Clone.
pub struct EarlyState {
    /// UUID of the LUKS2 header that this record belongs to.
    pub volume_uuid: [u8; 16],
    /// `node-<wg ip>`.
    pub node_id: String,
    pub wireguard: WireguardState,
    pub gateway_url: String,
    /// SHA-256 of the agent token's 64 hex characters; enough to answer status before the volume is open.
    pub agent_token_sha256: [u8; 32],
    /// Revision of the last list of peers that the gateway sent; 0 before the first.
    pub peers_revision: u64,
    /// Who keeps the volume key.
    pub custody: Custody,
    /// The volume key sealed to the owner's wallet, as text: there exactly while the wallet keeps the key.
    pub sealed_key: Option<String>,
}

pub struct WireguardState {
    pub private_key: PrivateKeyText,
    /// Own overlay address with prefix, `10.0.0.4/24`.
    pub address: String,
    pub listen_port: u16,
    pub peers: Vec<PeerState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerState {
    /// Base64 of 32 bytes.
    pub public_key: String,
    /// `host:port`; `None` for a peer that always calls us.
    pub endpoint: Option<String>,
    /// `10.0.0.5/32`; several when one machine carries several overlay addresses.
    pub allowed_ips: Vec<String>,
    /// 0 = no keepalive.
    pub keepalive_seconds: u16,
    /// A node of the cluster, with one address; `None` for the gateway's and operators' peers, which no list changes.
    pub node_id: Option<String>,
    /// Whether it can keep shares.
    pub guardian: bool,
    /// It leaves the cluster: no new shares go to it.
    pub leaving: bool,
}

/// A WireGuard private key as its base64 text: guardians know a node by the hash of this text.
pub struct PrivateKeyText(Zeroizing<String>);

impl PrivateKeyText {
    /// Takes the text over after checking that it is the canonical base64 of 32 bytes.
    pub fn new(text: Zeroizing<String>) -> Result<Self, EarlyStateError> {
        if is_key_text(&text) { Ok(Self(text)) } else { Err(EarlyStateError::PrivateKey) }
    }

    /// The secret text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Which part of an early state is wrong. Carries no values of secret fields.
#[derive(Debug, thiserror::Error)]
pub enum EarlyStateError {
    #[error("early state is longer than {PAYLOAD_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("early state is not the JSON object it should be")]
    Syntax(#[source] serde_json::Error),
    #[error("early state has version {found}; this agent reads versions 1 and {STATE_VERSION}")]
    Version { found: u64 },
    #[error("volume_uuid is not a lowercase UUID")]
    VolumeUuid,
    #[error("node_id is not 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    NodeId,
    #[error("wireguard.private_key is not the base64 of 32 bytes")]
    PrivateKey,
    #[error("agent_token_sha256 is not 64 lowercase hex digits")]
    TokenDigest,
    #[error("{field} is {found} bytes long, allowed are 1 to {limit}")]
    Length { field: String, found: usize, limit: usize },
    #[error("wireguard.peers[{index}].public_key is not the base64 of 32 bytes")]
    PeerKey { index: usize },
    #[error("{field} has {found} entries, allowed are at most {limit}")]
    Count { field: String, found: usize, limit: usize },
    #[error("wireguard.listen_port is 0")]
    ListenPort,
    #[error("wireguard.peers[{index}].node_id is not 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    PeerNodeId { index: usize },
    #[error("wireguard.peers[{index}] has no node_id and is said to be a guardian or to leave")]
    PeerRole { index: usize },
    #[error("sealed_key is not printable ASCII")]
    SealedKeyText,
    #[error("sealed_key is there although guardians keep the key")]
    SealedKeyLeft,
    #[error("sealed_key is missing although nobody else keeps the key")]
    SealedKeyMissing,
}

impl EarlyState {
    /// The exact bytes that the MAC covers.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EarlyStateError> {
        self.check()?;
        // Room for the largest payload at once: a vector that grows leaves copies of the private key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * PAYLOAD_LIMIT_BYTES));
        let record = RecordOut {
            version: STATE_VERSION,
            volume_uuid: uuid_text(self.volume_uuid),
            node_id: &self.node_id,
            wireguard: WireguardOut {
                private_key: self.wireguard.private_key.expose(),
                address: &self.wireguard.address,
                listen_port: self.wireguard.listen_port,
                peers: &self.wireguard.peers,
            },
            gateway_url: &self.gateway_url,
            agent_token_sha256: hex(&self.agent_token_sha256),
            peers_revision: self.peers_revision,
            custody: &self.custody,
            sealed_key: self.sealed_key.as_deref(),
        };
        serde_json::to_writer(&mut *bytes, &record).map_err(EarlyStateError::Syntax)?;
        if bytes.len() > PAYLOAD_LIMIT_BYTES {
            return Err(EarlyStateError::TooLong);
        }
        Ok(bytes)
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, EarlyStateError> {
        if payload.len() > PAYLOAD_LIMIT_BYTES {
            return Err(EarlyStateError::TooLong);
        }
        let version: VersionOnly = serde_json::from_slice(payload).map_err(EarlyStateError::Syntax)?;
        let state = match version.version {
            1 => version_1::decode(payload)?,
            2 => decode_current(payload)?,
            found => return Err(EarlyStateError::Version { found }),
        };
        state.check()?;
        Ok(state)
    }

    /// The bounds; the same on the way in and on the way out.
    fn check(&self) -> Result<(), EarlyStateError> {
        if !is_node_id(&self.node_id) {
            return Err(EarlyStateError::NodeId);
        }
        length("gateway_url", &self.gateway_url, MAX_URL_BYTES)?;
        length("wireguard.address", &self.wireguard.address, MAX_ADDRESS_BYTES)?;
        if self.wireguard.listen_port == 0 {
            return Err(EarlyStateError::ListenPort);
        }
        self.check_custody()?;
        count("wireguard.peers", self.wireguard.peers.len())?;
        let allowed_ips = self.wireguard.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
        count("wireguard.peers[..].allowed_ips", allowed_ips)?;
        for (index, peer) in self.wireguard.peers.iter().enumerate() {
            if !is_key_text(&peer.public_key) {
                return Err(EarlyStateError::PeerKey { index });
            }
            match &peer.node_id {
                Some(node_id) if !is_node_id(node_id) => return Err(EarlyStateError::PeerNodeId { index }),
                None if peer.guardian || peer.leaving => return Err(EarlyStateError::PeerRole { index }),
                Some(_) | None => {}
            }
            if let Some(endpoint) = &peer.endpoint {
                length(&format!("wireguard.peers[{index}].endpoint"), endpoint, MAX_ENDPOINT_BYTES)?;
            }
            for allowed in &peer.allowed_ips {
                length(&format!("wireguard.peers[{index}].allowed_ips"), allowed, MAX_ADDRESS_BYTES)?;
            }
        }
        Ok(())
    }

    /// Somebody keeps the key, and no copy of it outlives the passing of it.
    fn check_custody(&self) -> Result<(), EarlyStateError> {
        match (&self.sealed_key, self.custody.shares()) {
            (Some(_), Some(_)) => Err(EarlyStateError::SealedKeyLeft),
            (None, None) => Err(EarlyStateError::SealedKeyMissing),
            (None, Some(_)) => Ok(()),
            (Some(sealed), None) => {
                length("sealed_key", sealed, MAX_SEALED_KEY_BYTES)?;
                let printable = sealed.bytes().all(|byte| byte.is_ascii_graphic());
                if printable { Ok(()) } else { Err(EarlyStateError::SealedKeyText) }
            }
        }
    }
}

fn decode_current(payload: &[u8]) -> Result<EarlyState, EarlyStateError> {
    let record: RecordIn = serde_json::from_slice(payload).map_err(EarlyStateError::Syntax)?;
    Ok(EarlyState {
        volume_uuid: parse_uuid(&record.volume_uuid).ok_or(EarlyStateError::VolumeUuid)?,
        node_id: record.node_id,
        wireguard: WireguardState {
            private_key: PrivateKeyText::new(record.wireguard.private_key.0)?,
            address: record.wireguard.address,
            listen_port: record.wireguard.listen_port,
            peers: record.wireguard.peers,
        },
        gateway_url: record.gateway_url,
        agent_token_sha256: parse_hex(&record.agent_token_sha256).ok_or(EarlyStateError::TokenDigest)?,
        peers_revision: record.peers_revision,
        custody: record.custody,
        sealed_key: record.sealed_key,
    })
}

fn length(field: &str, text: &str, limit: usize) -> Result<(), EarlyStateError> {
    if (1..=limit).contains(&text.len()) {
        Ok(())
    } else {
        Err(EarlyStateError::Length { field: field.to_owned(), found: text.len(), limit })
    }
}

fn count(field: &str, found: usize) -> Result<(), EarlyStateError> {
    if found <= MAX_PEERS {
        Ok(())
    } else {
        Err(EarlyStateError::Count { field: field.to_owned(), found, limit: MAX_PEERS })
    }
}

/// Canonical base64 of 32 bytes: 43 digits and one `=`.
fn is_key_text(text: &str) -> bool {
    // 33 bytes: the decoder's estimate for 44 characters, of which one is padding.
    let mut key = Zeroizing::new([0u8; 33]);
    text.len() == 44 && matches!(STANDARD.decode_slice(text, &mut *key), Ok(32))
}

#[derive(Serialize)]
struct RecordOut<'a> {
    version: u32,
    volume_uuid: String,
    node_id: &'a str,
    wireguard: WireguardOut<'a>,
    gateway_url: &'a str,
    agent_token_sha256: String,
    peers_revision: u64,
    custody: &'a Custody,
    sealed_key: Option<&'a str>,
}

#[derive(Serialize)]
struct WireguardOut<'a> {
    private_key: &'a str,
    address: &'a str,
    listen_port: u16,
    peers: &'a [PeerState],
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordIn {
    #[serde(rename = "version")]
    _version: u32,
    volume_uuid: String,
    node_id: String,
    wireguard: WireguardIn,
    gateway_url: String,
    agent_token_sha256: String,
    peers_revision: u64,
    custody: Custody,
    /// Missing is an error, null is not.
    #[serde(deserialize_with = "Option::deserialize")]
    sealed_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireguardIn {
    private_key: SecretField,
    address: String,
    listen_port: u16,
    peers: Vec<PeerState>,
}

/// A JSON string that is wiped when parsing of the rest fails.
struct SecretField(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}
