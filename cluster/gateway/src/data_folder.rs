//! Files beside the store: the admin key, the cluster secret, the self-signed certificate.
//! Every file appears whole or not at all, with its final mode.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use orama_protocol::Redacted;

use crate::token;

pub const ADMIN_KEY: &str = "admin.key";
const CLUSTER_SECRET: &str = "cluster.secret";

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot create the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} does not hold 64 lowercase hex characters")]
    Malformed { path: PathBuf },
    #[error(transparent)]
    Random(#[from] token::NoRandom),
}

/// Makes the folder, private, when it is not there; an existing one is left as it is.
pub fn ensure(folder: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| FileError::Folder { path: folder.to_owned(), source })
}

/// Temp, fsync, rename, fsync of the folder.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// The secret that every node of the cluster receives; made at first use.
pub fn cluster_secret(folder: &Path) -> Result<Redacted, FileError> {
    let path = folder.join(CLUSTER_SECRET);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let secret = Redacted::new(text.trim_end().to_owned());
            if token::well_formed(&secret) { Ok(secret) } else { Err(FileError::Malformed { path }) }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = token::generate()?;
            write_atomically(&path, secret.expose().as_bytes(), 0o600)?;
            Ok(secret)
        }
        Err(source) => Err(FileError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_cluster_secret_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = cluster_secret(folder.path()).unwrap();
        let again = cluster_secret(folder.path()).unwrap();
        assert_eq!(first.expose(), again.expose());
        let path = folder.path().join(CLUSTER_SECRET);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(cluster_secret(folder.path()), Err(FileError::Malformed { .. })));
    }

    #[test]
    fn writing_replaces_and_leaves_no_temporary_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        std::fs::write(folder.path().join("a.new"), "left by a crash").unwrap();
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
