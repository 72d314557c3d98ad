//! One look at a node or host: its agent's status, or whether its guardian takes connections. Bounded in time.

use std::net::Ipv4Addr;
use std::time::Duration;

use orama_protocol::GUARDIAN_PORT;
use orama_protocol::agent::Status;
use orama_protocol::peers::CustodyStatus;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::{Agents, Ask};
use crate::registry::Node;

/// Longest `state` and `why` of a custody that is passed on, characters.
const WORDS: usize = 300;

/// The agent's status, with a custody that makes sense.
pub async fn agent(agents: &Agents, node: &Node, limit: Duration) -> Result<Status, String> {
    let reply = agents.ask(node, Ask::Get("/v1/agent/status"), Some(limit)).await;
    let reply = reply.map_err(|error| error.to_string())?;
    if !reply.status.is_success() {
        return Err(format!("the agent answered {}", reply.status));
    }
    let mut status: Status = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("the agent's status is not understood: {error}"))?;
    if let Some(custody) = &mut status.custody {
        check(custody)?;
    }
    Ok(status)
}

/// A custody is decided by and stored: what it says must be possible, and is bounded.
fn check(custody: &mut CustodyStatus) -> Result<(), String> {
    let keeper = matches!(custody.keeper.as_str(), "wallet" | "guardians");
    let known = custody.holders.iter().all(|holder| holder.wg_ip.parse::<Ipv4Addr>().is_ok());
    let split = custody.keeper == "wallet" || usize::from(custody.n) == custody.holders.len();
    if !keeper || !known || !split || custody.k > custody.n {
        return Err("the agent tells a custody of its key that cannot be".into());
    }
    let tame = |text: &mut String| {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect();
    };
    tame(&mut custody.state);
    custody.why.iter_mut().for_each(tame);
    custody.holders.iter_mut().for_each(|holder| tame(&mut holder.node_id));
    Ok(())
}

/// Overlay addresses of those who hold a share of the key.
pub fn holders(custody: &CustodyStatus) -> impl Iterator<Item = Ipv4Addr> + '_ {
    custody.holders.iter().filter_map(|holder| holder.wg_ip.parse().ok())
}

pub async fn guardian(address: Ipv4Addr, limit: Duration) -> Result<(), String> {
    match timeout(limit, TcpStream::connect((address, GUARDIAN_PORT))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the guardian at {address}:{GUARDIAN_PORT} is unreachable: {error}")),
        Err(_) => {
            let seconds = limit.as_secs();
            Err(format!("the guardian at {address}:{GUARDIAN_PORT} did not answer in {seconds} s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_protocol::peers::CustodyHolder;

    #[test]
    fn a_custody_that_cannot_be_is_refused() {
        let holder = |wg_ip: &str| CustodyHolder { node_id: "n\u{1b}".into(), wg_ip: wg_ip.into() };
        let good = CustodyStatus {
            keeper: "guardians".into(),
            generation: 2,
            begun: 2,
            k: 1,
            n: 2,
            holders: vec![holder("10.0.0.2"), holder("10.0.0.3")],
            state: "settled".into(),
            why: Some("x".repeat(1000)),
            next_try_seconds: None,
            stale: 0,
        };
        let mut checked = good.clone();
        check(&mut checked).unwrap();
        assert_eq!((checked.why.unwrap().len(), checked.holders[0].node_id.as_str()), (WORDS, "n "));
        for bad in [
            CustodyStatus { keeper: "nobody".into(), ..good.clone() },
            CustodyStatus { holders: vec![holder("10.0.0.2")], ..good.clone() },
            CustodyStatus { holders: vec![holder("10.0.0.2"), holder("example.com")], ..good.clone() },
            CustodyStatus { k: 3, ..good.clone() },
        ] {
            assert!(check(&mut bad.clone()).is_err(), "{bad:?}");
        }
    }
}
