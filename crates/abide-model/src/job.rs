//! One-shot runs: one piece of code in a session of its own.

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, AgentStep, JobId, JsonObject, Problem, Runtime, SessionId, StepId, Timestamp,
};

crate::closed_set! {
    /// ```text
    /// queued ──► running ──► finished | failed
    ///    └───────────────────────────────┘
    /// ```
    JobStatus {
        /// Waits.
        Queued = "queued",
        /// Its code runs.
        Running = "running",
        /// Its code ran to its end.
        Finished = "finished",
        /// Its code raised or was stopped, or could not be run.
        Failed = "failed",
    }
}

/// A job as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Made by the server.
    pub id: JobId,
    /// The session it runs in, which is removed at its end.
    pub session_id: SessionId,
    /// The step it is.
    pub step_id: StepId,
    /// Owner.
    pub agent_id: AgentId,
    /// What it runs in.
    pub runtime: Runtime,
    /// Source text.
    pub code: String,
    /// What it reads from standard input.
    pub stdin: Option<String>,
    /// Its limit, in milliseconds of running.
    pub timeout_ms: Option<u64>,
    /// Free-form; goes to the session.
    pub metadata: JsonObject,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<JobEnd>,
}

/// How a job ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobEnd {
    /// What became of its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<AgentStep>,
    /// Why there is no step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl JobEnd {
    /// Finished or failed.
    pub fn status(&self) -> JobStatus {
        match &self.step {
            Some(step) if step.exit_code == Some(0) => JobStatus::Finished,
            _ => JobStatus::Failed,
        }
    }
}
