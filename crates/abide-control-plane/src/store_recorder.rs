//! Writes down what the session agent reports.

use std::sync::Arc;

use abide_model::{Exit, NewStep, SessionId, StepOutcome, WorkerId};
use abide_session_agent::{Acceptance, RecordFailed, Recorder, Recording};
use abide_store::{Store, StoreError};

use crate::metrics::Metrics;

/// A [`Recorder`] over the store: record and event in one transaction, repetitions ignored.
#[derive(Debug)]
pub(crate) struct StoreRecorder {
    store: Store,
    metrics: Arc<Metrics>,
}

impl StoreRecorder {
    pub(crate) const fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }
}

impl Recorder for StoreRecorder {
    fn step_accepted(&self, step: Arc<NewStep>) -> Recording<'_> {
        Box::pin(async move {
            match self.store.accept_step((*step).clone()).await {
                Ok(_) | Err(StoreError::SessionMissing(_)) => Ok(()),
                Err(error) => Err(RecordFailed(error.into())),
            }
        })
    }

    fn step_finished(
        &self,
        step: Arc<NewStep>,
        acceptance: Acceptance,
        outcome: Arc<StepOutcome>,
    ) -> Recording<'static, i64> {
        let accepted = acceptance == Acceptance::Recorded;
        let finished = self.store.finish_step(step, Arc::clone(&outcome), accepted);
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let finished = match finished.await {
                Ok(finished) => finished,
                // The session was deleted meanwhile: there is nothing left to write to.
                Err(StoreError::SessionMissing(_)) => return Ok(0),
                Err(error) => return Err(RecordFailed(error.into())),
            };
            if finished.first {
                metrics.step_ended(&outcome);
            }
            Ok(finished.sequence)
        })
    }

    fn tells_before_durable(&self) -> bool {
        self.store.is_written_behind()
    }

    fn worker_exited(
        &self,
        _session: SessionId,
        worker: WorkerId,
        exit: Exit,
        crashed: bool,
    ) -> Recording<'_> {
        Box::pin(async move {
            if crashed {
                let reason = exit.reason.clone();
                self.store
                    .worker_crashed(worker, exit, reason)
                    .await
                    .map(|_| ())
            } else {
                self.store.worker_exited(worker, exit).await.map(|_| ())
            }
            .map_err(|error| RecordFailed(error.into()))
        })
    }
}
