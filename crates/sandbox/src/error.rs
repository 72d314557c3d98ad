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
    #[error("cgroup controller `{controller}` is not available in {base}, which `{field}` needs")]
    MissingController { controller: &'static str, field: &'static str, base: PathBuf },
    #[error("{what} {path}")]
    Cgroup {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("compile the seccomp filter")]
    Filter {
        #[source]
        source: seccompiler::BackendError,
    },
    #[error("the seccomp filter has {instructions} instructions, the kernel takes {limit}")]
    FilterTooLarge { instructions: usize, limit: usize },
    #[error("{what} contains a NUL byte")]
    Nul { what: String },
}

/// The child did not come to execute its binary; it is gone and reaped.
#[derive(Debug, thiserror::Error)]
#[error("{stage}")]
pub struct SpawnError {
    pub stage: Stage,
    /// The path or object that the stage was at, when it was at one.
    pub object: Option<String>,
    #[source]
    pub source: io::Error,
}

impl SpawnError {
    pub(crate) fn child(stage: Stage, errno: i32) -> SpawnError {
        SpawnError { stage, object: None, source: io::Error::from_raw_os_error(errno) }
    }

    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// How far the child came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Clone,
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Stage::Clone => "create the process",
        })
    }
}
