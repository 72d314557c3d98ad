//! The agent's own log: a bounded ring in memory that `logs?service=agent` reads before and after unlock.
//! Warnings and errors also go to the console. Nothing is written to disk.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::console::{Terminal, uptime_seconds};

/// Lines kept: what one request may ask for, and as much again.
const LINES: usize = 2 * orama_protocol::agent::LOG_LINES_MAX;
/// Longest line kept, bytes; together with [`LINES`] this bounds the ring to 1 MiB.
const LINE_BYTES: usize = 512;

/// The ring; cloning shares it.
#[derive(Clone, Default)]
pub struct AgentLog {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl AgentLog {
    /// Keeps one line; an over-long one is cut at a character boundary and marked.
    pub fn push(&self, mut line: String) {
        if line.len() > LINE_BYTES {
            let cut = (0..=LINE_BYTES).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
            line.truncate(cut);
            line.push('…');
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last `count` lines, oldest first, each ended by a line feed.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = lines.len().saturating_sub(count);
        lines.iter().skip(skip).fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
    }
}

/// Feeds [`AgentLog`], and the console with what is a warning or worse.
pub struct LogLayer {
    pub log: AgentLog,
    pub terminal: Arc<Terminal>,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let target = event.metadata().target();
        let stamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let message = text.finish();
        self.log.push(format!("{stamp} [{:.3}] {level} {target}: {message}", uptime_seconds()));
        if level <= Level::WARN {
            self.terminal.print(&format!("{} {message}", level.as_str().to_lowercase()));
        }
    }
}

/// What is kept: our own crates from `info`, everybody else from `warn`. Their debug output may hold addresses of
/// buffers and headers that nobody reads here.
pub fn filter() -> tracing_subscriber::filter::Targets {
    let ours = [
        "orama_agent",
        "orama_actors",
        "orama_mesh",
        "orama_sandbox",
        "orama_slots",
        "orama_uplink",
        "orama_volume",
    ];
    tracing_subscriber::filter::Targets::new()
        .with_default(tracing_subscriber::filter::LevelFilter::WARN)
        .with_targets(ours.map(|target| (target, Level::INFO)))
}

/// Collects an event's message and then its fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message.retain(|c| !c.is_control());
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest_and_bounds_a_line() {
        let log = AgentLog::default();
        for n in 0..LINES + 3 {
            log.push(format!("line {n}"));
        }
        log.push("é".repeat(LINE_BYTES));
        assert_eq!(log.tail(2).lines().next().unwrap(), format!("line {}", LINES + 2));
        assert!(log.tail(1).len() <= LINE_BYTES + '…'.len_utf8() + 1);
        assert_eq!(log.tail(usize::MAX).lines().count(), LINES);
    }
}
