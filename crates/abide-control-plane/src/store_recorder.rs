//! Writes down what the session agent reports.

use std::sync::Arc;

use abide_model::{Exit, SessionId, StepOutcome, WorkerId};
use abide_session_agent::{RecordFailed, Recorder, Recording};
use abide_store::Store;

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
    fn step_finished(&self, session: SessionId, outcome: Arc<StepOutcome>) -> Recording<'_> {
        Box::pin(async move {
            let first = match self.store.finish_step(session, (*outcome).clone()).await {
                Ok(first) => first,
                // The session was deleted meanwhile: there is nothing left to write to.
                Err(abide_store::StoreError::SessionMissing(_)) => false,
                Err(error) => return Err(RecordFailed(error.into())),
            };
            if first {
                self.metrics.step_ended(&outcome);
            }
            Ok(())
        })
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
