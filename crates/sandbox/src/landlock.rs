//! Landlock on top of the mounts: which rights a service gets on what it is shown, by what this kernel can do.
//! Numbers are those of linux/landlock.h. The child only enters the domain that is built here.
//!
//! Reading is not restricted further: what may not be read is not shown. Writing is, /proc included.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use orama_policy::{Landlock, LandlockMode};

use crate::error::PrepareError;
use crate::sys;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
/// What a service does in its own places: everything but running programs and making devices.
const OWN: u64 = WRITE_FILE
    | READ_FILE
    | READ_DIR
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER;
/// All of ABI 2.
const ALL_FILES: u64 = OWN | EXECUTE | MAKE_CHAR | MAKE_BLOCK;
const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;
/// Abstract unix sockets and signals reach no further than the service.
const SCOPE_ABSTRACT: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;
/// Of a regular file; the kernel refuses the others on one.
const FILE_RIGHTS: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

/// ABI 1 denies renames between directories: services would break that run well without it.
const FIRST_USABLE: u32 = 2;
const HAS_TRUNCATE: u32 = 3;
const HAS_TCP: u32 = 4;
const HAS_SCOPES: u32 = 6;

/// What may be done with something shown, beyond reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    Read,
    Execute,
    /// A device directory: its nodes can be written, nothing can be made.
    Devices,
    /// Everything but device nodes.
    Write,
}

impl Rights {
    fn bits(self) -> u64 {
        const READ: u64 = READ_FILE | READ_DIR;
        match self {
            Rights::Read => READ,
            Rights::Execute => READ | EXECUTE,
            Rights::Devices => READ | WRITE_FILE,
            Rights::Write => OWN | TRUNCATE,
        }
    }
}

/// What this kernel does for a profile, and what it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Version of the kernel's Landlock; 0 = it has none.
    pub abi: u32,
    /// What the profile asks for and this kernel lacks, in words.
    pub missing: Vec<Missing>,
    handled: Option<Handled>,
    ports: Vec<(u64, u16)>,
}

/// One restriction that the kernel is too old for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Landlock,
    TcpPorts,
    Truncation,
    Scopes,
}

impl Missing {
    /// Whether the profile asks for it in so many words, or the sandbox only takes it along.
    fn is_essential(self) -> bool {
        matches!(self, Missing::Landlock | Missing::TcpPorts)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Missing::Landlock => "Landlock itself (Linux 5.19, and `landlock` in the kernel's lsm= list)",
            Missing::TcpPorts => "tcp_bind and tcp_connect (Linux 6.7)",
            Missing::Truncation => "truncation as a right of its own (Linux 6.2)",
            Missing::Scopes => "abstract unix sockets and signals kept inside (Linux 6.12)",
        })
    }
}

/// The rights that are denied unless a rule grants them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Handled {
    pub files: u64,
    pub tcp: u64,
    pub scopes: u64,
}

impl Fence {
    pub(crate) fn new(wanted: &Landlock) -> Result<Fence, PrepareError> {
        let fence = Fence::on(sys::landlock_abi(), wanted);
        if wanted.mode == LandlockMode::Require && fence.missing.iter().any(|missing| missing.is_essential())
        {
            let missing: Vec<String> = fence
                .missing
                .iter()
                .filter(|missing| missing.is_essential())
                .map(Missing::to_string)
                .collect();
            return Err(PrepareError::Landlock { missing: missing.join("; ") });
        }
        Ok(fence)
    }

    fn on(abi: u32, wanted: &Landlock) -> Fence {
        let mut fence = Fence { abi, missing: Vec::new(), handled: None, ports: Vec::new() };
        if wanted.mode == LandlockMode::Off {
            return fence;
        }
        if abi < FIRST_USABLE {
            fence.missing.push(Missing::Landlock);
            return fence;
        }
        let mut handled = Handled { files: ALL_FILES, ..Handled::default() };
        if abi >= HAS_TRUNCATE {
            handled.files |= TRUNCATE;
        } else {
            fence.missing.push(Missing::Truncation);
        }
        let lists = [(BIND_TCP, &wanted.tcp_bind), (CONNECT_TCP, &wanted.tcp_connect)];
        for (right, ports) in lists.iter().filter_map(|(right, ports)| Some((*right, ports.as_ref()?))) {
            if abi >= HAS_TCP {
                handled.tcp |= right;
                fence.ports.extend(ports.iter().map(|port| (right, *port)));
            } else if !fence.missing.contains(&Missing::TcpPorts) {
                fence.missing.push(Missing::TcpPorts);
            }
        }
        if abi >= HAS_SCOPES {
            handled.scopes = SCOPE_ABSTRACT | SCOPE_SIGNAL;
        } else {
            fence.missing.push(Missing::Scopes);
        }
        fence.handled = Some(handled);
        fence
    }

    /// The domain for one start; `None` when there is none to enter.
    pub(crate) fn build<'a>(
        &self,
        shown: impl IntoIterator<Item = (BorrowedFd<'a>, Rights, bool)>,
    ) -> io::Result<Option<OwnedFd>> {
        let Some(handled) = &self.handled else { return Ok(None) };
        let domain = sys::landlock_ruleset(handled)?;
        for (object, rights, is_file) in shown {
            let kind = if is_file { FILE_RIGHTS } else { u64::MAX };
            sys::landlock_allow_path(domain.as_fd(), object, rights.bits() & handled.files & kind)?;
        }
        for (right, port) in &self.ports {
            sys::landlock_allow_port(domain.as_fd(), *right, *port)?;
        }
        Ok(Some(domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(mode: LandlockMode, tcp_bind: Option<Vec<u16>>) -> Landlock {
        Landlock { mode, tcp_bind, tcp_connect: None }
    }

    #[test]
    fn what_an_old_kernel_lacks_is_said() {
        let ports = wanted(LandlockMode::BestEffort, Some(vec![80, 81]));
        let missing = |abi| Fence::on(abi, &ports).missing;
        assert_eq!(missing(0), [Missing::Landlock]);
        assert_eq!(missing(1), [Missing::Landlock]);
        assert_eq!(missing(2), [Missing::Truncation, Missing::TcpPorts, Missing::Scopes]);
        assert_eq!(missing(4), [Missing::Scopes]);
        assert!(missing(6).is_empty());
        assert_eq!(Fence::on(7, &ports).ports, [(BIND_TCP, 80), (BIND_TCP, 81)]);
        assert_eq!(Fence::on(2, &ports).handled.expect("files").files & TRUNCATE, 0);
    }

    #[test]
    fn off_is_off_and_nobody_makes_devices() {
        let off = Fence::on(7, &wanted(LandlockMode::Off, Some(vec![80])));
        assert!(off.handled.is_none() && off.missing.is_empty());
        for rights in [Rights::Read, Rights::Execute, Rights::Devices, Rights::Write] {
            assert_eq!(rights.bits() & (MAKE_CHAR | MAKE_BLOCK), 0, "{rights:?}");
        }
        assert_eq!(Rights::Write.bits() & EXECUTE, 0);
    }
}
