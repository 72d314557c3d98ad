//! A service's log on disk: one file of at most 1 MiB and the one before it. Owns appending, rotation and reading the
//! last lines; knows no pipe. Names come from the roster, never from a request.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use crate::supervise::lock;

/// Size at which a log is rotated, bytes. Two of these per service are kept.
pub const ROTATE_BYTES: u64 = 1 << 20;
/// Most that is read from a pipe at once, bytes: the kernel's own pipe buffer.
pub const READ_BYTES: usize = 64 * 1024;
/// Most text one answer carries, bytes: all services together must fit a 1 MiB answer.
pub const TAIL_BYTES: usize = 96 * 1024;

/// `<logs>/<service>.log`.
pub fn log_path(logs: &Path, service: &str) -> PathBuf {
    logs.join(format!("{service}.log"))
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The folder of all logs. Whoever writes to a service's log at the same time shares one [`LogFile`], or each would
/// rotate what the other has just made. A file that nobody holds is closed: an open one would keep the volume mounted.
#[derive(Clone)]
pub struct Logs(Arc<Folder>);

struct Folder {
    path: PathBuf,
    /// Where logs go while `path` is not there yet, and whether it is.
    early: Option<(PathBuf, Ready)>,
    open: Mutex<BTreeMap<String, Weak<Mutex<LogFile>>>>,
}

type Ready = Box<dyn Fn() -> bool + Send + Sync>;

impl Logs {
    pub fn at(path: &Path) -> Self {
        Self(Arc::new(Folder { path: path.to_owned(), early: None, open: Mutex::default() }))
    }

    /// Logs go to `early` until `ready` says that `path` is there; what was written until then follows them.
    pub fn with_early(path: &Path, early: &Path, ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let early = Some((early.to_owned(), Box::new(ready) as Ready));
        Self(Arc::new(Folder { path: path.to_owned(), early, open: Mutex::default() }))
    }

    pub fn path_of(&self, service: &str) -> PathBuf {
        match &self.0.early {
            Some((early, ready)) if !ready() => log_path(early, service),
            Some(_) | None => log_path(&self.0.path, service),
        }
    }

    /// Whether a file that was opened is still where the log belongs.
    pub fn is_current(&self, service: &str, file: &Mutex<LogFile>) -> bool {
        self.0.early.is_none() || lock(file).path == self.path_of(service)
    }

    /// The service's log, open or opened now. Blocks.
    pub fn open(&self, service: &str) -> io::Result<Arc<Mutex<LogFile>>> {
        let mut open = lock(&self.0.open);
        let path = self.path_of(service);
        if let Some(file) = open.get(service).and_then(Weak::upgrade).filter(|file| lock(file).path == path) {
            return Ok(file);
        }
        let mut file = LogFile::open(&path)?;
        self.carry_over(service, &mut file)?;
        let file = Arc::new(Mutex::new(file));
        open.insert(service.to_owned(), Arc::downgrade(&file));
        Ok(file)
    }

    /// What the early log has last goes into the one that takes its place.
    fn carry_over(&self, service: &str, file: &mut LogFile) -> io::Result<()> {
        let Some((early, _)) = &self.0.early else { return Ok(()) };
        let path = log_path(early, service);
        if file.path == path {
            return Ok(());
        }
        let text = last_bytes(&path, TAIL_BYTES)?;
        if text.is_empty() {
            return Ok(());
        }
        file.append(&text)?;
        for old in [rotated(&path), path] {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// A line of the agent's in the service's log. Blocks.
    pub fn note(&self, service: &str, text: &str) -> io::Result<()> {
        let line = format!("[agent] {text}\n");
        lock(&*self.open(service)?).append(line.as_bytes())
    }
}

/// An open log; all writes go to its end.
pub struct LogFile {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl LogFile {
    /// Opens or makes the file. Its folder is made when it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size_bytes })
    }

    /// Appends, rotating first when the file would grow beyond [`ROTATE_BYTES`].
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size_bytes > 0 && self.size_bytes + bytes.len() as u64 > ROTATE_BYTES {
            fs::rename(&self.path, rotated(&self.path))?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(bytes)?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The last `lines` lines, the rotated file included, at most [`TAIL_BYTES`] of them. A log that does not exist is
/// empty. Control characters other than tab and line feed are shown as `?`: a log is read on terminals.
pub fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut bytes = last_bytes(path, TAIL_BYTES)?;
    if bytes.len() < TAIL_BYTES && count_lines(&bytes) < lines {
        let mut older = last_bytes(&rotated(path), TAIL_BYTES - bytes.len())?;
        older.append(&mut bytes);
        bytes = older;
    }
    let mut start = 0;
    let end = bytes.len() - usize::from(bytes.last() == Some(&b'\n'));
    let mut seen = 0;
    for (index, byte) in bytes[..end].iter().enumerate().rev() {
        if *byte == b'\n' {
            seen += 1;
            if seen == lines {
                start = index + 1;
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes[if lines == 0 { bytes.len() } else { start }..]);
    Ok(text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect())
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn last_bytes(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit as u64)))?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    if size > limit as u64 {
        // A first line that was cut in half is no line.
        let whole = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        bytes.drain(..whole);
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
