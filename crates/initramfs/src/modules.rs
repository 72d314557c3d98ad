//! Loads the kernel modules named in /modules.list, in that order; the image build has resolved what
//! depends on what. Nothing is loaded by name or alias later on.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LIST: &str = "/modules.list";

/// Far above what an image lists; bounds the loop over a damaged list.
const MODULES_LIMIT: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    #[error("cannot read {LIST}")]
    List(#[source] io::Error),
    #[error("{LIST} has more than {MODULES_LIMIT} lines")]
    TooMany,
    #[error("cannot load {}", path.display())]
    Load { path: PathBuf, source: io::Error },
    #[error("cannot close the door for further modules")]
    Close(#[source] io::Error),
}

/// One line of the list. `?` in front marks a module for hardware that this machine may lack.
#[derive(Debug, PartialEq, Eq)]
struct Listed<'a> {
    path: &'a Path,
    optional: bool,
}

/// Loads all, then forbids loading for the life of this kernel: the image has no other modules, so only
/// an intruder could bring one.
pub fn load_listed() -> Result<(), ModulesError> {
    let text = fs::read_to_string(LIST).map_err(ModulesError::List)?;
    for listed in parse(&text)? {
        match load(listed.path) {
            Ok(()) => {}
            Err(_) if listed.optional => {}
            Err(source) => return Err(ModulesError::Load { path: listed.path.into(), source }),
        }
    }
    fs::write("/proc/sys/kernel/modules_disabled", "1").map_err(ModulesError::Close)
}

fn parse(text: &str) -> Result<Vec<Listed<'_>>, ModulesError> {
    let lines: Vec<Listed<'_>> = text
        .lines()
        .filter(|line| !line.is_empty())
        .take(MODULES_LIMIT + 1)
        .map(|line| match line.strip_prefix('?') {
            Some(path) => Listed { path: Path::new(path), optional: true },
            None => Listed { path: Path::new(line), optional: false },
        })
        .collect();
    if lines.len() > MODULES_LIMIT { Err(ModulesError::TooMany) } else { Ok(lines) }
}

fn load(path: &Path) -> io::Result<()> {
    let module = File::open(path)?;
    let no_parameters: &CStr = c"";
    // SAFETY: finit_module reads the open file behind a descriptor that `module` keeps valid during the
    // call, and a NUL-terminated string that lives for ever. It writes no memory of ours.
    let result = unsafe {
        libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), no_parameters.as_ptr(), 0 as libc::c_int)
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        // Built into this kernel or loaded already.
        error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_optional_mark_are_kept() {
        let list = parse("/lib/a.ko\n?/lib/b.ko\n\n/lib/c.ko\n").unwrap();
        let line = |path, optional| Listed { path: Path::new(path), optional };
        assert_eq!(list, [line("/lib/a.ko", false), line("/lib/b.ko", true), line("/lib/c.ko", false)]);
    }

    #[test]
    fn an_endless_list_is_refused() {
        assert!(matches!(parse(&"/a.ko\n".repeat(257)), Err(ModulesError::TooMany)));
    }
}
