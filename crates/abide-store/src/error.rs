//! What can go wrong, by the operation that failed.

use std::path::PathBuf;
use std::sync::Arc;

use abide_model::{AgentId, SessionId, StepId, StepStatus};
use rusqlite::ErrorCode;
use uuid::Uuid;

/// An underlying failure of whichever database is in use; shared, because one failed commit
/// answers every change that was part of it.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created, read or given its mode.
    #[error("cannot open the database file {}; check that its directory exists and is writable", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A newer Abide wrote it. Nothing was changed.
    #[error(
        "the database has schema version {found}, this version of Abide knows up to {supported}; \
         start the newer Abide that wrote it, or use another data directory"
    )]
    NewerSchema {
        /// The file's schema version.
        found: i64,
        /// The newest that this program knows.
        supported: i64,
    },
    /// It is a database of another program. Nothing was changed.
    #[error("{} is a database of another program; use another data directory", path.display())]
    NotAbide {
        /// Which file.
        path: PathBuf,
    },
    /// The file is damaged. Nothing was changed.
    #[error(
        "the database {} is damaged ({detail}); restore a copy, or move it aside together with \
         its -wal and -shm files to start afresh",
        path.display()
    )]
    Corrupted {
        /// Which file.
        path: PathBuf,
        /// What the check found first.
        detail: String,
    },
    /// The file system cannot share memory between connections, as some network mounts cannot.
    #[error("{} is on a file system without write-ahead logging; use a local one", path.display())]
    NoWriteAheadLog {
        /// Which file.
        path: PathBuf,
    },
    /// A step from one schema version to the next failed and was rolled back.
    #[error("cannot migrate the database to schema version {version}")]
    Migration {
        /// The version that was not reached.
        version: i64,
        /// What the database says.
        #[source]
        source: Cause,
    },
    /// Another operation failed.
    #[error("cannot {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database says.
        #[source]
        source: Cause,
    },
    /// The system refused a thread.
    #[error("cannot start the {name} thread")]
    Thread {
        /// Which thread.
        name: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Why a call was refused or failed; nothing of it was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The session's owner is not registered.
    #[error("no agent {0}")]
    AgentMissing(AgentId),
    /// The agent owns sessions and stays.
    #[error("agent {0} owns sessions")]
    AgentInUse(AgentId),
    /// As many sessions exist as may ([`crate::StoreOptions::max_sessions`]).
    #[error("{0} sessions exist, which is the limit")]
    SessionLimit(u64),
    /// Steps and workers need their session.
    #[error("no session {0}")]
    SessionMissing(SessionId),
    /// A record of this id exists.
    #[error("the id {0} is taken")]
    IdTaken(Uuid),
    /// An agent with this DID exists.
    #[error("the DID {0:?} is taken")]
    DidTaken(String),
    /// A session of this name exists.
    #[error("the session name {name:?} is taken")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        existing: SessionId,
    },
    /// The step id was used in another session.
    #[error("step id {0} was used in another session")]
    StepElsewhere(StepId),
    /// A step can only be finished with a terminal status.
    #[error("{1} is no end for step {0}")]
    NotTerminal(StepId, StepStatus),
    /// The idempotency key was used for a different request.
    #[error("the idempotency key {0:?} was used for another request")]
    RequestKeyReused(String),
    /// Too many changes are waiting, or another program holds the database; try again.
    #[error("cannot {operation}: the database is busy")]
    Busy {
        /// What was being done.
        operation: &'static str,
    },
    /// The disk is full.
    #[error("cannot {operation}: the disk is full")]
    Full {
        /// What was being done.
        operation: &'static str,
        /// What the database says.
        #[source]
        source: Cause,
    },
    /// The store was closed, or its writer died; whether a change that was under way has been
    /// stored is then not known.
    #[error("cannot {operation}: the store is closed")]
    Closed {
        /// What was being done.
        operation: &'static str,
    },
    /// The database failed.
    #[error("cannot {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database says.
        #[source]
        source: Cause,
    },
}

impl StoreError {
    /// Sorts a database failure into [`Self::Busy`], [`Self::Full`] and the rest.
    pub(crate) fn from_sql(operation: &'static str, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { operation },
            Some(ErrorCode::DiskFull) => Self::Full {
                operation,
                source: Arc::new(error),
            },
            _ => Self::Database {
                operation,
                source: Arc::new(error),
            },
        }
    }
}

/// What the body of a change ends with when it is not kept.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(StoreError),
    Sql(rusqlite::Error),
}

impl Failure {
    pub(crate) fn during(self, operation: &'static str) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => StoreError::from_sql(operation, error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Sql(rusqlite::Error::ToSqlConversionFailure(error.into()))
    }
}
