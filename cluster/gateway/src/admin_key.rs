//! The operator's API key: made once, shown once in a file, kept as a digest.

use std::path::{Path, PathBuf};

use crate::data_folder::{self, FileError};
use crate::registry::Registry;
use crate::store::SqlError;
use crate::token;

#[derive(Debug, thiserror::Error)]
pub enum AdminKeyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] SqlError),
    #[error(transparent)]
    Random(#[from] token::NoRandom),
}

/// Makes the key when there is none; tells where it was written.
pub fn ensure(registry: &Registry, folder: &Path) -> Result<Option<PathBuf>, AdminKeyError> {
    if registry.admin_key_digest()?.is_some() {
        return Ok(None);
    }
    rotate(registry, folder).map(Some)
}

/// Replaces the key; the old one stops working at once, also in a gateway that runs.
pub fn rotate(registry: &Registry, folder: &Path) -> Result<PathBuf, AdminKeyError> {
    let key = token::generate()?;
    let path = folder.join(data_folder::ADMIN_KEY);
    // The file first: a crash in between leaves a file that does not work, not a key that nobody knows.
    data_folder::write_atomically(&path, format!("{}\n", key.expose()).as_bytes(), 0o600)?;
    registry.set_admin_key_digest(&token::digest(&key))?;
    Ok(path)
}
