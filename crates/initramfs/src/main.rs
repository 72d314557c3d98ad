//! The first process of a node: brings up just enough of the machine to verify the root file system and
//! hands PID 1 over to the agent. It asks nobody, has no shell and no rescue path: whatever goes wrong is
//! one line on the console, then the kernel panics and reboots, and boot counting does the rest.

mod dm;
#[cfg(feature = "floor")]
mod floor;
mod modules;
mod mounts;
mod verity;

use std::convert::Infallible;
use std::error::Error;
use std::ffi::CString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use orama_slots::cmdline;
use orama_slots::disk::{BootDisk, FindDiskError};

/// What becomes PID 1.
const AGENT: &str = "/sbin/orama-agent";

/// Where the verified root is assembled; part of the initramfs.
const NEW_ROOT: &str = "/newroot";

/// How long a slow disk may take to appear. Cloud disks are there at once; an NVMe reset takes seconds.
const DISK_WAIT: Duration = Duration::from_secs(20);
const DISK_POLL: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("cannot prepare the machine")]
    Mounts(#[from] mounts::MountError),
    #[error("cannot load the kernel modules")]
    Modules(#[from] modules::ModulesError),
    #[error("do not know which root file system to trust")]
    CommandLine(#[from] cmdline::ReadCommandLineError),
    #[error("boot disk did not appear within {} s", DISK_WAIT.as_secs())]
    Disk(#[source] FindDiskError),
    #[error("cannot verify the root file system on {}", partition.display())]
    Verity { partition: PathBuf, source: verity::VerityError },
    #[cfg(feature = "floor")]
    #[error("cannot open the data volume")]
    Floor(#[from] floor::FloorError),
    #[error("cannot execute {AGENT}")]
    Execute(#[source] nix::errno::Errno),
}

fn main() -> ExitCode {
    let error = match start() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut text = format!("orama-init: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("{text}");
    // The end of PID 1 is a kernel panic, and a panic reboots.
    ExitCode::FAILURE
}

fn start() -> Result<Infallible, InitError> {
    mounts::kernel_file_systems()?;
    modules::load_listed()?;
    let booted = cmdline::read()?;
    let disk = boot_disk()?;
    let partition = disk.rootfs(booted.slot).to_path_buf();
    let root = verity::open(&partition, &booted.verity)
        .map_err(|source| InitError::Verity { partition: partition.clone(), source })?;
    #[cfg(feature = "floor")]
    let key = floor::take_key()?;
    mounts::switch_root(&root, NEW_ROOT.as_ref())?;
    println!("orama-init: slot {} verified, root hash {}", booted.slot, booted.verity.root_hash);
    #[cfg(feature = "floor")]
    return floor::open_volume_and_power_off(&disk, key).map_err(InitError::Floor);
    #[cfg(not(feature = "floor"))]
    execute_agent()
}

/// The firmware's word on what was booted counts, so its variables are mounted while we look.
fn boot_disk() -> Result<BootDisk, InitError> {
    let _variables = mounts::FirmwareVariables::mount()?;
    let deadline = Instant::now() + DISK_WAIT;
    loop {
        match BootDisk::find() {
            Ok(disk) => return Ok(disk),
            Err(error) if Instant::now() >= deadline => return Err(InitError::Disk(error)),
            Err(_) => sleep(DISK_POLL),
        }
    }
}

/// The agent gets no argument and no environment: all it may believe is in the verified root.
#[cfg_attr(feature = "floor", allow(dead_code))]
fn execute_agent() -> Result<Infallible, InitError> {
    let agent = CString::new(AGENT).map_err(|_| InitError::Execute(nix::errno::Errno::EINVAL))?;
    let environment: [&std::ffi::CStr; 0] = [];
    nix::unistd::execve(&agent, &[agent.as_c_str()], &environment).map_err(InitError::Execute)
}
