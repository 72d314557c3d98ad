//! A directory that behaves like the data volume, for tests of what stands above it: header and record beside the
//! data, wrong keys refused, and crashes at the points where a power cut hurts. Encrypts nothing; never in an image.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use orama_keyshare::VolumeKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::seal::{HELD_TOKEN_TYPE, TOKEN_TYPE};
use crate::uuid::{hex, parse_uuid, uuid_text, version_4};
use crate::vault::write_atomically;
use crate::{
    CloseError, Damage, DataVolume, EarlyState, FilesystemError, FormatError, Held, LeaveError, MacKey,
    MountError, OpenError, Probe, ProbeError, SealedRecord, WriteStateError,
};

/// Where the machine loses power. What was done before stays done; every later call on the same object fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The header's first copy is half written.
    InFormat,
    /// The header is there, the volume was never opened.
    AfterFormat,
    AfterOpen,
    AfterFilesystem,
    AfterMount,
    /// The record was not replaced: the old one, or none, is still there.
    BeforeRecord,
    /// The record is on the disk, but the caller never hears of it.
    AfterRecord,
    /// The same of what is held for others.
    BeforeHeld,
    AfterHeld,
    BeforeMark,
    /// The mark is on the disk, but the caller never hears of it.
    AfterMark,
    /// The key slots are gone, the record is not.
    InErase,
    /// Everything is gone but the mark.
    BeforeUnmark,
    /// Nothing is left, but the caller never hears of it.
    AfterErase,
}

/// `<base>/header.json`, `<base>/token.json` and `<base>/held.json`, the data in `<base>/sealed` (closed) or `<base>/mounted`.
pub struct DirectoryVolume {
    base: PathBuf,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: bool,
    crash_at: Option<CrashPoint>,
    /// How often the point is passed before.
    passes_left: u32,
    crashed: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    uuid: String,
    key_sha256: String,
}

impl DirectoryVolume {
    /// The volume as a machine finds it after power-on: closed, whatever was open before.
    pub fn power_on(base: &Path) -> io::Result<Self> {
        let volume = Self { base: base.to_owned(), root: base.join("mounted"), state: Mutex::default() };
        if volume.root.exists() {
            std::fs::rename(&volume.root, volume.sealed())?;
        }
        Ok(volume)
    }

    /// Loses power the next time that this point is reached.
    pub fn crash_at(&self, point: CrashPoint) {
        self.crash_after(0, point);
    }

    /// Loses power when this point is reached after it was passed so often.
    pub fn crash_after(&self, passes: u32, point: CrashPoint) {
        let mut state = self.lock();
        (state.crash_at, state.passes_left) = (Some(point), passes);
    }

    /// Loses power now.
    pub fn cut_power(&self) {
        self.lock().crashed = true;
    }

    /// The token file, for tests that edit the record offline.
    pub fn token_path(&self) -> PathBuf {
        self.base.join("token.json")
    }

    /// The same for what is held for others.
    pub fn held_path(&self) -> PathBuf {
        self.base.join("held.json")
    }

    fn leaving_path(&self) -> PathBuf {
        self.base.join("leaving")
    }

    fn header_path(&self) -> PathBuf {
        self.base.join("header.json")
    }

    fn sealed(&self) -> PathBuf {
        self.base.join("sealed")
    }

    fn device(&self) -> String {
        self.base.display().to_string()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn powered(&self) -> io::Result<()> {
        if self.lock().crashed { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn passes(&self, point: CrashPoint) -> io::Result<()> {
        let mut state = self.lock();
        if state.crash_at == Some(point) {
            if let Some(left) = state.passes_left.checked_sub(1) {
                state.passes_left = left;
                return Ok(());
            }
            state.crashed = true;
            return Err(io::Error::other(format!("the power went off: {point:?}")));
        }
        Ok(())
    }

    /// `Err(Some(why))`: there is something that is no header.
    fn header(&self) -> io::Result<Option<Result<Header, String>>> {
        match std::fs::read(self.header_path()) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|error| error.to_string()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_token(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        write_atomically(path, content, 0o600).map_err(io::Error::other)
    }

    fn write_header(&self, key: &VolumeKey) -> io::Result<[u8; 16]> {
        self.powered()?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let uuid = version_4(random);
        let header = Header { uuid: uuid_text(uuid), key_sha256: hex(&Sha256::digest(key.expose())) };
        let json = serde_json::to_vec(&header)?;
        if let Err(error) = self.passes(CrashPoint::InFormat) {
            std::fs::write(self.header_path(), &json[..json.len() / 2])?;
            return Err(error);
        }
        // A new volume key makes the old content noise.
        if self.sealed().exists() {
            std::fs::remove_dir_all(self.sealed())?;
        }
        match std::fs::remove_file(self.held_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.write(&self.header_path(), &json)?;
        self.passes(CrashPoint::AfterFormat)?;
        Ok(uuid)
    }

    /// Checked as the header's copy is.
    fn check_header(&self, volume_uuid: [u8; 16]) -> Result<(), WriteStateError> {
        let device = self.device();
        let device_error = |source| WriteStateError::Device { device: device.clone(), source };
        self.powered().map_err(device_error)?;
        if self.leaving_path().exists() {
            return Err(WriteStateError::Leaving { device });
        }
        let header = match self.header().map_err(device_error)? {
            Some(Ok(header)) => header.uuid,
            _ => return Err(WriteStateError::NoHeader { device }),
        };
        let state = uuid_text(volume_uuid);
        if header == state { Ok(()) } else { Err(WriteStateError::OtherVolume { device, state, header }) }
    }

    fn write_token(&self, path: &Path, json: &[u8], around: [CrashPoint; 2]) -> Result<(), WriteStateError> {
        let write = || {
            self.passes(around[0])?;
            self.write(path, json)?;
            self.passes(around[1])
        };
        write().map_err(|source| WriteStateError::Device { device: self.device(), source })
    }
}

impl DataVolume for DirectoryVolume {
    fn probe(&self) -> Result<Probe, ProbeError> {
        let device = self.device();
        let read = |source| ProbeError::Read { device: device.clone(), source };
        let damaged = |source| ProbeError::Damaged { device: device.clone(), source };
        self.powered().map_err(read)?;
        if self.leaving_path().exists() {
            return Ok(Probe::Leaving);
        }
        let token = self.read_token(&self.token_path()).map_err(read)?;
        let header = match (self.header().map_err(read)?, &token) {
            (None, _) => return Ok(Probe::Blank),
            (Some(Err(why)), None) => return Ok(Probe::Unfinished { why }),
            (Some(Err(why)), Some(_)) => return Err(damaged(Damage::Header { why })),
            (Some(Ok(header)), _) => header,
        };
        let Some(token) = token else {
            return Ok(Probe::Unfinished { why: "the header carries no record of enrollment".to_owned() });
        };
        let (state, sealed) = SealedRecord::from_token_json(&token).map_err(damaged)?;
        if parse_uuid(&header.uuid) != Some(state.volume_uuid) {
            let token = uuid_text(state.volume_uuid);
            return Err(damaged(Damage::OtherVolume { token, header: header.uuid }));
        }
        Ok(Probe::Enrolled { state, sealed })
    }

    fn format(&self, key: &VolumeKey) -> Result<[u8; 16], FormatError> {
        let device = self.device();
        match self.probe() {
            Ok(Probe::Blank | Probe::Unfinished { .. }) => {}
            Ok(Probe::Enrolled { .. }) => return Err(FormatError::Enrolled { device }),
            Ok(Probe::Leaving) => return Err(FormatError::Leaving { device }),
            Err(source) => return Err(FormatError::Probe { device, source }),
        }
        if self.lock().open {
            return Err(FormatError::InUse { device, mapper: "the directory".to_owned() });
        }
        self.write_header(key).map_err(|source| FormatError::Write { device, source })
    }

    fn test_key(&self, key: &VolumeKey) -> Result<(), OpenError> {
        let device = self.device();
        let facts = |source| OpenError::Facts { device: device.clone(), source };
        self.powered().map_err(facts)?;
        match self.header().map_err(facts)? {
            Some(Ok(header)) if header.key_sha256 == hex(&Sha256::digest(key.expose())) => Ok(()),
            Some(Ok(_)) => Err(OpenError::WrongKey { device }),
            Some(Err(why)) => Err(facts(io::Error::other(why))),
            None => Err(facts(io::Error::other("no header"))),
        }
    }

    fn open(&self, key: &VolumeKey) -> Result<(), OpenError> {
        self.test_key(key)?;
        self.lock().open = true;
        self.passes(CrashPoint::AfterOpen)
            .map_err(|source| OpenError::Facts { device: self.device(), source })
    }

    fn make_filesystem(&self) -> Result<(), FilesystemError> {
        let device = self.device();
        if !self.lock().open {
            return Err(FilesystemError::NotOpen { device });
        }
        let make = || -> io::Result<()> {
            self.powered()?;
            if self.sealed().exists() {
                std::fs::remove_dir_all(self.sealed())?;
            }
            std::fs::create_dir(self.sealed())?;
            self.passes(CrashPoint::AfterFilesystem)
        };
        make().map_err(|source| FilesystemError::Write { device, source })
    }

    fn mount(&self) -> Result<(), MountError> {
        let device = self.device();
        if !self.lock().open {
            return Err(MountError::NotOpen { device });
        }
        let mount = || -> io::Result<()> {
            self.powered()?;
            if !self.root.exists() {
                std::fs::rename(self.sealed(), &self.root)?;
            }
            self.passes(CrashPoint::AfterMount)
        };
        mount().map_err(|source| MountError::Mount { device, root: self.root.display().to_string(), source })
    }

    fn unmount_and_close(&self) -> Result<(), CloseError> {
        let close = || -> io::Result<()> {
            self.powered()?;
            if self.root.exists() {
                std::fs::rename(&self.root, self.sealed())?;
            }
            self.lock().open = false;
            Ok(())
        };
        close().map_err(|source| CloseError::Unmount { root: self.root.display().to_string(), source })
    }

    fn write_early_state(&self, state: &EarlyState, mac_key: &MacKey) -> Result<(), WriteStateError> {
        self.check_header(state.volume_uuid)?;
        let sealed = SealedRecord::seal(state, mac_key).map_err(WriteStateError::State)?;
        let around = [CrashPoint::BeforeRecord, CrashPoint::AfterRecord];
        self.write_token(&self.token_path(), &sealed.token_json(TOKEN_TYPE), around)
    }

    fn read_held(&self) -> Result<Option<(Held, SealedRecord)>, ProbeError> {
        let device = self.device();
        let read = |source| ProbeError::Read { device: device.clone(), source };
        self.powered().map_err(read)?;
        let Some(token) = self.read_token(&self.held_path()).map_err(read)? else { return Ok(None) };
        let found = SealedRecord::held_from_token_json(&token);
        found.map(Some).map_err(|source| ProbeError::Damaged { device, source })
    }

    fn write_held(&self, held: &Held, mac_key: &MacKey) -> Result<(), WriteStateError> {
        self.check_header(held.volume_uuid())?;
        let json = SealedRecord::seal_held(held, mac_key).token_json(HELD_TOKEN_TYPE);
        self.write_token(&self.held_path(), &json, [CrashPoint::BeforeHeld, CrashPoint::AfterHeld])
    }

    fn mark_leaving(&self) -> Result<(), LeaveError> {
        let device = self.device();
        let mark = || -> io::Result<()> {
            self.passes(CrashPoint::BeforeMark)?;
            self.write(&self.leaving_path(), b"leaving")?;
            self.passes(CrashPoint::AfterMark)
        };
        match self.header() {
            Ok(Some(_)) => mark().map_err(|source| LeaveError::Write { device, source }),
            Ok(None) => Err(LeaveError::NotEnrolled { device }),
            Err(source) => Err(LeaveError::Write { device, source }),
        }
    }

    fn erase(&self) -> Result<(), LeaveError> {
        let device = self.device();
        if !self.leaving_path().exists() {
            return Err(LeaveError::NotMarked { device });
        }
        let erase = || -> io::Result<()> {
            self.powered()?;
            for (path, point) in [
                (self.header_path(), CrashPoint::InErase),
                (self.held_path(), CrashPoint::InErase),
                (self.token_path(), CrashPoint::BeforeUnmark),
                (self.leaving_path(), CrashPoint::AfterErase),
            ] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => self.passes(point)?,
                }
            }
            Ok(())
        };
        erase().map_err(|source| LeaveError::Write { device, source })
    }

    fn root(&self) -> &Path {
        &self.root
    }
}
