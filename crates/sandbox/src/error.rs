//! What can go wrong before and while a service is started, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("inspect binary {path}")]
    Binary {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("binary {path} {what}")]
    UnfitBinary { path: PathBuf, what: &'static str },
    #[error("make data directory {path}")]
    DataDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("find readable path {path}")]
    Readable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cgroup controller `{controller}` is not available in {base}, and `{field}` needs it")]
    MissingController { controller: &'static str, field: &'static str, base: PathBuf },
    #[error("{path} is not in a cgroup v2 hierarchy")]
    NotCgroup2 { path: PathBuf },
    #[error("{what} {path}")]
    Cgroup {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the seccomp filter has {instructions} instructions, the kernel takes {limit}")]
    FilterTooLarge { instructions: usize, limit: usize },
    #[error("[landlock] mode = \"require\", and this kernel lacks {missing}")]
    Landlock { missing: String },
    #[error("{what} contains a NUL byte")]
    Nul { what: &'static str },
}

/// The service was not executed; what was begun is gone and reaped.
#[derive(Debug, thiserror::Error)]
#[error("{stage}{}", object.as_ref().map(|object| format!(" {object}")).unwrap_or_default())]
pub struct SpawnError {
    pub stage: Stage,
    /// The path or other object that the stage was at, when it was at one.
    pub object: Option<String>,
    #[source]
    pub source: io::Error,
}

impl SpawnError {
    pub(crate) fn parent(stage: Stage, object: Option<String>, source: io::Error) -> SpawnError {
        SpawnError { stage, object, source }
    }

    /// The kernel's error number; 0 when the error is not the kernel's.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// How far a start came; in the order in which it happens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Stage {
            $($(#[$doc])* $name,)*
        }

        impl Stage {
            const ALL: &'static [Stage] = &[$(Stage::$name),*];
        }

        impl fmt::Display for Stage {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self {
                    $(Stage::$name => $words,)*
                })
            }
        }
    };
}

stages! {
    /// Nothing that can fail has happened.
    Nothing = "start the child",
    /// Processes of an earlier start are still in the cgroup.
    Leftovers = "start beside processes of an earlier start",
    Cgroup = "look into the cgroup",
    BuildRoot = "build the private root",
    /// The object is the path.
    ShowPath = "show path",
    BuildDev = "build the private /dev",
    Namespace = "make the mount namespace",
    Private = "make the mounts private",
    AttachRoot = "attach the private root at",
    AttachPath = "attach path",
    EnterRoot = "enter the private root",
    Proc = "mount the restricted /proc",
    Pivot = "change to the private root",
    DetachOld = "detach the old root",
    BuildTmp = "build the private /tmp",
    BuildDomain = "build the Landlock domain",
    Streams = "prepare the standard streams",
    Stack = "map a stack for the child",
    Clone = "create the process",
    Session = "start a session",
    Hostname = "set the host name",
    Loopback = "bring the loopback interface up",
    AttachTmp = "attach the private /tmp",
    WorkDir = "enter the working directory",
    Rlimit = "set the resource limit",
    BoundingSet = "drop from the bounding set capability",
    KeepCaps = "keep capabilities across the change of user",
    Groups = "drop the supplementary groups",
    Gid = "become group",
    Uid = "become user",
    Capset = "set the capabilities",
    Ambient = "raise the ambient capability",
    DeathSignal = "bind the life of the service to the agent",
    Signals = "unblock the signals",
    NoNewPrivs = "forbid new privileges",
    Landlock = "enter the Landlock domain",
    Seccomp = "install the seccomp filter",
    CloseFds = "close the inherited descriptors",
    Stdio = "connect standard stream",
    Nofile = "limit the open files",
    Exec = "execute",
}

impl Stage {
    pub(crate) fn from_number(number: u32) -> Stage {
        Stage::ALL.iter().copied().find(|stage| *stage as u32 == number).unwrap_or(Stage::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence() {
        let error = SpawnError::parent(
            Stage::ShowPath,
            Some("/data/x".to_owned()),
            io::Error::from_raw_os_error(libc::ENOENT),
        );
        assert_eq!(error.to_string(), "show path /data/x");
        assert_eq!(error.errno(), libc::ENOENT);
        assert_eq!(Stage::from_number(Stage::Exec as u32), Stage::Exec);
    }
}
