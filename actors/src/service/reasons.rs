//! What status says of a service, in words: how it ended, and which walls of its box it stands at while it runs. Pure:
//! what was counted and seen goes in, a sentence comes out.

use nix::sys::signal::Signal;

use crate::ports::{Exit, Usage};

/// The limits of the policy that a service can run into and go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
}

/// A process that was killed for a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// `socket(AF_NETLINK, SOCK_RAW, 0), refused by policies/x.toml:37`
    pub text: String,
}

/// What is known of a child that has ended.
pub struct Ending<'a> {
    pub exit: Exit,
    pub limits: &'a Limits,
    pub before: &'a Usage,
    pub after: &'a Usage,
    /// The last kill of this run.
    pub kill: Option<&'a Kill>,
    pub last_words: &'a str,
}

/// How it ended, and why where that is known.
pub fn ending(ending: &Ending<'_>) -> String {
    let Ending { exit, limits, before, after, .. } = ending;
    let signal = match exit {
        Exit::Signal(number) => Signal::try_from(*number).ok(),
        Exit::Code(_) | Exit::Unknown => None,
    };
    if after.oom_kills > before.oom_kills && matches!(signal, Some(Signal::SIGKILL)) {
        return match limits.memory_bytes {
            Some(limit) => format!("out of memory: limit {} (cgroup.memory_bytes)", mebibytes(limit)),
            None => "killed, because the node was out of memory; the profile sets no limit".into(),
        };
    }
    let mut text = match (signal, ending.kill) {
        (Some(Signal::SIGSYS | Signal::SIGKILL), Some(kill)) => {
            return format!("killed for calling {}", kill.text);
        }
        (Some(Signal::SIGSYS), None) => {
            return "killed by SIGSYS without a refusal on record: a system call of another architecture (i386) \
                    or of x32, which no profile can allow"
                .into();
        }
        _ => exit.to_string(),
    };
    match exit {
        Exit::Code(0) => {
            if let Some(left @ 1..) = after.pids {
                text = format!(
                    "ended and left {left} processes behind, which were killed: a service stays in the foreground"
                );
            }
        }
        Exit::Code(_) if !ending.last_words.is_empty() => text = format!("{text}: {}", ending.last_words),
        Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => {}
    }
    if let Some(kill) = ending.kill {
        text = format!("{text}; one of its processes was killed for calling {}", kill.text);
    }
    text
}

/// A wall that a running service stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    Pids { limit: Option<u64>, refused: u64 },
    Disk { limit: u64 },
    Memory { kills: u64 },
    Mute,
}

impl Wall {
    /// Whether it is the same wall, whatever was counted since.
    pub fn is_like(&self, other: &Wall) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl std::fmt::Display for Wall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pids { limit: Some(limit), refused } => {
                write!(
                    f,
                    "at its limit of {limit} processes (cgroup.pids): {refused} attempts to make more failed"
                )
            }
            Self::Pids { limit: None, refused } => write!(f, "{refused} attempts to make processes failed"),
            Self::Disk { limit } => {
                write!(f, "its disk space is used up: limit {} (filesystem.disk_bytes)", mebibytes(*limit))
            }
            Self::Memory { kills } => write!(f, "{kills} of its processes were killed, out of memory"),
            Self::Mute => f.write_str("it has closed its output: nothing more comes to its log"),
        }
    }
}

/// The walls that a running service stands at or met since it was started.
pub fn walls(limits: &Limits, before: &Usage, now: &Usage, output_closed: bool) -> Vec<Wall> {
    let mut walls = Vec::new();
    let refused = now.forks_refused.saturating_sub(before.forks_refused);
    if refused > 0 {
        walls.push(Wall::Pids { limit: limits.pids, refused });
    }
    let kills = now.oom_kills.saturating_sub(before.oom_kills);
    if kills > 0 {
        walls.push(Wall::Memory { kills });
    }
    if let (Some(limit), Some(used)) = (now.disk_limit_bytes, now.disk_bytes) {
        // The kernel refuses the block that would pass the limit: what is used stays up to a block below it.
        if used.saturating_add(DISK_SLACK_BYTES) > limit {
            walls.push(Wall::Disk { limit });
        }
    }
    if output_closed {
        walls.push(Wall::Mute);
    }
    walls
}

/// ext4's largest block with as much again for its own bookkeeping, bytes.
const DISK_SLACK_BYTES: u64 = 8192;

fn mebibytes(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_bytes: Some(64 << 20), pids: Some(16) };

    fn check(exit: Exit, after: Usage, kill: Option<&str>, last_words: &str, expect: &str) {
        let kill = kill.map(|text| Kill { text: text.into() });
        let before = Usage { oom_kills: 1, ..Usage::default() };
        let after = Usage { oom_kills: after.oom_kills + 1, ..after };
        let said = ending(&Ending {
            exit,
            limits: &LIMITS,
            before: &before,
            after: &after,
            kill: kill.as_ref(),
            last_words,
        });
        assert_eq!(said, expect);
    }

    #[test]
    fn an_end_says_why_where_that_is_known() {
        let calm = Usage::default();
        let oom = Usage { oom_kills: 3, ..calm };
        let left = Usage { pids: Some(2), ..calm };
        let socket = Some("socket(AF_NETLINK, 3, 0), refused by x.toml:37");
        let child = Some("ptrace(), refused by x.toml:1");
        check(Exit::Code(0), calm, None, "bye", "ended");
        check(Exit::Code(3), calm, None, "cannot bind", "exit code 3: cannot bind");
        check(Exit::Code(3), calm, None, "", "exit code 3");
        check(Exit::Signal(9), calm, None, "x", "killed by SIGKILL");
        check(Exit::Signal(9), oom, None, "", "out of memory: limit 64 MiB (cgroup.memory_bytes)");
        for signal in [9, 31] {
            let said = "killed for calling socket(AF_NETLINK, 3, 0), refused by x.toml:37";
            check(Exit::Signal(signal), calm, socket, "", said);
        }
        let foreign = "killed by SIGSYS without a refusal on record: a system call of another architecture (i386) \
                       or of x32, which no profile can allow";
        check(Exit::Signal(31), calm, None, "", foreign);
        let said = "exit code 1: worker died; one of its processes was killed for calling ptrace(), refused by x.toml:1";
        check(Exit::Code(1), calm, child, "worker died", said);
        let said = "ended and left 2 processes behind, which were killed: a service stays in the foreground";
        check(Exit::Code(0), left, None, "", said);
    }

    #[test]
    fn walls_are_told_since_the_start_of_this_run() {
        let before = Usage { forks_refused: 5, ..Usage::default() };
        assert!(walls(&LIMITS, &before, &before, false).is_empty());
        let disk = Usage { disk_limit_bytes: Some(8 << 20), ..before };
        let now = Usage { forks_refused: 9, disk_bytes: Some((8 << 20) - 4096), ..disk };
        let told: Vec<String> = walls(&LIMITS, &before, &now, true).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "at its limit of 16 processes (cgroup.pids): 4 attempts to make more failed",
                "its disk space is used up: limit 8 MiB (filesystem.disk_bytes)",
                "it has closed its output: nothing more comes to its log",
            ]
        );
        assert!(Wall::Pids { limit: None, refused: 1 }.is_like(&Wall::Pids { limit: None, refused: 2 }));
    }
}
