//! The values in statements. Each has exactly one text, without spaces or newlines, and reads no other.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{PublicKey, hex};

/// Why a value cannot stand in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("a node id is 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    NodeId,
    #[error("a WireGuard key is the base64 of 32 bytes, 44 characters")]
    WireguardKey,
    #[error("a one-time key is 32 to 65 bytes in lowercase hex")]
    OneTimeKey,
    #[error("a volume's UUID is written in lowercase hex with dashes")]
    VolumeId,
    #[error("a time is written as 2026-01-31T23:59:59Z: UTC, whole seconds, from 1970 to 9999")]
    UtcSeconds,
    #[error("expected 64 lowercase hex digits")]
    Bytes32,
}

/// 1 to 64 characters of `[A-Za-z0-9._-]`, as everywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeId(String);

impl NodeId {
    /// Bytes.
    const LIMIT: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let sound = (1..=Self::LIMIT).contains(&text.len()) && text.bytes().all(plain);
        if sound { Ok(Self(text.to_owned())) } else { Err(ValueError::NodeId) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public key of a node's WireGuard interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireguardKey([u8; 32]);

impl WireguardKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for WireguardKey {
    type Err = ValueError;

    /// Padded base64 whose unused bits are zero: the engine refuses every other spelling.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() != 44 {
            return Err(ValueError::WireguardKey);
        }
        let bytes = STANDARD.decode(text).map_err(|_| ValueError::WireguardKey)?;
        bytes.try_into().map(Self).map_err(|_| ValueError::WireguardKey)
    }
}

impl fmt::Display for WireguardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// The public key that a node shows for one enrollment: 32 bytes (X25519), or 33 or 65 (secp256k1). Opaque here:
/// what kind of key it is, and that it is one, is the business of who uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeKey(Vec<u8>);

impl OneTimeKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ValueError> {
        if (32..=65).contains(&bytes.len()) { Ok(Self(bytes.to_vec())) } else { Err(ValueError::OneTimeKey) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PublicKey> for OneTimeKey {
    fn from(key: PublicKey) -> Self {
        Self(key.to_bytes().to_vec())
    }
}

impl FromStr for OneTimeKey {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::from_bytes(&hex_bytes(text).ok_or(ValueError::OneTimeKey)?)
    }
}

impl fmt::Display for OneTimeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex_text(&self.0))
    }
}

/// The UUID of a LUKS2 volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeId([u8; 16]);

impl VolumeId {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for VolumeId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits: String = text.chars().take(36).filter(|character| *character != '-').collect();
        let id = hex::decode_array(&digits).map(Self).ok_or(ValueError::VolumeId)?;
        // Only the one spelling, with every dash in its place, comes out again.
        if id.to_string() == text { Ok(id) } else { Err(ValueError::VolumeId) }
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = hex_text(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// A moment from 1970 on, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcSeconds(u64);

impl UtcSeconds {
    /// None beyond the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Option<Self> {
        Self::timestamp(seconds).map(|_| Self(seconds))
    }

    pub const fn unix_seconds(self) -> u64 {
        self.0
    }

    fn timestamp(seconds: u64) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
    }
}

impl FromStr for UtcSeconds {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // The length first: the parser behind it takes more forms than one.
        let parsed = if text.len() == 20 { text.parse::<jiff::Timestamp>().ok() } else { None };
        let seconds = parsed.and_then(|timestamp| u64::try_from(timestamp.as_second()).ok());
        let time = seconds.and_then(Self::from_unix_seconds).ok_or(ValueError::UtcSeconds)?;
        if time.to_string() == text { Ok(time) } else { Err(ValueError::UtcSeconds) }
    }
}

impl fmt::Display for UtcSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every value was checked when it was made.
        let timestamp = Self::timestamp(self.0).ok_or(fmt::Error)?;
        write!(f, "{timestamp}")
    }
}

pub(super) fn hex_text(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Lowercase digits only, so that every value has one text.
pub(super) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { None } else { hex::decode(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: FromStr<Err = ValueError>>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_text_each() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        assert_eq!(key.parse::<WireguardKey>().unwrap(), WireguardKey([1; 32]));
        // No padding, unused bits set, the URL alphabet, another length.
        refused::<WireguardKey>(&[&key[..43], &key.replace("E=", "F="), &key.replace('A', "_"), "", "AQE="]);

        let id = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(id.parse::<VolumeId>().unwrap().to_string(), id);
        let (bare, upper, braces) = (id.replace('-', ""), id.to_uppercase(), format!("{{{id}}}"));
        let (moved, longer) = (id.replace("33-44", "3-344"), format!("{id}0"));
        refused::<VolumeId>(&[&bare, &upper, &braces, &moved, &longer, "", "é"]);

        let hex = "0a".repeat(32);
        assert_eq!(hex.parse::<OneTimeKey>().unwrap().as_bytes(), [10; 32]);
        refused::<OneTimeKey>(&[
            &hex.to_uppercase(),
            &hex[2..],
            &hex[1..],
            &"00".repeat(66),
            &format!("0x{hex}"),
        ]);

        assert_eq!("node-10.0.0.4".parse::<NodeId>().unwrap().as_str(), "node-10.0.0.4");
        refused::<NodeId>(&["", "a b", "a\n", "a\nb", "a/b", "nöde", &"x".repeat(65)]);
    }

    #[test]
    fn times_are_whole_seconds_of_utc() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-12-01T12:00:00Z", 1_796_126_400),
            ("2028-02-29T23:59:59Z", 1_835_481_599),
        ] {
            let time: UtcSeconds = text.parse().unwrap();
            assert_eq!((time.unix_seconds(), time.to_string()), (seconds, text.to_owned()));
        }
        refused::<UtcSeconds>(&[
            "2026-12-01 12:00:00Z",
            "2026-12-01T12:00:00z",
            "2026-12-01T12:00:00",
            "2026-12-01T12:00:60Z",
            "2026-12-01T24:00:00Z",
            "2026-02-29T12:00:00Z",
            "2026-12-01T12:00:00.0Z",
            "2026-12-01T12:00+01:00",
            "1969-12-31T23:59:59Z",
            "20261201T120000.000Z",
            "",
        ]);
        assert_eq!(UtcSeconds::from_unix_seconds(u64::MAX), None);
        assert_eq!(UtcSeconds::from_unix_seconds(253_402_300_800), None);
    }
}
