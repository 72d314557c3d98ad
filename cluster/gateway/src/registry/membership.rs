//! Who belongs to the cluster as the nodes are told it: the revision of that list, who leaves, who keeps whose key.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use orama_protocol::peers::CustodyStatus;

use super::{Cells, Registry};
use crate::store::{SqlError, Statement};

/// A node that is on its way out of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub since: i64,
    /// From this revision on the others know it.
    pub revision: u64,
    /// The operator does not wait for the shares that it keeps.
    pub forced: bool,
}

/// What each node told last of its key, by node id, and when.
pub type Custodies = BTreeMap<String, (i64, CustodyStatus)>;

impl Registry {
    /// The first revision is the time, so that a store that was lost and made anew begins above its predecessor.
    pub(super) fn begin_revisions(&self, now: i64) -> Result<(), SqlError> {
        self.execute("UPDATE peers_revision SET revision = ? WHERE revision = 0", vec![now.into()])?;
        Ok(())
    }

    /// Of the list of peers; triggers raise it with every change of membership, in the transaction of the change.
    pub fn peers_revision(&self) -> Result<u64, SqlError> {
        let rows = self.query("SELECT revision FROM peers_revision", vec![])?;
        let row = rows.into_iter().next();
        let row = row.ok_or_else(|| SqlError::Failed("the revision of the list of peers is gone".into()))?;
        u64::try_from(Cells::new(row).integer()?)
            .map_err(|_| SqlError::Failed("the revision of the list of peers is negative".into()))
    }

    /// For a store that was restored from an old copy, whose nodes know newer lists than it has.
    pub fn raise_peers_revision(&self, now: i64) -> Result<(), SqlError> {
        self.execute("UPDATE peers_revision SET revision = MAX(revision + 1, ?)", vec![now.into()])?;
        Ok(())
    }

    /// Marks an enrolled node as leaving; again only turns waiting into force. False when there is no such node.
    pub fn begin_leaving(&self, node_id: &str, forced: bool, now: i64) -> Result<bool, SqlError> {
        let changed = self.sql.execute(&[
            Statement {
                sql: "UPDATE wireguard_peers SET leaving_at = COALESCE(leaving_at, ?),
                             leaving_forced = MAX(leaving_forced, ?)
                      WHERE node_id = ? AND role = 'agent'",
                values: vec![now.into(), i64::from(forced).into(), node_id.into()],
            },
            // After the trigger of the statement before.
            Statement {
                sql: "UPDATE wireguard_peers SET leaving_revision = (SELECT revision FROM peers_revision)
                      WHERE node_id = ? AND leaving_at IS NOT NULL AND leaving_revision IS NULL",
                values: vec![node_id.into()],
            },
        ])?;
        Ok(changed.first() == Some(&1))
    }

    /// By node id.
    pub fn leaving(&self) -> Result<BTreeMap<String, Leaving>, SqlError> {
        let rows = self.query(
            "SELECT node_id, leaving_at, leaving_revision, leaving_forced FROM wireguard_peers
             WHERE leaving_at IS NOT NULL",
            vec![],
        )?;
        let leaving = rows.into_iter().map(|row| {
            let mut cells = Cells::new(row);
            let node_id = cells.text()?;
            let since = cells.integer()?;
            let revision = u64::try_from(cells.integer()?)
                .map_err(|_| SqlError::Failed(format!("{node_id} leaves from a negative revision on")))?;
            Ok((node_id, Leaving { since, revision, forced: cells.integer()? != 0 }))
        });
        leaving.collect()
    }

    /// Forgets a node that was leaving; false when it is gone already. A node that was enrolled at its place
    /// meanwhile is not touched.
    pub fn remove_leaving(&self, node_id: &str, now: i64) -> Result<bool, SqlError> {
        let changed = self.sql.execute(&[
            Statement {
                sql: "INSERT INTO former_guardians (wg_ip, left_at)
                      SELECT wg_ip, ? FROM wireguard_peers
                      WHERE node_id = ? AND role = 'agent' AND leaving_at IS NOT NULL AND guardian = 1
                      ON CONFLICT (wg_ip) DO UPDATE SET left_at = excluded.left_at",
                values: vec![now.into(), node_id.into()],
            },
            Statement {
                sql: "DELETE FROM wireguard_peers
                      WHERE node_id = ? AND role = 'agent' AND leaving_at IS NOT NULL",
                values: vec![node_id.into()],
            },
        ])?;
        Ok(changed.last() == Some(&1))
    }

    /// Addresses whose guardians left after this time.
    pub fn former_guardians(&self, after: i64) -> Result<Vec<Ipv4Addr>, SqlError> {
        let rows = self.query("SELECT wg_ip FROM former_guardians WHERE left_at > ?", vec![after.into()])?;
        let bad = || SqlError::Failed("the address of a former guardian is none".into());
        rows.into_iter().map(|row| Cells::new(row).text()?.parse().map_err(|_| bad())).collect()
    }

    /// The node's own guardian works: it can keep shares from now on, until it leaves.
    pub fn mark_guardian(&self, node_id: &str) -> Result<(), SqlError> {
        let sql = "UPDATE wireguard_peers SET guardian = 1 WHERE node_id = ? AND role = 'agent'";
        self.execute(sql, vec![node_id.into()])?;
        Ok(())
    }

    /// Keeps what a node told of its key, for the time when it is locked and tells nothing.
    pub fn see_custody(&self, node_id: &str, custody: &CustodyStatus, now: i64) -> Result<(), SqlError> {
        let text = serde_json::to_string(custody)
            .map_err(|error| SqlError::Failed(format!("the custody of {node_id} is no JSON: {error}")))?;
        self.execute(
            "INSERT INTO custody_seen (node_id, seen_at, custody)
             SELECT node_id, ?, ? FROM wireguard_peers WHERE node_id = ?
             ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at, custody = excluded.custody",
            vec![now.into(), text.as_str().into(), node_id.into()],
        )?;
        Ok(())
    }

    /// What each node told last, and when.
    pub fn custody_seen(&self) -> Result<Custodies, SqlError> {
        let rows = self.query("SELECT node_id, seen_at, custody FROM custody_seen", vec![])?;
        let seen = rows.into_iter().map(|row| {
            let mut cells = Cells::new(row);
            let (node_id, seen_at) = (cells.text()?, cells.integer()?);
            let custody = serde_json::from_str(&cells.text()?)
                .map_err(|error| SqlError::Failed(format!("the custody of {node_id}: {error}")))?;
            Ok((node_id, (seen_at, custody)))
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Node, Role, for_test};
    use super::*;
    use orama_protocol::Redacted;

    fn peer(last: u8) -> Node {
        Node {
            node_id: format!("node-10.0.0.{last}"),
            wg_ip: Ipv4Addr::new(10, 0, 0, last),
            public_key: format!("key {last}"),
            public_ip: Ipv4Addr::new(192, 0, 2, last),
            wg_port: 51820,
            agent_token: None,
            confirmed_at: None,
            guardian: true,
            role: Role::Peer,
            phase: "peer".into(),
            detail: String::new(),
        }
    }

    fn enroll(registry: &Registry, last: u8) -> String {
        let digest = format!("invite {last}");
        registry.add_invite(&digest, "test", i64::MAX, 0).unwrap();
        registry.reserve_invite(&digest, "test", 0).unwrap().unwrap();
        let token = Some(Redacted::new("t".into()));
        let node = Node { agent_token: token, guardian: false, role: Role::Agent, ..peer(last) };
        assert!(registry.enroll(&node, &digest, "test", 1).unwrap());
        node.node_id
    }

    #[test]
    fn every_change_of_membership_raises_the_revision_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        let mut last = registry.peers_revision().unwrap();
        assert!(last > 1_700_000_000, "the first revision is the time: {last}");
        let mut raised = || {
            let now = registry.peers_revision().unwrap();
            (now - std::mem::replace(&mut last, now)) > 0
        };
        registry.put_peer(&peer(11)).unwrap();
        assert!(raised());
        registry.put_peer(&peer(11)).unwrap();
        assert!(!raised(), "the same again is no change");
        registry.put_peer(&Node { wg_port: 1, ..peer(11) }).unwrap();
        assert!(raised());
        let node = enroll(&registry, 2);
        assert!(raised());
        registry.record_step(&node, "formatting").unwrap();
        registry.confirm(&node, 5).unwrap();
        registry.see_custody(&node, &custody(), 5).unwrap();
        assert!(!raised(), "what a node does is no change of membership");
        registry.mark_guardian(&node).unwrap();
        assert!(raised());
        registry.mark_guardian(&node).unwrap();
        assert!(!raised());
        assert!(registry.begin_leaving(&node, false, 9).unwrap());
        assert!(raised());
        assert!(registry.begin_leaving(&node, true, 10).unwrap());
        assert!(!raised());
        assert!(registry.remove_leaving(&node, 9).unwrap());
        assert!(raised());
        assert_eq!(registry.former_guardians(8).unwrap(), [Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(registry.former_guardians(9).unwrap().is_empty());
        assert!(registry.remove_peer("node-10.0.0.11").unwrap());
        assert!(raised());
    }

    #[test]
    fn a_leave_is_remembered_with_the_revision_that_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        registry.put_peer(&peer(11)).unwrap();
        assert!(!registry.begin_leaving("node-10.0.0.11", false, 1).unwrap(), "a host without agent");
        let node = enroll(&registry, 2);
        assert!(!registry.remove_leaving(&node, 9).unwrap(), "it stays");
        registry.begin_leaving(&node, false, 100).unwrap();
        let revision = registry.peers_revision().unwrap();
        registry.put_peer(&peer(12)).unwrap();
        registry.begin_leaving(&node, true, 200).unwrap();
        drop(registry);
        let registry = for_test(folder.path());
        let expected = Leaving { since: 100, revision, forced: true };
        assert_eq!(registry.leaving().unwrap(), BTreeMap::from([(node, expected)]));
        assert_eq!(registry.peers_revision().unwrap(), revision + 1, "a restart raises nothing");
    }

    #[test]
    fn the_custody_of_a_node_is_forgotten_with_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        registry.see_custody("node-10.0.0.2", &custody(), 1).unwrap();
        assert!(registry.custody_seen().unwrap().is_empty(), "not of this cluster");
        let node = enroll(&registry, 2);
        registry.see_custody(&node, &custody(), 1).unwrap();
        registry.see_custody(&node, &custody(), 7).unwrap();
        assert_eq!(registry.custody_seen().unwrap()[&node], (7, custody()));
        registry.remove_agent(&node).unwrap();
        assert!(registry.custody_seen().unwrap().is_empty());
    }

    #[test]
    fn a_restored_store_catches_up_with_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        let far = i64::try_from(registry.peers_revision().unwrap()).unwrap() + 1000;
        registry.raise_peers_revision(far).unwrap();
        assert_eq!(registry.peers_revision().unwrap(), far as u64);
        registry.raise_peers_revision(0).unwrap();
        assert_eq!(registry.peers_revision().unwrap(), far as u64 + 1);
    }

    fn custody() -> CustodyStatus {
        CustodyStatus {
            keeper: "guardians".into(),
            generation: 1,
            begun: 1,
            k: 3,
            n: 3,
            holders: vec![],
            state: "settled".into(),
            why: None,
            next_try_seconds: None,
            stale: 0,
        }
    }
}
