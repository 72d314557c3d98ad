//! The header token around an early state: its exact JSON, and the MAC that is checked once the volume is open.
//! Owns no storage. The format is written down byte for byte in docs/formats.md.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::uuid::{hex, parse_hex};
use crate::{Damage, EarlyState, EarlyStateError};

/// LUKS2 token type of ours.
pub(crate) const TOKEN_TYPE: &str = "orama-node";
/// Version of the token object.
const TOKEN_VERSION: u32 = 1;
/// Longest token in bytes: the JSON area of a 1 MiB metadata area.
pub(crate) const TOKEN_LIMIT_BYTES: usize = (1 << 20) - 4096;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot get random bytes from the kernel")]
pub struct RandomError(#[source] pub(crate) getrandom::Error);

/// The record in the header was not written by the node that owns the volume.
#[derive(Debug, thiserror::Error)]
#[error("the MAC of the early state does not match: the header was edited from outside")]
pub struct MacMismatch;

/// HMAC-SHA256 key that lives inside the volume, in `agent/mac.key`.
pub struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    pub fn generate() -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(RandomError)?;
        Ok(Self(key))
    }

    pub fn from_bytes(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, payload: &[u8]) -> [u8; 32] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        hmac.update(payload);
        hmac.finalize().into_bytes().into()
    }
}

/// The exact payload bytes that a header carried, with their MAC.
pub struct SealedRecord {
    payload: Zeroizing<Vec<u8>>,
    mac: [u8; 32],
}

impl SealedRecord {
    /// Whether the payload was written by somebody who had the key, in constant time.
    pub fn verify(&self, key: &MacKey) -> Result<(), MacMismatch> {
        if bool::from(key.mac(&self.payload).ct_eq(&self.mac)) { Ok(()) } else { Err(MacMismatch) }
    }

    pub(crate) fn seal(state: &EarlyState, key: &MacKey) -> Result<Self, EarlyStateError> {
        let payload = state.encode()?;
        let mac = key.mac(&payload);
        Ok(Self { payload, mac })
    }

    /// The token as it is imported; cryptsetup keeps member order and spacing.
    pub(crate) fn token_json(&self) -> Zeroizing<Vec<u8>> {
        let payload = Zeroizing::new(STANDARD.encode(&*self.payload));
        let mut json = Zeroizing::new(Vec::with_capacity(payload.len() + 256));
        let token = TokenOut {
            kind: TOKEN_TYPE,
            keyslots: [],
            version: TOKEN_VERSION,
            payload: &payload,
            mac: hex(&self.mac),
        };
        serde_json::to_writer(&mut *json, &token).expect("text and numbers always have a JSON form");
        json
    }

    pub(crate) fn from_token_json(json: &[u8]) -> Result<(EarlyState, Self), Damage> {
        if json.len() > TOKEN_LIMIT_BYTES {
            return Err(Damage::TokenTooLong { limit: TOKEN_LIMIT_BYTES });
        }
        let head: TokenHead = serde_json::from_slice(json).map_err(Damage::TokenSyntax)?;
        if head.kind != TOKEN_TYPE {
            let kind: String = head.kind.chars().take(64).collect();
            return Err(Damage::UnexpectedToken { what: format!("a token of type {kind:?}") });
        }
        match head.version {
            Some(version) if version == u64::from(TOKEN_VERSION) => {}
            found => return Err(Damage::TokenVersion { found: found.unwrap_or(0), known: TOKEN_VERSION }),
        }
        let token: TokenIn = serde_json::from_slice(json).map_err(Damage::TokenSyntax)?;
        let payload = Zeroizing::new(STANDARD.decode(token.payload).map_err(Damage::PayloadEncoding)?);
        let mac = parse_hex(token.mac).ok_or(Damage::MacEncoding)?;
        let state = EarlyState::decode(&payload).map_err(Damage::State)?;
        Ok((state, Self { payload, mac }))
    }
}

#[derive(Serialize)]
struct TokenOut<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    keyslots: [&'a str; 0],
    version: u32,
    payload: &'a str,
    mac: String,
}

/// What is read first, so that a newer version is named instead of its unknown members.
#[derive(Deserialize)]
struct TokenHead {
    #[serde(rename = "type")]
    kind: String,
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenIn<'a> {
    #[serde(rename = "type")]
    _kind: &'a str,
    #[serde(rename = "keyslots")]
    _keyslots: [&'a str; 0],
    #[serde(rename = "version")]
    _version: u32,
    /// Borrowed: base64 needs no JSON escapes, and a borrowed text leaves no copy of the private key.
    payload: &'a str,
    mac: &'a str,
}
