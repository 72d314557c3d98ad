//! One machine in QEMU: its disk, its firmware variables, its power switch and its serial console.
//! Real firmware and, unless told otherwise, software emulation, as on any CI host. Knows nothing of OramaOS.

mod console;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

pub use console::{Console, ConsoleError, PANIC, uptime_seconds};
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::net::Namespace;
use crate::process::{Process, ProcessError};
use crate::segment::Port;

/// Debian's package ovmf.
const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The address in the private namespace that stands for the machine's public one: QEMU listens there and
/// passes what comes on to the machine.
pub const PUBLIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// What a machine has unless it is told otherwise, MiB.
const MEMORY_MIB: u32 = 256;

/// What stands between power-on and the kernel.
#[derive(Clone, Debug)]
pub enum Start {
    /// OVMF, which finds the boot loader on the disk.
    Firmware,
    /// QEMU loads the kernel: about 5 s sooner, for runs that are not about firmware.
    Kernel { kernel: PathBuf, initrd: PathBuf, command_line: String },
}

/// What the machine's one network card is plugged into.
#[derive(Clone, Debug)]
enum Uplink {
    /// QEMU's own network, with these ports (`tcp:9999` and its kind) of [`PUBLIC_ADDRESS`] passed on.
    Own(Vec<String>),
    Segment(Port),
}

pub struct Machine {
    network: Arc<Namespace>,
    folder: PathBuf,
    start: Start,
    memory_mib: u32,
    uplink: Uplink,
    qemu: Option<Process>,
    console: Console,
    /// The machine's memory, when somebody is to look into it.
    memory: Option<NamedTempFile>,
}

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("copying {from} to {to}")]
    Copy {
        from: PathBuf,
        to: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("copying {from} to {to}: cp failed ({status})")]
    CopyFailed { from: PathBuf, to: PathBuf, status: ExitStatus },
    #[error("the machine is on already")]
    On,
    #[error("the machine is off")]
    Off,
    #[error("QEMU")]
    Qemu(#[source] ProcessError),
    #[error("making a file for the machine's memory")]
    Memory(#[source] std::io::Error),
    #[error("nobody asked for the machine's memory to be in a file")]
    NoMemory,
    #[error(transparent)]
    Console(#[from] ConsoleError),
}

impl Machine {
    /// A machine, switched off, with its own copy of the image.
    pub fn new(network: Arc<Namespace>, folder: &Path, image: &Path) -> Result<Self, MachineError> {
        let machine = Self {
            network,
            folder: folder.to_owned(),
            start: Start::Firmware,
            memory_mib: MEMORY_MIB,
            uplink: Uplink::Own(vec!["tcp:9999".into(), "tcp:9998".into(), "udp:51820".into()]),
            qemu: None,
            console: Console::new(folder.join("serial.log")),
            memory: None,
        };
        copy(image, &machine.disk())?;
        copy(Path::new(FIRMWARE_VARIABLES), &machine.variables())?;
        Ok(machine)
    }

    /// What the next power-on starts from.
    pub fn start_from(&mut self, start: Start) {
        self.start = start;
    }

    /// What the next power-on has for memory.
    pub fn set_memory_mib(&mut self, mib: u32) {
        self.memory_mib = mib;
    }

    /// Puts it on a segment with other machines, from the next power-on.
    pub fn plug_into(&mut self, port: Port) {
        self.uplink = Uplink::Segment(port);
    }

    /// Where the harness reaches what the machine has in public.
    pub fn public_address(&self) -> Ipv4Addr {
        match &self.uplink {
            Uplink::Own(_) => PUBLIC_ADDRESS,
            Uplink::Segment(port) => port.address,
        }
    }

    pub fn is_on(&self) -> bool {
        self.qemu.is_some()
    }

    /// From the next power-on the machine's memory is a file, which [`Machine::stopped_memory`] shows.
    pub fn keep_memory_in_a_file(&mut self) -> Result<(), MachineError> {
        // In memory itself, where there is such a place: a disk would be written to all the time.
        let made = NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new_in(&self.folder));
        self.memory = Some(made.map_err(MachineError::Memory)?);
        Ok(())
    }

    /// All of the machine's memory as it is now; the machine stands still while it is copied.
    pub fn stopped_memory(&self) -> Result<NamedTempFile, MachineError> {
        let memory = self.memory.as_ref().ok_or(MachineError::NoMemory)?;
        let qemu = self.qemu.as_ref().ok_or(MachineError::Off)?;
        let copy = NamedTempFile::new_in(&self.folder).map_err(MachineError::Memory)?;
        qemu.signal(Signal::SIGSTOP).map_err(MachineError::Qemu)?;
        let copied = std::fs::copy(memory.path(), copy.path());
        qemu.signal(Signal::SIGCONT).map_err(MachineError::Qemu)?;
        copied.map_err(MachineError::Memory)?;
        Ok(copy)
    }

    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    fn variables(&self) -> PathBuf {
        self.folder.join("firmware-variables.fd")
    }

    pub fn serial_log(&self) -> &Path {
        self.console.path()
    }

    /// What the console says from here on; see [`Console`].
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    pub fn power_on(&mut self) -> Result<(), MachineError> {
        if self.qemu.is_some() {
            return Err(MachineError::On);
        }
        let command = self.command();
        let log = self.folder.join("qemu.log");
        self.console.to_end()?;
        self.qemu = Some(Process::start("qemu", command, &log).map_err(MachineError::Qemu)?);
        Ok(())
    }

    /// Pulls the plug: what the machine did not flush to its disk is lost.
    pub fn power_cut(&mut self) -> Result<(), MachineError> {
        self.qemu.take().ok_or(MachineError::Off)?.kill();
        Ok(())
    }

    /// Waits until the machine switched itself off.
    pub fn wait_off(&mut self, limit: Duration) -> Result<(), MachineError> {
        let qemu = self.qemu.as_mut().ok_or(MachineError::Off)?;
        qemu.wait(limit).map_err(MachineError::Qemu)?;
        self.qemu = None;
        Ok(())
    }

    /// Waits for a console line that contains the text and returns it. A kernel panic, unless that is what
    /// is waited for, and an end of QEMU are errors at once.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, MachineError> {
        let qemu = self.qemu.as_mut().ok_or(MachineError::Off)?;
        let running = || !matches!(qemu.ended(), Ok(Some(_)));
        Ok(self.console.wait_for(text, limit, running)?)
    }

    fn command(&self) -> Command {
        let mut command = self.network.command("qemu-system-x86_64");
        match &self.memory {
            None => command.args(["-machine", "q35"]),
            Some(file) => {
                let (size, path) = (self.memory_mib, file.path().display());
                command
                    .args(["-machine", "q35,memory-backend=memory", "-object"])
                    .arg(format!("memory-backend-file,id=memory,size={size}M,share=on,mem-path={path}"))
            }
        };
        command.arg("-accel");
        // Software emulation unless asked: the same everywhere, and what the limits are made for.
        match std::env::var("ORAMA_QEMU_ACCEL") {
            Ok(accelerator) => command.arg(accelerator),
            Err(_) => command.arg("tcg,thread=multi"),
        };
        command.args(["-cpu", "max", "-smp", "1", "-m", &self.memory_mib.to_string()]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command
            .arg("-chardev")
            .arg(format!("file,id=console,append=on,path={}", self.serial_log().display()));
        command.args(["-serial", "chardev:console"]);
        match &self.start {
            Start::Firmware => {
                command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE_CODE}"));
                let variables = self.variables();
                command.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
            }
            Start::Kernel { kernel, initrd, command_line } => {
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", command_line]);
            }
        }
        let disk = self.disk();
        command.arg("-drive").arg(format!("if=virtio,format=raw,file={}", disk.display()));
        match &self.uplink {
            Uplink::Own(ports) => {
                let mut netdev = "user,id=uplink".to_owned();
                for port in ports {
                    let (protocol, number) = port.split_once(':').unwrap_or(("tcp", port));
                    netdev.push_str(&format!(",hostfwd={protocol}:{PUBLIC_ADDRESS}:{number}-:{number}"));
                }
                command.arg("-netdev").arg(netdev).args(["-device", "virtio-net-pci,netdev=uplink"]);
            }
            Uplink::Segment(Port { interface, mac, .. }) => {
                let netdev = format!("tap,id=uplink,ifname={interface},script=no,downscript=no");
                let device = format!("virtio-net-pci,netdev=uplink,mac={mac}");
                command.arg("-netdev").arg(netdev).arg("-device").arg(device);
            }
        }
        command
    }
}

/// A sparse copy: images are mostly holes.
fn copy(from: &Path, to: &Path) -> Result<(), MachineError> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .status()
        .map_err(|source| MachineError::Copy { from: from.into(), to: to.into(), source })?;
    if !status.success() {
        return Err(MachineError::CopyFailed { from: from.into(), to: to.into(), status });
    }
    Ok(())
}
