//! Policy -> confined child. [`prepare`] does everything that can fail or allocate, [`Prepared::spawn`] starts a
//! child that only makes raw system calls, [`Running`] is the hold on it.
//!
//! Does not restart, probe or log anything: that is the ServiceActor's part.

mod error;
mod running;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use error::{PrepareError, SpawnError, Stage};
pub use orama_policy::{Policy, Variables};
pub use running::Running;

/// Where the cgroups of the services live on a node: `<base>/<service>`.
pub const CGROUP_BASE: &str = "/sys/fs/cgroup/orama";

/// A service that can be started, any number of times, one at a time.
pub struct Prepared {
    name: String,
    #[allow(dead_code)]
    cgroup: PathBuf,
}

/// Makes data directories and cgroup, compiles the filter, collects paths, for a service under [`CGROUP_BASE`].
pub fn prepare(policy: &Policy, variables: &Variables) -> Result<Prepared, PrepareError> {
    prepare_in(Path::new(CGROUP_BASE), policy, variables)
}

/// [`prepare`] with another cgroup2 directory as base.
pub fn prepare_in(base: &Path, policy: &Policy, _variables: &Variables) -> Result<Prepared, PrepareError> {
    Ok(Prepared { name: policy.name.clone(), cgroup: base.join(&policy.name) })
}

impl Prepared {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the service with stdin from /dev/null. Returns once the child has been executed or has failed to.
    /// Blocks for milliseconds. The child dies with the calling *thread*: call it from one that lives as long
    /// as the agent.
    pub fn spawn(&self, stdout: OwnedFd, stderr: OwnedFd) -> Result<Running, SpawnError> {
        drop((stdout, stderr));
        Err(SpawnError::child(Stage::Clone, libc::ENOSYS))
    }
}
