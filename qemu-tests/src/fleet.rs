//! Several machines of one image on one segment, with a gateway beside them and no guardian but their own. Owns who
//! is plugged in where; what they do together is in the scenarios.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::artifacts::{Artifacts, Image};
use crate::cluster::{Cluster, Plan};
use crate::net::Namespace;
use crate::operator::Operator;
use crate::scenario::{BOOT_LIMIT, ScenarioError};
use crate::segment::Segment;
use crate::vm::Machine;

pub struct Fleet {
    // Dropped in this order: the machines before what they talk to.
    machines: Vec<Machine>,
    pub operator: Operator,
    _segment: Segment,
    pub cluster: Cluster,
    folder: PathBuf,
}

impl Fleet {
    /// A gateway, and as many machines, all switched off.
    pub fn prepare(
        artifacts: &Artifacts,
        name: &str,
        image: Image,
        machines: u8,
    ) -> Result<Self, ScenarioError> {
        let folder = artifacts.run_folder(name)?;
        let cluster = Cluster::start(artifacts, &folder, Plan::NODES_ONLY)?;
        let segment = Segment::start(cluster.network(), &folder, machines)?;
        let disk = artifacts.image(image)?;
        let plugged = |index: u8| {
            let own = folder.join(format!("machine-{}", index + 1));
            std::fs::create_dir_all(&own)
                .map_err(|source| ScenarioError::Folder { path: own.clone(), source })?;
            let mut machine = Machine::new(cluster.network().clone(), &own, &disk)?;
            machine.set_memory_mib(image.memory_mib());
            machine.plug_into(segment.port(index.into()));
            Ok::<_, ScenarioError>(machine)
        };
        let machines = (0..machines).map(plugged).collect::<Result<_, _>>()?;
        let operator = Operator::of(&cluster, artifacts)?;
        Ok(Self { machines, operator, _segment: segment, cluster, folder })
    }

    pub fn network(&self) -> &Namespace {
        self.cluster.network()
    }

    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub fn machine(&mut self, index: usize) -> &mut Machine {
        &mut self.machines[index]
    }

    pub fn public_address(&self, index: usize) -> Ipv4Addr {
        self.machines[index].public_address()
    }

    /// Switches these on at once and waits until each shows a registration code.
    pub fn start_enrolling(&mut self, which: std::ops::Range<usize>) -> Result<(), ScenarioError> {
        for machine in &mut self.machines[which.clone()] {
            machine.power_on()?;
        }
        for machine in &mut self.machines[which] {
            machine.wait_for("orama: registration code", BOOT_LIMIT)?;
        }
        Ok(())
    }

    /// Pulls the plug of every machine that is on, all within a moment.
    pub fn power_cut(&mut self) -> Result<(), ScenarioError> {
        for machine in self.machines.iter_mut().filter(|machine| machine.is_on()) {
            machine.power_cut()?;
        }
        Ok(())
    }
}
