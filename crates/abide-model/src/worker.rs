//! Supervised process trees.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Runtime, SessionId, TerminalSpec, Timestamp, WorkerId};

crate::closed_set! {
    /// What a worker is.
    WorkerKind {
        /// A Python or Node interpreter that steps are submitted to.
        Interpreter = "interpreter",
        /// A program on a terminal, a shell as a rule.
        Terminal = "terminal",
    }
}

crate::closed_set! {
    /// What one who is attached to a terminal may do.
    ViewerRole {
        /// Look, type and have a say in the size.
        Drive = "drive",
        /// Look.
        View = "view",
    }
}

crate::closed_set! {
    /// Whose window a terminal is as large as when several drive it.
    SizePolicy {
        /// That of whoever typed or changed its window last.
        Latest = "latest",
        /// The smallest width and the smallest height of all.
        Smallest = "smallest",
        /// That of whoever came first.
        Owner = "owner",
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

#[expect(
    clippy::derivable_impls,
    reason = "a closed set's members take no attribute"
)]
impl Default for SizePolicy {
    fn default() -> Self {
        Self::Latest
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
    /// Which interpreter; none for a terminal.
    pub runtime: Option<Runtime>,
    /// What a terminal was started as; none for an interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSpec>,
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
#[derive(Debug, Clone)]
pub struct NewWorker {
    /// See [`Worker::id`].
    pub id: WorkerId,
    /// See [`Worker::session_id`].
    pub session_id: SessionId,
    /// See [`Worker::kind`].
    pub kind: WorkerKind,
    /// See [`Worker::runtime`].
    pub runtime: Option<Runtime>,
    /// See [`Worker::terminal`].
    pub terminal: Option<TerminalSpec>,
}

impl NewWorker {
    /// An interpreter.
    pub const fn interpreter(id: WorkerId, session_id: SessionId, runtime: Runtime) -> Self {
        Self {
            id,
            session_id,
            kind: WorkerKind::Interpreter,
            runtime: Some(runtime),
            terminal: None,
        }
    }

    /// A terminal.
    pub const fn terminal(id: WorkerId, session_id: SessionId, spec: TerminalSpec) -> Self {
        Self {
            id,
            session_id,
            kind: WorkerKind::Terminal,
            runtime: None,
            terminal: Some(spec),
        }
    }
}
