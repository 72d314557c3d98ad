//! Revoked owners and which guardians know of them for good, and the operator tokens of hosts' guardians.

use std::collections::{BTreeMap, BTreeSet};

use orama_protocol::Redacted;

use super::{Cells, Registry};
use crate::store::{SqlError, Statement};

/// An owner of a key that no guardian shall serve any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// As guardians name it: a digest.
    pub owner: String,
    /// The node that it was.
    pub node_id: String,
    /// Guardians that have confirmed it.
    pub told: BTreeSet<String>,
}

impl Registry {
    pub fn add_revocation(&self, owner: &str, node_id: &str, now: i64) -> Result<(), SqlError> {
        self.execute(
            "INSERT INTO revocations (owner, node_id, revoked_at) VALUES (?, ?, ?)
             ON CONFLICT (owner) DO NOTHING",
            vec![owner.into(), node_id.into(), now.into()],
        )?;
        Ok(())
    }

    /// These guardians have it on their disks.
    pub fn revocation_told(&self, owner: &str, guardians: &[String]) -> Result<(), SqlError> {
        let statement = |guardian: &String| Statement {
            sql: "INSERT INTO revocations_told (owner, guardian) VALUES (?, ?) ON CONFLICT DO NOTHING",
            values: vec![owner.into(), guardian.as_str().into()],
        };
        self.sql.execute(&guardians.iter().map(statement).collect::<Vec<_>>())?;
        Ok(())
    }

    pub fn revocations(&self) -> Result<Vec<Revocation>, SqlError> {
        let rows = self.query("SELECT owner, guardian FROM revocations_told", vec![])?;
        let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            let mut cells = Cells::new(row);
            told.entry(cells.text()?).or_default().insert(cells.text()?);
        }
        let rows = self.query("SELECT owner, node_id FROM revocations ORDER BY revoked_at", vec![])?;
        let revocations = rows.into_iter().map(|row| {
            let mut cells = Cells::new(row);
            let (owner, node_id) = (cells.text()?, cells.text()?);
            let told = told.remove(&owner).unwrap_or_default();
            Ok(Revocation { owner, node_id, told })
        });
        revocations.collect()
    }

    /// The operator token of the guardian of a host without enrolment; false when there is no such host.
    pub fn set_guardian_token(&self, node_id: &str, token: &Redacted) -> Result<bool, SqlError> {
        let sql = "UPDATE wireguard_peers SET guardian_token = ? WHERE node_id = ? AND role = 'peer'";
        Ok(self.execute(sql, vec![token.expose().into(), node_id.into()])? == 1)
    }

    /// By node id.
    pub fn guardian_tokens(&self) -> Result<BTreeMap<String, Redacted>, SqlError> {
        let sql = "SELECT node_id, guardian_token FROM wireguard_peers WHERE guardian_token IS NOT NULL";
        let tokens = self.query(sql, vec![])?.into_iter().map(|row| {
            let mut cells = Cells::new(row);
            Ok((cells.text()?, Redacted::new(cells.text()?)))
        });
        tokens.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_remembers_who_confirmed_it() {
        let folder = tempfile::tempdir().unwrap();
        let registry = super::super::for_test(folder.path());
        registry.add_revocation("aa", "node-10.0.0.4", 1).unwrap();
        registry.add_revocation("aa", "another", 2).unwrap();
        registry.add_revocation("bb", "node-10.0.0.5", 3).unwrap();
        registry.revocation_told("aa", &["g1".into(), "g2".into()]).unwrap();
        registry.revocation_told("aa", &["g1".into()]).unwrap();
        let told = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            registry.revocations().unwrap(),
            [
                Revocation { owner: "aa".into(), node_id: "node-10.0.0.4".into(), told: told(&["g1", "g2"]) },
                Revocation { owner: "bb".into(), node_id: "node-10.0.0.5".into(), told: told(&[]) },
            ]
        );
        assert!(!registry.set_guardian_token("nobody", &Redacted::new("secret".into())).unwrap());
        assert!(registry.guardian_tokens().unwrap().is_empty());
    }
}
