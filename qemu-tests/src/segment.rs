//! A network segment for several machines, in the private namespace: a bridge with the host on it, a TAP interface
//! for each machine and dnsmasq, which gives everybody the address that belongs to its network card. The host is
//! where QEMU's own network has it, so the same images find their gateway.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::cluster::HOST_AS_SEEN_BY_NODES;
use crate::net::Namespace;
use crate::process::{Process, ProcessError};

const BRIDGE: &str = "segment0";
/// Address of the first machine; the others follow.
const FIRST: [u8; 4] = [10, 0, 2, 101];
/// dnsmasq listens by then, or never will.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Where one machine is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the TAP interface.
    pub interface: String,
    pub mac: String,
    /// What the DHCP server gives that card.
    pub address: Ipv4Addr,
}

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("running ip {arguments}")]
    Run {
        arguments: String,
        #[source]
        source: std::io::Error,
    },
    #[error("ip {arguments} failed ({status}); it needs root and /dev/net/tun")]
    Failed { arguments: String, status: ExitStatus },
    #[error("the DHCP server of Debian's package dnsmasq-base")]
    Dhcp(#[from] ProcessError),
}

/// Lives as long as its DHCP server; the interfaces go with the namespace.
pub struct Segment {
    ports: Vec<Port>,
    _dhcp: Process,
}

impl Segment {
    /// With as many ports as there will ever be machines.
    pub fn start(network: &Namespace, folder: &Path, machines: u8) -> Result<Self, SegmentError> {
        ip(network, &format!("link add {BRIDGE} type bridge forward_delay 0"))?;
        ip(network, &format!("address add {HOST_AS_SEEN_BY_NODES}/24 dev {BRIDGE}"))?;
        ip(network, &format!("link set {BRIDGE} up"))?;
        let ports: Vec<Port> = (0..machines).map(port).collect();
        for Port { interface, .. } in &ports {
            ip(network, &format!("tuntap add dev {interface} mode tap"))?;
            ip(network, &format!("link set {interface} master {BRIDGE} up"))?;
        }
        let mut dhcp = Process::start("dnsmasq", server(network, folder, &ports), &folder.join("dhcp.log"))?;
        let log = dhcp.log().to_owned();
        let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("sockets bound"));
        dhcp.wait_until("bound socket", START_LIMIT, ready)?;
        Ok(Self { ports, _dhcp: dhcp })
    }

    pub fn port(&self, index: usize) -> Port {
        self.ports[index].clone()
    }
}

fn port(index: u8) -> Port {
    let [a, b, c, first] = FIRST;
    let last = first + index;
    Port {
        interface: format!("tap{index}"),
        mac: format!("52:54:00:00:02:{last:02x}"),
        address: Ipv4Addr::new(a, b, c, last),
    }
}

fn server(network: &Namespace, folder: &Path, ports: &[Port]) -> Command {
    let mut command = network.command("dnsmasq");
    // No names, no files of this machine, in the foreground, and its words on standard error.
    command.args(["--port=0", "--conf-file=/dev/null", "--no-daemon", "--log-facility=-", "--user=root"]);
    command.args(["--bind-interfaces", "--leasefile-ro", "--pid-file="]).arg(format!("--interface={BRIDGE}"));
    command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
    command.arg(format!("--dhcp-range={HOST_AS_SEEN_BY_NODES},static,255.255.255.0,1h"));
    for Port { mac, address, .. } in ports {
        command.arg(format!("--dhcp-host={mac},{address}"));
    }
    command.arg(format!("--dhcp-option=option:router,{HOST_AS_SEEN_BY_NODES}"));
    command
}

fn ip(network: &Namespace, arguments: &str) -> Result<(), SegmentError> {
    let mut command = network.command("ip");
    let status = command.args(arguments.split(' ')).stdin(Stdio::null()).status();
    let status = status.map_err(|source| SegmentError::Run { arguments: arguments.to_owned(), source })?;
    if !status.success() {
        return Err(SegmentError::Failed { arguments: arguments.to_owned(), status });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_machine_has_a_card_and_an_address_of_its_own() {
        let ports: Vec<_> = (0..10).map(super::port).collect();
        assert_eq!(ports[0].address.to_string(), "10.0.2.101");
        assert_eq!(ports[9].mac, "52:54:00:00:02:6e");
        assert!(ports.iter().all(|port| port.interface.len() < 16), "longer than the kernel takes");
        for distinct in [|port: &super::Port| port.interface.clone(), |port: &super::Port| port.mac.clone()] {
            assert_eq!(ports.iter().map(distinct).collect::<BTreeSet<_>>().len(), ports.len());
        }
    }
}
