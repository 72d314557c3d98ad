//! `orama node`: invites, enrollment, and what an operator does to an enrolled node through the gateway.
//! This file owns the flags; each command has its own file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use orama_protocol::ENROLL_PORT;
use orama_protocol::agent::{LOG_LINES_DEFAULT, LOG_LINES_MAX};
use orama_protocol::gateway::NodeCommand as Order;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

mod adopt;
mod agent;
mod decide;
mod enroll;
mod file;
mod follow;
mod genesis;
mod invite;
mod leave;
mod manage;
mod recovery;
mod refusals;
mod status;

#[derive(Subcommand)]
pub enum NodeCommand {
    /// Makes a single-use invite token for one enrollment.
    Invite {
        /// How long the token is good, for example 24h, 90m or 7d; 1m to 30d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = text::parse_span)]
        expiry: u64,
    },
    /// Enrolls a node that is in enrollment mode, and follows it until it runs.
    Enroll(Box<EnrollArgs>),
    /// Opens the data volume of a node with its owner's wallet: the first node of a cluster, or by a recovery key.
    Unlock(genesis::UnlockArgs),
    /// Shows what a node is doing: phase, key shares, services, WireGuard peers.
    Status(Node),
    /// Prints the last log lines of a node's services.
    Logs {
        #[command(flatten)]
        node: Node,
        /// One service, or `agent`; all of them when absent.
        #[arg(long, value_name = "NAME", value_parser = service_name)]
        service: Option<String>,
        /// How many lines of each, at most 1000.
        #[arg(long, value_name = "N", default_value_t = LOG_LINES_DEFAULT as u16,
            value_parser = clap::value_parser!(u16).range(1..=LOG_LINES_MAX as i64))]
        lines: u16,
    },
    /// Lists the system calls that a node's profiles did not allow, with a patch for each profile.
    Refusals {
        #[command(flatten)]
        node: Node,
        /// One service; all of them when absent.
        #[arg(long, value_name = "NAME", value_parser = service_name)]
        service: Option<String>,
    },
    /// Sends a node a command.
    Command {
        /// What to do.
        #[arg(value_name = "ACTION", value_parser = ["restart", "start", "stop", "reload", "status", "reboot", "poweroff"])]
        action: String,
        #[command(flatten)]
        node: Node,
        /// The service to do it to.
        #[arg(long, value_name = "NAME", value_parser = service_name,
            required_if_eq_any = [("action", "restart"), ("action", "start"), ("action", "reload")])]
        service: Option<String>,
        /// Reboot or power off although somebody's key would have too few holders meanwhile.
        #[arg(long)]
        force: bool,
    },
    /// Restarts one service of a node; the same as `command restart`.
    Restart {
        #[command(flatten)]
        node: Node,
        /// The service.
        #[arg(long, value_name = "NAME", value_parser = service_name)]
        service: String,
    },
    /// Lets a gateway take over the first node of a cluster, which its owner's wallet enrolled.
    Adopt(adopt::AdoptArgs),
    /// It was you: the guardians give this node its key at once, although it was absent or asks from a new address.
    Approve {
        #[command(flatten)]
        node: Node,
        /// The public address to approve, when it asks from several; or where it will ask from.
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
    },
    /// It was not you: the guardians delete the shares of this node's key and refuse it for good, and it is taken out of
    /// everybody's WireGuard. Its data can only be opened with a recovery key after that.
    Revoke(Node),
    /// Takes a node out of the cluster, after the shares it keeps for others were moved. It stops its services and erases
    /// its key: its data is not recoverable after that.
    Leave(LeaveArgs),
}

/// Which node.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Node {
    /// The node's id or its overlay address.
    #[arg(value_name = "NODE", value_parser = node_id)]
    node: Option<String>,
    /// The node's id, for example node-10.0.0.4.
    #[arg(long, value_name = "ID", value_parser = node_id)]
    node_id: Option<String>,
    /// The node's overlay address, for example 10.0.0.4.
    #[arg(long, value_name = "IP")]
    wg_ip: Option<Ipv4Addr>,
}

impl Node {
    fn address(&self) -> Option<Ipv4Addr> {
        self.wg_ip.or_else(|| self.node.as_ref()?.parse().ok())
    }

    /// None: named by its address.
    fn id(&self) -> Option<&str> {
        let named = self.node.as_deref().filter(|name| name.parse::<Ipv4Addr>().is_err());
        self.node_id.as_deref().or(named)
    }

    /// As a query; both values were checked to need no escaping.
    fn query(&self) -> String {
        match (self.id(), self.address()) {
            (Some(id), _) => format!("node_id={id}"),
            (None, Some(ip)) => format!("wg_ip={ip}"),
            (None, None) => String::new(),
        }
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.id(), self.address()) {
            (Some(id), _) => f.write_str(id),
            (None, Some(ip)) => write!(f, "the node at {ip}"),
            (None, None) => f.write_str("no node"),
        }
    }
}

#[derive(Args)]
pub struct LeaveArgs {
    #[command(flatten)]
    node: Node,
    /// Do not wait for the others to move their shares: for a node that is dead, or when one of them is.
    #[arg(long)]
    force: bool,
    /// Return when the gateway has taken the order; it goes on by itself.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until the node has left.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = text::parse_span)]
    wait: u64,
}

#[derive(Args)]
pub struct EnrollArgs {
    /// The node's public IPv4 address.
    #[arg(long, value_name = "IP")]
    node_ip: Ipv4Addr,
    /// The invite token. Other users of this machine can see arguments: prefer --token-file.
    #[arg(long, value_name = "TOKEN", required_unless_present_any = ["token_file", "genesis"], conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the invite token; `-` reads it from stdin.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Port on which the node shows its registration code.
    #[arg(long, value_name = "PORT", default_value_t = ENROLL_PORT)]
    node_port: u16,
    /// The registration code from the node's console; then the node itself is not asked for it.
    #[arg(long, value_name = "CODE", value_parser = enroll::parse_code)]
    code: Option<String>,
    /// Return once the gateway has taken the node, without waiting for its data volume and services.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the node to run.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = text::parse_span)]
    wait: u64,
    /// Also take the node's key, sealed to the owner's wallet, into this new file: it opens the node when its guardians
    /// are gone.
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    recovery: Option<PathBuf>,
    #[command(flatten)]
    genesis: genesis::GenesisArgs,
}

pub fn run(command: NodeCommand, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        NodeCommand::Invite { expiry } => invite::run(expiry, &connection.with_key()?, output),
        NodeCommand::Enroll(args) if args.genesis.genesis => genesis::enroll(*args, output),
        NodeCommand::Enroll(args) => enroll::run(*args, &connection.without_need_of_key()?, output),
        NodeCommand::Unlock(args) => genesis::unlock(args, output),
        NodeCommand::Status(node) => manage::status(&node, &connection.with_key()?, output),
        NodeCommand::Logs { node, service, lines } => {
            manage::logs(&node, service.as_deref(), lines, &connection.with_key()?, output)
        }
        NodeCommand::Refusals { node, service } => {
            refusals::run(&node, service.as_deref(), &connection.with_key()?, output)
        }
        NodeCommand::Command { action, node, service, force } => {
            manage::command(&node, Order { action, service, force }, &connection.with_key()?, output)
        }
        NodeCommand::Restart { node, service } => {
            let order = Order { action: "restart".into(), service: Some(service), force: false };
            manage::command(&node, order, &connection.with_key()?, output)
        }
        NodeCommand::Adopt(args) => adopt::run(&args, &connection.with_key()?, output),
        NodeCommand::Approve { node, address } => {
            decide::approve(&node, address, &connection.with_key()?, output)
        }
        NodeCommand::Revoke(node) => decide::revoke(&node, &connection.with_key()?, output),
        NodeCommand::Leave(args) => leave::run(&args, &connection.with_key()?, output),
    }
}

pub(crate) fn node_id(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if (1..=64).contains(&text.len()) && plain {
        Ok(text.to_owned())
    } else {
        Err("a node id has 1 to 64 letters, digits, `-`, `.` or `_`".to_owned())
    }
}

fn service_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if (1..=32).contains(&text.len()) && plain {
        Ok(text.to_owned())
    } else {
        Err("a service name has 1 to 32 lower-case letters, digits or `-`".to_owned())
    }
}
