//! Steps under way: handed over, waited for, looked at, cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use abide_model::{
    Exit, NewStep, Problem, ProblemCode, SessionId, StepId, StepStatus, Timestamp, WorkerId,
};
use abide_session_agent::{Ended, Phase, RunHandle};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument as _;

use super::super::Glance;
use super::delivery::Delivery;
use super::sessions::Known;
use super::{Remote, WAITING_CHUNKS, runtime_crashed};
use crate::service::Outcome;
use crate::trace;

/// One step's way, from its acceptance until its end is durable.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) step: Arc<NewStep>,
    /// Replaced when those who wait are to be told that nobody knows.
    phase: Mutex<watch::Sender<Phase>>,
    trouble: Mutex<Option<Problem>>,
    /// It is to be cancelled as soon as it is there.
    cancelled: AtomicBool,
    /// Times that the data plane was asked to run it or asked for it.
    pub(super) attempts: AtomicU32,
}

impl Way {
    pub(super) fn new(step: Arc<NewStep>) -> Self {
        Self {
            step,
            phase: Mutex::new(watch::channel(Phase::Queued).0),
            trouble: Mutex::default(),
            cancelled: AtomicBool::new(false),
            attempts: AtomicU32::new(0),
        }
    }

    pub(super) fn session(&self) -> String {
        self.step.session_id.to_string()
    }

    pub(super) fn id(&self) -> String {
        self.step.id.to_string()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.lock().borrow().clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase.lock().borrow(), Phase::Ended(_))
    }

    /// Where it stands from now on. Ends without an end when there is [`Self::trouble`].
    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.lock().subscribe()
    }

    /// The interpreter has it.
    pub(super) fn started(&self, started_at: Timestamp, output_start: u64) {
        self.phase.lock().send_if_modified(|phase| {
            let queued = matches!(phase, Phase::Queued);
            if queued {
                *phase = Phase::Running {
                    started_at,
                    // Of a journal that is elsewhere.
                    start_seq: 0,
                    output_start,
                };
            }
            queued
        });
    }

    /// It ended, and that is handed in to be recorded.
    pub(super) fn end(&self, ended: Arc<Ended>) {
        self.phase.lock().send_replace(Phase::Ended(ended));
    }

    /// Why nobody can say what became of it.
    pub(super) fn trouble(&self) -> Option<Problem> {
        self.trouble.lock().clone()
    }

    /// Tells everybody who waits that nobody can say what became of it.
    pub(super) fn tell_trouble(&self, problem: Problem) {
        *self.trouble.lock() = Some(problem);
        self.let_go();
    }

    /// Ends the waiting of everybody who waits.
    pub(super) fn let_go(&self) {
        let mut phase = self.phase.lock();
        let now = phase.borrow().clone();
        *phase = watch::channel(now).0;
    }

    /// Somebody can say again.
    pub(super) fn trouble_is_over(&self) {
        *self.trouble.lock() = None;
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl Remote {
    /// Sends a step to the session's interpreter if that is still `worker`, and answers once a
    /// runtime has it.
    pub(super) async fn submit(
        self: &Arc<Self>,
        worker: WorkerId,
        step: Arc<NewStep>,
        hold_output: bool,
    ) -> Outcome<RunHandle> {
        let session = step.session_id;
        let Some(known) = self.find(session) else {
            // Deleted since it was looked at, and its record with it.
            return Err(stopped(session));
        };
        let way = known.begin(step);
        if known.worker() != worker {
            let problem = stopped(session);
            self.refuse(&known, &way, StepStatus::Crashed, &problem)
                .await;
            return Err(problem);
        }
        let phase = way.watch();
        let (chunks, reader) = if hold_output {
            let (chunks, reader) = mpsc::channel(WAITING_CHUNKS);
            (Some(chunks), Some(reader))
        } else {
            (None, None)
        };
        let (accepted, is_accepted) = oneshot::channel();
        let delivery = Delivery::new(self, &known, &way, trace::current());
        let span = delivery.span();
        let sent = async move { delivery.send(chunks, accepted).await };
        self.config.tasks.spawn("step", sent.instrument(span));
        match is_accepted.await {
            Ok(Ok(())) => Ok(RunHandle::relayed(phase, reader)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::new(
                ProblemCode::ShuttingDown,
                "the server is stopping; the step goes on",
            )),
        }
    }

    /// Sends steps of before this process started, in order and before any new one. Those that had
    /// been sent are found by their ids.
    pub(super) fn send_again(self: &Arc<Self>, known: &Arc<Known>, steps: Vec<NewStep>) {
        // Free: nothing is served yet.
        let Ok(turn) = known.accepting().try_lock_owned() else {
            return;
        };
        let ways: Vec<_> = steps
            .into_iter()
            .map(|step| known.begin(Arc::new(step)))
            .collect();
        let (this, known) = (Arc::clone(self), Arc::clone(known));
        self.config.tasks.spawn("steps of before", async move {
            for way in ways {
                let (accepted, is_accepted) = oneshot::channel();
                let delivery = Delivery::new(&this, &known, &way, trace::current());
                let span = delivery.span();
                let sent = async move { delivery.send_again(accepted).await };
                this.config
                    .tasks
                    .spawn("step of before", sent.instrument(span));
                // Refused or not: it was its turn.
                let _ = is_accepted.await;
            }
            drop(turn);
        });
    }

    /// Gives the output of a step that was submitted earlier, from its first byte.
    pub(super) fn relay_step(
        self: &Arc<Self>,
        way: &Arc<Way>,
        chunks: mpsc::Sender<abide_session_agent::OutputChunk>,
    ) {
        let Some(known) = self.find(way.step.session_id) else {
            return;
        };
        let delivery = Delivery::new(self, &known, way, trace::current());
        self.config.tasks.spawn("step output", async move {
            delivery.relay(None, chunks).await;
        });
    }

    pub(super) async fn peek(&self, session: SessionId, step: StepId) -> Option<Glance> {
        let known = self.find(session)?;
        let way = known.way(step)?;
        let seen = match way.phase() {
            // It can have printed nothing.
            Phase::Queued => None,
            _ => {
                let (session, id, trace) = (way.session(), way.id(), trace::current());
                let asked = self.client.step(&session, &id, Duration::ZERO, &trace);
                asked.await.ok()
            }
        };
        // It may have ended meanwhile.
        let position = known.position(step)?;
        let phase = way.phase();
        let mut glance = Glance {
            position,
            started_at: match &phase {
                Phase::Queued => None,
                Phase::Running { started_at, .. } => Some(*started_at),
                Phase::Ended(ended) => ended.outcome.started_at,
            },
            ..Glance::default()
        };
        if let Some(seen) = seen {
            glance.stdout_bytes = seen.stdout_bytes.unwrap_or(seen.stdout.len() as u64);
            glance.stderr_bytes = seen.stderr_bytes.unwrap_or(seen.stderr.len() as u64);
            glance.stdout = seen.stdout;
            glance.stderr = seen.stderr;
            glance.truncated = seen.truncated;
        }
        Some(glance)
    }

    pub(super) async fn cancel(&self, way: &Way) -> Outcome<()> {
        way.cancelled.store(true, Ordering::SeqCst);
        let trace = trace::current();
        match self.client.cancel(&way.session(), &way.id(), &trace).await {
            Ok(_) => Ok(()),
            // On its way, and cancelled when it is there; or its session ended with it.
            Err(problem) if matches!(problem.status, 404 | 410) => Ok(()),
            Err(problem) => Err(problem),
        }
    }
}

fn stopped(session: SessionId) -> Problem {
    let exit = Exit {
        reason: "it was stopped".to_owned(),
        ..Exit::default()
    };
    runtime_crashed(session, &exit)
}
