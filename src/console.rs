//! Lines for a person at the machine: `[uptime] orama: text` on the kernel console and on the first screen.
//! A writer thread does the writing, so a stuck terminal never holds up an actor; lines that find the queue
//! full are counted and the count is said.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Lines that may wait for the terminal: far more than a boot prints, little enough to bound memory.
const QUEUE_LINES: usize = 512;
/// Where a person may look: the kernel's console (serial on most servers) and the first screen.
const TERMINALS: [&str; 2] = ["/dev/console", "/dev/tty1"];

/// Handle to the writer thread.
pub struct Terminal {
    queue: SyncSender<String>,
    dropped: AtomicU64,
}

impl Terminal {
    /// Opens the terminals that exist and starts the writer.
    pub fn open() -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let terminals = TERMINALS
            .iter()
            .filter_map(|path| OpenOptions::new().write(true).open(path).ok())
            .collect::<Vec<File>>();
        std::thread::Builder::new().name("console".into()).spawn(move || write_lines(&lines, terminals))?;
        Ok(Self { queue, dropped: AtomicU64::new(0) })
    }

    /// Prints one line; control characters are replaced, so nothing received can steer the terminal.
    pub fn print(&self, text: &str) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note = format(uptime_seconds(), &format!("{dropped} console lines were lost"));
            if self.queue.try_send(note).is_err() {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
        if self.queue.try_send(format(uptime_seconds(), text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(lines: &Receiver<String>, mut terminals: Vec<File>) {
    while let Ok(line) = lines.recv() {
        for terminal in &mut terminals {
            // A terminal that does not take the line has nobody who could be told.
            let _ = terminal.write_all(line.as_bytes());
        }
    }
}

fn format(uptime: f64, text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("[{uptime:>9.3}] orama: {clean}\r\n")
}

/// Seconds since the kernel started.
pub fn uptime_seconds() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_uptime_and_no_control_characters() {
        assert_eq!(
            format(12.3456, "phase \u{1b}[2Jrunning: ok"),
            "[   12.346] orama: phase  [2Jrunning: ok\r\n"
        );
    }
}
