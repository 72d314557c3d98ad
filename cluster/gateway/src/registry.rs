//! What the gateway remembers, in words of its own: the admin key's digest, invites, nodes and failed enrollments.
//! Owns the SQL; the store below only runs it. All calls block: use them inside `web::block`.

mod invites;
mod membership;
mod nodes;
mod owner;
mod revocations;

pub use membership::{Custodies, Leaving};
pub use nodes::{Failure, Node, NodeKey, Role};
pub use revocations::Revocation;

use crate::store::{Sql, SqlError, Statement, Value};

pub struct Registry {
    sql: Box<dyn Sql>,
}

impl Registry {
    /// Migrates the store first.
    pub fn new(sql: Box<dyn Sql>) -> Result<Self, SqlError> {
        crate::store::migrate(&*sql)?;
        let registry = Self { sql };
        registry.begin_revisions(crate::state::now())?;
        Ok(registry)
    }

    /// Lowercase hex SHA-256 of the admin key, once one was made.
    pub fn admin_key_digest(&self) -> Result<Option<String>, SqlError> {
        let rows = self.query("SELECT value FROM settings WHERE name = 'admin_key_sha256'", vec![])?;
        rows.into_iter().next().map(|row| Cells::new(row).text()).transpose()
    }

    pub fn set_admin_key_digest(&self, digest: &str) -> Result<(), SqlError> {
        self.execute(
            "INSERT INTO settings (name, value) VALUES ('admin_key_sha256', ?)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            vec![digest.into()],
        )?;
        Ok(())
    }

    fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<usize, SqlError> {
        let changed = self.sql.execute(&[Statement { sql, values }])?;
        Ok(changed.into_iter().sum())
    }

    fn query(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Vec<Value>>, SqlError> {
        self.sql.query(&Statement { sql, values })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Integer(number)
    }
}

/// Takes a row apart, cell by cell, in the order of its SELECT.
struct Cells(std::vec::IntoIter<Value>);

impl Cells {
    fn new(row: Vec<Value>) -> Self {
        Self(row.into_iter())
    }

    fn optional_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(_)) | None => {
                Err(SqlError::Failed("a cell that should be text is not".into()))
            }
        }
    }

    fn text(&mut self) -> Result<String, SqlError> {
        self.optional_text()?.ok_or_else(|| SqlError::Failed("a cell that should be text is NULL".into()))
    }

    fn optional_integer(&mut self) -> Result<Option<i64>, SqlError> {
        match self.0.next() {
            Some(Value::Integer(number)) => Ok(Some(number)),
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_)) | None => {
                Err(SqlError::Failed("a cell that should be a number is not".into()))
            }
        }
    }

    fn integer(&mut self) -> Result<i64, SqlError> {
        self.optional_integer()?
            .ok_or_else(|| SqlError::Failed("a cell that should be a number is NULL".into()))
    }
}

#[cfg(test)]
pub(crate) fn for_test(folder: &std::path::Path) -> Registry {
    Registry::new(Box::new(crate::store::sqlite::Sqlite::open(&folder.join("gateway.db")).unwrap())).unwrap()
}
