//! Nodes and peers in the store.

use std::net::Ipv4Addr;

use orama_protocol::Redacted;

use super::{Cells, Registry};
use crate::store::{SqlError, Statement, Value};

/// Failed enrollments that are kept for the report, newest first.
const FAILURES_KEPT: i64 = 20;
/// Longest detail or reason kept, characters: it comes from a node.
const DETAIL_LIMIT_CHARS: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An enrolled OramaOS node: it has an agent and a token.
    Agent,
    /// A host that exists without enrolment.
    Peer,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub node_id: String,
    pub wg_ip: Ipv4Addr,
    pub public_key: String,
    pub public_ip: Ipv4Addr,
    pub wg_port: u16,
    pub agent_token: Option<Redacted>,
    pub confirmed_at: Option<i64>,
    pub guardian: bool,
    pub role: Role,
    /// `enrolling` until the volume is made, then `enrolled`; `peer` for a host without agent.
    pub phase: String,
    pub detail: String,
}

impl Node {
    /// Whether others' shares may be stored there. Nothing is stored with a node that may yet fail to enrol.
    pub fn keeps_shares(&self) -> bool {
        self.guardian && (self.role == Role::Peer || self.confirmed_at.is_some())
    }
}

/// How a caller names a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKey {
    Id(String),
    Address(Ipv4Addr),
}

impl std::fmt::Display for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeKey::Id(id) => f.write_str(id),
            NodeKey::Address(address) => address.fmt(f),
        }
    }
}

/// An enrollment that failed after the node was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub node_id: String,
    pub wg_ip: String,
    pub public_ip: String,
    pub failed_at: i64,
    pub reason: String,
}

impl Registry {
    /// All nodes and peers, by address.
    pub fn nodes(&self) -> Result<Vec<Node>, SqlError> {
        let rows = self.query(
            "SELECT node_id, wg_ip, public_key, public_ip, wg_port, agent_token, confirmed_at, guardian, role,
                    phase, detail FROM wireguard_peers",
            vec![],
        )?;
        let mut nodes: Vec<Node> = rows.into_iter().map(node).collect::<Result<_, _>>()?;
        nodes.sort_by_key(|node| node.wg_ip);
        Ok(nodes)
    }

    pub fn node(&self, key: &NodeKey) -> Result<Option<Node>, SqlError> {
        let found = self.nodes()?.into_iter().find(|node| match key {
            NodeKey::Id(id) => node.node_id == *id,
            NodeKey::Address(address) => node.wg_ip == *address,
        });
        Ok(found)
    }

    /// Adds or replaces a host that exists without enrolment; an enrolled node is never replaced (false).
    pub fn put_peer(&self, peer: &Node) -> Result<bool, SqlError> {
        let changed = self.execute(
            "INSERT INTO wireguard_peers (node_id, wg_ip, public_key, public_ip, wg_port, guardian, role, phase)
             VALUES (?, ?, ?, ?, ?, ?, 'peer', 'peer')
             ON CONFLICT (node_id) DO UPDATE SET wg_ip = excluded.wg_ip, public_key = excluded.public_key,
               public_ip = excluded.public_ip, wg_port = excluded.wg_port, guardian = excluded.guardian
             WHERE role = 'peer'",
            vec![
                peer.node_id.as_str().into(),
                peer.wg_ip.to_string().as_str().into(),
                peer.public_key.as_str().into(),
                peer.public_ip.to_string().as_str().into(),
                i64::from(peer.wg_port).into(),
                i64::from(peer.guardian).into(),
            ],
        )?;
        Ok(changed == 1)
    }

    /// False when there was no such host without enrolment.
    pub fn remove_peer(&self, node_id: &str) -> Result<bool, SqlError> {
        let sql = "DELETE FROM wireguard_peers WHERE node_id = ? AND role = 'peer'";
        Ok(self.execute(sql, vec![node_id.into()])? == 1)
    }

    /// Stores the node and spends the invite in one transaction; false when the invite is not `attempt`'s any
    /// more. A constraint error means that the id or address was taken meanwhile.
    pub fn enroll(&self, node: &Node, digest: &str, attempt: &str, now: i64) -> Result<bool, SqlError> {
        let token = node.agent_token.as_ref().map_or(Value::Null, |token| token.expose().into());
        let changed = self.sql.execute(&[
            Statement {
                sql: "INSERT INTO wireguard_peers
                        (node_id, wg_ip, public_key, public_ip, wg_port, agent_token, guardian, role, phase)
                      SELECT ?, ?, ?, ?, ?, ?, ?, 'agent', 'enrolling'
                      WHERE EXISTS (SELECT 1 FROM invite_tokens
                                    WHERE token = ? AND reserved_by = ? AND used_at IS NULL)",
                values: vec![
                    node.node_id.as_str().into(),
                    node.wg_ip.to_string().as_str().into(),
                    node.public_key.as_str().into(),
                    node.public_ip.to_string().as_str().into(),
                    i64::from(node.wg_port).into(),
                    token,
                    i64::from(node.guardian).into(),
                    digest.into(),
                    attempt.into(),
                ],
            },
            Statement {
                sql: "UPDATE invite_tokens SET used_at = ?, used_by_ip = ?
                      WHERE token = ? AND reserved_by = ? AND used_at IS NULL",
                values: vec![
                    now.into(),
                    node.public_ip.to_string().as_str().into(),
                    digest.into(),
                    attempt.into(),
                ],
            },
        ])?;
        Ok(changed == [1, 1])
    }

    /// The last step of a node that is still enrolling, for the report.
    pub fn record_step(&self, node_id: &str, step: &str) -> Result<(), SqlError> {
        self.execute(
            "UPDATE wireguard_peers SET detail = ? WHERE node_id = ? AND confirmed_at IS NULL AND role = 'agent'",
            vec![printable(step).as_str().into(), node_id.into()],
        )?;
        Ok(())
    }

    /// The node made its volume and stored its shares.
    pub fn confirm(&self, node_id: &str, now: i64) -> Result<(), SqlError> {
        self.execute(
            "UPDATE wireguard_peers SET confirmed_at = ?, phase = 'enrolled', detail = ''
             WHERE node_id = ? AND confirmed_at IS NULL AND role = 'agent'",
            vec![now.into(), node_id.into()],
        )?;
        Ok(())
    }

    /// Removes a node that failed to provision and keeps the reason; false when it was confirmed or gone.
    pub fn fail_enrollment(&self, node_id: &str, reason: &str, now: i64) -> Result<bool, SqlError> {
        let changed = self.sql.execute(&[
            Statement {
                sql: "INSERT INTO enrollment_failures (node_id, wg_ip, public_ip, failed_at, reason)
                      SELECT node_id, wg_ip, public_ip, ?, ? FROM wireguard_peers
                      WHERE node_id = ? AND role = 'agent' AND confirmed_at IS NULL",
                values: vec![now.into(), printable(reason).as_str().into(), node_id.into()],
            },
            Statement {
                sql: "DELETE FROM wireguard_peers WHERE node_id = ? AND role = 'agent' AND confirmed_at IS NULL",
                values: vec![node_id.into()],
            },
            Statement {
                sql: "DELETE FROM enrollment_failures WHERE id NOT IN
                        (SELECT id FROM enrollment_failures ORDER BY id DESC LIMIT ?)",
                values: vec![FAILURES_KEPT.into()],
            },
        ])?;
        Ok(changed[1] == 1)
    }

    pub fn failures(&self) -> Result<Vec<Failure>, SqlError> {
        let rows = self.query(
            "SELECT node_id, wg_ip, public_ip, failed_at, reason FROM enrollment_failures ORDER BY id DESC",
            vec![],
        )?;
        rows.into_iter()
            .map(|row| {
                let mut cells = Cells::new(row);
                Ok(Failure {
                    node_id: cells.text()?,
                    wg_ip: cells.text()?,
                    public_ip: cells.text()?,
                    failed_at: cells.integer()?,
                    reason: cells.text()?,
                })
            })
            .collect()
    }

    /// Forgets an enrolled node.
    pub fn remove_agent(&self, node_id: &str) -> Result<(), SqlError> {
        let sql = "DELETE FROM wireguard_peers WHERE node_id = ? AND role = 'agent'";
        self.execute(sql, vec![node_id.into()])?;
        Ok(())
    }
}

fn node(row: Vec<Value>) -> Result<Node, SqlError> {
    let mut cells = Cells::new(row);
    let node_id = cells.text()?;
    let bad = |what: &str| SqlError::Failed(format!("the row of {node_id} has an unreadable {what}"));
    Ok(Node {
        wg_ip: cells.text()?.parse().map_err(|_| bad("wg_ip"))?,
        public_key: cells.text()?,
        public_ip: cells.text()?.parse().map_err(|_| bad("public_ip"))?,
        wg_port: u16::try_from(cells.integer()?).map_err(|_| bad("wg_port"))?,
        agent_token: cells.optional_text()?.map(Redacted::new),
        confirmed_at: cells.optional_integer()?,
        guardian: cells.integer()? != 0,
        role: if cells.text()? == "agent" { Role::Agent } else { Role::Peer },
        phase: cells.text()?,
        detail: cells.text()?,
        node_id,
    })
}

/// Text from a node as it may be shown to an operator: no control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_LIMIT_CHARS).collect()
}
