//! The seam under the registry: SQL statements in, rows out, one transaction per call.
//! It is shaped like RQLite's HTTP API (no interactive transactions), so that a cluster store can run the same SQL.

mod schema;
pub mod sqlite;

pub use schema::MIGRATIONS;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Integer(i64),
    Text(String),
}

#[derive(Clone)]
pub struct Statement {
    pub sql: &'static str,
    pub values: Vec<Value>,
}

pub type Row = Vec<Value>;

#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// A UNIQUE or CHECK constraint said no.
    #[error("the store refused a row: {0}")]
    Constraint(String),
    #[error("the store failed: {0}")]
    Failed(String),
}

/// All calls block.
pub trait Sql: Send + Sync {
    /// Runs all statements in one transaction and tells how many rows each changed.
    fn execute(&self, statements: &[Statement]) -> Result<Vec<usize>, SqlError>;
    fn query(&self, statement: &Statement) -> Result<Vec<Row>, SqlError>;
}

/// Brings a store to the newest schema: every step is one transaction that also records its version.
pub fn migrate(sql: &dyn Sql) -> Result<(), SqlError> {
    sql.execute(&[Statement {
        sql: "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY)",
        values: vec![],
    }])?;
    let rows = sql
        .query(&Statement { sql: "SELECT COALESCE(MAX(version), 0) FROM schema_version", values: vec![] })?;
    let Some([Value::Integer(current)]) = rows.first().map(Vec::as_slice) else {
        return Err(SqlError::Failed("schema_version is unreadable".into()));
    };
    let newest = MIGRATIONS.len() as i64;
    if *current > newest {
        return Err(SqlError::Failed(format!(
            "schema version {current} is newer than this program's {newest}"
        )));
    }
    for (steps, version) in MIGRATIONS.iter().zip(1..).skip(*current as usize) {
        let mut statements: Vec<Statement> =
            steps.iter().map(|sql| Statement { sql, values: vec![] }).collect();
        // First, so that of two processes that migrate at once the second fails instead of running half a step.
        statements.insert(
            0,
            Statement {
                sql: "INSERT INTO schema_version (version) VALUES (?)",
                values: vec![Value::Integer(version)],
            },
        );
        sql.execute(&statements)?;
    }
    Ok(())
}
