//! Boot counting as systemd-boot does it: a UKI on trial is called `NAME+LEFT-DONE.efi`; taking the counter
//! out of the name makes it good. Decides nothing about *when* a boot is good.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::efivar::{EFIVARS, EfiVarError, loader_string};

/// Where systemd-boot looks for UKIs on the ESP.
const UKI_FOLDER: &str = "EFI/Linux";

/// systemd-boot's counters have at most this many digits in our names; more is not ours.
const COUNTER_DIGITS_LIMIT: usize = 4;

/// The UKI that was booted while it is on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Name without counter and `.efi`, for example `oramaos-0.1.0`.
    pub name: String,
    /// Boots that are left, not counting this one.
    pub tries_left: u32,
    /// Boots that were tried, counting this one.
    pub tries_done: u32,
}

/// What [`mark_good`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The counter was taken out of the name just now.
    Now,
    /// The name had no counter any more.
    Already,
}

/// Why the trial state is unknown.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    #[error("cannot tell whether the booted image is on trial")]
    Variable(#[from] EfiVarError),
    #[error("boot loader counts an entry we do not know: {path}")]
    ForeignEntry { path: String },
}

/// Why the booted image could not be marked good.
#[derive(Debug, thiserror::Error)]
pub enum MarkGoodError {
    #[error("cannot mount the boot partition {} on {}", device.display(), at.display())]
    Mount { device: PathBuf, at: PathBuf, source: Errno },
    #[error("cannot list {}", folder.display())]
    List { folder: PathBuf, source: io::Error },
    #[error("no entry of {name} on the boot partition")]
    Gone { name: String },
    #[error("cannot rename {} to {}", from.display(), to.display())]
    Rename { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot write {} through to the disk", folder.display())]
    Sync { folder: PathBuf, source: io::Error },
    #[error("cannot unmount the boot partition from {}", at.display())]
    Unmount { at: PathBuf, source: Errno },
}

/// The trial that this boot is, `None` when the booted image is good already or there is no EFI.
pub fn pending() -> Result<Option<Trial>, PendingError> {
    pending_in(Path::new(EFIVARS))
}

/// [`pending`] with the efivarfs mount named.
pub fn pending_in(efivars: &Path) -> Result<Option<Trial>, PendingError> {
    let Some(path) = loader_string(efivars, "LoaderBootCountPath")? else {
        return Ok(None);
    };
    let file = path.rsplit(['\\', '/']).next().unwrap_or(&path);
    match parse_name(file) {
        Some(trial) => Ok(Some(trial)),
        None => Err(PendingError::ForeignEntry { path }),
    }
}

/// Mounts the ESP on `at`, takes the counter out of the trial's name, writes through and unmounts.
/// Repeating it is harmless. `at` must be an existing empty folder; nothing stays mounted, not even on failure.
pub fn mark_good(esp: &Path, at: &Path, trial: &Trial) -> Result<Marked, MarkGoodError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Short names in the code page and long names in UTF-8 are ASCII in both: no further module is needed.
    mount(Some(esp), at, Some("vfat"), flags, Some("fmask=0177,dmask=0077"))
        .map_err(|source| MarkGoodError::Mount { device: esp.to_path_buf(), at: at.to_path_buf(), source })?;
    let marked = mark_good_below(at, trial);
    // A lazy unmount would hide a busy mount; nothing of ours is open any more, so the plain one must work.
    let unmounted = umount2(at, MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|source| MarkGoodError::Unmount { at: at.to_path_buf(), source });
    let marked = marked?;
    unmounted?;
    Ok(marked)
}

/// [`mark_good`] on a mounted ESP (or, in tests, any folder).
pub fn mark_good_below(esp: &Path, trial: &Trial) -> Result<Marked, MarkGoodError> {
    let folder = esp.join(UKI_FOLDER);
    let good = folder.join(format!("{}.efi", trial.name));
    // FAT has no atomic rename: a power cut inside one can leave both names on the same clusters. Renaming
    // or deleting either would free them under the other, so with the good name present nothing is touched.
    if good.exists() {
        return Ok(Marked::Already);
    }
    let Some(counted) = counted_file(&folder, &trial.name)? else {
        return Err(MarkGoodError::Gone { name: trial.name.clone() });
    };
    if let Err(source) = fs::rename(&counted, &good) {
        return Err(MarkGoodError::Rename { from: counted, to: good, source });
    }
    match File::open(&good).and_then(|file| file.sync_all()).and_then(|()| File::open(&folder)?.sync_all()) {
        Ok(()) => Ok(Marked::Now),
        Err(source) => Err(MarkGoodError::Sync { folder, source }),
    }
}

fn counted_file(folder: &Path, name: &str) -> Result<Option<PathBuf>, MarkGoodError> {
    let list = |source| MarkGoodError::List { folder: folder.to_path_buf(), source };
    for entry in fs::read_dir(folder).map_err(list)? {
        let entry = entry.map_err(list)?;
        let is_ours = entry.file_name().to_str().and_then(parse_name).is_some_and(|trial| trial.name == name);
        if is_ours {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// `NAME+LEFT.efi` or `NAME+LEFT-DONE.efi`; `None` for every other name.
fn parse_name(file: &str) -> Option<Trial> {
    let (name, counter) = file.strip_suffix(".efi")?.rsplit_once('+')?;
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    if name.is_empty() || name.starts_with('.') {
        return None;
    }
    Some(Trial { name: name.into(), tries_left: digits(left)?, tries_done: digits(done)? })
}

fn digits(text: &str) -> Option<u32> {
    let plain =
        (1..=COUNTER_DIGITS_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efivar::tests::store;

    fn trial(name: &str, tries_left: u32, tries_done: u32) -> Trial {
        Trial { name: name.into(), tries_left, tries_done }
    }

    fn esp_with(files: &[&str]) -> tempfile::TempDir {
        let esp = tempfile::tempdir().unwrap();
        fs::create_dir_all(esp.path().join(UKI_FOLDER)).unwrap();
        for file in files {
            fs::write(esp.path().join(UKI_FOLDER).join(file), *file).unwrap();
        }
        esp
    }

    fn files(esp: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(esp.join(UKI_FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn names_are_read_as_systemd_boot_reads_them() {
        assert_eq!(parse_name("oramaos-0.1.0+3.efi"), Some(trial("oramaos-0.1.0", 3, 0)));
        assert_eq!(parse_name("oramaos-0.1.0+0-3.efi"), Some(trial("oramaos-0.1.0", 0, 3)));
        assert_eq!(parse_name("a+b+2-1.efi"), Some(trial("a+b", 2, 1)));
        for name in
            ["oramaos-0.1.0.efi", "x+.efi", "x+-1.efi", "x+3-.efi", "x++.efi", "+3.efi", "x+3", "x+99999.efi"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_trial_comes_from_the_boot_loader() {
        let efivars = tempfile::tempdir().unwrap();
        assert_eq!(pending_in(efivars.path()).unwrap(), None);
        store(efivars.path(), "LoaderBootCountPath", "\\EFI\\Linux\\oramaos-0.1.0+2-1.efi");
        assert_eq!(pending_in(efivars.path()).unwrap(), Some(trial("oramaos-0.1.0", 2, 1)));
        store(efivars.path(), "LoaderBootCountPath", "\\loader\\entries\\debian.conf");
        assert!(matches!(pending_in(efivars.path()), Err(PendingError::ForeignEntry { .. })));
    }

    #[test]
    fn only_the_booted_entry_is_renamed_and_twice_is_once() {
        let esp = esp_with(&["oramaos-1.0.0.efi", "oramaos-1.1.0+2-1.efi", "oramaos-1.2.0+3.efi"]);
        let booted = trial("oramaos-1.1.0", 2, 1);
        assert_eq!(mark_good_below(esp.path(), &booted).unwrap(), Marked::Now);
        assert_eq!(mark_good_below(esp.path(), &booted).unwrap(), Marked::Already);
        assert_eq!(files(esp.path()), ["oramaos-1.0.0.efi", "oramaos-1.1.0.efi", "oramaos-1.2.0+3.efi"]);
    }

    #[test]
    fn the_counter_may_have_moved_on_since_the_variable_was_written() {
        let esp = esp_with(&["oramaos-1.1.0+1-2.efi"]);
        assert_eq!(mark_good_below(esp.path(), &trial("oramaos-1.1.0", 2, 1)).unwrap(), Marked::Now);
        assert_eq!(files(esp.path()), ["oramaos-1.1.0.efi"]);
    }

    #[test]
    fn a_rename_cut_in_the_middle_loses_no_file() {
        let esp = esp_with(&["oramaos-1.1.0+2-1.efi", "oramaos-1.1.0.efi"]);
        assert_eq!(mark_good_below(esp.path(), &trial("oramaos-1.1.0", 2, 1)).unwrap(), Marked::Already);
        assert_eq!(files(esp.path()).len(), 2);
    }

    #[test]
    fn a_vanished_entry_is_an_error() {
        let esp = esp_with(&["oramaos-1.0.0.efi"]);
        assert!(matches!(
            mark_good_below(esp.path(), &trial("oramaos-1.1.0", 2, 1)),
            Err(MarkGoodError::Gone { .. })
        ));
    }
}
