//! What a service was seen to call: collected while it runs, kept in files, taken from nodes, put together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use orama_policy::{Call, Observed, Shape};
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::failure::{Exit, Failure};

/// Kinds of calls kept; a service has some hundred.
const MAX_KINDS: usize = 20_000;
/// A recording of [`MAX_KINDS`] with long paths is smaller.
const MAX_FILE_BYTES: u64 = 32 << 20;
const VERSION: u32 = 1;

/// The kinds of calls of one or more runs.
#[derive(Debug, Default)]
pub struct Recording {
    kinds: BTreeMap<Shape, Observed>,
    /// Calls of kinds beyond [`MAX_KINDS`].
    pub dropped: u64,
}

/// A recording that a watcher writes to.
pub type Shared = Arc<Mutex<Recording>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    service: String,
    calls: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    number: u32,
    /// For people; the number counts.
    #[serde(default)]
    call: String,
    args: [u64; 6],
    #[serde(default)]
    texts: [Option<String>; 6],
    count: u64,
}

impl Recording {
    pub fn add(&mut self, call: &Call, count: u64) {
        let full = self.kinds.len() >= MAX_KINDS;
        match self.kinds.entry(call.shape()) {
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count = known.count.saturating_add(count);
            }
            std::collections::btree_map::Entry::Vacant(_) if full => self.dropped += count,
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(Observed { call: call.clone(), count });
            }
        }
    }

    pub fn observed(&self) -> impl Iterator<Item = &Observed> {
        self.kinds.values()
    }

    pub fn save(&self, service: &str, path: &Path) -> Result<(), Failure> {
        let entry = |seen: &Observed| Entry {
            number: seen.call.number,
            call: seen.call.describe(),
            args: seen.call.args,
            texts: seen.call.texts.clone(),
            count: seen.count,
        };
        let calls = self.observed().map(entry).collect();
        let file = File { version: VERSION, service: service.to_owned(), calls };
        let text = serde_json::to_string_pretty(&file).map_err(|error| failed(path, &error))?;
        std::fs::write(path, text + "\n").map_err(|error| failed(path, &error))
    }

    /// Adds what a file holds. It must be of this service: another's calls would widen the profile.
    pub fn load(&mut self, service: &str, path: &Path) -> Result<(), Failure> {
        let text = bounded::read_text(path, MAX_FILE_BYTES).map_err(|error| failed(path, &error))?;
        let file: File = serde_json::from_str(&text).map_err(|error| failed(path, &error))?;
        if file.version != VERSION {
            return Err(failed(path, &format!("version {}; this program reads {VERSION}", file.version)));
        }
        if file.service != service {
            return Err(failed(path, &format!("a recording of `{}`, not of `{service}`", file.service)));
        }
        for entry in file.calls {
            let mut call = Call::new(entry.number, entry.args);
            call.texts = entry.texts;
            self.add(&call, entry.count);
        }
        Ok(())
    }
}

pub fn locked(recording: &Shared) -> std::sync::MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u32, first: u64) -> Call {
        Call::new(number, [first, 1, 0, 0, 0, 0])
    }

    #[test]
    fn a_recording_survives_its_file_and_unions_add_up() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one.json");
        let mut first = Recording::default();
        first.add(&call(41, 2), 3);
        first.add(&call(41, 16), 1);
        first.add(&call(41, 2), 4);
        first.save("toy", &path).expect("saved");
        let mut both = Recording::default();
        both.add(&call(41, 2), 10);
        both.load("toy", &path).expect("loaded");
        let counts: Vec<(u64, u64)> = both.observed().map(|seen| (seen.call.args[0], seen.count)).collect();
        assert_eq!(counts, [(2, 17), (16, 1)]);
    }

    #[test]
    fn recordings_of_others_and_nonsense_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one.json");
        Recording::default().save("other", &path).expect("saved");
        let error = Recording::default().load("toy", &path).expect_err("refused");
        assert!(error.what().ends_with("a recording of `other`, not of `toy`"), "{error}");
        for bad in ["", "[]", "{\"version\":1}", "{\"version\":9,\"service\":\"toy\",\"calls\":[]}"] {
            std::fs::write(&path, bad).expect("write");
            let error = Recording::default().load("toy", &path).expect_err(bad);
            assert!(error.what().starts_with(&path.display().to_string()), "{error}");
        }
    }
}
