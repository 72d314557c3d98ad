//! The agent's private files inside the mounted volume: `mac.key`, `agent.token`, `cluster.secret`, `volume.key` while
//! nobody but the owner's wallet keeps that, and `recovered.key` between a recovery and the next split.
//! Every write is temp + fsync + rename + fsync of the folder. Service data is not touched here.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use nix::fcntl::OFlag;
use orama_keyshare::{KEY_BYTES, VolumeKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::uuid::hex;
use crate::{MacKey, RandomError};

/// Folder of the agent inside the volume.
pub const AGENT_DIRECTORY: &str = "agent";
/// What the operators' token of a node's guardian is made of, besides the agent's own.
const OPERATOR_LABEL: &[u8] = b"orama guardian operator v1";
/// Of the generation beside a recovered key.
const GENERATION_BYTES: usize = 8;
/// Longest cluster secret in bytes.
const MAX_CLUSTER_SECRET_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("cannot make the directory {path}")]
    Directory {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} does not hold {expected}")]
    Content { path: String, expected: &'static str },
}

/// Bearer token of the agent's API: 64 lowercase hex characters.
pub struct AgentToken(Zeroizing<String>);

impl AgentToken {
    pub fn generate() -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *bytes).map_err(RandomError)?;
        Ok(Self(Zeroizing::new(hex(&*bytes))))
    }

    /// `None` when the text is not 64 lowercase hex characters.
    pub fn parse(text: Zeroizing<String>) -> Option<Self> {
        let well_formed = text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then_some(Self(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the 64 characters, as the early state keeps it.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// SHA-256 of the text that operators present to this node's guardian: D = HMAC-SHA256 of a label under this token, in
    /// hex. Who knows the token makes D from it; who knows D cannot make the token.
    pub fn operator_sha256(&self) -> [u8; 32] {
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes a key of any length");
        hmac.update(OPERATOR_LABEL);
        let text = Zeroizing::new(hex(&hmac.finalize().into_bytes()));
        Sha256::digest(text.as_bytes()).into()
    }

    /// Whether a caller presented this token, in constant time.
    pub fn matches(&self, presented: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(presented.as_bytes()))
    }
}

/// The folder `<volume root>/agent`.
pub struct Vault {
    directory: PathBuf,
}

impl Vault {
    /// Names the folder under the root of a mounted volume; touches nothing.
    pub fn at(volume_root: &Path) -> Self {
        Self { directory: volume_root.join(AGENT_DIRECTORY) }
    }

    /// Makes the folder, mode 0700; fine when it exists.
    pub fn create(&self) -> Result<(), VaultError> {
        ensure_directory(&self.directory, 0o700, None)
    }

    pub fn mac_key(&self) -> Result<MacKey, VaultError> {
        let path = self.directory.join("mac.key");
        let bytes = read_bounded(&path, 32)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| content(&path, "exactly 32 bytes"))?;
        Ok(MacKey::from_bytes(Zeroizing::new(key)))
    }

    pub fn write_mac_key(&self, key: &MacKey) -> Result<(), VaultError> {
        write_atomically(&self.directory.join("mac.key"), key.expose(), 0o600)
    }

    pub fn agent_token(&self) -> Result<AgentToken, VaultError> {
        let path = self.directory.join("agent.token");
        let text = text(&path, read_bounded(&path, 64)?)?;
        AgentToken::parse(text).ok_or_else(|| content(&path, "64 lowercase hex characters"))
    }

    pub fn write_agent_token(&self, token: &AgentToken) -> Result<(), VaultError> {
        write_atomically(&self.directory.join("agent.token"), token.expose().as_bytes(), 0o600)
    }

    /// The volume's own key, kept in here until it is split over guardians; `None` when it is not kept.
    pub fn volume_key(&self) -> Result<Option<VolumeKey>, VaultError> {
        let path = self.directory.join("volume.key");
        match read_bounded(&path, KEY_BYTES) {
            Ok(bytes) => {
                VolumeKey::from_slice(&bytes).map(Some).map_err(|_| content(&path, "exactly 32 bytes"))
            }
            Err(VaultError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn write_volume_key(&self, key: &VolumeKey) -> Result<(), VaultError> {
        write_atomically(&self.directory.join("volume.key"), key.expose(), 0o600)
    }

    /// Removes the kept key, and what a write of it that was cut off left; fine when there is none.
    pub fn remove_volume_key(&self) -> Result<(), VaultError> {
        self.remove(["volume.key", ".volume.key.new"])
    }

    /// The key that the owner brought while the split of this generation was no help; `None` when there is none, or
    /// when another split has taken that one's place.
    pub fn recovered_key(&self, generation: u64) -> Result<Option<VolumeKey>, VaultError> {
        let path = self.directory.join("recovered.key");
        let bytes = match read_bounded(&path, KEY_BYTES + GENERATION_BYTES) {
            Ok(bytes) => bytes,
            Err(VaultError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let wrong = || content(&path, "a key and a generation, 40 bytes");
        let (key, of) = bytes.split_at_checked(KEY_BYTES).ok_or_else(wrong)?;
        if *of != generation.to_be_bytes() {
            return if of.len() == GENERATION_BYTES { Ok(None) } else { Err(wrong()) };
        }
        VolumeKey::from_slice(key).map(Some).map_err(|_| wrong())
    }

    /// Keeps the key in here until the split of this generation is replaced.
    pub fn write_recovered_key(&self, key: &VolumeKey, generation: u64) -> Result<(), VaultError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + GENERATION_BYTES]);
        bytes[..KEY_BYTES].copy_from_slice(key.expose());
        bytes[KEY_BYTES..].copy_from_slice(&generation.to_be_bytes());
        write_atomically(&self.directory.join("recovered.key"), bytes.as_slice(), 0o600)
    }

    /// Removes a key that was recovered for another split than the one of this generation; fine when there is none.
    pub fn remove_recovered_key_unless_of(&self, generation: u64) -> Result<(), VaultError> {
        if matches!(self.recovered_key(generation), Ok(Some(_))) {
            return Ok(());
        }
        self.remove(["recovered.key", ".recovered.key.new"])
    }

    fn remove(&self, names: [&str; 2]) -> Result<(), VaultError> {
        for name in names {
            let path = self.directory.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => sync_directory(&self.directory),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|source| VaultError::Write { path: path.display().to_string(), source })?;
        }
        Ok(())
    }

    pub fn cluster_secret(&self) -> Result<Zeroizing<String>, VaultError> {
        let path = self.directory.join("cluster.secret");
        text(&path, read_bounded(&path, MAX_CLUSTER_SECRET_BYTES)?)
    }

    pub fn write_cluster_secret(&self, secret: &str) -> Result<(), VaultError> {
        let path = self.directory.join("cluster.secret");
        if secret.len() > MAX_CLUSTER_SECRET_BYTES {
            return Err(content(&path, "at most 4096 bytes"));
        }
        write_atomically(&path, secret.as_bytes(), 0o600)
    }
}

/// Makes a directory with exactly this mode and owner, whether it exists or not; parents must exist.
pub fn ensure_directory(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), VaultError> {
    let make = || -> io::Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        // A link in place of the folder would carry mode and owner to a place of somebody else's choice.
        if !path.symlink_metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        sync_directory(path)?;
        path.parent().map_or(Ok(()), sync_directory)
    };
    make().map_err(|source| VaultError::Directory { path: path.display().to_string(), source })
}

/// Replaces a file so that a crash leaves the old content or the new, never a mixture.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), VaultError> {
    replace(path, content, mode)
        .map_err(|source| VaultError::Write { path: path.display().to_string(), source })
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".new");
    let temporary = directory.join(temporary_name);
    // What a crashed write left behind; create_new below also refuses to follow a link put there.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_bounded(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        // Two bytes of room beyond the limit, so that the vector never moves and leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| VaultError::Read { path: path.display().to_string(), source })?;
    if bytes.len() > limit {
        return Err(content(path, "as little as it should"));
    }
    Ok(bytes)
}

fn text(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, VaultError> {
    let text = std::str::from_utf8(&bytes).map_err(|_| content(path, "UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn content(path: &Path, expected: &'static str) -> VaultError {
    VaultError::Content { path: path.display().to_string(), expected }
}
