//! The multi-terminal dialect: what goes over `/terminal/ws/multi` and `/terminal/ws`.
//!
//! Text messages, one JSON object each: `{"type", "sessionId"?, "data"?}`. Ids are made by the clients;
//! `docs/dialect.md` tells what each message does.
//!
//! ```text
//! client   create_session, reattach_session, list_sessions, close_session, rename_session,
//!          input, resize, ping
//! server   session_created  output …
//!          session_reattached  scrollback  output …  scrollback (who was too slow) output …
//!          session_closed, session_renamed     also what others did, or the program
//!          session_list, pong, error           answers
//! ```

mod message;
mod request;

use serde::{Deserialize, Serialize};

pub use message::DialectMessage;
pub use request::{DialectCreate, DialectRequest};

use crate::Timestamp;

/// Size of a terminal where a client asks for none, or for one out of bounds: rows and columns.
pub const DIALECT_USUAL_SIZE: (u16, u16) = (24, 80);
/// Largest number of rows, and of columns.
pub const DIALECT_MAX_SIDE: i64 = 500;

crate::closed_set! {
    /// Why a terminal is gone.
    DialectReason {
        /// Somebody closed it.
        UserRequested = "user_requested",
        /// Its program has ended.
        ProcessExit = "process_exit",
        /// What kept it is gone, and nobody saw how its program ended.
        Error = "error",
    }
}

crate::closed_set! {
    /// Whether a terminal's program lives.
    DialectStatus {
        /// It does.
        Running = "running",
        /// It has ended.
        Exited = "exited",
    }
}

/// A terminal in a `session_list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DialectTerminal {
    /// The client's id.
    pub session_id: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`DialectStatus`].
    pub status: DialectStatus,
    /// Where it was started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_directory: String,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was typed into or written to last, to the second.
    pub last_activity_at: Timestamp,
}

/// How many terminals of the dialect there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DialectCounts {
    /// All, those of single mode and those that have ended included.
    pub sessions: usize,
    /// Nobody is attached.
    pub orphaned_sessions: usize,
    /// The program has ended.
    pub exited_sessions: usize,
    /// Bytes of output that can still be read.
    pub buffer_bytes: u64,
}
