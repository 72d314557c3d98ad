//! Feeds the kernel's watchdog from the agent's main loop: a loop that hangs reboots the node, and boot
//! counting does the rest. Never stopped on purpose, so it also covers a reboot that hangs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// Time without food after which the kernel resets the machine, seconds.
const TIMEOUT_SECONDS: libc::c_int = 60;
/// Time between two feedings: a third of the timeout leaves room for two misses.
pub const FEED_EVERY: Duration = Duration::from_secs(20);

nix::ioctl_readwrite!(
    /// WDIOC_SETTIMEOUT of linux/watchdog.h: takes seconds, gives what the driver chose.
    set_timeout,
    b'W',
    6,
    libc::c_int
);

/// An armed watchdog.
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Opens and arms `/dev/watchdog`.
    pub fn arm(path: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().write(true).open(path)?;
        let mut seconds = TIMEOUT_SECONDS;
        // SAFETY: the descriptor is open for the length of the call, and the kernel reads and writes exactly
        // one c_int at `seconds`, which lives on this frame.
        unsafe { set_timeout(device.as_raw_fd(), &mut seconds) }?;
        Ok(Self { device })
    }

    /// Puts the reset off by another [`TIMEOUT_SECONDS`].
    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\0")
    }
}
