//! What every scenario begins with: a cluster, one machine with a node on it, and an operator. Steps that more
//! than one scenario takes are here; what they prove is in the scenarios.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use orama_protocol::agent::Status;

use crate::artifacts::{Artifacts, ArtifactsError, Image};
use crate::cluster::{Cluster, ClusterError, Plan};
use crate::net::Namespace;
use crate::node;
use crate::operator::{Operator, OperatorError};
use crate::segment::SegmentError;
use crate::vm::{Machine, MachineError};

/// Firmware to enrollment mode: 10 s on an idle machine; others may be busy.
pub const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Formatting, splitting, storing, services: 20 s on an idle machine.
pub const PROVISION_LIMIT: Duration = Duration::from_secs(180);

pub struct Scenario {
    // Dropped in this order: the node before what it talks to.
    pub machine: Machine,
    pub operator: Operator,
    pub cluster: Cluster,
}

#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("making the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the node's address {0:?} is none")]
    Address(String),
}

/// A node after enrollment.
#[derive(Clone, Debug)]
pub struct Enrolled {
    pub node_id: String,
    pub address: Ipv4Addr,
}

impl Scenario {
    /// Cluster and machine, the machine switched off.
    pub fn prepare(name: &str, image: Image) -> Result<Self, ScenarioError> {
        let artifacts = Artifacts::from_environment()?;
        Self::prepare_in(&artifacts, name, image)
    }

    pub fn prepare_in(artifacts: &Artifacts, name: &str, image: Image) -> Result<Self, ScenarioError> {
        let folder = artifacts.run_folder(name)?;
        let cluster = Cluster::start(artifacts, &folder, Plan::SINGLE)?;
        let mut machine = Machine::new(cluster.network().clone(), &folder, &artifacts.image(image)?)?;
        machine.set_memory_mib(image.memory_mib());
        let operator = Operator::of(&cluster, artifacts)?;
        Ok(Self { machine, operator, cluster })
    }

    /// A node that waits in enrollment mode.
    pub fn start(name: &str, image: Image) -> Result<Self, ScenarioError> {
        let mut scenario = Self::prepare(name, image)?;
        scenario.machine.power_on()?;
        scenario.wait_enrollment_mode()?;
        Ok(scenario)
    }

    /// An enrolled node whose services run.
    pub fn enrolled(name: &str, image: Image) -> Result<(Self, Enrolled), ScenarioError> {
        let mut scenario = Self::start(name, image)?;
        let node = scenario.enroll()?;
        scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT)?;
        Ok((scenario, node))
    }

    pub fn network(&self) -> &Namespace {
        self.cluster.network()
    }

    pub fn wait_enrollment_mode(&mut self) -> Result<String, ScenarioError> {
        Ok(self.machine.wait_for("orama: registration code", BOOT_LIMIT)?)
    }

    /// Invites and enrols; returns when the operator's command does.
    pub fn enroll(&mut self) -> Result<Enrolled, ScenarioError> {
        let token = self.operator.invite("1h")?;
        let answer = self.operator.enroll_when_registered(self.machine.public_address(), &token)?;
        let address = answer.wg_ip.parse().map_err(|_| ScenarioError::Address(answer.wg_ip.clone()))?;
        Ok(Enrolled { node_id: answer.node_id, address })
    }

    /// Asks for the node's status through the gateway until it is as wanted.
    pub fn wait_status(
        &self,
        node_id: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, ScenarioError> {
        Ok(self.operator.wait_status(node_id, what, limit, wanted)?)
    }

    /// Waits until the node runs and every service is healthy.
    pub fn wait_healthy(&self, node_id: &str) -> Result<Status, ScenarioError> {
        self.wait_status(node_id, "healthy", PROVISION_LIMIT, |status| status.healthy)
    }

    /// Whether anything answers on port 9999.
    pub fn enrollment_is_closed(&self) -> bool {
        node::is_closed(self.network(), node::enrollment())
    }
}
