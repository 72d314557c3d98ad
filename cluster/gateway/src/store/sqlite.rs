//! The embedded store: one SQLite file, mode 0600, WAL, every commit synced.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{Row, Sql, SqlError, Statement, Value};

/// How long a write waits for another process (`peer add` beside `serve`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Sqlite {
    connection: Mutex<Connection>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open the database {path}")]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // The file is made here, not by SQLite, so that it is never readable for others, not even for a moment.
        // SQLite gives the -wal and -shm files the mode of the database file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Create { path: path.to_owned(), source })?;
        let database = |source| OpenError::Database { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(database)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(database)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(database)?;
        // FULL: an invite that was answered as spent stays spent after a power cut.
        connection.pragma_update(None, "synchronous", "FULL").map_err(database)?;
        // Temporary results stay in memory: the sandbox may have no writable /tmp.
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(database)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back when it was dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sql for Sqlite {
    fn execute(&self, statements: &[Statement]) -> Result<Vec<usize>, SqlError> {
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        let mut changed = Vec::with_capacity(statements.len());
        for statement in statements {
            let mut prepared = transaction.prepare_cached(statement.sql).map_err(error)?;
            let rows = prepared.execute(rusqlite::params_from_iter(&statement.values)).map_err(error)?;
            changed.push(rows);
        }
        transaction.commit().map_err(error)?;
        Ok(changed)
    }

    fn query(&self, statement: &Statement) -> Result<Vec<Row>, SqlError> {
        let connection = self.lock();
        let mut prepared = connection.prepare_cached(statement.sql).map_err(error)?;
        let columns = prepared.column_count();
        let mut rows = prepared.query(rusqlite::params_from_iter(&statement.values)).map_err(error)?;
        let mut answer = Vec::new();
        while let Some(row) = rows.next().map_err(error)? {
            let cells = (0..columns).map(|column| value(row.get_ref(column).map_err(error)?));
            answer.push(cells.collect::<Result<Row, SqlError>>()?);
        }
        Ok(answer)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn value(cell: ValueRef<'_>) -> Result<Value, SqlError> {
    match cell {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Integer(number)),
        ValueRef::Text(text) => Ok(Value::Text(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(SqlError::Failed("a cell is neither text nor integer".into()))
        }
    }
}

fn error(error: rusqlite::Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => SqlError::Constraint(error.to_string()),
        _ => SqlError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_private_synced_and_migrated_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        for _ in 0..2 {
            let sqlite = Sqlite::open(&path).unwrap();
            super::super::migrate(&sqlite).unwrap();
            let pragma = |sql| sqlite.query(&Statement { sql, values: vec![] }).unwrap();
            assert_eq!(pragma("PRAGMA journal_mode"), [[Value::Text("wal".into())]]);
            assert_eq!(pragma("PRAGMA synchronous"), [[Value::Integer(2)]]);
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let file = file.unwrap();
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            }
        }
    }

    #[test]
    fn a_schema_from_the_future_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&folder.path().join("db")).unwrap();
        super::super::migrate(&sqlite).unwrap();
        sqlite
            .execute(&[Statement { sql: "INSERT INTO schema_version VALUES (99)", values: vec![] }])
            .unwrap();
        let error = super::super::migrate(&sqlite).unwrap_err().to_string();
        assert!(error.contains("99"), "{error}");
    }

    #[test]
    fn a_failing_statement_undoes_the_whole_call() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&folder.path().join("db")).unwrap();
        super::super::migrate(&sqlite).unwrap();
        let insert = Statement { sql: "INSERT INTO settings VALUES ('a', 'b')", values: vec![] };
        let error = sqlite.execute(&[insert.clone(), insert]).unwrap_err();
        assert!(matches!(error, SqlError::Constraint(_)));
        let rows = sqlite.query(&Statement { sql: "SELECT * FROM settings", values: vec![] }).unwrap();
        assert!(rows.is_empty());
    }
}
