//! Where the agent reports what must be remembered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use abide_model::{Exit, SessionId, StepOutcome, WorkerId};

/// The record could not be written; the agent tries again.
#[derive(Debug, thiserror::Error)]
#[error("recording failed")]
pub struct RecordFailed(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A pending write.
pub type Recording<'a> = Pin<Box<dyn Future<Output = Result<(), RecordFailed>> + Send + 'a>>;

/// Writes down how steps and workers ended. Both calls may be repeated after a crash and must
/// then change nothing.
pub trait Recorder: Send + Sync + 'static {
    /// A step ended. Answers once that is durable.
    fn step_finished(&self, session: SessionId, outcome: Arc<StepOutcome>) -> Recording<'_>;

    /// A worker's process ended. `crashed` is `false` when it was stopped on purpose.
    fn worker_exited(
        &self,
        session: SessionId,
        worker: WorkerId,
        exit: Exit,
        crashed: bool,
    ) -> Recording<'_>;
}
