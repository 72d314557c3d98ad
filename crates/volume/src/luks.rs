//! The real data volume: a LUKS2 partition driven through cryptsetup, with an ext4 inside.
//! Owns the order of checks. Command lines are in `commands`; what a header or token means is decided in `header` and `seal`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use orama_keyshare::VolumeKey;

use crate::commands::{
    CRYPTSETUP_TIMEOUT, DUMP_LIMIT_BYTES, EXIT_WRONG_KEY, LOCK_DIRECTORY, MKFS_TIMEOUT, Programs,
    luks_format, make_lock_directory, mkfs_ext4,
};
use crate::header::{self, HELD_SLOT, Leftover, NODE_SLOT};
use crate::program::{Finished, Run};
use crate::seal::{HELD_TOKEN_TYPE, TOKEN_LIMIT_BYTES, TOKEN_TYPE};
use crate::uuid::{uuid_text, version_4};
use crate::{
    CloseError, Damage, DataVolume, EarlyState, FilesystemError, FormatError, Growth, Held, LeaveError,
    MacKey, MountError, OpenError, Probe, ProbeError, RandomError, RunError, SealedRecord, WriteStateError,
    grow_data_partition, leaving, mapper, mounting,
};

mod tokens;

/// Name of the opened volume under /dev/mapper.
pub const DEFAULT_MAPPER_NAME: &str = "orama-data";

/// A LUKS2 volume on a partition (or, for everything but open and mount, on a plain file).
pub struct LuksVolume {
    device: PathBuf,
    root: PathBuf,
    mapper_name: String,
    programs: Programs,
    /// Disk and partition number, when formatting may take the rest of the disk.
    grows: Option<(PathBuf, u32)>,
    /// Held by whoever writes the header: a write that is under way must not undo an erasure.
    writing: Mutex<()>,
}

impl LuksVolume {
    /// The volume on `device`, to be mounted at `root`. Touches nothing yet.
    pub fn new(device: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            device: device.into(),
            root: root.into(),
            mapper_name: DEFAULT_MAPPER_NAME.to_owned(),
            programs: Programs::default(),
            grows: None,
            writing: Mutex::new(()),
        }
    }

    /// With helper programs from other places.
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = programs;
        self
    }

    /// The volume is partition `number` (from 1) of `disk` and its last one: [`DataVolume::format`] first moves its
    /// end to the end of the disk, because an image is small and the disk it was written to is not.
    pub fn growing(mut self, disk: impl Into<PathBuf>, number: u32) -> Self {
        self.grows = Some((disk.into(), number));
        self
    }

    /// Opened under another name than [`DEFAULT_MAPPER_NAME`].
    pub fn with_mapper_name(mut self, name: impl Into<String>) -> Self {
        self.mapper_name = name.into();
        self
    }

    fn device_name(&self) -> String {
        self.device.display().to_string()
    }

    fn mapper_path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.mapper_name)
    }

    /// Runs cryptsetup on the device, which is always the last or last but one argument of the caller's list.
    fn cryptsetup(
        &self,
        arguments: &[&str],
        stdin: &[u8],
        stdout_limit: usize,
    ) -> Result<Finished, RunError> {
        let program = &self.programs.cryptsetup;
        Run { program, arguments, stdin, stdout_limit, timeout: CRYPTSETUP_TIMEOUT }.finish()
    }

    fn read_header(&self) -> io::Result<Option<header::BinaryHeader>> {
        header::find(&File::open(&self.device)?)
    }

    fn is_leaving(&self) -> io::Result<bool> {
        leaving::is_marked(&File::open(&self.device)?)
    }

    fn damaged(&self, source: Damage) -> ProbeError {
        ProbeError::Damaged { device: self.device_name(), source }
    }

    /// There is a header and no token came out of it: is that an unfinished volume or a broken one?
    fn probe_without_token(&self, export_said: &str) -> Result<Probe, ProbeError> {
        let device = self.device_name();
        let dump = self
            .cryptsetup(&["luksDump", "--batch-mode", "--dump-json-metadata", &device], b"", DUMP_LIMIT_BYTES)
            .map_err(|source| ProbeError::Export { device: device.clone(), source })?;
        if dump.code != 0 {
            let read = |source| ProbeError::Read { device: device.clone(), source };
            let file = File::open(&self.device).map_err(read)?;
            return match header::leftover(&file).map_err(read)? {
                Leftover::UnfinishedFormat => Ok(Probe::Unfinished {
                    why: "formatting was cut off before the header was complete".to_owned(),
                }),
                Leftover::Damaged => Err(self.damaged(Damage::Header { why: dump.stderr })),
            };
        }
        let metadata: Metadata = serde_json::from_slice(&dump.stdout)
            .map_err(|source| self.damaged(Damage::TokenSyntax(source)))?;
        if metadata.tokens.is_empty() {
            return Ok(Probe::Unfinished { why: "the header carries no record of enrollment".to_owned() });
        }
        let slots: Vec<&str> = metadata.tokens.keys().map(String::as_str).collect();
        let what = format!("tokens in slots {} (exporting slot 0: {export_said})", slots.join(", "));
        Err(self.damaged(Damage::UnexpectedToken { what }))
    }

    /// The mapping of our name, and whether it is our volume.
    fn active(&self, uuid: [u8; 16]) -> io::Result<Active> {
        Ok(match mapper::find(Path::new("/sys"), &self.mapper_name)? {
            None => Active::No,
            Some(mapping) if mapping.is_volume(uuid, &self.mapper_name) => Active::Ours,
            Some(mapping) => Active::Other(mapping.dm_uuid),
        })
    }

    fn key_checked(&self, finished: Result<Finished, RunError>) -> Result<(), OpenError> {
        let run = |source| OpenError::Run { device: self.device_name(), source };
        let finished = finished.map_err(run)?;
        if finished.code == EXIT_WRONG_KEY {
            return Err(OpenError::WrongKey { device: self.device_name() });
        }
        finished.success(&self.programs.cryptsetup).map_err(run)?;
        Ok(())
    }

    fn sync_device(&self) -> io::Result<()> {
        File::open(&self.device)?.sync_all()
    }
}

enum Active {
    No,
    Ours,
    Other(String),
}

/// The only member of the header's JSON that we look at.
#[derive(serde::Deserialize)]
struct Metadata {
    tokens: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

impl DataVolume for LuksVolume {
    fn probe(&self) -> Result<Probe, ProbeError> {
        let device = self.device_name();
        let read = |source| ProbeError::Read { device: device.clone(), source };
        if self.is_leaving().map_err(read)? {
            return Ok(Probe::Leaving);
        }
        match self.read_header().map_err(read)? {
            None => return Ok(Probe::Blank),
            Some(found) if found.version != 2 => {
                let why = format!("LUKS version {}, which this agent does not make", found.version);
                return Err(self.damaged(Damage::Header { why }));
            }
            Some(_) => {}
        }
        let file = File::open(&self.device).map_err(read)?;
        let token = match header::tokens_of_unharmed(&file).map_err(read)?.and_then(|tokens| tokens.node) {
            Some(token) => token,
            None => {
                let export =
                    self.export_token(NODE_SLOT, TOKEN_LIMIT_BYTES).map_err(|source| match source {
                        RunError::OutputTooLong { .. } => {
                            self.damaged(Damage::TokenTooLong { limit: TOKEN_LIMIT_BYTES })
                        }
                        source => ProbeError::Export { device: device.clone(), source },
                    })?;
                if export.code != 0 {
                    return self.probe_without_token(&export.stderr);
                }
                export.stdout
            }
        };
        let (state, sealed) = SealedRecord::from_token_json(&token).map_err(|source| self.damaged(source))?;
        // Read again: cryptsetup has by now repaired a first copy that was broken.
        let header_uuid = self.read_header().map_err(read)?.and_then(|found| found.uuid);
        if header_uuid != Some(state.volume_uuid) {
            return Err(self.damaged(Damage::OtherVolume {
                token: uuid_text(state.volume_uuid),
                header: header_uuid.map_or_else(|| "of no readable UUID".to_owned(), uuid_text),
            }));
        }
        Ok(Probe::Enrolled { state, sealed })
    }

    fn format(&self, key: &VolumeKey) -> Result<[u8; 16], FormatError> {
        let device = self.device_name();
        match self.probe() {
            Ok(Probe::Blank | Probe::Unfinished { .. }) => {}
            Ok(Probe::Enrolled { .. }) => return Err(FormatError::Enrolled { device }),
            Ok(Probe::Leaving) => return Err(FormatError::Leaving { device }),
            Err(source) => return Err(FormatError::Probe { device, source }),
        }
        let write = |source| FormatError::Write { device: device.clone(), source };
        if mapper::find(Path::new("/sys"), &self.mapper_name).map_err(write)?.is_some() {
            return Err(FormatError::InUse { device, mapper: self.mapper_name.clone() });
        }
        if let Some((disk, number)) = &self.grows {
            match grow_data_partition(disk, *number).map_err(FormatError::Grow)? {
                Growth::AlreadyFull => {}
                Growth::Grown { from_bytes, to_bytes } => {
                    tracing::info!(%device, from_bytes, to_bytes, "data partition takes the rest of the disk");
                }
            }
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|source| FormatError::Random { device: device.clone(), source: RandomError(source) })?;
        let uuid = version_4(random);
        make_lock_directory(&self.device).map_err(write)?;
        self.cryptsetup(&luks_format(&uuid_text(uuid), &device), key.expose(), 4096)
            .and_then(|finished| finished.success(&self.programs.cryptsetup))
            .map_err(|source| FormatError::Run { device: device.clone(), source })?;
        self.sync_device().map_err(write)?;
        Ok(uuid)
    }

    fn test_key(&self, key: &VolumeKey) -> Result<(), OpenError> {
        let device = self.device_name();
        let arguments =
            ["open", "--test-passphrase", "--type", "luks2", "--key-file", "-", "--keyfile-size=32", &device];
        self.key_checked(self.cryptsetup(&arguments, key.expose(), 4096))
    }

    fn open(&self, key: &VolumeKey) -> Result<(), OpenError> {
        let device = self.device_name();
        let facts = |source| OpenError::Facts { device: device.clone(), source };
        if let Some(uuid) = self.read_header().map_err(facts)?.and_then(|found| found.uuid) {
            match self.active(uuid).map_err(facts)? {
                Active::No => {}
                Active::Ours => return self.test_key(key),
                Active::Other(other) => {
                    return Err(OpenError::NameTaken { device, mapper: self.mapper_name.clone(), other });
                }
            }
        }
        make_lock_directory(&self.device)
            .map_err(|source| OpenError::LockDirectory { path: LOCK_DIRECTORY.to_owned(), source })?;
        let name = &self.mapper_name;
        let arguments = ["open", "--type", "luks2", "--key-file", "-", "--keyfile-size=32", &device, name];
        self.key_checked(self.cryptsetup(&arguments, key.expose(), 4096))
    }

    fn make_filesystem(&self) -> Result<(), FilesystemError> {
        let path = self.mapper_path();
        let device = path.display().to_string();
        if !path.exists() {
            return Err(FilesystemError::NotOpen { device });
        }
        let arguments = mkfs_ext4(&device);
        Run {
            program: &self.programs.mkfs_ext4,
            arguments: &arguments,
            stdin: b"",
            stdout_limit: 1 << 16,
            timeout: MKFS_TIMEOUT,
        }
        .finish()
        .and_then(|finished| finished.success(&self.programs.mkfs_ext4))
        .map_err(|source| FilesystemError::Run { device: device.clone(), source })?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|source| FilesystemError::Write { device, source })
    }

    fn mount(&self) -> Result<(), MountError> {
        let path = self.mapper_path();
        let device = path.display().to_string();
        let mapping = mapper::find(Path::new("/sys"), &self.mapper_name)
            .map_err(MountError::MountTable)?
            .ok_or_else(|| MountError::NotOpen { device: device.clone() })?;
        let root = self.root.display().to_string();
        match mounting::mounted_at(&self.root).map_err(MountError::MountTable)? {
            Some(mounted) if mounted.device_number == mapping.device_number => Ok(()),
            // Something else is below (a tmpfs of an early boot stage would be our own bug): do not hide it.
            Some(mounted) => Err(MountError::RootTaken { root, other: mounted.source }),
            None => mounting::mount_ext4(&path, &self.root).map_err(|source| MountError::Mount {
                device,
                root,
                source,
            }),
        }
    }

    fn unmount_and_close(&self) -> Result<(), CloseError> {
        let mapper = self.mapper_name.clone();
        let Some(mapping) = mapper::find(Path::new("/sys"), &self.mapper_name)
            .map_err(|source| CloseError::Facts { mapper: mapper.clone(), source })?
        else {
            return Ok(());
        };
        let mounted = mounting::mounted_at(&self.root).map_err(CloseError::MountTable)?;
        if mounted.is_some_and(|mounted| mounted.device_number == mapping.device_number) {
            let root = self.root.display().to_string();
            mounting::unmount(&self.root).map_err(|source| CloseError::Unmount { root, source })?;
        }
        self.cryptsetup(&["close", &self.mapper_name], b"", 4096)
            .and_then(|finished| finished.success(&self.programs.cryptsetup))
            .map_err(|source| CloseError::Run { mapper, source })?;
        Ok(())
    }

    fn write_early_state(&self, state: &EarlyState, mac_key: &MacKey) -> Result<(), WriteStateError> {
        let sealed = SealedRecord::seal(state, mac_key).map_err(WriteStateError::State)?;
        self.import_token(NODE_SLOT, state.volume_uuid, &sealed.token_json(TOKEN_TYPE))
    }

    fn read_held(&self) -> Result<Option<(Held, SealedRecord)>, ProbeError> {
        self.held_token()
    }

    fn write_held(&self, held: &Held, mac_key: &MacKey) -> Result<(), WriteStateError> {
        let json = SealedRecord::seal_held(held, mac_key).token_json(HELD_TOKEN_TYPE);
        self.import_token(HELD_SLOT, held.volume_uuid(), &json)
    }

    fn mark_leaving(&self) -> Result<(), LeaveError> {
        let device = self.device_name();
        let write = |source| LeaveError::Write { device: device.clone(), source };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read_header().map_err(write)?.is_none() {
            return Err(LeaveError::NotEnrolled { device });
        }
        leaving::mark(&self.device).map_err(write)
    }

    fn erase(&self) -> Result<(), LeaveError> {
        let device = self.device_name();
        let write = |source| LeaveError::Write { device: device.clone(), source };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_leaving().map_err(write)? {
            return Err(LeaveError::NotMarked { device });
        }
        leaving::erase(&self.device).map_err(write)
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_is_not_open_is_neither_made_nor_mounted() {
        let volume = LuksVolume::new("/nonexistent/device", "/nonexistent/root")
            .with_mapper_name("orama-test-not-open");
        assert!(matches!(volume.make_filesystem(), Err(FilesystemError::NotOpen { .. })));
        assert!(matches!(volume.mount(), Err(MountError::NotOpen { .. })));
        volume.unmount_and_close().unwrap();
    }
}
