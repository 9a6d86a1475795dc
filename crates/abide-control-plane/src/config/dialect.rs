//! What the multi-terminal dialect is told at start.

use std::time::Duration;

/// Plain settings; nothing in here changes while the server runs.
#[derive(Debug, Clone)]
pub struct DialectConfig {
    /// How long a terminal may be looked at by nobody until it is ended; for ever if `None`.
    pub orphan_grace: Option<Duration>,
    /// Output that is kept of each terminal, in bytes.
    pub output_bytes: u64,
    /// The program of every terminal; that of the server's user if `None`.
    pub shell: Option<String>,
    /// Size where a client asks for none, or for one out of bounds: rows and columns.
    pub size: (u16, u16),
    /// Longest id that a client may use, in bytes.
    pub id_length: usize,
    /// Input is handed on in pieces of this many bytes at most.
    pub piece_bytes: usize,
    /// Messages per second that a connection may send over a longer time; more are read later.
    pub message_rate: u32,
    /// Messages that it may send at once.
    pub message_burst: u32,
    /// Terminals that one owner may have.
    pub max_per_owner: usize,
    /// Terminals that all owners together may have.
    pub max_terminals: usize,
    /// Terminals of one owner that are kept after their programs have ended.
    pub exited_kept: usize,
    /// How long those are kept.
    pub exited_for: Duration,
    /// Name of the cookie that may have the key.
    pub cookie_name: String,
}
