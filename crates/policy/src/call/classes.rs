//! What calls are for, in plain words, and which of them open a way out of a sandbox. One list for explanations,
//! lints, scores and patches.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use syscalls::Sysno;

/// What a group of calls lets a program do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Memory,
    Threads,
    Signals,
    Kill,
    Processes,
    Time,
    OfItself,
    Io,
    Events,
    Look,
    Change,
    Durable,
    Owner,
    Socket,
    Ipc,
    Confine,
    Danger,
    Other,
}

const TITLES: [(&str, Class, &str); 18] = [
    ("memory", Class::Memory, "use memory"),
    ("threads", Class::Threads, "run threads"),
    ("signals", Class::Signals, "handle signals"),
    ("kill", Class::Kill, "send signals to processes"),
    ("processes", Class::Processes, "start, wait for and end processes"),
    ("time", Class::Time, "tell the time and wait"),
    ("self", Class::OfItself, "ask and set things about itself"),
    ("io", Class::Io, "read and write what is open"),
    ("events", Class::Events, "wait for events"),
    ("look", Class::Look, "open and look at files"),
    ("change", Class::Change, "make, change and remove files"),
    ("durable", Class::Durable, "make writes durable"),
    ("owner", Class::Owner, "change owners and identity"),
    ("socket", Class::Socket, "use sockets"),
    ("ipc", Class::Ipc, "talk to processes through shared memory and queues"),
    ("confine", Class::Confine, "confine itself further"),
    ("danger", Class::Danger, "reach for the kernel or for other processes"),
    ("other", Class::Other, "other calls"),
];

impl Class {
    pub(crate) fn title(self) -> &'static str {
        TITLES.iter().find(|(_, class, _)| *class == self).map_or("", |(_, _, title)| title)
    }

    pub(crate) fn of(call: Sysno) -> Class {
        static TABLE: LazyLock<BTreeMap<Sysno, Class>> = LazyLock::new(|| {
            let mut table = BTreeMap::new();
            for line in include_str!("classes.txt").lines().filter(|line| !line.starts_with('#')) {
                let (key, calls) = line.split_once(':').unwrap_or((line, ""));
                let class = TITLES.iter().find(|(known, _, _)| *known == key).map_or(Class::Other, |t| t.1);
                for call in calls.split_whitespace().filter_map(|name| Sysno::from_str(name).ok()) {
                    table.insert(call, class);
                }
            }
            table
        });
        match danger(call) {
            Some(_) => Class::Danger,
            None => TABLE.get(&call).copied().unwrap_or(Class::Other),
        }
    }
}

/// Why a call has no place in a service's profile, when it has none: what it lets an intruder do.
pub(crate) fn danger(call: Sysno) -> Option<&'static str> {
    Some(match call {
        Sysno::mount | Sysno::umount2 | Sysno::pivot_root | Sysno::chroot => {
            "changes which files the service sees"
        }
        Sysno::fsopen | Sysno::fsmount | Sysno::fsconfig | Sysno::fspick => "mounts file systems",
        Sysno::move_mount | Sysno::open_tree | Sysno::open_tree_attr | Sysno::mount_setattr => {
            "moves and changes mounts"
        }
        Sysno::ptrace | Sysno::process_vm_readv | Sysno::process_vm_writev | Sysno::kcmp => {
            "looks into and changes other processes"
        }
        Sysno::pidfd_getfd => "takes open files from other processes",
        Sysno::bpf => "loads programs into the kernel",
        Sysno::init_module | Sysno::finit_module | Sysno::delete_module | Sysno::create_module => {
            "loads and removes kernel modules"
        }
        Sysno::kexec_load | Sysno::kexec_file_load => "replaces the running kernel",
        Sysno::keyctl | Sysno::add_key | Sysno::request_key => {
            "reaches kernel key rings, which no namespace separates"
        }
        Sysno::userfaultfd => "halts the kernel in the middle of copies: the lever of many kernel exploits",
        Sysno::perf_event_open => "watches the kernel and other processes; a rich source of kernel bugs",
        Sysno::io_uring_setup | Sysno::io_uring_enter | Sysno::io_uring_register => {
            "does input and output that no seccomp rule sees"
        }
        Sysno::unshare | Sysno::setns => "makes or joins namespaces, user namespaces among them",
        Sysno::open_by_handle_at => "opens files by number, past the mounts",
        Sysno::reboot
        | Sysno::swapon
        | Sysno::swapoff
        | Sysno::acct
        | Sysno::quotactl
        | Sysno::quotactl_fd => "is for administrators of the whole machine",
        Sysno::iopl | Sysno::ioperm => "talks to hardware past the kernel",
        Sysno::settimeofday | Sysno::clock_settime | Sysno::adjtimex | Sysno::clock_adjtime => {
            "sets the clock of the whole machine"
        }
        Sysno::sethostname | Sysno::setdomainname => "changes the host name",
        Sysno::syslog => "reads the kernel's log",
        Sysno::modify_ldt | Sysno::uselib | Sysno::_sysctl | Sysno::nfsservctl | Sysno::lookup_dcookie => {
            "is old, and has been a source of kernel bugs"
        }
        Sysno::fanotify_init | Sysno::fanotify_mark => "watches the whole file system",
        Sysno::move_pages | Sysno::migrate_pages => "moves other processes' memory",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_list_is_a_call_and_is_listed_once() {
        let mut seen = std::collections::BTreeSet::new();
        for line in include_str!("classes.txt").lines().filter(|line| !line.starts_with('#')) {
            let (key, calls) = line.split_once(": ").expect("key");
            assert!(TITLES.iter().any(|(known, _, _)| *known == key), "{key}");
            for name in calls.split_whitespace() {
                let call = Sysno::from_str(name).unwrap_or_else(|_| panic!("{name}"));
                assert!(seen.insert(call), "{name} is listed twice");
                assert_eq!(danger(call), None, "{name}");
            }
        }
    }
}
