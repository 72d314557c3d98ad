//! What a node's guardian keeps for others: shares by identity and name, a note of its own, and the digest of the
//! operators' token. Lives in a header token of its own, so that it can be given out before the volume is open. Owns the
//! bounds and the exact bytes (docs/formats.md); knows nothing of what a share is.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Begins the payload: the early state, which has the same MAC key, begins with a brace.
const MAGIC: &[u8; 10] = b"orama-held";
/// Version of the payload.
const HELD_VERSION: u8 = 1;
/// Largest payload, bytes: its base64 fits the 1 MiB metadata area beside the largest early state.
pub const HELD_LIMIT_BYTES: usize = 192 * 1024;
/// Of it, for the guardian's own note, bytes.
pub const HELD_FACTS_LIMIT_BYTES: usize = 64 * 1024;
/// Magic, version, UUID, operators' digest and two lengths, bytes.
const FIXED_BYTES: usize = 10 + 1 + 16 + 33 + 4 + 4;
/// And for secrets, bytes: two shares of every one of 250 nodes.
pub const HELD_SECRETS_LIMIT_BYTES: usize = HELD_LIMIT_BYTES - HELD_FACTS_LIMIT_BYTES - FIXED_BYTES;
/// Identity, length of the name, three numbers and the length of the share, bytes.
const SECRET_FIXED_BYTES: usize = 32 + 1 + 3 * 8 + 4;
/// Longest name, bytes.
const NAME_LIMIT_BYTES: usize = 128;
/// Most secrets of one identity.
const SECRETS_PER_IDENTITY: usize = 1000;

/// Whose secrets: what a session at the guardian is opened with. No Debug: knowing it is what opens one.
pub type HeldIdentity = [u8; 32];

/// Everything that is kept. No Clone and no Debug: shares.
pub struct Held {
    volume_uuid: [u8; 16],
    operator_sha256: Option<[u8; 32]>,
    facts: Zeroizing<Vec<u8>>,
    secrets: BTreeMap<(HeldIdentity, String), HeldSecret>,
    /// Of the secrets in the payload.
    secrets_bytes: usize,
}

pub struct HeldSecret {
    pub version: u64,
    /// Nanoseconds since the epoch.
    pub created_ns: u64,
    pub updated_ns: u64,
    pub share: Zeroizing<Vec<u8>>,
}

/// Why something is not kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    #[error("the name is not 1 to 128 characters of A-Z a-z 0-9 _ -")]
    Name,
    #[error("version {offered} is not greater than the stored version {stored}")]
    Version { offered: u64, stored: u64 },
    #[error("this identity already holds {SECRETS_PER_IDENTITY} secrets")]
    TooMany,
    #[error("the share is empty")]
    Empty,
    #[error(
        "this node's guardian keeps its secrets in {HELD_SECRETS_LIMIT_BYTES} bytes of the disk's header, of which \
         {used} are taken; this one needs {needed} more"
    )]
    Full { used: usize, needed: usize },
    #[error("the note has {found} bytes, at most {HELD_FACTS_LIMIT_BYTES} are kept")]
    Facts { found: usize },
}

/// What is wrong with a payload. Carries nothing of what is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeldError {
    #[error("the record of held shares is longer than {HELD_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("it is no record of held shares")]
    Magic,
    #[error("the record of held shares has version {0}; this agent reads version {HELD_VERSION}")]
    Version(u8),
    #[error("the record of held shares ends early or goes on after its end")]
    Length,
    #[error("secret {0} of the record is malformed, or not in its order")]
    Secret(usize),
    #[error("a field of the record of held shares is out of its bounds")]
    Bounds,
}

impl Held {
    /// Nothing kept yet.
    pub fn empty(volume_uuid: [u8; 16]) -> Self {
        Self {
            volume_uuid,
            operator_sha256: None,
            facts: Zeroizing::new(Vec::new()),
            secrets: BTreeMap::new(),
            secrets_bytes: 0,
        }
    }

    /// Of the header that it belongs to.
    pub fn volume_uuid(&self) -> [u8; 16] {
        self.volume_uuid
    }

    /// SHA-256 of the text that operators present.
    pub fn operator_sha256(&self) -> Option<&[u8; 32]> {
        self.operator_sha256.as_ref()
    }

    pub fn set_operator_sha256(&mut self, digest: [u8; 32]) {
        self.operator_sha256 = Some(digest);
    }

    pub fn facts(&self) -> &[u8] {
        &self.facts
    }

    pub fn set_facts(&mut self, facts: Zeroizing<Vec<u8>>) -> Result<(), HoldError> {
        if facts.len() > HELD_FACTS_LIMIT_BYTES {
            return Err(HoldError::Facts { found: facts.len() });
        }
        self.facts = facts;
        Ok(())
    }

    /// How many secrets there are, and of how many identities.
    pub fn count(&self) -> (usize, usize) {
        let mut owners = 0;
        let mut last = None;
        for (identity, _) in self.secrets.keys() {
            owners += usize::from(last != Some(identity));
            last = Some(identity);
        }
        (self.secrets.len(), owners)
    }

    pub fn secret(&self, identity: &HeldIdentity, name: &str) -> Option<&HeldSecret> {
        self.secrets.get(&(*identity, name.to_owned()))
    }

    /// The secrets of an identity, by name.
    pub fn secrets_of(&self, identity: &HeldIdentity) -> impl Iterator<Item = (&str, &HeldSecret)> {
        let whose = *identity;
        self.secrets
            .range((whose, String::new())..)
            .take_while(move |((identity, _), _)| *identity == whose)
            .map(|((_, name), secret)| (name.as_str(), secret))
    }

    /// Keeps a secret whose version is greater than the kept one.
    pub fn put(
        &mut self,
        identity: &HeldIdentity,
        name: &str,
        version: u64,
        share: Zeroizing<Vec<u8>>,
        now_ns: u64,
    ) -> Result<(), HoldError> {
        if !is_name(name) {
            return Err(HoldError::Name);
        }
        if share.is_empty() {
            return Err(HoldError::Empty);
        }
        let stored = self.secret(identity, name);
        let created_ns = match stored {
            Some(stored) if version <= stored.version => {
                return Err(HoldError::Version { offered: version, stored: stored.version });
            }
            Some(stored) => stored.created_ns,
            None if self.secrets_of(identity).count() >= SECRETS_PER_IDENTITY => {
                return Err(HoldError::TooMany);
            }
            None => now_ns,
        };
        let used = self.secrets_bytes - stored.map_or(0, |stored| size(name, &stored.share));
        let needed = size(name, &share);
        if used + needed > HELD_SECRETS_LIMIT_BYTES {
            return Err(HoldError::Full { used, needed });
        }
        let secret = HeldSecret { version, created_ns, updated_ns: now_ns, share };
        self.secrets.insert((*identity, name.to_owned()), secret);
        self.secrets_bytes = used + needed;
        Ok(())
    }

    /// Whether it was there.
    pub fn delete(&mut self, identity: &HeldIdentity, name: &str) -> bool {
        let removed = self.secrets.remove(&(*identity, name.to_owned()));
        self.secrets_bytes -= removed.as_ref().map_or(0, |removed| size(name, &removed.share));
        removed.is_some()
    }

    /// Deletes all of an identity; whether there was anything.
    pub fn forget(&mut self, identity: &HeldIdentity) -> bool {
        let before = self.secrets.len();
        self.secrets.retain(|(whose, _), _| whose != identity);
        self.secrets_bytes = self.secrets.iter().map(|((_, name), secret)| size(name, &secret.share)).sum();
        self.secrets.len() != before
    }

    /// The same once more: the kept one goes on being given out while a changed one is written.
    pub fn duplicate(&self) -> Self {
        let secret = |secret: &HeldSecret| HeldSecret { share: secret.share.clone(), ..*secret };
        Self {
            volume_uuid: self.volume_uuid,
            operator_sha256: self.operator_sha256,
            facts: self.facts.clone(),
            secrets: self.secrets.iter().map(|(key, value)| (key.clone(), secret(value))).collect(),
            secrets_bytes: self.secrets_bytes,
        }
    }

    /// The exact bytes that the MAC covers.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(FIXED_BYTES + self.facts.len() + self.secrets_bytes));
        bytes.extend_from_slice(MAGIC);
        bytes.push(HELD_VERSION);
        bytes.extend_from_slice(&self.volume_uuid);
        bytes.push(u8::from(self.operator_sha256.is_some()));
        bytes.extend_from_slice(self.operator_sha256.as_ref().map_or(&[][..], |digest| digest));
        bytes.extend_from_slice(&length(self.facts.len()));
        bytes.extend_from_slice(&self.facts);
        bytes.extend_from_slice(&length(self.secrets.len()));
        for ((identity, name), secret) in &self.secrets {
            bytes.extend_from_slice(identity);
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
            for number in [secret.version, secret.created_ns, secret.updated_ns] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&length(secret.share.len()));
            bytes.extend_from_slice(&secret.share);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeldError> {
        if bytes.len() > HELD_LIMIT_BYTES {
            return Err(HeldError::TooLong);
        }
        let mut rest = Rest(bytes);
        if rest.take(MAGIC.len()).map_err(|_| HeldError::Magic)? != MAGIC {
            return Err(HeldError::Magic);
        }
        match rest.array::<1>()? {
            [HELD_VERSION] => {}
            [other] => return Err(HeldError::Version(other)),
        }
        let mut held = Self::empty(rest.array()?);
        held.operator_sha256 = match rest.array::<1>()? {
            [0] => None,
            [1] => Some(rest.array()?),
            _ => return Err(HeldError::Bounds),
        };
        let facts_bytes = rest.length()?;
        let facts = Zeroizing::new(rest.take(facts_bytes)?.to_vec());
        held.set_facts(facts).map_err(|_| HeldError::Bounds)?;
        for index in 0..rest.length()? {
            held.decode_secret(&mut rest, index)?;
        }
        if held.secrets_bytes > HELD_SECRETS_LIMIT_BYTES {
            return Err(HeldError::Bounds);
        }
        if rest.0.is_empty() { Ok(held) } else { Err(HeldError::Length) }
    }

    fn decode_secret(&mut self, rest: &mut Rest<'_>, index: usize) -> Result<(), HeldError> {
        let identity: HeldIdentity = rest.array()?;
        let [name_bytes] = rest.array()?;
        let name = std::str::from_utf8(rest.take(name_bytes.into())?).ok().filter(|name| is_name(name));
        let name = name.ok_or(HeldError::Secret(index))?.to_owned();
        let [version, created_ns, updated_ns] = [rest.number()?, rest.number()?, rest.number()?];
        let share_bytes = rest.length()?;
        let share = Zeroizing::new(rest.take(share_bytes)?.to_vec());
        let key = (identity, name);
        let in_order = self.secrets.last_key_value().is_none_or(|(last, _)| *last < key);
        if !in_order || share.is_empty() {
            return Err(HeldError::Secret(index));
        }
        self.secrets_bytes += size(&key.1, &share);
        self.secrets.insert(key, HeldSecret { version, created_ns, updated_ns, share });
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LIMIT_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Of a secret in the payload, bytes.
fn size(name: &str, share: &[u8]) -> usize {
    SECRET_FIXED_BYTES + name.len() + share.len()
}

/// Every length that is written is below [`HELD_LIMIT_BYTES`].
fn length(length: usize) -> [u8; 4] {
    (length as u32).to_le_bytes()
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HeldError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HeldError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeldError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn number(&mut self) -> Result<u64, HeldError> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, HeldError> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
