//! A policies directory: every file for itself, so that a bad one takes only its own service down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::did_you_mean;
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
    /// The policy's name, or the file's when the policy could not be parsed.
    pub service: String,
    pub file: PathBuf,
    /// With line and column where there is one.
    pub reason: String,
}

/// Reads `dir/*.toml` with the sets of `dir/sets`. Only a directory that cannot be listed is an error.
pub fn load_dir(dir: &Path) -> io::Result<Loaded> {
    let files = toml_files(dir)?;
    let sets = Sets::load(&dir.join("sets"));
    let mut loaded = Loaded::default();
    let mut good: Vec<(PathBuf, Policy)> = Vec::new();
    for (count, file) in files.into_iter().enumerate() {
        let parsed = if count >= MAX_FILES {
            Err(format!("more than {MAX_FILES} policy files in {}", dir.display()))
        } else {
            read_bounded(&file).and_then(|text| {
                let name = file.display().to_string();
                Policy::parse(&name, &text, &sets).map_err(|error| error.to_string())
            })
        };
        match parsed {
            Ok(policy) => good.push((file, policy)),
            Err(reason) => {
                let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned());
                let service = stem.unwrap_or_default();
                loaded.refused.push(Refused { service, file, reason });
            }
        }
    }
    let good = without_duplicates(good, &mut loaded.refused);
    let good = without_unknown_dependencies(good, &mut loaded.refused);
    place(good, &mut loaded);
    Ok(loaded)
}

/// Of two services with one name or one uid the first (by file name) stays.
fn without_duplicates(good: Vec<(PathBuf, Policy)>, refused: &mut Vec<Refused>) -> Vec<(PathBuf, Policy)> {
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut uids: BTreeMap<u32, String> = BTreeMap::new();
    let mut kept = Vec::with_capacity(good.len());
    for (file, policy) in good {
        let reason = if let Some(other) = names.get(&policy.name) {
            Some(format!("name `{}` is already taken by {}", policy.name, other.display()))
        } else {
            uids.get(&policy.uid)
                .map(|other| format!("uid {} is already taken by service `{other}`", policy.uid))
        };
        if let Some(reason) = reason {
            refused.push(Refused { service: policy.name.clone(), file, reason });
            continue;
        }
        names.insert(policy.name.clone(), file.clone());
        uids.insert(policy.uid, policy.name.clone());
        kept.push((file, policy));
    }
    kept
}

/// A dependency on a service that exists nowhere is a slip of the author; one on a refused service is not.
fn without_unknown_dependencies(
    good: Vec<(PathBuf, Policy)>,
    refused: &mut Vec<Refused>,
) -> Vec<(PathBuf, Policy)> {
    let known: BTreeSet<String> = good
        .iter()
        .map(|(_, policy)| policy.name.clone())
        .chain(refused.iter().map(|refused| refused.service.clone()))
        .collect();
    let mut kept = Vec::with_capacity(good.len());
    for (file, policy) in good {
        match policy.after.iter().find(|dependency| !known.contains(*dependency)) {
            None => kept.push((file, policy)),
            Some(unknown) => {
                let hint = did_you_mean(unknown, known.iter().map(String::as_str))
                    .map(|hint| format!(" ({hint})"))
                    .unwrap_or_default();
                let reason = format!("`after` names a service `{unknown}` without a policy{hint}");
                refused.push(Refused { service: policy.name.clone(), file, reason });
            }
        }
    }
    kept
}

fn place(good: Vec<(PathBuf, Policy)>, loaded: &mut Loaded) {
    let nodes: Vec<Node<'_>> = good
        .iter()
        .map(|(_, policy)| Node { name: &policy.name, order: policy.order, after: &policy.after })
        .collect();
    let (sorted, stuck) = sort(&nodes);
    let mut by_name: BTreeMap<String, (PathBuf, Policy)> =
        good.into_iter().map(|entry| (entry.1.name.clone(), entry)).collect();
    loaded.policies =
        sorted.iter().filter_map(|name| by_name.remove(name)).map(|(_, policy)| policy).collect();
    for (service, (file, _)) in by_name {
        let cycle = stuck.get(&service).map(String::as_str).unwrap_or("?");
        let reason = format!("`after` is a cycle: {cycle}");
        loaded.refused.push(Refused { service, file, reason });
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
    let is_file = fs::metadata(path).map_err(|error| error.to_string())?.is_file();
    if !is_file {
        return Err("not a regular file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8 at byte {at}")
    })
}
