//! Where words go: answers to stdout, for people or as JSON; progress and errors to stderr,
//! there as one JSON object a line under `--json`.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::failure::Failure;

/// How this run speaks.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn json(&self) -> bool {
        self.json
    }

    /// The answer of the command.
    pub fn answer(&self, json: &Value, human: &str) {
        if self.json {
            print(&format!("{json:#}"));
        } else {
            print(human);
        }
    }

    /// The same on a single line, for commands that go on afterwards.
    pub fn answer_line(&self, json: &Value, human: &str) {
        if self.json {
            print(&json.to_string());
        } else {
            print(human);
        }
    }

    /// The gateway's own JSON as it came, or what `human` makes of it.
    pub fn pass(&self, body: &[u8], human: impl FnOnce() -> String) {
        if self.json {
            print(&String::from_utf8_lossy(body));
        } else {
            print(&human());
        }
    }

    /// A step under way.
    pub fn progress(&self, step: &str) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "progress": step }));
        } else {
            eprintln!("{step}");
        }
    }

    pub fn failure(&self, failure: &Failure) {
        if self.json {
            eprintln!("{}", failure.to_json());
        } else {
            eprintln!("{failure}");
        }
    }
}

/// A reader that went away (`orama … | head`) is no failure of ours, and no reason to panic.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _reader_gone = stdout
        .write_all(text.trim_end_matches('\n').as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
}
