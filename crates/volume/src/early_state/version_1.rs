//! Reads the payload of version 1, which knew only keys that were split at enrollment. It is written as the current
//! version at the next change of the record.

use orama_keyshare::ShareSet;
use orama_keyshare::lifecycle::Custody;
use serde::Deserialize;

use super::{EarlyState, EarlyStateError, PeerState, PrivateKeyText, SecretField, WireguardState};
use crate::uuid::{parse_hex, parse_uuid};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(rename = "version")]
    _version: u32,
    volume_uuid: String,
    node_id: String,
    wireguard: Wireguard,
    gateway_url: String,
    agent_token_sha256: String,
    shares: ShareSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wireguard {
    private_key: SecretField,
    address: String,
    listen_port: u16,
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    public_key: String,
    endpoint: Option<String>,
    allowed_ips: Vec<String>,
    keepalive_seconds: u16,
}

pub(super) fn decode(payload: &[u8]) -> Result<EarlyState, EarlyStateError> {
    let record: Record = serde_json::from_slice(payload).map_err(EarlyStateError::Syntax)?;
    let peers = record.wireguard.peers.into_iter().map(|peer| named(peer, &record.shares));
    Ok(EarlyState {
        volume_uuid: parse_uuid(&record.volume_uuid).ok_or(EarlyStateError::VolumeUuid)?,
        node_id: record.node_id,
        wireguard: WireguardState {
            private_key: PrivateKeyText::new(record.wireguard.private_key.0)?,
            address: record.wireguard.address,
            listen_port: record.wireguard.listen_port,
            peers: peers.collect(),
        },
        gateway_url: record.gateway_url,
        agent_token_sha256: parse_hex(&record.agent_token_sha256).ok_or(EarlyStateError::TokenDigest)?,
        peers_revision: 0,
        custody: Custody::shared(record.shares),
        sealed_key: None,
    })
}

/// A peer with nothing but a holder's address is that holder.
fn named(peer: Peer, shares: &ShareSet) -> PeerState {
    let holder = match peer.allowed_ips.as_slice() {
        [only] => shares.holders().iter().find(|holder| *only == format!("{}/32", holder.wg_ip)),
        _ => None,
    };
    PeerState {
        public_key: peer.public_key,
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips,
        keepalive_seconds: peer.keepalive_seconds,
        node_id: holder.map(|holder| holder.node_id.clone()),
        guardian: holder.is_some(),
        leaving: false,
    }
}
