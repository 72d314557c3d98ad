//! `orama node adopt FILE`: the first node, which no gateway enrolled, and a gateway are told of each other. The gateway
//! first: it says what the node must know of it. Each step may be repeated, and so may the command.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use orama_protocol::gateway::{AdoptRequest, AdoptResponse};
use orama_protocol::peers::PeersAccepted;

use super::agent::{NodeAgent, TunnelMode, failure};
use super::file::{self, NodeFile};
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

const ADOPT_PATH: &str = "/v1/node/adopt";
const PEERS_PATH: &str = "/v1/agent/peers";
/// Between two looks whether the gateway reaches the node: WireGuard shakes hands every 5 s.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct AdoptArgs {
    /// What `orama node enroll --genesis` wrote: nodes/<id>.toml.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who carries packets to the node's overlay address.
    #[arg(long, value_enum, default_value_t = TunnelMode::Auto)]
    tunnel: TunnelMode,
    /// How long to wait until the gateway reaches the node.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = text::parse_span)]
    wait: u64,
}

pub fn run(args: &AdoptArgs, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let file = file::read_path(&args.file)?;
    let node_id = &file.node_id;
    let agent = NodeAgent::of(&file, args.tunnel)?;
    output.progress(&format!("asking {node_id} how it is"));
    let status = agent.status().map_err(|error| failure(error, &format!("cannot adopt {node_id}")))?;
    if status.phase != "running" {
        let phase = text::printable(&status.phase, 64);
        return Err(Failure::new(Exit::Failed, format!("cannot adopt {node_id}: it is in phase {phase}"))
            .next(format!("open it first: orama node unlock --genesis --node-ip {}", file.node_ip)));
    }
    output.progress("telling the gateway of the node");
    let adopted = tell_gateway(&file, gateway)?;
    output.progress("telling the node of the gateway");
    let refused = |error: CallError| {
        failure(
            error,
            &format!("the gateway knows {node_id} now, but the node does not take its list of peers"),
        )
        .next("give the same command again")
    };
    let answer = agent.put(PEERS_PATH, &adopted.list).map_err(refused)?;
    let taken: PeersAccepted = gateway::decode(PEERS_PATH, &answer).map_err(refused)?;
    output.progress("waiting until the gateway reaches the node");
    until_reached(node_id, gateway, Duration::from_secs(args.wait))?;
    let json = serde_json::json!({
        "status": "adopted", "node_id": node_id, "wg_ip": file.wg_ip, "revision": taken.revision,
    });
    output.answer(&json, &format!("{node_id} belongs to this gateway's cluster now"));
    Ok(())
}

fn tell_gateway(file: &NodeFile, gateway: &Gateway) -> Result<AdoptResponse, Failure> {
    let failed =
        |error: CallError| error.into_failure(&format!("the gateway does not adopt {}", file.node_id));
    let owner_public_key = file.owner_public_key.clone().ok_or_else(|| {
        Failure::new(Exit::Usage, format!("the file of {} names no owner_public_key", file.node_id))
            .next("give the file that `orama node enroll --genesis` wrote")
    })?;
    let request = AdoptRequest {
        node_id: file.node_id.clone(),
        wg_ip: file.wg_ip.to_string(),
        network: file.operator_address()?.network().to_string(),
        public_key: file.wireguard_public_key.to_string(),
        endpoint: file.endpoint().to_string(),
        agent_token: file.token()?.clone(),
        owner_public_key,
        operator_address: file.operator_address()?.address().to_string(),
    };
    gateway::decode(ADOPT_PATH, &gateway.post(ADOPT_PATH, &request).map_err(failed)?).map_err(failed)
}

/// The gateway's own word for it: the agent's answer through the gateway.
fn until_reached(node_id: &str, gateway: &Gateway, wait: Duration) -> Result<(), Failure> {
    let end = Instant::now() + wait;
    loop {
        let Err(error) = gateway.get(&format!("/v1/node/status?node_id={node_id}")) else { return Ok(()) };
        if Instant::now() + LOOK_EVERY > end {
            let cause = error.into_failure(&format!("the gateway does not reach {node_id} yet"));
            return Err(Failure::new(Exit::Unfinished, cause.what())
                .next("check that UDP passes between both; the gateway goes on trying"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
