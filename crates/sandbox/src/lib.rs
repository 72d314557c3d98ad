//! Policy -> confined child. [`prepare`] does what needs doing once, [`Prepared::spawn`] starts a child that makes
//! only raw system calls until it is confined, [`Running`] is the hold on it, [`Watcher`] answers what it is
//! refused and tells.
//!
//! Does not restart, probe or log anything: that is the ServiceActor's part.

mod cgroup;
mod child;
mod datadir;
mod elf;
mod error;
mod filter;
mod landlock;
mod prepare;
mod refusal;
mod root;
mod running;
mod spawn;
mod sys;
mod template;
pub mod trial;
mod watch;

pub use cgroup::Cgroup;
pub use error::{PrepareError, SpawnError, Stage};
pub use filter::{Answer, Filter};
pub use landlock::{Fence, Missing};
pub use orama_policy::{Call, Policy, Variables};
pub use prepare::{Preparation, Prepared, Step, Streams, prepare, prepare_in};
pub use refusal::{Outcome, Refusal, Seen};
pub use running::Running;
pub use watch::{Listener, SeccompData, Watcher};

/// Where the cgroups of the services live on a node: `<base>/<service>`.
pub const CGROUP_BASE: &str = "/sys/fs/cgroup/orama";
