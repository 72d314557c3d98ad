//! The real launcher: policy in, confined child out, through `orama-sandbox`. Prepares at each start, because the
//! variables (node id, overlay address) exist only after enrollment and the data folders only after the mount.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use orama_policy::Policy;
use orama_sandbox::Running;

use crate::facts::Facts;
use crate::ports::{Child, Exit, LaunchFailure, Launcher};

pub struct SandboxLauncher {
    policies: BTreeMap<String, Arc<Policy>>,
    facts: Facts,
}

impl SandboxLauncher {
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>, facts: Facts) -> Self {
        let policies = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
        Self { policies, facts }
    }
}

impl Launcher for SandboxLauncher {
    fn spawn(
        &self,
        service: &str,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Box<dyn Child>, LaunchFailure> {
        let policy = self.policies.get(service).ok_or_else(|| LaunchFailure("it has no policy".into()))?;
        let variables =
            self.facts.variables().ok_or_else(|| LaunchFailure("the node has no name yet".into()))?;
        let prepared = orama_sandbox::prepare(policy, &variables).map_err(|error| chain(&error))?;
        let running = prepared.spawn(stdout, stderr).map_err(|error| chain(&error))?;
        Ok(Box::new(Confined(running)))
    }
}

fn chain(error: &dyn Error) -> LaunchFailure {
    LaunchFailure(crate::describe(error))
}

struct Confined(Running);

impl Child for Confined {
    fn pid(&self) -> u32 {
        self.0.pid().unsigned_abs()
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd()
    }

    fn signal(&self, signal: i32) -> std::io::Result<()> {
        self.0.signal(signal)
    }

    fn kill_all(&self) -> std::io::Result<()> {
        self.0.kill_all()
    }

    fn try_reap(&self) -> std::io::Result<Option<Exit>> {
        Ok(self.0.try_wait()?.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }))
    }
}
