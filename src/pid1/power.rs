//! The last act: sync and reboot or power off. Everything that can be stopped was stopped before.

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Reboot,
    PowerOff,
}

/// Makes Ctrl-Alt-Del a signal to PID 1 instead of an immediate reset.
pub fn take_ctrl_alt_del() -> Result<(), nix::errno::Errno> {
    set_cad_enabled(false)
}

/// Syncs and ends the machine. Returns only when the kernel refuses, with its reason.
pub fn end(how: End) -> nix::errno::Errno {
    nix::unistd::sync();
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(errno) => errno,
    }
}
