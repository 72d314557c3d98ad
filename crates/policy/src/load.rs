//! A policies directory: every file for itself, so that a bad one takes only its own service down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{did_you_mean, position};
use crate::order::{Node, sort};
use crate::{MAX_FILE_BYTES, Policy, Sets};

/// Most policy files that are read from one directory.
const MAX_FILES: usize = 256;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// In start order. `after` of a policy may name a refused service: its owner decides what that means.
    pub policies: Vec<Policy>,
    pub refused: Vec<Refused>,
}

/// A service that stays down, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The policy's name, or the file's when the policy could not be parsed or its name is another's.
    /// Never the name of a service in [`Loaded::policies`].
    pub service: String,
    pub file: PathBuf,
    /// Begins with `file:line:column: `.
    pub reason: String,
}

/// A file that parsed.
struct Good {
    file: PathBuf,
    text: String,
    policy: Policy,
}

/// Reads `dir/*.toml` with the sets of `dir/sets`. Only a directory that cannot be listed is an error.
pub fn load_dir(dir: &Path) -> io::Result<Loaded> {
    let files = toml_files(dir)?;
    let sets = Sets::load(&dir.join("sets"));
    let mut loaded = Loaded::default();
    let mut good: Vec<Good> = Vec::new();
    for (count, file) in files.into_iter().enumerate() {
        let name = file.display().to_string();
        let parsed = if count >= MAX_FILES {
            Err(format!("{name}:1:1: more than {MAX_FILES} policy files in {}", dir.display()))
        } else {
            read(&file).map_err(|unreadable| format!("{name}:{unreadable}")).and_then(|text| {
                let policy = Policy::parse(&name, &text, &sets).map_err(|error| error.to_string())?;
                Ok((text, policy))
            })
        };
        match parsed {
            Ok((text, policy)) => good.push(Good { file, text, policy }),
            Err(reason) => loaded.refused.push(Refused { service: stem(&file), file, reason }),
        }
    }
    let good = without_duplicates(good, &mut loaded.refused);
    let good = without_unknown_dependencies(good, &mut loaded.refused);
    place(good, &mut loaded);
    tell_apart(&mut loaded);
    Ok(loaded)
}

fn stem(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Good {
    /// A refusal that points at the first place of `key` in the file.
    fn refused(self, service: String, key: &str, what: &str) -> Refused {
        let (line, column) = position(&self.text, place_of(&self.text, key));
        let reason = format!("{}:{line}:{column}: {what}", self.file.display());
        Refused { service, file: self.file, reason }
    }
}

/// Where `key = …` begins, at the start of a line or in an inline table. The file is valid: the key is there.
fn place_of(text: &str, key: &str) -> usize {
    let starts_a_value = |at: usize| {
        let before = text[..at].chars().next_back();
        let alone = before.is_none_or(|c| c.is_whitespace() || matches!(c, '{' | ','));
        alone && text[at + key.len()..].trim_start().starts_with('=')
    };
    text.match_indices(key).map(|(at, _)| at).find(|at| starts_a_value(*at)).unwrap_or(0)
}

/// Of two services with one name or one uid one stays: the one whose file is named after it, or else the first by
/// file name. The other is refused under its file's name, as the name in it is somebody else's.
fn without_duplicates(mut good: Vec<Good>, refused: &mut Vec<Refused>) -> Vec<Good> {
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut uids: BTreeMap<u32, String> = BTreeMap::new();
    let mut kept = Vec::with_capacity(good.len());
    good.sort_by_key(|good| stem(&good.file) != good.policy.name);
    for good in good {
        let policy = &good.policy;
        if let Some(other) = names.get(&policy.name) {
            let what = format!("name `{}` is already taken by {}", policy.name, other.display());
            let service = stem(&good.file);
            refused.push(good.refused(service, "name", &what));
        } else if let Some(other) = uids.get(&policy.uid) {
            let what = format!("uid {} is already taken by service `{other}`", policy.uid);
            let service = policy.name.clone();
            refused.push(good.refused(service, "uid", &what));
        } else {
            names.insert(policy.name.clone(), good.file.clone());
            uids.insert(policy.uid, policy.name.clone());
            kept.push(good);
        }
    }
    kept
}

/// A dependency on a service that exists nowhere is a slip of the author; one on a refused service is not.
fn without_unknown_dependencies(good: Vec<Good>, refused: &mut Vec<Refused>) -> Vec<Good> {
    let known: BTreeSet<String> = good
        .iter()
        .map(|good| good.policy.name.clone())
        .chain(refused.iter().map(|refused| refused.service.clone()))
        .collect();
    let mut kept = Vec::with_capacity(good.len());
    for good in good {
        match good.policy.after.iter().find(|dependency| !known.contains(*dependency)) {
            None => kept.push(good),
            Some(unknown) => {
                let hint = did_you_mean(unknown, known.iter().map(String::as_str))
                    .map(|hint| format!(" ({hint})"))
                    .unwrap_or_default();
                let what = format!("`after` names a service `{unknown}` without a policy{hint}");
                let service = good.policy.name.clone();
                refused.push(good.refused(service, "after", &what));
            }
        }
    }
    kept
}

fn place(good: Vec<Good>, loaded: &mut Loaded) {
    let nodes: Vec<Node<'_>> = good
        .iter()
        .map(|Good { policy, .. }| Node { name: &policy.name, order: policy.order, after: &policy.after })
        .collect();
    let (sorted, stuck) = sort(&nodes);
    let mut by_name: BTreeMap<String, Good> =
        good.into_iter().map(|good| (good.policy.name.clone(), good)).collect();
    loaded.policies = sorted.iter().filter_map(|name| by_name.remove(name)).map(|good| good.policy).collect();
    for (service, good) in by_name {
        let cycle = stuck.get(&service).map(String::as_str).unwrap_or("?");
        loaded.refused.push(good.refused(service, "after", &format!("`after` is a cycle: {cycle}")));
    }
}

/// A refused file must never stand for a service that runs, nor for another refused one.
fn tell_apart(loaded: &mut Loaded) {
    let mut taken: BTreeSet<String> = loaded.policies.iter().map(|policy| policy.name.clone()).collect();
    for refused in &mut loaded.refused {
        if !taken.insert(refused.service.clone()) {
            let name = refused.file.file_name().unwrap_or_default();
            refused.service = name.to_string_lossy().into_owned();
            taken.insert(refused.service.clone());
        }
    }
}

/// The `*.toml` files of a directory, sorted by name; sub-directories and other files are not looked at.
pub(crate) fn toml_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file of at most [`MAX_FILE_BYTES`]; the reason when there is none.
pub fn read_bounded(path: &Path) -> Result<String, String> {
    read(path).map_err(|unreadable| unreadable.what)
}

/// Why a file has no text, and where.
struct Unreadable {
    at: (u32, u32),
    what: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}", self.at.0, self.at.1, self.what)
    }
}

fn read(path: &Path) -> Result<String, Unreadable> {
    let whole = |what: String| Unreadable { at: (1, 1), what };
    let failed = |error: io::Error| whole(error.to_string());
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(whole("not a regular file".to_owned()));
    }
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(whole(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let at = position(&String::from_utf8_lossy(&error.as_bytes()[..good]), good);
        Unreadable { at, what: format!("not UTF-8 at byte {good}") }
    })
}
