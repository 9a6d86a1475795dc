//! Runs: one piece of code in a session of its own, as a data plane does it.

use crate::{JobEnd, Runtime, StepId, Timestamp};

crate::closed_set! {
    /// ```text
    /// running ──► finished | failed | terminated
    /// ```
    RunStatus {
        /// It has not ended.
        Running = "running",
        /// Its code ran to its end.
        Finished = "finished",
        /// Its code raised or was stopped, or could not be run.
        Failed = "failed",
        /// It was ended on request.
        Terminated = "terminated",
    }
}

/// A run as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Names it; unique.
    pub id: String,
    /// What the client calls the job that it is.
    pub job_id: String,
    /// The session it runs in, which is removed at its end.
    pub session_id: String,
    /// The step it is.
    pub step_id: StepId,
    /// What it runs in.
    pub runtime: Runtime,
    /// Source text.
    pub code: String,
    /// What it reads from standard input.
    pub stdin: Option<String>,
    /// Its limit, in milliseconds of running.
    pub timeout_ms: Option<u64>,
    /// Names its directory; without one it has a scratch directory.
    pub workspace_ref: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How it stands.
    pub status: RunStatus,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What came of it.
    pub end: Option<JobEnd>,
}

impl Run {
    /// Whether it asks for the same as another.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        (&self.job_id, self.runtime, &self.code, &self.stdin)
            == (&other.job_id, other.runtime, &other.code, &other.stdin)
            && (self.timeout_ms, &self.workspace_ref) == (other.timeout_ms, &other.workspace_ref)
    }
}
