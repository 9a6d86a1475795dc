//! Supervised process trees.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Runtime, SessionId, Timestamp, WorkerId};

crate::closed_set! {
    /// What a worker is.
    WorkerKind {
        /// A Python or Node interpreter that steps are submitted to.
        Interpreter = "interpreter",
    }
}

crate::closed_set! {
    /// Whether a worker's process lives.
    WorkerState {
        /// Its keeper and process are there.
        Running = "running",
        /// Its process has ended; the journal stays readable.
        Exited = "exited",
    }
}

/// How a process ended: exactly one of `code` and `signal` is set when it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// Exit status.
    pub code: Option<i32>,
    /// Number of the signal that ended it.
    pub signal: Option<i32>,
    /// One sentence for people: what happened and to what.
    pub reason: String,
}

/// One supervised process tree in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Names its directory, keeper and journal too.
    pub id: WorkerId,
    /// Whose.
    pub session_id: SessionId,
    /// See [`WorkerKind`].
    pub kind: WorkerKind,
    /// Which interpreter.
    pub runtime: Runtime,
    /// See [`WorkerState`].
    pub state: WorkerState,
    /// 1 for a session's first interpreter; grows by one with every restart.
    pub generation: i64,
    /// How it ended.
    pub exit: Option<Exit>,
    /// When the session got it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// What the store needs to record a worker that a session was given.
#[derive(Debug, Clone, Copy)]
pub struct NewWorker {
    /// See [`Worker::id`].
    pub id: WorkerId,
    /// See [`Worker::session_id`].
    pub session_id: SessionId,
    /// See [`Worker::kind`].
    pub kind: WorkerKind,
    /// See [`Worker::runtime`].
    pub runtime: Runtime,
}
