//! Ends on their way into the records, oldest first.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use abide_model::{NewStep, StepId, StepOutcome, WorkerId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::recorder::{RecordFailed, Recorder};
use crate::worker::{Acceptance, Phase};

/// Ends that may be on their way at once; then the interpreter waits.
const MAX_PENDING: usize = 64;
/// Before the second attempt to write a record that was refused; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Between attempts at most: how long a record stays away once there is space again.
const LONGEST_RETRY: Duration = Duration::from_secs(3);

/// How long to wait before the next attempt.
#[derive(Debug)]
pub(super) struct Retry(Duration);

impl Default for Retry {
    fn default() -> Self {
        Self(FIRST_RETRY)
    }
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) step: Arc<NewStep>,
    pub(super) acceptance: Acceptance,
    pub(super) outcome: Arc<StepOutcome>,
    pub(super) phase: Arc<watch::Sender<Phase>>,
}

/// An end that is durable now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded {
    /// The step's position in its session; `None` if the agent stops before it is durable: the
    /// step is concluded again after the restart.
    pub(super) sequence: Option<i64>,
    /// Entries before this one have been recorded with it.
    pub(super) up_to: Option<u64>,
}

#[derive(Default)]
pub(super) struct Recordings {
    pending: VecDeque<Recording>,
    /// Where the ring was held when the first of them was handed in: it must not turn further, so
    /// that the journal can tell of them after a crash.
    held: Option<u64>,
}

struct Recording {
    id: StepId,
    phase: Arc<watch::Sender<Phase>>,
    up_to: Option<u64>,
    sequence: Pin<Box<dyn Future<Output = Option<i64>> + Send>>,
}

impl Recordings {
    /// Hands an end in, and again until it is taken. `passed`: how far the ring may turn now.
    pub(super) fn push(
        &mut self,
        end: End,
        recorder: &Arc<dyn Recorder>,
        up_to: Option<u64>,
        passed: u64,
        (worker, stopping): (WorkerId, CancellationToken),
    ) {
        let (id, phase) = (end.step.id, Arc::clone(&end.phase));
        let recorder = Arc::clone(recorder);
        let record = move || {
            let (step, outcome) = (Arc::clone(&end.step), Arc::clone(&end.outcome));
            recorder.step_finished(step, end.acceptance, outcome)
        };
        let mut attempt = record();
        let mut retry = Retry::default();
        let sequence = Box::pin(async move {
            loop {
                match attempt.await {
                    Ok(sequence) => return Some(sequence),
                    Err(error) if retry.pause(worker, &stopping, &error).await => {
                        attempt = record();
                    }
                    Err(_) => return None,
                }
            }
        });
        self.held.get_or_insert(passed);
        self.pending.push_back(Recording {
            id,
            phase,
            up_to,
            sequence,
        });
    }

    /// Waits for the first of them; for ever if there is none. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Recorded {
        let Some(first) = self.pending.front_mut() else {
            return std::future::pending().await;
        };
        let sequence = first.sequence.as_mut().await;
        let up_to = first.up_to;
        self.pending.pop_front();
        if self.pending.is_empty() {
            self.held = None;
        }
        Recorded { sequence, up_to }
    }

    /// The end of a step that is on its way.
    pub(super) fn phase(&self, id: StepId) -> Option<watch::Receiver<Phase>> {
        let recording = self.pending.iter().find(|recording| recording.id == id)?;
        Some(recording.phase.subscribe())
    }

    pub(super) fn held(&self) -> Option<u64> {
        self.held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }
}

impl Retry {
    /// Waits before the next attempt; `false`: the agent is stopping.
    pub(super) async fn pause(
        &mut self,
        worker: WorkerId,
        stopping: &CancellationToken,
        error: &RecordFailed,
    ) -> bool {
        {
            let error = error as &(dyn std::error::Error + 'static);
            warn!(%worker, error, "cannot record; trying again");
        }
        let pause = self.0;
        self.0 = (2 * self.0).min(LONGEST_RETRY);
        tokio::select! {
            () = stopping.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
