//! Follows a serial log: waits for lines, remembers how far it has read, strips what terminals need.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{TAIL_LINES, interrupted, tail};

/// What the kernel says when it gives up.
pub const PANIC: &str = "Kernel panic";

/// What it says, before anything of ours runs, in a machine whose host had no time for its timer. It starts again by
/// itself, so that is no reason to give up.
const STARVED: &str = "IO-APIC + timer doesn't work";

pub struct Console {
    path: PathBuf,
    /// Byte offset of the first line that nobody has asked about.
    cursor: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("reading the serial log {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no {text:?} on the console within {} s; {path} ends with\n{tail}", limit.as_secs())]
    Late { text: String, limit: Duration, path: PathBuf, tail: String },
    #[error("kernel panic while waiting for {text:?}; {path} ends with\n{tail}")]
    Panic { text: String, path: PathBuf, tail: String },
    #[error("interrupted while waiting for {text:?} on the console")]
    Interrupted { text: String },
    #[error("the machine went off while waiting for {text:?}; {path} ends with\n{tail}")]
    Off { text: String, path: PathBuf, tail: String },
}

impl Console {
    pub fn new(path: PathBuf) -> Self {
        Self { path, cursor: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets everything said so far; returns where that is.
    pub fn to_end(&mut self) -> Result<u64, ConsoleError> {
        self.cursor = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(source) => return Err(ConsoleError::Read { path: self.path.clone(), source }),
        };
        Ok(self.cursor)
    }

    /// How far lines have been taken.
    pub fn position(&self) -> u64 {
        self.cursor
    }

    /// Every complete line from the position on, without moving.
    pub fn lines_from(&self, position: u64) -> Result<Vec<String>, ConsoleError> {
        Ok(self.read(position)?.into_iter().map(|(line, _)| line).collect())
    }

    /// The next line that contains the text; everything up to it counts as read.
    pub fn wait_for(
        &mut self,
        text: &str,
        limit: Duration,
        mut running: impl FnMut() -> bool,
    ) -> Result<String, ConsoleError> {
        let started = Instant::now();
        loop {
            // Asked before reading: a machine that went off has said everything by then.
            let alive = running();
            for (line, end) in self.read(self.cursor)? {
                if line.contains(text) {
                    self.cursor = end;
                    return Ok(line);
                }
                if line.contains(PANIC) && !line.contains(STARVED) {
                    return Err(ConsoleError::Panic {
                        text: text.into(),
                        path: self.path.clone(),
                        tail: self.tail(),
                    });
                }
            }
            if !alive {
                return Err(ConsoleError::Off {
                    text: text.into(),
                    path: self.path.clone(),
                    tail: self.tail(),
                });
            }
            if interrupted() {
                return Err(ConsoleError::Interrupted { text: text.into() });
            }
            if started.elapsed() > limit {
                let (path, tail) = (self.path.clone(), self.tail());
                return Err(ConsoleError::Late { text: text.into(), limit, path, tail });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn tail(&self) -> String {
        tail(&self.path, TAIL_LINES).lines().map(plain).collect::<Vec<_>>().join("\n")
    }

    /// Complete lines from the offset on, each with the offset behind it.
    fn read(&self, from: u64) -> Result<Vec<(String, u64)>, ConsoleError> {
        let failed = |source| ConsoleError::Read { path: self.path.clone(), source };
        let mut file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut lines = Vec::new();
        let mut end = from;
        for raw in bytes.split_inclusive(|byte| *byte == b'\n').filter(|raw| raw.ends_with(b"\n")) {
            end += raw.len() as u64;
            lines.push((plain(&String::from_utf8_lossy(raw)), end));
        }
        Ok(lines)
    }
}

/// The line without carriage returns and terminal control sequences (ESC [ … letter).
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    let _ = characters.find(char::is_ascii_alphabetic);
                }
            }
            other if other.is_control() && other != '\t' => {}
            other => out.push(other),
        }
    }
    out
}

/// Kernel uptime in seconds that the agent puts before its lines: `[  12.345] orama: …`.
pub fn uptime_seconds(line: &str) -> Option<f64> {
    let at = line.find("] orama: ")?;
    let open = line[..at].rfind('[')?;
    line[open + 1..at].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> (tempfile::TempDir, Console) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial.log");
        std::fs::write(&path, text).unwrap();
        (folder, Console::new(path))
    }

    #[test]
    fn lines_are_taken_in_order_and_once() {
        let (_folder, mut console) = console("\u{1b}[2J\u{1b}[01;01Hboot\r\n[ 1.250] orama: one\r\nhalf");
        let none = Duration::ZERO;
        let line = console.wait_for("one", none, || true).unwrap();
        assert_eq!(uptime_seconds(&line), Some(1.25));
        assert!(matches!(console.wait_for("one", none, || true), Err(ConsoleError::Late { .. })));
        assert!(matches!(console.wait_for("half", none, || false), Err(ConsoleError::Off { .. })));
        assert_eq!(console.lines_from(0).unwrap(), ["boot", "[ 1.250] orama: one"]);
    }

    #[test]
    fn a_panic_ends_the_wait_unless_it_is_what_we_wait_for() {
        let (_folder, mut broken) = console("Kernel panic - not syncing: dm-verity\nrest\n");
        let limit = Duration::from_secs(60);
        assert!(matches!(broken.wait_for("rest", limit, || true), Err(ConsoleError::Panic { .. })));
        assert!(broken.wait_for("Kernel panic", limit, || true).is_ok());
        let (_folder, mut starved) =
            console("Kernel panic - not syncing: IO-APIC + timer doesn't work!\nagain\n");
        assert!(starved.wait_for("again", limit, || true).is_ok());
    }
}
