//! Policy -> confined child. [`prepare`] does what needs doing once, [`Prepared::spawn`] starts a child that makes
//! only raw system calls until it is confined, [`Running`] is the hold on it.
//!
//! Does not restart, probe or log anything: that is the ServiceActor's part.

mod cgroup;
mod child;
mod datadir;
mod elf;
mod error;
mod filter;
mod root;
mod running;
mod spawn;
mod sys;

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use cgroup::Cgroup;
pub use error::{PrepareError, SpawnError, Stage};
use orama_policy::{Namespaces, Rlimit};
pub use orama_policy::{Policy, Variables};
pub use running::Running;

/// Where the cgroups of the services live on a node: `<base>/<service>`.
pub const CGROUP_BASE: &str = "/sys/fs/cgroup/orama";

/// A service that can be started, any number of times, one at a time.
pub struct Prepared {
    name: String,
    cgroup: Cgroup,
    view: root::View,
    /// Of `view`'s mounts, relative to the new root.
    places: Vec<CString>,
    programs: Vec<filter::Program>,
    binary: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    work_dir: CString,
    hostname: Option<CString>,
    namespaces: Namespaces,
    rlimits: Vec<(u32, libc::rlimit64)>,
    last_capability: u32,
    ambient: u64,
    uid: u32,
    gid: u32,
}

/// Makes data directories and cgroup, compiles the filter, collects paths, for a service under [`CGROUP_BASE`].
pub fn prepare(policy: &Policy, variables: &Variables) -> Result<Prepared, PrepareError> {
    prepare_in(Path::new(CGROUP_BASE), policy, variables)
}

/// [`prepare`] with another cgroup v2 directory as base.
pub fn prepare_in(base: &Path, policy: &Policy, variables: &Variables) -> Result<Prepared, PrepareError> {
    let dynamic = elf::is_dynamic(&policy.binary)?;
    for path in &policy.filesystem.writable {
        datadir::ensure(path, policy.uid, policy.gid)
            .map_err(|source| PrepareError::DataDirectory { path: path.clone(), source })?;
    }
    for path in &policy.filesystem.readable {
        sys::open_path(path, true).map_err(|source| PrepareError::Readable { path: path.clone(), source })?;
    }
    let programs = filter::compile(&policy.seccomp)?;
    let view = root::View::new(policy, dynamic);
    let places = view
        .places()
        .map(|place| c_string("a path", place.as_os_str().as_bytes()))
        .collect::<Result<_, _>>()?;
    let binary = c_string("the binary", policy.binary.as_os_str().as_bytes())?;
    let mut argv = vec![binary.clone()];
    for argument in policy.expand_args(variables) {
        argv.push(c_string("an argument", argument.as_bytes())?);
    }
    let envp = policy
        .expand_env(variables)
        .into_iter()
        .map(|(name, value)| c_string("the environment", format!("{name}={value}").as_bytes()))
        .collect::<Result<_, _>>()?;
    let work_dir = policy.data_dir().map_or(&b"/"[..], |path| path.as_os_str().as_bytes());
    Ok(Prepared {
        name: policy.name.clone(),
        cgroup: Cgroup::create(base, &policy.name, &policy.cgroup)?,
        view,
        places,
        programs,
        binary,
        argv,
        envp,
        work_dir: c_string("the data directory", work_dir)?,
        hostname: match policy.namespaces.uts {
            true => Some(c_string("the host name", policy.hostname.as_bytes())?),
            false => None,
        },
        namespaces: policy.namespaces,
        rlimits: policy.limits.iter().map(rlimit).collect(),
        last_capability: last_capability()?,
        ambient: policy.capabilities.iter().fold(0, |set, capability| set | 1 << capability.number()),
        uid: policy.uid,
        gid: policy.gid,
    })
}

impl Prepared {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Starts the service with stdin from /dev/null and the data directory as working directory. Returns once it
    /// has been executed or has failed to be. Blocks for milliseconds; may be called from any thread. The service
    /// dies with this process.
    pub fn spawn(&self, stdout: OwnedFd, stderr: OwnedFd) -> Result<Running, SpawnError> {
        spawn::on_spawner(move || spawn::start(self, stdout, stderr))?
    }
}

fn c_string(what: &'static str, bytes: &[u8]) -> Result<CString, PrepareError> {
    CString::new(bytes).map_err(|_| PrepareError::Nul { what })
}

fn rlimit(limit: &Rlimit) -> (u32, libc::rlimit64) {
    let (resource, value) = match *limit {
        Rlimit::Nofile(files) => (libc::RLIMIT_NOFILE, files),
        Rlimit::Nproc(processes) => (libc::RLIMIT_NPROC, processes),
        Rlimit::CoreBytes(bytes) => (libc::RLIMIT_CORE, bytes),
        Rlimit::MemlockBytes(bytes) => (libc::RLIMIT_MEMLOCK, bytes),
        Rlimit::FsizeBytes(bytes) => (libc::RLIMIT_FSIZE, bytes),
        Rlimit::StackBytes(bytes) => (libc::RLIMIT_STACK, bytes),
    };
    (resource, libc::rlimit64 { rlim_cur: value, rlim_max: value })
}

/// The kernel knows more or fewer capabilities than we were compiled with; the bounding set must lose all of them.
fn last_capability() -> Result<u32, PrepareError> {
    let failed = |source| PrepareError::LastCapability { source };
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap").map_err(failed)?;
    text.trim().parse().map_err(|error| failed(std::io::Error::other(error)))
}
