//! The secrets as files: `<data>/<identity>/<name>`, one each, and the note in `<data>/facts`. Owns atomic replacement,
//! modes, the lock against a second guardian and the cleaning after a crash; a secret's text is `record`'s.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use orama_protocol::guardian::{SECRETS_PER_IDENTITY, SecretEntry};
use orama_protocol::guardian_store::FACTS_LIMIT_BYTES;
use zeroize::Zeroizing;

use super::{DeleteError, FactsError, ListError, OpenStoreError, PutError, ReadError, Store};
use crate::names::{Identity, SecretName};
use crate::record::{HEADER_LIMIT_BYTES, Header, RECORD_LIMIT_BYTES, Record, RecordError};

/// Most identities that one guardian keeps secrets for: every node of a /24 overlay four times over.
const IDENTITIES_MAX: usize = 1024;
/// Start of the name of an unfinished file; no secret's name has a dot.
const TEMP_PREFIX: &str = ".tmp-";
/// The file whose lock says that a guardian is running on this directory.
const LOCK_NAME: &str = ".lock";
/// The guardian's own note; no identity has this name.
const FACTS_NAME: &str = "facts";
/// How often and how far apart the lock is tried: two seconds together.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The data directory of a running guardian. All operations block, one at a time: version checks and
/// writes belong together, and a guardian has a handful of requests per node and boot.
pub struct FileStore {
    data: PathBuf,
    turn: Mutex<()>,
    /// Held until drop.
    _lock: Flock<File>,
}

impl FileStore {
    /// Makes the directory if it is missing, closes it to others, locks it and removes what a crash left.
    pub fn open(data: &Path) -> Result<Self, OpenStoreError> {
        let at = |error: fn(PathBuf, io::Error) -> OpenStoreError| {
            let data = data.to_owned();
            move |source| error(data, source)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(at(OpenStoreError::Create))?;
        close_to_others(data).map_err(at(OpenStoreError::Protect))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(data.join(LOCK_NAME))
            .map_err(at(OpenStoreError::Lock))?;
        let lock = lock(file).map_err(at(OpenStoreError::Lock))?;
        let store = Self { data: data.to_owned(), turn: Mutex::new(()), _lock: lock };
        store.remove_unfinished().map_err(at(OpenStoreError::Clean))?;
        Ok(store)
    }

    fn folder(&self, identity: &Identity) -> PathBuf {
        self.data.join(identity.as_str())
    }

    /// The mutex guards no data of ours, so a panic while it was held left nothing half changed in memory.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, identity: &Identity, name: &SecretName) -> Result<Record, ReadError> {
        let file = match open_existing(&self.folder(identity).join(name.as_str())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::None),
            Err(error) => return Err(ReadError::Io(error)),
        };
        // The capacity is there from the start, so that no half-grown copy of a share stays in memory.
        let length = file.metadata().map_err(ReadError::Io)?.len().min(RECORD_LIMIT_BYTES as u64 + 1);
        let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
        file.take(RECORD_LIMIT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        let record = Record::decode(&bytes).map_err(ReadError::Damaged)?;
        if record.identity != *identity || record.name != *name {
            return Err(ReadError::Damaged(RecordError::Misplaced));
        }
        Ok(record)
    }

    /// Room for one more secret, and the identity's folder.
    fn make_room(&self, folder: &Path) -> Result<(), PutError> {
        if folder.is_dir() {
            let names = secret_names(folder).map_err(PutError::Read)?;
            return if names.len() < SECRETS_PER_IDENTITY { Ok(()) } else { Err(PutError::TooManySecrets) };
        }
        let identities = folders(&self.data).map_err(PutError::Read)?;
        if identities.len() >= IDENTITIES_MAX {
            return Err(PutError::TooManyIdentities);
        }
        DirBuilder::new().mode(0o700).create(folder).map_err(PutError::Write)?;
        sync_folder(&self.data).map_err(PutError::Write)
    }

    /// What a crash between "make the temporary file" and "rename it" left behind. The secret itself is
    /// then still the old one, or none, and the client was never told otherwise.
    fn remove_unfinished(&self) -> io::Result<()> {
        for folder in folders(&self.data)?.into_iter().chain([self.data.clone()]) {
            let mut removed = 0;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
            if removed > 0 {
                sync_folder(&folder)?;
                tracing::warn!(removed, "removed unfinished files that a crash left");
            }
        }
        Ok(())
    }
}

impl Store for FileStore {
    fn put(
        &self,
        identity: &Identity,
        name: &SecretName,
        version: u64,
        share: Zeroizing<Vec<u8>>,
        now_ns: i128,
    ) -> Result<(), PutError> {
        let _turn = self.turn();
        let folder = self.folder(identity);
        let created_ns = match self.read(identity, name) {
            Ok(stored) if version > stored.version => stored.created_ns,
            Ok(stored) => return Err(PutError::Version { offered: version, stored: stored.version }),
            Err(ReadError::Damaged(source)) => return Err(PutError::Damaged(source)),
            Err(ReadError::Io(source)) => return Err(PutError::Read(source)),
            // Files ask no agent.
            Err(ReadError::Agent(source)) => return Err(PutError::Agent(source)),
            Err(ReadError::None) => {
                self.make_room(&folder)?;
                now_ns
            }
        };
        let (identity, name) = (identity.clone(), name.clone());
        let record = Record { identity, name, version, created_ns, updated_ns: now_ns, share };
        replace(&folder, record.name.as_str(), record.encode().as_bytes()).map_err(PutError::Write)
    }

    fn get(&self, identity: &Identity, name: &SecretName) -> Result<Record, ReadError> {
        let _turn = self.turn();
        self.read(identity, name)
    }

    fn delete(&self, identity: &Identity, name: &SecretName) -> Result<(), DeleteError> {
        let _turn = self.turn();
        let folder = self.folder(identity);
        match fs::remove_file(folder.join(name.as_str())) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DeleteError::None),
            Err(error) => return Err(DeleteError::Io(error)),
        }
        sync_folder(&folder).map_err(DeleteError::Io)?;
        match fs::remove_dir(&folder) {
            Ok(()) => sync_folder(&self.data).map_err(DeleteError::Io),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) => Err(DeleteError::Io(error)),
        }
    }

    fn list(&self, identity: &Identity) -> Result<Vec<SecretEntry>, ListError> {
        let _turn = self.turn();
        let folder = self.folder(identity);
        let mut names = secret_names(&folder).map_err(ListError::Io)?;
        names.sort();
        names.iter().map(|name| entry(&folder, identity, name)).collect()
    }

    fn forget(&self, identity: &Identity) -> Result<(), DeleteError> {
        let _turn = self.turn();
        let folder = self.folder(identity);
        match fs::remove_dir_all(&folder) {
            Ok(()) => sync_folder(&self.data).map_err(DeleteError::Io),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DeleteError::Io(error)),
        }
    }

    fn facts(&self) -> Result<Zeroizing<Vec<u8>>, FactsError> {
        let _turn = self.turn();
        let mut bytes = Zeroizing::new(Vec::new());
        match open_existing(&self.data.join(FACTS_NAME)) {
            Ok(file) => file.take(FACTS_LIMIT_BYTES as u64 + 1).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
            Err(error) => Err(error),
        }
        .map_err(FactsError::Read)?;
        if bytes.len() > FACTS_LIMIT_BYTES { Err(FactsError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    fn set_facts(&self, facts: &[u8]) -> Result<(), FactsError> {
        if facts.len() > FACTS_LIMIT_BYTES {
            return Err(FactsError::TooLong(facts.len()));
        }
        let _turn = self.turn();
        replace(&self.data, FACTS_NAME, facts).map_err(FactsError::Write)
    }
}

/// Takes the lock, with a little patience for a guardian that is just ending.
fn lock(mut file: File) -> io::Result<Flock<File>> {
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(Errno::EWOULDBLOCK.into())
}

fn close_to_others(data: &Path) -> io::Result<()> {
    let mode = fs::metadata(data)?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { fs::set_permissions(data, fs::Permissions::from_mode(0o700)) }
}

/// The folders of identities in the data directory.
fn folders(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let known = entry.file_name().to_str().is_some_and(|name| Identity::parse(name).is_some());
        if known && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The secrets in an identity's folder; none when there is no folder.
fn secret_names(folder: &Path) -> io::Result<Vec<SecretName>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(SecretName::parse));
    }
    Ok(names)
}

fn entry(folder: &Path, identity: &Identity, name: &SecretName) -> Result<SecretEntry, ListError> {
    let file = open_existing(&folder.join(name.as_str())).map_err(ListError::Io)?;
    let file_bytes = file.metadata().map_err(ListError::Io)?.len();
    let mut start = Vec::with_capacity(HEADER_LIMIT_BYTES);
    file.take(HEADER_LIMIT_BYTES as u64).read_to_end(&mut start).map_err(ListError::Io)?;
    let damaged = |source| ListError::Damaged(name.as_str().to_owned(), source);
    let (header, header_bytes) = Header::decode(&start).map_err(damaged)?;
    header.check_length(header_bytes, file_bytes).map_err(damaged)?;
    header.check_place(identity, name).map_err(damaged)?;
    Ok(SecretEntry {
        name: name.as_str().to_owned(),
        version: header.version,
        size: header.share_bytes as u64,
        created_ns: header.created_ns,
        updated_ns: header.updated_ns,
    })
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Temp, fsync, rename, fsync of the folder: after a power cut the file is the old one or the new one.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temp = folder.join(format!("{TEMP_PREFIX}{name}"));
    let written = write_and_sync(&temp, bytes).and_then(|()| fs::rename(&temp, folder.join(name)));
    if let Err(error) = written {
        // Best effort: the next start removes it too, and the first error is the one to report.
        let _ = fs::remove_file(&temp);
        return Err(error);
    }
    sync_folder(folder)
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
