//! Steps: accepted once, handed over once, found again by their id.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{
    AgentStep, NewStep, Problem, ProblemCode, RunStep, StepId, StepOutcome, Timestamp, WorkerId,
    step_id_of_label,
};

use super::register::invalid;
use super::{
    Credentials, Hosted, Outcome, SessionHost, agent_stopping, session_not_found, storage_problem,
};
use crate::crash_points;
use crate::ledger::{CodeDigest, KnownStep, Ledger, Unfinished};
use crate::worker::{Acceptance, Phase, Refusal, RunHandle, WorkerHandle};

/// Longest name of a step, in bytes.
const MAX_STEP_LABEL: usize = 256;

/// A step that was accepted, now or earlier.
#[derive(Debug)]
pub struct HostedStep {
    /// The name that it was asked for by.
    pub label: String,
    /// Its id.
    pub id: StepId,
    /// Whether it is still on its way.
    pub state: StepState,
}

/// Where a step stands.
#[derive(Debug)]
pub enum StepState {
    /// It waits or runs.
    UnderWay {
        /// To wait for it and to read its output.
        run: RunHandle,
        /// The interpreter that has it.
        worker: WorkerHandle,
    },
    /// It ended, and that is recorded.
    Ended(Arc<StepOutcome>),
}

impl HostedStep {
    /// Waits for its end. `ShuttingDown` if the agent stops first: the step goes on.
    pub async fn ended(&mut self) -> Outcome<Arc<StepOutcome>> {
        let outcome = match &mut self.state {
            StepState::Ended(outcome) => return Ok(Arc::clone(outcome)),
            StepState::UnderWay { run, .. } => {
                run.ended().await.map(|end| Arc::clone(&end.outcome))
            }
        };
        match outcome {
            Some(outcome) => {
                self.state = StepState::Ended(Arc::clone(&outcome));
                Ok(outcome)
            }
            None => Err(Problem::new(
                ProblemCode::ShuttingDown,
                format!(
                    "the session agent is stopping; the step goes on: ask again for step {}",
                    self.label
                ),
            )
            .with_details(serde_json::json!({ "step_id": self.label }))),
        }
    }

    /// The step as it stands, with what it has printed so far.
    pub async fn show(&mut self) -> AgentStep {
        loop {
            match &self.state {
                StepState::Ended(outcome) => return self.show_ended(outcome),
                StepState::UnderWay { run, worker } => {
                    if let Phase::Ended(end) = run.phase() {
                        self.state = StepState::Ended(Arc::clone(&end.outcome));
                        continue;
                    }
                    let peek = worker.peek(self.id).await;
                    // It ended between the two looks.
                    if peek.is_none() && matches!(run.phase(), Phase::Ended(_)) {
                        continue;
                    }
                    let peek = peek.unwrap_or_default();
                    let running = peek.started_at.is_some();
                    return AgentStep {
                        step_id: self.label.clone(),
                        status: if running { "running" } else { "accepted" }.to_owned(),
                        stdout: peek.stdout.text(),
                        stderr: peek.stderr.text(),
                        truncated: peek.stdout.omitted() + peek.stderr.omitted() > 0,
                        stdout_bytes: Some(peek.stdout.bytes),
                        stderr_bytes: Some(peek.stderr.bytes),
                        ..AgentStep::default()
                    };
                }
            }
        }
    }

    /// The step as it ended.
    pub fn show_ended(&self, outcome: &StepOutcome) -> AgentStep {
        AgentStep {
            step_id: self.label.clone(),
            ..AgentStep::ended(outcome)
        }
    }

    /// The interpreter that has or had it; none if it never started.
    pub fn worker_id(&self) -> Option<WorkerId> {
        match &self.state {
            StepState::UnderWay { worker, .. } => Some(worker.id()),
            StepState::Ended(outcome) => outcome.worker,
        }
    }
}

impl SessionHost {
    /// Accepts a step and hands it over. The same id again joins the first execution. With
    /// `hold_output` the program waits for the reader of the step's output.
    pub async fn submit(
        &self,
        credentials: &Credentials,
        request: RunStep,
        hold_output: bool,
    ) -> Outcome<HostedStep> {
        let hosted = self.authorized(&request.session_id, credentials)?;
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        check(&request)?;
        let label = request.step_id.clone();
        let id = step_id_of_label(hosted.id, &label);
        let named = |state| HostedStep { label, id, state };
        let digest = CodeDigest::of(&request.code);
        let before = self.before(&hosted, ledger, id, Some(digest), hold_output);
        if let Some(state) = before.await? {
            return Ok(named(state));
        }
        let Some(worker) = self.agent.worker(hosted.id) else {
            return Err(self.runtime_crashed(&hosted, ledger));
        };
        let order = worker.accepting.lock().await;
        // The same id may have come at the same time.
        if ledger
            .step(id)
            .map_err(|error| storage_problem(&error))?
            .is_some()
        {
            drop(order);
            let before = self.before(&hosted, ledger, id, Some(digest), hold_output);
            let state = before.await?.ok_or_else(step_not_found)?;
            return Ok(named(state));
        }
        self.check_open()?;
        let refused = |refusal| match refusal {
            Refusal::Dead(_) => self.runtime_crashed(&hosted, ledger),
            Refusal::QueueFull(waiting) => queue_full(waiting),
            Refusal::Stopping => agent_stopping(),
        };
        worker.check().map_err(refused)?;
        let step = NewStep {
            id,
            session_id: hosted.id,
            code: request.code,
            stdin: request.stdin,
            timeout_ms: request.timeout_ms.or(self.config.step_timeout_ms),
            created_at: Timestamp::now(),
            sequence: None,
        };
        crash_points::pass("step.before_accept");
        let accepted = ledger
            .accept(step, request.queue_timeout_ms)
            .map_err(|error| storage_problem(&error))?;
        let submitted = worker.submit(
            Arc::clone(&accepted.step),
            Acceptance::Recorded,
            hold_output,
        );
        let run = submitted.map_err(refused)?;
        self.limit_queueing(&worker, &accepted);
        drop(order);
        Ok(named(StepState::UnderWay { run, worker }))
    }

    /// A step that was submitted, to wait for or to read.
    pub async fn step(
        &self,
        label: &str,
        step: &str,
        credentials: &Credentials,
        hold_output: bool,
    ) -> Outcome<HostedStep> {
        let hosted = self.authorized(label, credentials)?;
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        let id = step_id_of_label(hosted.id, step);
        let before = self.before(&hosted, ledger, id, None, hold_output).await?;
        Ok(HostedStep {
            label: step.to_owned(),
            id,
            state: before.ok_or_else(step_not_found)?,
        })
    }

    /// Takes a step out of the queue, or interrupts it; one that has ended stays as it is.
    pub async fn cancel(
        &self,
        label: &str,
        step: &str,
        credentials: &Credentials,
    ) -> Outcome<HostedStep> {
        let found = self.step(label, step, credentials, false).await?;
        if let StepState::UnderWay { worker, .. } = &found.state {
            worker.cancel(found.id);
        }
        Ok(found)
    }

    /// What became of a step that was accepted earlier, if one was; an error if it was other code.
    async fn before(
        &self,
        hosted: &Hosted,
        ledger: &Arc<Ledger>,
        id: StepId,
        digest: Option<CodeDigest>,
        hold_output: bool,
    ) -> Outcome<Option<StepState>> {
        loop {
            let found = ledger.step(id).map_err(|error| storage_problem(&error))?;
            let Some((known, step)) = found else {
                return Ok(None);
            };
            if digest.is_some_and(|digest| digest != known) {
                return Err(Problem::new(
                    ProblemCode::IdempotencyConflict,
                    "this step id was used for other code; choose a fresh one",
                ));
            }
            match step {
                KnownStep::Ended(outcome) => return Ok(Some(StepState::Ended(outcome))),
                KnownStep::Unfinished => {}
            }
            let Some(worker) = self.agent.worker(hosted.id) else {
                // Only while the session is being restarted or ended.
                return Err(self.runtime_crashed(hosted, ledger));
            };
            if let Some(run) = worker.attach(id, hold_output).await {
                return Ok(Some(StepState::UnderWay { run, worker }));
            }
            // It ended between the two looks, and that is recorded, unless the agent stops: then
            // the next start concludes it.
            if self.tasks.stopping().is_cancelled() {
                return Err(Problem::new(
                    ProblemCode::ShuttingDown,
                    "the session agent is stopping; ask again",
                ));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes the step out of the queue if its turn does not come in time.
    pub(super) fn limit_queueing(&self, worker: &WorkerHandle, unfinished: &Unfinished) {
        let Some(limit) = unfinished.queue_timeout_ms else {
            return;
        };
        let waited = Timestamp::now().as_micros() - unfinished.step.created_at.as_micros();
        let waited = Duration::from_micros(u64::try_from(waited).unwrap_or(0));
        let left = Duration::from_millis(limit).saturating_sub(waited);
        let (worker, id) = (worker.clone(), unfinished.step.id);
        let stopping = self.tasks.stopping();
        self.tasks.spawn("queue timeout", async move {
            let Some(mut run) = worker.attach(id, false).await else {
                return;
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                _ = run.started() => {}
                () = tokio::time::sleep(left) => worker.withdraw(id),
            }
        });
    }

    /// 503 with how the interpreter ended and how to go on.
    fn runtime_crashed(&self, hosted: &Hosted, ledger: &Ledger) -> Problem {
        let record = ledger.record();
        let exit = self.exit_of(hosted, &record);
        Problem::new(
            ProblemCode::RuntimeCrashed,
            format!(
                "the session's interpreter is gone ({}), and its variables with it; \
                 POST /v1/sessions/{}/restart starts a fresh one",
                exit.reason, record.label
            ),
        )
        .with_details(serde_json::json!({ "session_id": record.label, "exit": exit }))
    }
}

fn check(request: &RunStep) -> Outcome<()> {
    if request.step_id.trim().is_empty() || request.step_id.len() > MAX_STEP_LABEL {
        let wrong = "must have 1 to 256 bytes that are not all blank";
        return Err(invalid("stepId", wrong, &request.step_id));
    }
    if request.code.trim().is_empty() {
        return Err(invalid("code", "must not be blank", &request.code));
    }
    Ok(())
}

fn queue_full(waiting: usize) -> Problem {
    Problem::new(
        ProblemCode::LimitReached,
        format!("{waiting} steps wait in this session already (queue_length); try again later"),
    )
    .with_details(serde_json::json!({ "queued": waiting }))
}

fn step_not_found() -> Problem {
    Problem::new(ProblemCode::StepNotFound, "step not found")
}
