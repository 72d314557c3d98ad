//! What the gateway knows of the cluster's owner, since it adopted the node that the owner's wallet enrolled.

use std::net::Ipv4Addr;

use super::{Cells, Node, Registry};
use crate::store::{SqlError, Statement, Value};

impl Registry {
    /// The wallet's secp256k1 key in hex.
    pub fn owner_public_key(&self) -> Result<Option<String>, SqlError> {
        let rows = self.query("SELECT value FROM settings WHERE name = 'owner_public_key'", vec![])?;
        rows.into_iter().next().map(|row| Cells::new(row).text()).transpose()
    }

    /// Overlay addresses of owners' machines: no node gets one.
    pub fn operator_addresses(&self) -> Result<Vec<Ipv4Addr>, SqlError> {
        let rows = self.query("SELECT wg_ip FROM operators", vec![])?;
        let bad = || SqlError::Failed("the address of an operator is none".into());
        rows.into_iter().map(|row| Cells::new(row).text()?.parse().map_err(|_| bad())).collect()
    }

    /// Stores an enrolled node with its owner, or changes its endpoint and token. A constraint error means that its
    /// address was taken meanwhile.
    pub fn adopt(&self, node: &Node, owner: &str, operator: Ipv4Addr, now: i64) -> Result<(), SqlError> {
        let token = node.agent_token.as_ref().map_or(Value::Null, |token| token.expose().into());
        self.sql.execute(&[
            Statement {
                sql:
                    "INSERT INTO wireguard_peers (node_id, wg_ip, public_key, public_ip, wg_port, agent_token,
                                                   confirmed_at, guardian, role, phase)
                      VALUES (?, ?, ?, ?, ?, ?, ?, 0, 'agent', 'enrolled')
                      ON CONFLICT (node_id) DO UPDATE SET public_ip = excluded.public_ip,
                        wg_port = excluded.wg_port, agent_token = excluded.agent_token
                      WHERE role = 'agent' AND public_key = excluded.public_key",
                values: vec![
                    node.node_id.as_str().into(),
                    node.wg_ip.to_string().as_str().into(),
                    node.public_key.as_str().into(),
                    node.public_ip.to_string().as_str().into(),
                    i64::from(node.wg_port).into(),
                    token,
                    now.into(),
                ],
            },
            Statement {
                sql: "INSERT INTO settings (name, value) VALUES ('owner_public_key', ?)
                      ON CONFLICT (name) DO NOTHING",
                values: vec![owner.into()],
            },
            Statement {
                sql: "INSERT INTO operators (wg_ip) VALUES (?) ON CONFLICT (wg_ip) DO NOTHING",
                values: vec![operator.to_string().as_str().into()],
            },
        ])?;
        Ok(())
    }
}
