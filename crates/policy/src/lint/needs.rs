//! Capabilities for which nothing in the profile shows a need.

use syscalls::Sysno;

use crate::lint::{Findings, Profile};
use crate::names::Capability;
use crate::rules::{Comparison, Condition};
use crate::space::Space;
use crate::spec::{Probe, Readiness};
use crate::verdict::may;

/// AF_INET, AF_INET6, AF_NETLINK and AF_PACKET of linux/socket.h.
const FAMILIES: [u64; 4] = [2, 10, 16, 17];
/// SOCK_RAW of linux/net.h.
const SOCK_RAW: u64 = 3;

pub(super) fn lint(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let raw = &profile.raw.capabilities.ambient;
    for (capability, text) in profile.policy.capabilities.iter().zip(raw) {
        if let Some(reason) = useless(*capability, profile) {
            let message = format!("{} is of no use: {reason}", capability.name());
            list.warn(
                "capability-without-need",
                text.span(),
                message,
                "leave it out, or say where it is used",
            );
        }
    }
}

/// Why the service cannot make use of it; `None` when it may.
fn useless(capability: Capability, profile: &Profile<'_>) -> Option<&'static str> {
    let seccomp = &profile.policy.seccomp;
    let any = |calls: &[Sysno]| calls.iter().any(|call| may(seccomp, *call, &Space::everything()));
    let with = |call: Sysno, wanted: &[(u8, u64, u64)]| {
        let conditions: Vec<Condition> = wanted
            .iter()
            .map(|(index, mask, value)| Condition {
                index: *index,
                wide: false,
                comparison: Comparison::MaskedEq(*mask),
                value: *value,
            })
            .collect();
        Space::of(&conditions).is_none_or(|space| may(seccomp, call, &space))
    };
    const INT: u64 = u32::MAX as u64;
    match capability {
        Capability::NetBindService if !any(&[Sysno::bind]) => Some("no rule allows `bind`"),
        Capability::NetBindService if !any_low_port(profile) => {
            Some("no port below 1024 is named in arguments, environment, probes or [landlock] tcp_bind")
        }
        Capability::NetBroadcast => Some("Linux asks for it nowhere"),
        Capability::NetRaw => {
            let raw = FAMILIES.iter().any(|family| {
                *family == 17 && with(Sysno::socket, &[(0, INT, 17)])
                    || with(Sysno::socket, &[(0, INT, *family), (1, 0xf, SOCK_RAW)]) && *family != 16
            });
            (!raw).then_some("no rule allows raw or packet sockets")
        }
        Capability::NetAdmin => {
            let netlink = with(Sysno::socket, &[(0, INT, 16)]);
            (!netlink && !any(&[Sysno::setsockopt])).then_some("no rule allows netlink sockets")
        }
        Capability::IpcLock => {
            let locks = [Sysno::mlock, Sysno::mlock2, Sysno::mlockall, Sysno::shmctl];
            (!any(&locks)).then_some("no rule allows `mlock` and the like")
        }
        Capability::SysNice => {
            let calls = [
                Sysno::setpriority,
                Sysno::sched_setscheduler,
                Sysno::sched_setattr,
                Sysno::sched_setparam,
                Sysno::sched_setaffinity,
                Sysno::ioprio_set,
                Sysno::mbind,
                Sysno::move_pages,
            ];
            (!any(&calls)).then_some("no rule allows `setpriority`, `sched_setscheduler` and the like")
        }
        Capability::SysResource => {
            let calls = [Sysno::setrlimit, Sysno::prlimit64, Sysno::fcntl];
            (!any(&calls)).then_some("no rule allows `setrlimit` or `prlimit64`")
        }
        Capability::NetBindService => None,
    }
}

/// A number from 1 to 1023 where a port may stand. A service that reads a configuration file may have it there.
fn any_low_port(profile: &Profile<'_>) -> bool {
    let (policy, raw) = (&profile.policy, &profile.raw);
    if let Some(ports) = &policy.landlock.tcp_bind {
        return ports.iter().any(|port| *port < 1024) || !policy.filesystem.readable.is_empty();
    }
    let ready = match &policy.readiness {
        Readiness::Probe { probe, .. } => Some(probe),
        Readiness::None | Readiness::Notify { .. } => None,
    };
    let alive = policy.liveness.as_ref().map(|liveness| &liveness.probe);
    let probes = ready.into_iter().chain(alive).map(|probe| {
        let (Probe::Tcp(address) | Probe::Http(address)) = probe;
        address.to_string()
    });
    let written = raw.arguments.iter().chain(raw.environment.values()).map(|text| text.get_ref().clone());
    !policy.filesystem.readable.is_empty() || probes.chain(written).any(|text| names_low_port(&text))
}

fn names_low_port(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|word| !word.contains('.'))
        .any(|word| word.parse().is_ok_and(|port: u16| (1..1024).contains(&port)))
}

#[cfg(test)]
mod tests {
    use super::names_low_port;

    #[test]
    fn ports_are_found_where_they_stand() {
        for text in ["53", "--port=443", "${wg_ip}:80", "http://127.0.0.1:80/health", "[::]:53"] {
            assert!(names_low_port(text), "{text}");
        }
        for text in ["8080", "127.0.0.1:4001", "--listen", "10.0.0.4:6001", "0", "123456"] {
            assert!(!names_low_port(text), "{text}");
        }
    }
}
