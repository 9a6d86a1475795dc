//! Where the agent reports what must be remembered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use abide_model::{Exit, NewStep, SessionId, StepOutcome, WorkerId};

/// The record could not be written; the agent tries again.
#[derive(Debug, thiserror::Error)]
#[error("recording failed")]
pub struct RecordFailed(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A pending write.
pub type Recording<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, RecordFailed>> + Send + 'a>>;

/// Writes down what became of steps and workers. Every call may be repeated after a crash and
/// must then change nothing.
pub trait Recorder: Send + Sync + 'static {
    /// A step that was submitted as [`crate::Acceptance::Pending`] was handed over and has been
    /// running for a moment.
    fn step_accepted(&self, step: Arc<NewStep>) -> Recording<'_>;

    /// A step ended; `acceptance` says whether it was recorded as accepted before, as far as the
    /// agent knows. The call hands the end in; the answer, with its sequence number, comes once it
    /// is durable.
    fn step_finished(
        &self,
        step: Arc<NewStep>,
        acceptance: crate::Acceptance,
        outcome: Arc<StepOutcome>,
    ) -> Recording<'static, i64>;

    /// Whether an end that was handed in may be told before it is durable: whoever looks it up
    /// finds it, and should the server die before it is durable, what the journal still holds is
    /// as good.
    fn tells_before_durable(&self) -> bool {
        false
    }

    /// A worker's process ended. `crashed` is `false` when it was stopped on purpose.
    fn worker_exited(
        &self,
        session: SessionId,
        worker: WorkerId,
        exit: Exit,
        crashed: bool,
    ) -> Recording<'_>;
}
