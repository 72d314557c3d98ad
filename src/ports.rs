//! The real world behind the actors' ports: terminals, the kernel's WireGuard, the end of the machine.
//! Each is an adapter of a few lines; what they adapt lives in `crates/` and in the `pid1` module.

use std::sync::{Arc, Mutex, PoisonError};

use orama_actors::describe;
use orama_actors::ports::{Console, Mesh, MeshFailure, Power};
use orama_actors::wg::INTERFACE;
use orama_mesh::{Backend, Interface, InterfaceStatus, PeerConfig, PublicKey, WgConfig};
use tokio::sync::watch;

use crate::agent_log::AgentLog;
use crate::console::{Terminal, uptime_seconds};
use crate::pid1::power::End;

/// Console lines, kept in the agent's log too so that the gateway can show them.
pub struct Screen {
    pub terminal: Arc<Terminal>,
    pub log: AgentLog,
}

impl Console for Screen {
    fn line(&self, text: &str) {
        self.terminal.print(text);
        self.log.push(format!(
            "{} [{:.3}] {text}",
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            uptime_seconds()
        ));
    }
}

/// Hands the decision to end to the main thread, which waits on the other half.
pub struct PowerSwitch {
    pub end: watch::Sender<Option<End>>,
    pub screen: Arc<Screen>,
}

impl Power for PowerSwitch {
    fn reboot(&self, why: &str) {
        self.screen.line(&format!("rebooting: {why}"));
        self.end.send_replace(Some(End::Reboot));
    }

    fn power_off(&self, why: &str) {
        self.screen.line(&format!("powering off: {why}"));
        self.end.send_replace(Some(End::PowerOff));
    }
}

/// The kernel's WireGuard. One lock: changes to an interface never interleave.
#[derive(Default)]
pub struct KernelMesh {
    interface: Mutex<Option<Interface>>,
}

impl KernelMesh {
    fn with<T, E: std::error::Error>(
        &self,
        call: impl FnOnce(&mut Interface) -> Result<T, E>,
    ) -> Result<T, MeshFailure> {
        let mut interface = self.interface.lock().unwrap_or_else(PoisonError::into_inner);
        let interface =
            interface.as_mut().ok_or_else(|| MeshFailure(format!("{INTERFACE} is not up yet")))?;
        call(interface).map_err(|error| MeshFailure(describe(&error)))
    }
}

impl Mesh for KernelMesh {
    fn up(&self, config: &WgConfig) -> Result<(), MeshFailure> {
        let up = Interface::up(INTERFACE, config, Backend::Kernel);
        let up = up.map_err(|error| MeshFailure(describe(&error)))?;
        *self.interface.lock().unwrap_or_else(PoisonError::into_inner) = Some(up);
        Ok(())
    }

    fn set_peer(&self, peer: &PeerConfig) -> Result<(), MeshFailure> {
        self.with(|interface| interface.set_peer(peer))
    }

    fn remove_peer(&self, key: &PublicKey) -> Result<(), MeshFailure> {
        self.with(|interface| interface.remove_peer(key))
    }

    fn read(&self) -> Result<InterfaceStatus, MeshFailure> {
        self.with(|interface| interface.read())
    }
}
