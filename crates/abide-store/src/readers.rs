//! Connections for reads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::open;

/// Idle connections kept for the next read. Reads run on the calling thread and never wait for
/// a connection: when all are in use one more is opened, and closed again if the pool is full.
const IDLE_CONNECTIONS: usize = 8;

/// Prepared statements each connection keeps; the crate has about thirty reads, and lists vary
/// by which filters are set.
const STATEMENTS: usize = 64;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
}

impl Readers {
    /// Opens the first connection, so that the first read pays nothing.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let first = connect(path)?;
        Ok(Self {
            path: path.to_owned(),
            idle: Mutex::new(vec![first]),
            closed: AtomicBool::new(false),
        })
    }

    /// Runs `work` on a connection; `None` after [`Self::close`].
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let idle = self.idle.lock().pop();
        let connection = match idle.map_or_else(|| connect(&self.path), Ok) {
            Ok(connection) => connection,
            Err(error) => return Some(Err(error)),
        };
        let result = work(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS && !self.closed.load(Ordering::Acquire) {
            idle.push(connection);
        }
        Some(result)
    }

    /// Closes the idle connections; those in use are closed when their read ends.
    pub(crate) fn close(&self) {
        let mut idle = self.idle.lock();
        self.closed.store(true, Ordering::Release);
        idle.clear();
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open::connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
