//! What a child writes: carried from its pipe into its log by a task of its own, so that a service keeps its log when
//! its actor is made anew. Remembers the last line, which is what a person wants to read beside an exit code.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::Notify;

use super::log::{LogFile, Logs, READ_BYTES};
use crate::supervise::lock;

/// Most of a last line that is kept, characters.
const LAST_LINE_CHARS: usize = 200;
/// How long the last words of a child that has ended may take through the pipe. Longer only when something it
/// left behind holds the pipe open.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// The output of one child, as far as it matters outside of its log.
#[derive(Default)]
pub struct Output {
    closed: AtomicBool,
    ended: Notify,
    last_line: Mutex<String>,
}

impl Output {
    /// Every writer has closed it.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The last line that is not blank; waits a moment for what is still in the pipe.
    pub async fn last_words(&self) -> String {
        let ended = self.ended.notified();
        if !self.is_closed() {
            let _ = tokio::time::timeout(LAST_WORDS_WAIT, ended).await;
        }
        lock(&self.last_line).clone()
    }

    fn saw(&self, bytes: &[u8]) {
        let line = last_line(bytes);
        if !line.is_empty() {
            *lock(&self.last_line) = line;
        }
    }

    fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }
}

/// The last line of `bytes` with anything to read in it, cut to [`LAST_LINE_CHARS`], control characters left out.
fn last_line(bytes: &[u8]) -> String {
    let readable = |line: &&[u8]| line.iter().any(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    let line = bytes.rsplit(|byte| *byte == b'\n').find(readable).unwrap_or_default();
    // A character has at most four bytes: what lies beyond them cannot be among the first ones.
    let line = String::from_utf8_lossy(&line[..line.len().min(4 * LAST_LINE_CHARS)]);
    let shown: String = line.trim().chars().filter(|c| !c.is_control()).take(LAST_LINE_CHARS).collect();
    shown
}

/// Carries output into the log until every writer has closed it. When the log cannot be written, output is dropped:
/// a service must not stand still because a disk is full.
pub(super) async fn pump(reader: pipe::Receiver, logs: Logs, service: String, output: Arc<Output>) {
    let mut log: Option<Arc<Mutex<LogFile>>> = None;
    let mut told = false;
    loop {
        if reader.readable().await.is_err() {
            break;
        }
        // Made only now: a service that is silent needs no buffer.
        let mut buffer = Vec::with_capacity(READ_BYTES);
        match reader.try_read_buf(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        output.saw(&buffer);
        let (logs, service, taken) = (logs.clone(), service.clone(), log.take());
        let written = tokio::task::spawn_blocking(move || {
            let file = match taken.filter(|file| logs.is_current(&service, file)) {
                Some(file) => file,
                None => logs.open(&service)?,
            };
            lock(&file).append(&buffer)?;
            Ok::<_, std::io::Error>(file)
        })
        .await;
        match written {
            Ok(Ok(file)) => log = Some(file),
            Ok(Err(error)) if !told => {
                told = true;
                tracing::warn!("service log cannot be written, output is dropped: {error}");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    output.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_short_and_harmless() {
        assert_eq!(last_line(b"one\ntwo\n\n  \n"), "two");
        assert_eq!(last_line(b"one\n\x1b[31m panic: disk \xff\r\n"), "[31m panic: disk \u{fffd}");
        assert_eq!(last_line(b"\n\n"), "");
        assert_eq!(last_line("é".repeat(5000).as_bytes()), "é".repeat(LAST_LINE_CHARS));
        assert_eq!(last_line(&[b'x'; 70_000]).len(), LAST_LINE_CHARS);
    }
}
