//! The two names that come from clients and become parts of paths: parsed here, nowhere else, so that a
//! value of these types is safe in a path.

use orama_protocol::guardian::NAME_LIMIT;
use sha2::{Digest as _, Sha256};

/// What the digest of an owner begins with, so that it is no digest of anything else.
const OWNER_CONTEXT: &str = "orama guardian owner v1\n";

/// How the names of shares of disk keys begin.
const DISK_KEY: &str = "luks-";
/// Length of an identity, characters.
pub(crate) const IDENTITY_LENGTH: usize = 64;

/// Whose secrets: 64 lowercase hex characters. Knowing an identity is what opens a session, so it is never
/// printed in full: no Debug, no Display; [`Identity::short`] is for logs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(String);

impl Identity {
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == IDENTITY_LENGTH
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What operators know the owner by: it opens nothing. Lowercase hex.
    pub fn digest(&self) -> String {
        let digest = Sha256::new().chain_update(OWNER_CONTEXT).chain_update(&self.0).finalize();
        crate::auth::hex(&digest)
    }

    /// The first 8 characters: enough to tell nodes apart in a log.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// Name of a secret: 1 to 128 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=NAME_LIMIT).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The volume and the generation, when this is the name of a share of a disk key: `luks-<32 hex>-g<number>`.
    pub fn generation(&self) -> Option<(&str, u64)> {
        let (volume, generation) = self.0.strip_prefix(DISK_KEY)?.split_once("-g")?;
        let plain = generation.len() <= 20 && generation.bytes().all(|byte| byte.is_ascii_digit());
        generation.parse().ok().filter(|_| plain).map(|generation| (volume, generation))
    }

    /// Whether a disk opens with it, so that its release is watched over.
    pub fn is_of_disk_key(&self) -> bool {
        self.0.starts_with(DISK_KEY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        assert!(Identity::parse(&"0a".repeat(32)).is_some());
        for bad in ["", "0a", &"0A".repeat(32), &"0g".repeat(32), &"0".repeat(65), &"é".repeat(32)] {
            assert!(Identity::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn secret_names() {
        for good in ["a", "luks-0011-g1", "_", &"x".repeat(128)] {
            assert!(SecretName::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".", "..", "node-10.0.0.4", "a/b", "a b", "a%2f", "ä", &"x".repeat(129)] {
            assert!(SecretName::parse(bad).is_none(), "{bad}");
        }
    }
}
