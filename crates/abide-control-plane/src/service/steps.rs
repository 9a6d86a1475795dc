//! Steps: accepted and recorded, handed over, waited for.

use std::sync::Arc;

use abide_model::{
    NewStep, Problem, ProblemCode, Session, SessionId, SessionStatus, Step, StepFilter, StepId,
    StepStatus, SubmitStep, Timestamp,
};
use abide_session_agent::{Acceptance, Ended, Phase, RunHandle, crash_points};
use abide_store::Accepted;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{ControlPlane, Outcome, store_problem};
use crate::expiry::expired;
use crate::runtimes::Interpreter;
use crate::trace;

/// A step to run.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) step: SubmitStep,
    /// `Idempotency-Key`: names the step where the client chose no step id.
    pub(crate) key: Option<String>,
    /// What the caller does until the step ends.
    pub(crate) caller: Caller,
}

/// What the caller of a step does until the step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Waits for the end and is told nothing before.
    Waits,
    /// Goes away as soon as the step is accepted.
    Leaves,
    /// Reads the output as it comes, and wants every byte.
    Reads,
}

/// A step that was accepted, now or earlier.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// As it was when accepted, or as it ended.
    pub(crate) step: Step,
    /// `None` when it had ended already.
    pub(crate) run: Option<RunHandle>,
}

impl Submission {
    /// Nobody but its caller, who waits for the end, can hear of it before, and nothing else has to
    /// be remembered about it.
    fn is_unheard_of(&self) -> bool {
        self.step.step_id.is_none() && self.key.is_none() && self.caller == Caller::Waits
    }
}

/// What [`ControlPlane::place`] found.
enum Placed {
    /// The step is next in its session.
    Next(Box<Next>),
    /// It was submitted before.
    Before(Box<Submitted>),
}

/// A step that is next in its session: until this is dropped no other one is.
struct Next {
    interpreter: Interpreter,
    step: NewStep,
    caller: Caller,
    /// The last sequence number of the session's steps.
    last: OwnedMutexGuard<Option<i64>>,
}

impl ControlPlane {
    /// Accepts a step and hands it over. Repeating a step id joins the first execution.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        id: SessionId,
        submission: Submission,
    ) -> Outcome<Submitted> {
        let idle = || self.runtimes.known(id).is_some_and(|known| known.idle);
        if !(self.runtimes.vouches() && submission.is_unheard_of() && idle()) {
            return self
                .whatever_the_client_does(async move |this| {
                    match this.place(id, submission).await? {
                        Placed::Next(next) => this.accept(*next).await,
                        Placed::Before(submitted) => Ok(*submitted),
                    }
                })
                .await;
        }
        let next = match self.place(id, submission).await? {
            Placed::Next(next) => next,
            Placed::Before(submitted) => return Ok(*submitted),
        };
        if !next.interpreter.idle || next.step.timeout_ms.is_some() {
            // Another one came in between, or there is a deadline to remember.
            return self
                .whatever_the_client_does(async move |this| this.accept(*next).await)
                .await;
        }
        // Nobody can hear of a step of our own naming before it ends: one record at the end does.
        crash_points::pass("step.before_accept");
        let step = Step::accepted(next.step.clone(), 0, 0);
        self.hand_over(*next, step, Acceptance::Pending).await
    }

    /// Does the work in a task of its own: what is recorded before it is sent is also sent, even if
    /// the client goes away in between.
    async fn whatever_the_client_does<W, F>(self: &Arc<Self>, work: W) -> Outcome<Submitted>
    where
        W: FnOnce(Arc<Self>) -> F,
        F: Future<Output = Outcome<Submitted>> + Send + 'static,
    {
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = trace::carried(work(Arc::clone(self)));
        self.tasks.spawn("submit", async move {
            // Nobody may be waiting any more.
            let _ = tell.send(work.await);
        });
        told.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Waits until the step would be the next of its session. Starts the interpreter if there is
    /// none; records nothing of the step.
    async fn place(&self, id: SessionId, submission: Submission) -> Outcome<Placed> {
        let session = self.session(id).await?;
        let Submission { step, key, caller } = submission;
        let SubmitStep {
            code,
            step_id,
            timeout_ms,
            stdin,
        } = step;
        let step_id = step_id
            .or_else(|| key.as_deref().map(|key| step_id_of_key(id, key)))
            .unwrap_or_default();
        let otherwise = |problem| async {
            let before = self.repeated(id, step_id, &code, problem).await?;
            Ok(Placed::Before(Box::new(before)))
        };
        if let Err(problem) = check_open(&session) {
            return otherwise(problem).await;
        }
        self.renew(&session).await?;
        let interpreter = match self.interpreter(&session).await {
            Ok(interpreter) => interpreter,
            Err(problem) => return otherwise(problem).await,
        };
        let last = Arc::clone(&interpreter.accepting).lock_owned().await;
        // How it stands may have changed while others were accepted.
        let now = self.runtimes.known(id);
        let interpreter = now
            .filter(|now| now.id == interpreter.id)
            .unwrap_or(interpreter);
        if let Err(refusal) = interpreter.readiness.clone() {
            return otherwise(*refusal).await;
        }
        let before = match *last {
            Some(last) => last,
            None => self.store.last_sequence(id).await.map_err(store_problem)?,
        };
        let step = NewStep {
            id: step_id,
            session_id: id,
            code,
            stdin,
            timeout_ms: timeout_ms.or(self.config.step_timeout_ms),
            created_at: Timestamp::now(),
            sequence: Some(before + 1),
        };
        Ok(Placed::Next(Box::new(Next {
            interpreter,
            step,
            caller,
            last,
        })))
    }

    /// Records the acceptance of the next step, and hands it over.
    async fn accept(&self, mut next: Next) -> Outcome<Submitted> {
        crash_points::pass("step.before_accept");
        let accepted = self.store.accept_step(next.step.clone()).await;
        match accepted.map_err(store_problem)? {
            Accepted::New(step) => {
                next.step.sequence = Some(step.sequence);
                self.hand_over(next, step, Acceptance::Recorded).await
            }
            Accepted::Existing(step) => {
                drop(next.last);
                if step.code != next.step.code {
                    return Err(used_for_other_code());
                }
                let NewStep { id, session_id, .. } = next.step;
                let before = self.submitted_before(session_id, id, Some(step), next.caller);
                before.await?.ok_or_else(step_not_found)
            }
        }
    }

    async fn hand_over(
        &self,
        next: Next,
        step: Step,
        acceptance: Acceptance,
    ) -> Outcome<Submitted> {
        let Next {
            interpreter,
            step: new,
            caller,
            mut last,
        } = next;
        *last = new.sequence;
        let reads = caller == Caller::Reads;
        let run = self
            .runtimes
            .submit(&interpreter, Arc::new(new), acceptance, reads)
            .await?;
        Ok(Submitted {
            step,
            run: Some(run),
        })
    }

    /// When nothing new can be run: a repetition is answered all the same, `otherwise` is the
    /// answer to everything else.
    async fn repeated(
        &self,
        session: SessionId,
        id: StepId,
        code: &str,
        otherwise: Problem,
    ) -> Outcome<Submitted> {
        match self
            .submitted_before(session, id, None, Caller::Waits)
            .await?
        {
            Some(before) if before.step.code == code => Ok(before),
            Some(_) => Err(used_for_other_code()),
            None => Err(otherwise),
        }
    }

    /// A step that was accepted earlier, with its run if it has not ended.
    async fn submitted_before(
        &self,
        session: SessionId,
        id: StepId,
        known: Option<Step>,
        caller: Caller,
    ) -> Outcome<Option<Submitted>> {
        let step = match known {
            Some(step) => Some(step),
            None => self.store.step(session, id).await.map_err(store_problem)?,
        };
        let Some(step) = step else { return Ok(None) };
        if step.status.is_terminal() {
            return Ok(Some(Submitted { step, run: None }));
        }
        if let Some(run) = self
            .runtimes
            .join(session, id, caller == Caller::Reads)
            .await
        {
            return Ok(Some(Submitted {
                step,
                run: Some(run),
            }));
        }
        // It ended between the two looks.
        let step = self.store.step(session, id).await.map_err(store_problem)?;
        Ok(step.map(|step| Submitted { step, run: None }))
    }

    /// A step with its run, to wait for or to stream.
    pub(crate) async fn find_step(
        &self,
        session: SessionId,
        id: StepId,
        caller: Caller,
    ) -> Outcome<Submitted> {
        self.session(session).await?;
        match self.submitted_before(session, id, None, caller).await? {
            Some(submitted) => Ok(submitted),
            None => Err(self.not_in_the_records(session, id).await),
        }
    }

    /// An end is told before it is recorded; on a full disk the record may take until there is
    /// space again.
    async fn not_in_the_records(&self, session: SessionId, id: StepId) -> Problem {
        if self.runtimes.join(session, id, false).await.is_some() {
            return Problem::new(
                ProblemCode::DatabaseUnavailable,
                "the step has ended, but its record could not be written yet; try again",
            );
        }
        step_not_found()
    }

    /// A step as it stands now, with what it has printed so far.
    pub(crate) async fn step(&self, session: SessionId, id: StepId) -> Outcome<Step> {
        self.session(session).await?;
        match self.store.step(session, id).await.map_err(store_problem)? {
            Some(step) => self.as_it_stands(step).await,
            None => Err(self.not_in_the_records(session, id).await),
        }
    }

    /// A session's steps as they stand now, oldest first.
    pub(crate) async fn steps(&self, session: SessionId, filter: StepFilter) -> Outcome<Vec<Step>> {
        let recorded = self.store.steps(session, filter).await;
        let mut steps = Vec::new();
        for step in recorded.map_err(store_problem)? {
            steps.push(self.as_it_stands(step).await?);
        }
        Ok(steps)
    }

    /// A recorded step with what only its worker knows: records are written at its two ends.
    async fn as_it_stands(&self, mut step: Step) -> Outcome<Step> {
        let (session, id) = (step.session_id, step.id);
        if !step.status.is_terminal() && self.runtimes.known(session).is_some() {
            match self.runtimes.peek(session, id).await {
                Some(peek) => {
                    step.stdout = peek.stdout;
                    step.stdout_bytes = peek.stdout_bytes;
                    step.stderr = peek.stderr;
                    step.stderr_bytes = peek.stderr_bytes;
                    step.truncated = peek.truncated;
                    step.started_at = peek.started_at;
                    step.queue_position = u32::try_from(peek.position).unwrap_or(u32::MAX);
                    if peek.started_at.is_some() {
                        step.status = StepStatus::Running;
                    }
                }
                // It ended between the two looks.
                None => {
                    let ended = self.store.step(session, id).await.map_err(store_problem)?;
                    step = ended.unwrap_or(step);
                }
            }
        }
        Ok(step)
    }

    /// Takes a step out of the queue, or interrupts it; one that has ended stays as it is.
    pub(crate) async fn cancel(&self, session: SessionId, id: StepId) -> Outcome<Step> {
        let step = self.step(session, id).await?;
        if !step.status.is_terminal() {
            self.runtimes.cancel(session, id).await?;
        }
        Ok(step)
    }

    /// Waits for the end of a step. `ShuttingDown` if the server stops first: the step goes on.
    pub(crate) async fn ended(&self, submitted: Submitted) -> Outcome<Step> {
        let Submitted { step, run } = submitted;
        let Some(mut run) = run else { return Ok(step) };
        match run.ended().await {
            Some(ended) => Ok(with_end(step, &ended)),
            None if let Some(problem) = self.runtimes.trouble(step.session_id, step.id) => {
                Err(problem)
            }
            None => Err(Problem::new(
                ProblemCode::ShuttingDown,
                format!(
                    "the server is stopping; the step goes on: ask again for step {}",
                    step.id
                ),
            )
            .with_details(serde_json::json!({ "step_id": step.id }))),
        }
    }
}

/// The step as it stands according to its run, without asking the store.
pub(crate) fn with_phase(step: Step, phase: &Phase) -> Step {
    match phase {
        Phase::Queued => step,
        Phase::Running { started_at, .. } => Step {
            status: StepStatus::Running,
            started_at: Some(*started_at),
            ..step
        },
        Phase::Ended(ended) => with_end(step, ended),
    }
}

/// The step as it ended.
pub(crate) fn with_end(step: Step, ended: &Ended) -> Step {
    let outcome = &ended.outcome;
    let duration = outcome.started_at.map(|started| {
        let micros = outcome
            .finished_at
            .as_micros()
            .saturating_sub(started.as_micros());
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let duration = micros as f64 / 1000.0;
        duration
    });
    Step {
        sequence: ended.sequence,
        status: outcome.status,
        stdout: outcome.stdout.text(),
        stderr: outcome.stderr.text(),
        stdout_bytes: outcome.stdout.bytes,
        stderr_bytes: outcome.stderr.bytes,
        truncated: outcome.stdout.omitted() + outcome.stderr.omitted() > 0,
        result: outcome.result.clone(),
        error: outcome.error.clone(),
        exit: outcome.exit.clone(),
        started_at: outcome.started_at,
        finished_at: Some(outcome.finished_at),
        duration_ms: duration,
        queue_position: 0,
        ..step
    }
}

fn check_open(session: &Session) -> Outcome<()> {
    if session.is_expired(Timestamp::now()) {
        return Err(expired());
    }
    match session.status {
        SessionStatus::Active | SessionStatus::Crashed => Ok(()),
        SessionStatus::Paused | SessionStatus::Completed => Err(Problem::new(
            ProblemCode::SessionNotActive,
            format!(
                "the session is {}; set its status to active first",
                session.status
            ),
        )),
    }
}

fn stopping() -> Problem {
    Problem::new(ProblemCode::ShuttingDown, "the server is stopping")
}

fn used_for_other_code() -> Problem {
    Problem::new(
        ProblemCode::IdempotencyConflict,
        "this step id or Idempotency-Key was used for other code",
    )
}

fn step_not_found() -> Problem {
    Problem::new(ProblemCode::StepNotFound, "Step not found")
}

/// The same key in the same session is the same step (UUIDv5, RFC 9562 §5.5).
fn step_id_of_key(session: SessionId, key: &str) -> StepId {
    StepId(Uuid::new_v5(&session.0, key.as_bytes()))
}
