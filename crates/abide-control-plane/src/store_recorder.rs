//! Writes down what the session agent reports.

use std::sync::Arc;

use abide_model::{Exit, NewStep, SessionId, StepOutcome, WorkerId};
use abide_session_agent::{Acceptance, RecordFailed, Recorder, Recording};
use abide_store::{Finished, Store, StoreError};

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

    /// Records the end of a step whose acceptance is recorded, before anybody is told: no journal on
    /// this host vouches for it meanwhile. Its sequence number.
    pub(crate) async fn step_finished_now(
        &self,
        step: Arc<NewStep>,
        outcome: Arc<StepOutcome>,
    ) -> Result<i64, RecordFailed> {
        let finished = self
            .store
            .finish_step_now(step, Arc::clone(&outcome), true)
            .await;
        counted(finished, &self.metrics, &outcome)
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
        Box::pin(async move { counted(finished.await, &metrics, &outcome) })
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

/// The sequence number of a step whose end was recorded, and counted the first time.
fn counted(
    finished: Result<Finished, StoreError>,
    metrics: &Metrics,
    outcome: &StepOutcome,
) -> Result<i64, RecordFailed> {
    match finished {
        Ok(finished) => {
            if finished.first {
                metrics.step_ended(outcome);
            }
            Ok(finished.sequence)
        }
        // The session was deleted meanwhile: there is nothing left to write to.
        Err(StoreError::SessionMissing(_)) => Ok(0),
        Err(error) => Err(RecordFailed(error.into())),
    }
}
