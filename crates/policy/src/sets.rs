//! The named syscall sets beside the policies. A broken set file refuses only the policies that include it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{PolicyError, Report, deserialize};
use crate::load::{read_bounded, toml_files};
use crate::rules::{self, Rule};
use crate::{SCHEMA_VERSION, raw};

/// The files of policies/sets when this program was built: name and text.
const BUILTIN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/builtin_sets.rs"));

/// All sets of a policies directory, by name.
#[derive(Debug, Clone, Default)]
pub struct Sets {
    sets: BTreeMap<String, Result<Vec<Rule>, String>>,
}

impl Sets {
    /// No sets: for policies that list every call themselves.
    pub fn none() -> Sets {
        Sets::default()
    }

    /// The sets that come with this program, as on a node of the same version.
    pub fn builtin() -> Sets {
        let mut sets = Sets::default();
        for (name, text) in BUILTIN {
            sets.insert(name, &format!("sets/{name}.toml"), text);
        }
        sets
    }

    /// Reads `dir/*.toml`. A directory that cannot be read is a directory without sets: the policies that name
    /// one are refused with the name, which is the message that helps.
    pub fn load(dir: &Path) -> Sets {
        let mut sets = Sets::default();
        for path in toml_files(dir).unwrap_or_default() {
            let file = path.display().to_string();
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            match read_bounded(&path) {
                Ok(text) => sets.insert(&stem, &file, &text),
                Err(reason) => {
                    sets.sets.insert(stem, Err(format!("{file}: {reason}")));
                }
            }
        }
        sets
    }

    /// Adds one set; `stem` is the name that the file must carry.
    pub fn insert(&mut self, stem: &str, file: &str, text: &str) {
        let parsed = parse(stem, file, text).map_err(|error| error.to_string());
        self.sets.insert(stem.to_owned(), parsed);
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }

    /// `None` = no such set; `Some(Err)` = the set is broken, and how.
    pub fn get(&self, name: &str) -> Option<Result<&[Rule], &str>> {
        self.sets.get(name).map(|set| match set {
            Ok(rules) => Ok(rules.as_slice()),
            Err(reason) => Err(reason.as_str()),
        })
    }
}

fn parse(stem: &str, file: &str, text: &str) -> Result<Vec<Rule>, PolicyError> {
    check(stem, file, text).map_err(|mut errors| errors.swap_remove(0))
}

/// The rules of a set file, or everything that is wrong with it.
pub(crate) fn check(stem: &str, file: &str, text: &str) -> Result<Vec<Rule>, Vec<PolicyError>> {
    let raw: raw::SetFile = deserialize(file, text).map_err(|error| vec![error])?;
    let mut report = Report::new(file, text);
    if *raw.version.get_ref() != i64::from(SCHEMA_VERSION) {
        report.add(raw.version.span(), format!("`version` must be {SCHEMA_VERSION}"));
    }
    if raw.name.get_ref() != stem {
        let what = format!("set `{}` lies in a file called `{stem}.toml`", raw.name.get_ref());
        report.add(raw.name.span(), what);
    }
    let rules = rules::allow(&mut report, Some(stem), &raw.allow);
    report.finish().map(|()| rules)
}
