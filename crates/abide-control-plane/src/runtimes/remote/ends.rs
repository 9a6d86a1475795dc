//! Ends: of steps and of interpreters, how they are recorded and told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use abide_model::{
    Exit, NewStep, Problem, ProblemCode, StepError, StepOutcome, StepStatus, WorkerId,
};
use abide_session_agent::{Acceptance, Ended, LEFT_NOTHING, Recorder as _};
use tracing::{debug, warn};

use super::sessions::{Ending, Known, record_exit};
use super::steps::Way;
use super::{Remote, runtime_crashed};

/// Pause before an end is recorded again, at first and at most.
const RECORD_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long the end of an interpreter waits for the ends of its steps.
pub(super) const STEPS_END_WITHIN: Duration = Duration::from_secs(2);

impl Remote {
    /// Records and tells how a step ended, and what that says of its interpreter.
    pub(super) async fn ended(&self, known: &Arc<Known>, way: &Way, outcome: StepOutcome) {
        let outcome = Arc::new(outcome);
        let Some(sequence) = self.record_end(way, &outcome).await else {
            // The server stops; the next one asks again.
            return;
        };
        if let (Some(exit), Some(worker)) = (&outcome.exit, outcome.worker) {
            self.crashed(known, worker, Some(exit.clone())).await;
        }
        debug!(
            runtime_id = outcome.worker.map(tracing::field::display),
            target_endpoint = self.client.endpoint(),
            auth_mode = self.client.auth_mode().as_str(),
            attempt = way.attempts.load(Ordering::Relaxed),
            outcome = outcome.status.as_str(),
            "step delivered"
        );
        let ending = known.end(way.step.id);
        self.record_ending(known.session, ending).await;
        way.end(Arc::new(Ended { sequence, outcome }));
    }

    /// Records that a step came to nothing, and why.
    pub(super) async fn refuse(
        &self,
        known: &Arc<Known>,
        way: &Way,
        status: StepStatus,
        why: &Problem,
    ) {
        let outcome = StepOutcome {
            status,
            error: Some(StepError {
                kind: camel_case(&why.code),
                message: why.message.clone(),
                traceback: String::new(),
            }),
            ..StepOutcome::lost(way.step.id, "")
        };
        self.ended(known, way, outcome).await;
    }

    pub(super) async fn conclude_lost(&self, step: NewStep) {
        let outcome = Arc::new(StepOutcome::lost(step.id, LEFT_NOTHING));
        self.record_end(&Way::new(Arc::new(step)), &outcome).await;
    }

    /// Records how a step ended; `None` if the server stops before that is durable.
    ///
    /// One that its runtime executed is told as soon as its end is handed in: should this server
    /// die before that is durable, the next one asks the runtime. Whatever else there is to record
    /// of an end is recorded before anybody hears of it.
    async fn record_end(&self, way: &Way, outcome: &Arc<StepOutcome>) -> Option<i64> {
        let recorder = &self.config.recorder;
        let record = || {
            let (step, outcome) = (Arc::clone(&way.step), Arc::clone(outcome));
            recorder.step_finished(step, Acceptance::Recorded, outcome)
        };
        let record_now = || recorder.step_finished_now(Arc::clone(&way.step), Arc::clone(outcome));
        let vouched = recorder.tells_before_durable()
            && outcome.exit.is_none()
            && outcome.started_at.is_some();
        let mut recorded = match way.step.sequence.filter(|_| vouched) {
            Some(sequence) => {
                let recording = record();
                let outcome = Arc::clone(outcome);
                way.end(Arc::new(Ended { sequence, outcome }));
                recording.await
            }
            None => record_now().await,
        };
        let stopping = self.config.tasks.stopping();
        let mut pause = RECORD_AGAIN.0;
        loop {
            match recorded {
                Ok(sequence) => return Some(sequence),
                Err(error) => {
                    warn!(step = %way.step.id, error = &error as &dyn std::error::Error, "not recorded");
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECORD_AGAIN.1),
            }
            recorded = record_now().await;
        }
    }

    /// Notes and records that an interpreter died by itself, if that is news.
    pub(super) async fn crashed(&self, known: &Arc<Known>, worker: WorkerId, exit: Option<Exit>) {
        let exit = exit.unwrap_or_else(|| Exit {
            reason: "it died, and nobody saw how".to_owned(),
            ..Exit::default()
        });
        let problem = runtime_crashed(known.session, &exit);
        let ending = Ending {
            worker,
            exit,
            crashed: true,
        };
        self.dies(known, ending, problem).await;
    }

    /// Notes an end, if it is news, and records it after those of the steps that ended with it.
    async fn dies(&self, known: &Arc<Known>, ending: Ending, problem: Problem) {
        if !known.die(ending, problem) {
            return;
        }
        if known.is_idle() {
            return self.record_ending(known.session, known.ending()).await;
        }
        // Those may take until their runtime can be asked.
        let (recorder, known) = (Arc::clone(&self.config.recorder), Arc::clone(known));
        let stopping = self.config.tasks.stopping();
        self.config
            .tasks
            .spawn("end of an interpreter", async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep(STEPS_END_WITHIN) => {}
                }
                if let Some(ending) = known.ending() {
                    record_exit(&recorder, known.session, ending).await;
                }
            });
    }

    /// What a refusal says of the session's interpreter. The problem that the client is to hear.
    pub(super) async fn learn(
        &self,
        known: &Arc<Known>,
        worker: WorkerId,
        problem: Problem,
    ) -> Problem {
        let code = problem.code.as_str();
        if code == ProblemCode::RuntimeCrashed.as_str() {
            self.crashed(known, worker, exit_of(&problem)).await;
        } else if code == ProblemCode::RuntimeIdentityMismatch.as_str() {
            self.lost(known, worker, problem.clone()).await;
        } else if code == ProblemCode::SessionNotFound.as_str() {
            // It is here, so the client must not hear that it is not.
            let exit = Exit {
                reason: "the data plane does not know the session any more".to_owned(),
                ..Exit::default()
            };
            let problem = runtime_crashed(known.session, &exit);
            self.crashed(known, worker, Some(exit)).await;
            return problem;
        } else if code == ProblemCode::SessionExpired.as_str() {
            self.gone(known, worker, problem.clone()).await;
        }
        problem
    }

    /// Notes and records that its runtime was restarted without the interpreter, if that is news.
    pub(super) async fn lost(&self, known: &Arc<Known>, worker: WorkerId, problem: Problem) {
        let ending = Ending {
            worker,
            exit: Exit {
                reason: problem.message.clone(),
                ..Exit::default()
            },
            crashed: true,
        };
        self.dies(known, ending, problem).await;
    }

    /// Notes and records that an interpreter was ended below, if that is news.
    pub(super) async fn gone(&self, known: &Arc<Known>, worker: WorkerId, problem: Problem) {
        let ending = Ending::on_purpose(worker, &problem.message);
        self.dies(known, ending, problem).await;
    }
}

/// How an interpreter ended, where a problem tells.
fn exit_of(problem: &Problem) -> Option<Exit> {
    serde_json::from_value(problem.details.as_ref()?.get("exit")?.clone()).ok()
}

/// `runtime_unreachable` as the type of an error: `RuntimeUnreachable`.
fn camel_case(code: &str) -> String {
    let words = code.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{}{rest}", first.to_ascii_uppercase())
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_as_a_type() {
        assert_eq!(
            super::camel_case("runtime_unreachable"),
            "RuntimeUnreachable"
        );
        assert_eq!(super::camel_case(""), "");
    }
}
