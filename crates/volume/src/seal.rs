//! The header tokens around an early state and around what is held for others: their exact JSON, and the MAC that is
//! checked once the volume is open. Owns no storage. The format is written down byte for byte in docs/formats.md.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::uuid::{hex, parse_hex};
use crate::{Damage, EarlyState, EarlyStateError, Held};

/// LUKS2 token type of the record of enrollment.
pub(crate) const TOKEN_TYPE: &str = "orama-node";
/// And of what is held for others.
pub(crate) const HELD_TOKEN_TYPE: &str = "orama-held";
/// Version of the token object.
const TOKEN_VERSION: u32 = 1;
/// Longest token of held shares in bytes: the base64 of its payload, and the object around it.
pub(crate) const HELD_TOKEN_LIMIT_BYTES: usize = crate::HELD_LIMIT_BYTES.div_ceil(3) * 4 + 256;
/// Longest token in bytes: the JSON area of a 1 MiB metadata area.
pub(crate) const TOKEN_LIMIT_BYTES: usize = (1 << 20) - 4096;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot get random bytes from the kernel")]
pub struct RandomError(#[source] pub(crate) getrandom::Error);

/// The record in the header was not written by the node that owns the volume.
#[derive(Debug, thiserror::Error)]
#[error("the MAC of the record does not match: the header was edited from outside")]
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
        state.encode().map(|payload| Self::over(payload, key))
    }

    pub(crate) fn seal_held(held: &Held, key: &MacKey) -> Self {
        Self::over(held.encode(), key)
    }

    fn over(payload: Zeroizing<Vec<u8>>, key: &MacKey) -> Self {
        let mac = key.mac(&payload);
        Self { payload, mac }
    }

    /// The token as it is imported; cryptsetup keeps member order and spacing.
    pub(crate) fn token_json(&self, kind: &str) -> Zeroizing<Vec<u8>> {
        let payload = Zeroizing::new(STANDARD.encode(&*self.payload));
        let mut json = Zeroizing::new(Vec::with_capacity(payload.len() + 256));
        let token =
            TokenOut { kind, keyslots: [], version: TOKEN_VERSION, payload: &payload, mac: hex(&self.mac) };
        serde_json::to_writer(&mut *json, &token).expect("text and numbers always have a JSON form");
        json
    }

    pub(crate) fn from_token_json(json: &[u8]) -> Result<(EarlyState, Self), Damage> {
        let unexpected = |what| Damage::UnexpectedToken { what };
        let sealed = Self::parse(json, TOKEN_TYPE, TOKEN_LIMIT_BYTES, unexpected)?;
        let state = EarlyState::decode(&sealed.payload).map_err(Damage::State)?;
        Ok((state, sealed))
    }

    pub(crate) fn held_from_token_json(json: &[u8]) -> Result<(Held, Self), Damage> {
        let unexpected = |what| Damage::NotHeld { what };
        let sealed = Self::parse(json, HELD_TOKEN_TYPE, HELD_TOKEN_LIMIT_BYTES, unexpected)?;
        let held = Held::decode(&sealed.payload).map_err(Damage::Held)?;
        Ok((held, sealed))
    }

    fn parse(
        json: &[u8],
        kind: &str,
        limit: usize,
        unexpected: impl Fn(String) -> Damage,
    ) -> Result<Self, Damage> {
        if json.len() > limit {
            return Err(Damage::TokenTooLong { limit });
        }
        let head: TokenHead = serde_json::from_slice(json).map_err(Damage::TokenSyntax)?;
        if head.kind != kind {
            let found: String = head.kind.chars().take(64).collect();
            return Err(unexpected(format!("a token of type {found:?}")));
        }
        match head.version {
            Some(version) if version == u64::from(TOKEN_VERSION) => {}
            found => return Err(Damage::TokenVersion { found: found.unwrap_or(0), known: TOKEN_VERSION }),
        }
        let token: TokenIn = serde_json::from_slice(json).map_err(Damage::TokenSyntax)?;
        let payload = Zeroizing::new(STANDARD.decode(token.payload).map_err(Damage::PayloadEncoding)?);
        let mac = parse_hex(token.mac).ok_or(Damage::MacEncoding)?;
        Ok(Self { payload, mac })
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

#[cfg(test)]
mod tests {
    use orama_keyshare::lifecycle::Custody;
    use orama_keyshare::{Digest, Holder, ShareSet, Threshold};
    use proptest::prelude::*;

    use super::*;
    use crate::{PeerState, PrivateKeyText, WireguardState};

    /// The example of docs/formats.md.
    fn example() -> EarlyState {
        let holder = |x: u8| Holder {
            node_id: format!("node-10.0.0.{x}"),
            wg_ip: [10, 0, 0, x].into(),
            x,
            digest: Digest([x; 32]),
        };
        let peer = |last: u8| PeerState {
            public_key: STANDARD.encode([last; 32]),
            endpoint: (last == 1).then(|| "203.0.113.1:51820".to_owned()),
            allowed_ips: vec![format!("10.0.0.{last}/32")],
            keepalive_seconds: 25,
            node_id: Some(format!("node-10.0.0.{last}")),
            guardian: true,
            leaving: false,
        };
        EarlyState {
            volume_uuid: crate::uuid::version_4([0x11; 16]),
            node_id: "node-10.0.0.9".into(),
            wireguard: WireguardState {
                private_key: PrivateKeyText::new(Zeroizing::new(STANDARD.encode([0x77; 32]))).ok().unwrap(),
                address: "10.0.0.9/24".into(),
                listen_port: 51820,
                peers: [1, 2, 3].map(peer).into(),
            },
            gateway_url: "https://gateway.example.org".into(),
            agent_token_sha256: [0xaa; 32],
            peers_revision: 7,
            custody: Custody::shared(
                ShareSet::new(1, Threshold::for_guardians(3).unwrap(), [1, 2, 3].map(holder).into()).unwrap(),
            ),
            sealed_key: None,
        }
    }

    fn example_key() -> MacKey {
        MacKey::from_bytes(Zeroizing::new([0x42; 32]))
    }

    /// Others read headers by that document, so it shows what this code writes, byte for byte.
    #[test]
    fn the_documented_example_is_what_is_written() {
        let sealed = SealedRecord::seal(&example(), &example_key()).unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
        let document = std::fs::read_to_string(path).unwrap();
        for expect in [&*sealed.payload, &*sealed.token_json(TOKEN_TYPE)] {
            let expect = std::str::from_utf8(expect).unwrap();
            assert!(
                document.lines().any(|line| line == expect),
                "docs/formats.md lacks this line:\n{expect}"
            );
        }
    }

    #[test]
    fn the_mac_is_hmac_sha256() {
        // RFC 4231, test case 1, whose key is padded to 32 bytes with zeros: HMAC pads keys the same way.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mac = MacKey::from_bytes(Zeroizing::new(key)).mac(b"Hi There");
        assert_eq!(hex(&mac), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    fn decode(json: &str) -> Result<EarlyState, Damage> {
        SealedRecord::from_token_json(json.as_bytes()).map(|(state, _)| state)
    }

    /// A token around this payload.
    fn wrap(payload: &str) -> String {
        let payload = STANDARD.encode(payload);
        format!(
            r#"{{"type":"orama-node","keyslots":[],"version":1,"payload":"{payload}","mac":"{}"}}"#,
            "0".repeat(64)
        )
    }

    #[test]
    fn every_bound_is_held_and_named() {
        let good = String::from_utf8(example().encode().unwrap().to_vec()).unwrap();
        decode(&wrap(&good)).unwrap();
        let check = |from: &str, to: &str, expect: &str| {
            let edited = good.replacen(from, to, 1);
            assert_ne!(edited, good, "{from} is not in the payload");
            let Err(Damage::State(error)) = decode(&wrap(&edited)) else { panic!("{to} was taken") };
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let said = format!("{error}: {cause}");
            assert!(said.contains(expect), "{said}");
        };
        check("\"version\":2", "\"version\":3", "version 3");
        check("11111111-", "1111111-", "volume_uuid");
        check("node-10.0.0.9", "node 9", "node_id");
        check("\"10.0.0.9/24\"", "\"\"", "wireguard.address is 0 bytes");
        check("51820", "0", "listen_port");
        check("203.0.113.1:51820", &"x".repeat(260), "peers[0].endpoint is 260 bytes");
        check("https://gateway.example.org", &"x".repeat(513), "gateway_url is 513 bytes");
        check(&"aa".repeat(32), "AA", "agent_token_sha256");
        check(&STANDARD.encode([0x77; 32]), "dGVzdA==", "private_key");
        check(&STANDARD.encode([1; 32]), "dGVzdA==", "peers[0].public_key");
        check("\"generation\":1", "\"generation\":0", "generation 0");
        check("\"k\":3", "\"k\":2", "threshold is nonsense");
        check("\"begun\":1", "\"begun\":0", "generation 1 is kept");
        check("\"sealed_key\":null", "\"sealed_key\":\"ab\"", "sealed_key is there although");
        check(",\"sealed_key\":null", "", "missing field `sealed_key`");
        check("\"node-10.0.0.1\"", "\"node 1\"", "peers[0].node_id");
        check("\"node-10.0.0.1\"", "null", "peers[0] has no node_id");
        check("\"gateway_url\"", "\"gateway_uri\"", "unknown field `gateway_uri`");
        check("\"keepalive_seconds\":25", "\"keepalive_seconds\":25,\"x\":1", "unknown field `x`");
    }

    /// As the agent wrote it until it knew of custody.
    const VERSION_1: &str = include_str!("../tests/early_state_1.json");

    #[test]
    fn version_1_is_read_and_written_as_the_current_one() {
        let state = decode(&wrap(VERSION_1.trim_end())).unwrap();
        let expect = EarlyState { peers_revision: 0, ..example() };
        assert_eq!(state.encode().unwrap(), expect.encode().unwrap());
        let shared = VERSION_1.replacen("[\"10.0.0.2/32\"]", "[\"10.0.0.2/32\",\"10.0.0.3/32\"]", 1);
        let state = decode(&wrap(shared.trim_end())).unwrap();
        let named: Vec<_> = state.wireguard.peers.iter().map(|peer| peer.node_id.as_deref()).collect();
        assert_eq!(named, [Some("node-10.0.0.1"), None, Some("node-10.0.0.3")]);
        assert!(!state.wireguard.peers[1].guardian);
    }

    #[test]
    fn a_key_that_the_wallet_keeps() {
        let mut state =
            EarlyState { custody: Custody::wallet(), sealed_key: Some("04ab".into()), ..example() };
        let text = String::from_utf8(state.encode().unwrap().to_vec()).unwrap();
        let read = decode(&wrap(&text)).unwrap();
        assert_eq!((read.sealed_key.as_deref(), read.custody.generation()), (Some("04ab"), 0));
        for (wrong, expect) in
            [(None, "missing"), (Some("a b".to_owned()), "printable"), (Some("a".repeat(1025)), "1025 bytes")]
        {
            state.sealed_key = wrong;
            let error = state.encode().err().unwrap().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn a_secret_does_not_show_up_in_errors() {
        let good = String::from_utf8(example().encode().unwrap().to_vec()).unwrap();
        let secret = STANDARD.encode([0x77; 32]);
        let edited = good.replacen(&secret, &format!("{secret}x"), 1);
        let error = decode(&wrap(&edited)).err().unwrap();
        assert!(!format!("{error:?}").contains(&secret));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SealedRecord::from_token_json(&bytes).is_err());
        }

        /// One changed byte is a refusal, a mismatch, or (white space of the outer JSON) the same record.
        #[test]
        fn a_changed_byte_never_passes_for_the_record(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let sealed = SealedRecord::seal(&example(), &example_key()).unwrap();
            let mut json = sealed.token_json(TOKEN_TYPE).to_vec();
            let at = at.index(json.len());
            prop_assume!(json[at] != byte);
            json[at] = byte;
            if let Ok((_, read)) = SealedRecord::from_token_json(&json) {
                let same = *read.payload == *sealed.payload && read.mac == sealed.mac;
                prop_assert!(same || read.verify(&example_key()).is_err());
            }
        }
    }
}
