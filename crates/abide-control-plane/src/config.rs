//! What the control plane is told at start.

mod dialect;

use std::path::PathBuf;

use abide_data_plane::auth::AuthConfig;
use abide_session_agent::http::SignsOfLife;

pub use dialect::DialectConfig;

/// Plain settings; nothing in here changes while the server runs.
#[derive(Debug, Clone)]
pub struct ControlPlaneConfig {
    /// Accepted API keys.
    pub keys: Vec<String>,
    /// Who may use the API besides those with a key: nobody, bearers of signed tokens, everybody.
    pub auth: AuthConfig,
    /// `Host` names to accept besides the loopback ones.
    pub allowed_hosts: Vec<String>,
    /// Holds the scratch workspaces, one per session.
    pub workspaces_dir: PathBuf,
    /// Where the server's files are; shown by `GET /status`.
    pub data_dir: PathBuf,
    /// The base URL to tell people.
    pub url: String,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Interpreters that may live at once.
    pub max_live: usize,
    /// Steps that may wait in one session; the session agent of this process has a limit of its own.
    pub queue_length: usize,
    /// Applied to steps that bring no `timeout_ms`; none by default.
    pub step_timeout_ms: Option<u64>,
    /// What those who view terminals are given up by.
    pub signs_of_life: SignsOfLife,
    /// The multi-terminal dialect.
    pub dialect: DialectConfig,
    /// Register an unknown `agent_id` instead of answering 404.
    pub auto_register_agents: bool,
}
