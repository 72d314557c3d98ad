//! The benchmark's lower bound: opens the data volume with a key file from the initramfs, says when, and
//! powers off. Compiled only with the feature `floor`; no image contains it.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use orama_slots::disk::BootDisk;

const KEY: &str = "/volume.key";
const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";

/// Bytes of a volume key.
const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    #[error("cannot read {KEY}")]
    Key(#[source] io::Error),
    #[error("{KEY} has {bytes} bytes, not {KEY_BYTES}")]
    KeyLength { bytes: usize },
    #[error("cannot mount /run")]
    Run(#[source] nix::errno::Errno),
    #[error("cannot run {CRYPTSETUP}")]
    Cryptsetup(#[source] io::Error),
    #[error("{CRYPTSETUP} ended with {status}")]
    Refused { status: std::process::ExitStatus },
    #[error("cannot read the uptime")]
    Uptime(#[source] io::Error),
    #[error("cannot power off")]
    PowerOff(#[source] nix::errno::Errno),
}

/// Reads the key while the initramfs still exists.
pub fn take_key() -> Result<Vec<u8>, FloorError> {
    let key = fs::read(KEY).map_err(FloorError::Key)?;
    if key.len() == KEY_BYTES { Ok(key) } else { Err(FloorError::KeyLength { bytes: key.len() }) }
}

pub fn open_volume_and_power_off(disk: &BootDisk, key: Vec<u8>) -> Result<Infallible, FloorError> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).map_err(FloorError::Run)?;
    fs::create_dir("/run/cryptsetup").map_err(FloorError::Cryptsetup)?;
    let mut child = Command::new(CRYPTSETUP)
        .args(["open", "--type", "luks2", "--key-file", "-", "--keyfile-size", "32"])
        .arg(&disk.data)
        .arg("orama-data")
        .env_clear()
        .stdin(Stdio::piped())
        .spawn()
        .map_err(FloorError::Cryptsetup)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&key).map_err(FloorError::Cryptsetup)?;
    }
    let status = child.wait().map_err(FloorError::Cryptsetup)?;
    if !status.success() {
        return Err(FloorError::Refused { status });
    }
    let uptime = fs::read_to_string("/proc/uptime").map_err(FloorError::Uptime)?;
    println!("floor: volume open, uptime {} s", uptime.split(' ').next().unwrap_or_default());
    reboot(RebootMode::RB_POWER_OFF).map_err(FloorError::PowerOff)
}
