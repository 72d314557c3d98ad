//! Closed lists of kernel names that a policy may use: signals, devices, capabilities, errno, argument constants.
//! Numbers are those of x86-64 Linux UAPI headers.

use crate::call::table;

/// How a service is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
}

impl Signal {
    pub(crate) const ALL: [(&'static str, Signal); 6] = [
        ("SIGTERM", Signal::Term),
        ("SIGINT", Signal::Int),
        ("SIGQUIT", Signal::Quit),
        ("SIGHUP", Signal::Hup),
        ("SIGUSR1", Signal::Usr1),
        ("SIGUSR2", Signal::Usr2),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    pub fn number(self) -> i32 {
        match self {
            Signal::Hup => 1,
            Signal::Int => 2,
            Signal::Quit => 3,
            Signal::Usr1 => 10,
            Signal::Usr2 => 12,
            Signal::Term => 15,
        }
    }
}

/// Device nodes that a service may have in its /dev. No terminal, no disk, no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
}

impl Device {
    pub const ALL: [(&'static str, Device); 5] = [
        ("null", Device::Null),
        ("zero", Device::Zero),
        ("full", Device::Full),
        ("random", Device::Random),
        ("urandom", Device::Urandom),
    ];

    /// The name below /dev.
    pub fn name(self) -> &'static str {
        match self {
            Device::Null => "null",
            Device::Zero => "zero",
            Device::Full => "full",
            Device::Random => "random",
            Device::Urandom => "urandom",
        }
    }
}

/// A capability that a service may be given. Those that amount to root are not in the list, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    NetBindService,
    NetBroadcast,
    NetRaw,
    NetAdmin,
    IpcLock,
    SysNice,
    SysResource,
}

impl Capability {
    pub(crate) const ALL: [(&'static str, Capability); 7] = [
        ("CAP_NET_BIND_SERVICE", Capability::NetBindService),
        ("CAP_NET_BROADCAST", Capability::NetBroadcast),
        ("CAP_NET_RAW", Capability::NetRaw),
        ("CAP_NET_ADMIN", Capability::NetAdmin),
        ("CAP_IPC_LOCK", Capability::IpcLock),
        ("CAP_SYS_NICE", Capability::SysNice),
        ("CAP_SYS_RESOURCE", Capability::SysResource),
    ];

    /// Every capability that there is to be given.
    pub fn all() -> impl Iterator<Item = Capability> {
        Self::ALL.iter().map(|(_, capability)| *capability)
    }

    /// The bit number of linux/capability.h.
    pub fn number(self) -> u32 {
        match self {
            Capability::NetBindService => 10,
            Capability::NetBroadcast => 11,
            Capability::NetAdmin => 12,
            Capability::NetRaw => 13,
            Capability::IpcLock => 14,
            Capability::SysNice => 23,
            Capability::SysResource => 24,
        }
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

impl Capability {
    /// What it lets its holder do.
    pub(crate) fn means(self) -> &'static str {
        match self {
            Capability::NetBindService => "ports below 1024",
            Capability::NetBroadcast => "broadcasts",
            Capability::NetRaw => "raw and packet sockets",
            Capability::NetAdmin => "the network's configuration",
            Capability::IpcLock => "locking memory without limit",
            Capability::SysNice => "priorities and processor sets",
            Capability::SysResource => "exceeding limits",
        }
    }
}

/// What a refused system call may return.
pub(crate) const ERRNO: [(&str, u32); 8] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EACCES", 13),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENOSYS", 38),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

/// `EPERM` for 1; the number for what is not in the list.
pub(crate) fn errno_name(number: u32) -> String {
    let known = ERRNO.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("errno {number}"), |(name, _)| (*name).to_owned())
}

/// Every flag of clone and unshare that makes a namespace, but CLONE_NEWTIME, whose bit is part of clone's signal.
pub(crate) const CLONE_NEW_ANY: (&str, u64) = ("CLONE_NEW_ANY", 0x7e02_0000);

/// Names for argument values, in alphabetical order.
pub(crate) fn constants() -> impl Iterator<Item = &'static str> {
    table::constants().keys().copied().chain([CLONE_NEW_ANY.0])
}

/// The value of a name or of several joined by `|`; else the first that is unknown.
pub(crate) fn constant(text: &str) -> Result<u64, &str> {
    text.split('|').map(str::trim).try_fold(0, |sum, name| {
        let known = table::constants().get(name).copied();
        known.or((name == CLONE_NEW_ANY.0).then_some(CLONE_NEW_ANY.1)).map(|value| sum | value).ok_or(name)
    })
}

/// Looks a name up in one of the lists.
pub(crate) fn find<T: Copy>(list: &[(&'static str, T)], name: &str) -> Option<T> {
    list.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}
