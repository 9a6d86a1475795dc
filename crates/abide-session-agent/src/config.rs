//! What the agent is told at start.

use std::path::PathBuf;
use std::time::Duration;

/// Plain settings; nothing in here changes while the agent runs.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Holds one directory per worker, named by its id.
    pub workers_dir: PathBuf,
    /// Where harness files and cached interpreter facts are kept.
    pub harness_dir: PathBuf,
    /// The program that is re-executed as `abide keeper <dir>`.
    pub keeper_exe: PathBuf,
    /// Capacity of a worker's journal, in bytes.
    pub journal_bytes: u64,
    /// Between an interrupt and the kill that follows when it is ignored.
    pub interrupt_grace: Duration,
    /// Steps that may wait or run in one session.
    pub queue_length: usize,
    /// Idle Python interpreters to keep ready.
    pub warm_python: usize,
    /// Idle Node interpreters to keep ready.
    pub warm_node: usize,
    /// A Python other than the one on `PATH`.
    pub python: Option<PathBuf>,
    /// A Node other than the one on `PATH`.
    pub node: Option<PathBuf>,
    /// Descriptors that user code may open before it raises the limit itself; as many as the agent
    /// may if `None`.
    pub open_files: Option<u64>,
    /// How long a program on a terminal that is stopped may take to end after it was hung up, and again
    /// after it was told to terminate; 500 ms and 1 s if `None`.
    pub terminal_close_grace: Option<Duration>,
    /// The environment of user code, complete: nothing else is passed on.
    pub environment: Vec<(String, String)>,
}
