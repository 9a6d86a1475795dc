//! What a server says about itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// What the server is doing (`GET /status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Of Abide.
    pub version: String,
    /// Of the server's process.
    pub pid: u32,
    /// Since when it runs.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Where its files are.
    #[schema(value_type = String)]
    pub data_dir: PathBuf,
    /// Its base URL.
    pub url: String,
    /// Sessions stored.
    pub sessions: u64,
    /// Interpreters that belong to sessions.
    pub live_interpreters: u64,
    /// Interpreters at work.
    pub running_steps: u64,
    /// Steps that wait behind others.
    pub queued_steps: u64,
    /// Idle interpreters.
    pub warm: WarmCounts,
    /// Terminals, and who looks at them.
    #[serde(default)]
    pub terminals: TerminalCounts,
}

/// Terminals of this server's own session agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalCounts {
    /// Those whose programs live.
    pub live: u64,
    /// Those whose programs have ended and that can still be looked at.
    pub ended: u64,
    /// Attachments to all of them.
    pub viewers: u64,
}

/// Idle interpreters by language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WarmCounts {
    /// Python.
    #[serde(default)]
    pub python: u64,
    /// Node.
    #[serde(default)]
    pub node: u64,
}
