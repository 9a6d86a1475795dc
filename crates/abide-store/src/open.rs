//! From a path to a checked, migrated database.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use abide_model::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::OpenError;

/// `abid` in ASCII; the file's `application_id`.
const APPLICATION_ID: i64 = 0x6162_6964;

/// The schema, version by version; a released entry never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_records.sql"),
    include_str!("../migrations/0002_routes.sql"),
    include_str!("../migrations/0003_step_workers.sql"),
    include_str!("../migrations/0004_jobs.sql"),
    include_str!("../migrations/0005_session_expiry.sql"),
    include_str!("../migrations/0006_runs.sql"),
    include_str!("../migrations/0007_terminals.sql"),
    include_str!("../migrations/0008_dialect.sql"),
];

/// The schema version this program writes.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// How long a connection waits for another program's lock (a backup, a shell).
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the store takes the time from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// The end of this process, however sudden, but not always the end of the machine: power
    /// loss may take the last moments, never the consistency of what is left.
    #[default]
    Normal,
    /// Power loss too: every commit waits for the disk. Changes that wait together share it.
    Full,
}

/// How to open a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// See [`Synchronous`].
    pub synchronous: Synchronous,
    /// Time of records and events.
    pub clock: Clock,
    /// Databases up to this many bytes are checked whole when opened, which takes 2 ms per MB;
    /// larger ones are checked on request, by [`crate::Store::verify`].
    pub check_up_to_bytes: u64,
    /// Sessions that may exist; [`crate::StoreError::SessionLimit`] refuses more.
    pub max_sessions: Option<u64>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Normal,
            clock: Arc::new(Timestamp::now),
            // A third of the 80 ms that a server may take to be ready.
            check_up_to_bytes: 16 * 1024 * 1024,
            max_sessions: None,
        }
    }
}

/// Opens, checks and migrates; the connection returned is the writer's.
pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Connection, OpenError> {
    let size = prepare_file(path).map_err(|source| OpenError::File {
        path: path.into(),
        source,
    })?;
    let failed = |operation| move |error| open_error(path, operation, error);

    let mut connection = connect(path).map_err(failed("open the database"))?;
    let found = recognise(path, &connection)?;
    if found > 0 && size <= options.check_up_to_bytes {
        let problems = quick_check(&connection, 1).map_err(failed("check the database"))?;
        if let Some(detail) = problems.into_iter().next() {
            return Err(OpenError::Corrupted {
                path: path.into(),
                detail,
            });
        }
    }
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed("switch to write-ahead logging"))?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.into() });
    }
    migrate(&mut connection, found)?;
    configure_writer(&connection, options).map_err(failed("configure the database"))?;
    Ok(connection)
}

/// A connection with what every connection needs.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time: no mutex of SQLite's own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Plans must not depend on the values bound to a statement: with partial indexes in the schema
    // SQLite would compile such a statement again at every run, which costs more than running it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

/// Up to `limit` problems; empty when the database is sound.
pub(crate) fn quick_check(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({limit})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    lines
        .filter(|line| !matches!(line, Ok(text) if text == "ok"))
        .collect()
}

/// Creates the file if need be, for its owner only (SQLite gives its side files the same mode),
/// and tells its size.
fn prepare_file(path: &Path) -> std::io::Result<u64> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(metadata.len())
}

/// The schema version of an Abide database (0: empty file), or why it is not for us.
fn recognise(path: &Path, connection: &Connection) -> Result<i64, OpenError> {
    let read = || -> rusqlite::Result<(i64, i64, bool)> {
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let inhabited =
            connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| {
                row.get(0)
            })?;
        Ok((
            number("application_id")?,
            number("user_version")?,
            inhabited,
        ))
    };
    let (application, version, inhabited) =
        read().map_err(|error| open_error(path, "read the database", error))?;
    if inhabited && application != APPLICATION_ID {
        return Err(OpenError::NotAbide { path: path.into() });
    }
    if version > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema {
            found: version,
            supported: SCHEMA_VERSION,
        });
    }
    Ok(version)
}

/// Takes the schema from version `found` to [`SCHEMA_VERSION`], one transaction a step.
fn migrate(connection: &mut Connection, found: i64) -> Result<(), OpenError> {
    for (version, sql) in (1..)
        .zip(MIGRATIONS)
        .filter(|(version, _)| *version > found)
    {
        (|| {
            let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            step.execute_batch(sql)?;
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
            step.pragma_update(None, "user_version", version)?;
            step.commit()
        })()
        .map_err(|error| OpenError::Migration {
            version,
            source: Arc::new(error),
        })?;
    }
    Ok(())
}

fn configure_writer(connection: &Connection, options: &StoreOptions) -> rusqlite::Result<()> {
    let synchronous = match options.synchronous {
        Synchronous::Normal => "normal",
        Synchronous::Full => "full",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The checkpoint thread does it, so that no change waits for it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Pages that every change touches stay in memory: the inner pages of the indexes, and the
    // leaves of a few thousand sessions. Negative: in KiB.
    connection.pragma_update(None, "cache_size", -8_000)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn open_error(path: &Path, operation: &'static str, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Corrupted {
            path: path.into(),
            detail: error.to_string(),
        },
        _ => OpenError::Database {
            operation,
            source: Arc::new(error),
        },
    }
}

/// How SQLite would run `sql`, one line a step.
#[cfg(test)]
pub(crate) fn plan(sql: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let connection = open(&directory.path().join("abide.db"), &StoreOptions::default()).unwrap();
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
    let lines: rusqlite::Result<Vec<String>> = statement
        .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
        .unwrap()
        .collect();
    lines.unwrap().join("\n")
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_compiled_once_whatever_is_bound_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abide.db");
        let connection = open(&path, &StoreOptions::default()).unwrap();
        let sql = "SELECT max(sequence), (SELECT count(*) FROM steps \
                   WHERE session_id = ?1 AND finished_at IS NULL) FROM steps WHERE session_id = ?1";
        let mut statement = connection.prepare(sql).unwrap();
        for session in [[1; 16], [2; 16], [3; 16]] {
            statement.query_row([session], |_| Ok(())).unwrap();
        }
        assert_eq!(statement.get_status(StatementStatus::Run), 3);
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
