//! One-shot runs: a session of their own, one step, and what came of it.
//!
//! A run is recorded before it is begun, and its end before its session is removed. A data plane
//! that is started again goes on with those that had not ended: their steps are found by their ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_model::{
    AgentStep, JobEnd, Problem, ProblemCode, RouteStatus, Run, RunStatus, RunStep, Runtime, StepId,
    Timestamp, new_uuid,
};
use abide_store::{CreatedRun, StoreError};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tracing::warn;

use crate::error::DataPlaneError;
use crate::plane::{CreateSession, DataPlane, StepRequest, has_ended, session_gone};
use crate::trace::TraceContext;

/// Runs that may be under way at once.
const AT_ONCE: usize = 1024;
/// What a run's session lives longer than the run may take, in seconds.
const MARGIN_SECONDS: i64 = 600;
/// How long the session of a run without a limit lives, in seconds.
const UNLIMITED_SECONDS: i64 = 7 * 86_400;
/// Pause before something that failed for the moment is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A run to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRun {
    /// Names it: the same job again is the same run.
    pub(crate) job_id: String,
    pub(crate) runtime: Runtime,
    pub(crate) code: String,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) stdin: Option<String>,
    pub(crate) workspace_ref: Option<String>,
}

/// A run as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RunView {
    /// `<job id>-run`
    run_id: String,
    /// The same.
    id: String,
    job_id: String,
    status: RunStatus,
    language: Runtime,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// What its step became.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    step: Option<RunStepView>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// The part of an [`AgentStep`] that a run shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunStepView {
    stdout: String,
    stderr: String,
    exit_code: Option<i32>,
    outcome: Option<abide_model::StepStatus>,
    result: Option<abide_model::StepResult>,
    error: Option<abide_model::StepError>,
    truncated: bool,
    duration_ms: Option<f64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Runs {
    plane: Arc<DataPlane>,
    /// The runs that this process has in hand; told when they end.
    under_way: Mutex<HashMap<String, watch::Sender<bool>>>,
}

impl Runs {
    pub(crate) fn new(plane: Arc<DataPlane>) -> Arc<Self> {
        Arc::new(Self {
            plane,
            under_way: Mutex::default(),
        })
    }

    /// Goes on with the runs of the data plane before.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), DataPlaneError> {
        for run in self.plane.registry.store().runs_under_way().await? {
            self.set_about(run, TraceContext::new(None, None));
        }
        Ok(())
    }

    /// Starts a run, or finds the one that this job or key names. Its id.
    pub(crate) async fn start(
        self: &Arc<Self>,
        new: NewRun,
        key: Option<&str>,
        trace: &TraceContext,
    ) -> Result<String, Problem> {
        let run = Run {
            id: format!("{}-run", new.job_id),
            job_id: new.job_id,
            session_id: new_uuid().to_string(),
            step_id: StepId::new(),
            runtime: new.runtime,
            code: new.code,
            stdin: new.stdin,
            timeout_ms: new.timeout_ms,
            workspace_ref: new.workspace_ref,
            created_at: self.plane.now(),
            status: RunStatus::Running,
            finished_at: None,
            end: None,
        };
        let store = self.plane.registry.store();
        let full = self.under_way.lock().len() >= AT_ONCE;
        if full && matches!(store.run(&run.id).await, Ok(None)) {
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{AT_ONCE} runs are under way already; try again later"),
            ));
        }
        let (this, key, trace) = (Arc::clone(self), key.map(str::to_owned), trace.clone());
        // What is recorded is also begun, even if the client goes away in between.
        let begin = async move {
            let asked = run.clone();
            let store = this.plane.registry.store();
            match store.create_run(key, run).await {
                Ok(CreatedRun::New(run)) => this.set_about(run, trace),
                Ok(CreatedRun::Existing(run)) if run.asks_the_same(&asked) => {}
                Ok(CreatedRun::Existing(_)) | Err(StoreError::RequestKeyReused(_)) => {
                    return Err(Problem::new(
                        ProblemCode::IdempotencyConflict,
                        "this jobId or Idempotency-Key was used for another run",
                    ));
                }
                Err(error) => return Err(DataPlaneError::from(error).into()),
            }
            Ok(asked.id)
        };
        self.plane.finish("begin a run", begin).await
    }

    /// A run as it stands, or as it ended within `wait`.
    pub(crate) async fn wait(&self, run: &str, wait: Duration) -> Result<RunView, Problem> {
        let ended = self.under_way.lock().get(run).map(watch::Sender::subscribe);
        if let Some(mut ended) = ended {
            let ended = ended.wait_for(|ended| *ended);
            let _ = tokio::time::timeout(wait, ended).await;
        }
        let run = self.plane.registry.store().run(run).await;
        let run = run.map_err(DataPlaneError::from)?;
        run.map(RunView::of).ok_or_else(run_not_found)
    }

    /// Ends a run; one that has ended stays as it is.
    pub(crate) async fn terminate(
        &self,
        run: &str,
        trace: &TraceContext,
    ) -> Result<RunView, Problem> {
        let ended = self.record(run, RunStatus::Terminated, None).await?;
        let ended = ended.ok_or_else(run_not_found)?;
        match self.plane.terminate(&ended.session_id, trace).await {
            Err(problem) if problem.code != ProblemCode::SessionNotFound.as_str() => Err(problem),
            _ => Ok(RunView::of(ended)),
        }
    }

    /// Sees to a run until nothing of it is left to be done.
    fn set_about(self: &Arc<Self>, run: Run, trace: TraceContext) {
        let ended = run.status != RunStatus::Running;
        let tell = watch::channel(ended).0;
        self.under_way.lock().insert(run.id.clone(), tell);
        let this = Arc::clone(self);
        self.plane.tasks.spawn("run", async move {
            let stopping = this.plane.tasks.stopping();
            tokio::select! {
                // The next data plane goes on.
                () = stopping.cancelled() => {}
                () = this.see_to(&run, &trace) => {}
            }
            this.under_way.lock().remove(&run.id);
        });
    }

    async fn see_to(&self, run: &Run, trace: &TraceContext) {
        if run.status == RunStatus::Running {
            let (status, end) = match self.execute(run, trace).await {
                Ok(step) => {
                    let status = match step.exit_code {
                        Some(0) => RunStatus::Finished,
                        _ => RunStatus::Failed,
                    };
                    (
                        status,
                        JobEnd {
                            step: Some(step),
                            problem: None,
                        },
                    )
                }
                Err(problem) => (
                    RunStatus::Failed,
                    JobEnd {
                        step: None,
                        problem: Some(problem),
                    },
                ),
            };
            let mut pause = AGAIN.0;
            while let Err(problem) = self.record(&run.id, status, Some(end.clone())).await {
                again(&run.id, &problem, &mut pause).await;
            }
            if let Some(ended) = self.under_way.lock().get(&run.id) {
                ended.send_replace(true);
            }
        }
        let mut pause = AGAIN.0;
        while let Err(problem) = self.clean_up(run, trace).await {
            again(&run.id, &problem, &mut pause).await;
        }
    }

    /// Ends the session of a run that has ended. What cannot be ended now, the reconciler ends.
    async fn clean_up(&self, run: &Run, trace: &TraceContext) -> Result<(), Problem> {
        match self.plane.terminate(&run.session_id, trace).await {
            Err(problem) if problem.code != ProblemCode::SessionNotFound.as_str() => {
                return Err(problem);
            }
            _ => {}
        }
        let cleaned = self.plane.registry.store().run_cleaned(&run.id).await;
        Ok(cleaned.map_err(DataPlaneError::from)?)
    }

    async fn record(
        &self,
        run: &str,
        status: RunStatus,
        end: Option<JobEnd>,
    ) -> Result<Option<Run>, Problem> {
        let store = self.plane.registry.store();
        let recorded = store.finish_run(run, status, end).await;
        Ok(recorded.map_err(DataPlaneError::from)?)
    }

    async fn execute(&self, run: &Run, trace: &TraceContext) -> Result<AgentStep, Problem> {
        self.open(run, trace).await?;
        let step = run.step_id.to_string();
        let request = StepRequest {
            run: RunStep {
                session_id: run.session_id.clone(),
                step_id: step.clone(),
                code: run.code.clone(),
                timeout_ms: run.timeout_ms,
                queue_timeout_ms: run.timeout_ms,
                stdin: run.stdin.clone(),
            },
            trace: trace.clone(),
        };
        let reply = self.plane.run_step(&request, true).await?;
        Ok(reply.into_step(&step))
    }

    /// Makes the run's session, unless an earlier data plane has.
    async fn open(&self, run: &Run, trace: &TraceContext) -> Result<(), Problem> {
        let lives = run.timeout_ms.map_or(UNLIMITED_SECONDS, |ms| {
            i64::try_from(ms / 1000).map_or(UNLIMITED_SECONDS, |s| s + MARGIN_SECONDS)
        });
        let mut pause = AGAIN.0;
        loop {
            match self.plane.session(&run.session_id).await {
                // Its step may have run, and a session made anew would run it again.
                Ok(route) if has_ended(route.status) => return Err(session_gone()),
                Ok(route) if route.status != RouteStatus::Provisioning => return Ok(()),
                _ => {}
            }
            let create = CreateSession {
                session_id: run.session_id.clone(),
                runtime: run.runtime,
                workspace_ref: run.workspace_ref.clone(),
                scratch: false,
                ttl_seconds: Some(lives),
                sliding: false,
                interpreter: true,
            };
            let Err(problem) = self.plane.create(create, trace).await else {
                return Ok(());
            };
            // It is being made by a data plane that is gone, or by another one on the same routes.
            if problem.code != ProblemCode::SessionExists.as_str() {
                return Err(problem);
            }
            again(&run.id, &problem, &mut pause).await;
        }
    }
}

impl RunView {
    fn of(run: Run) -> Self {
        let end = run.end.unwrap_or_default();
        Self {
            run_id: run.id.clone(),
            id: run.id,
            job_id: run.job_id,
            status: run.status,
            language: run.runtime,
            created_at: run.created_at,
            finished_at: run.finished_at,
            step: end.step.map(RunStepView::of),
            // Who ended it need not be told that it was ended.
            problem: end.problem.filter(|_| run.status != RunStatus::Terminated),
        }
    }
}

impl RunStepView {
    fn of(step: AgentStep) -> Self {
        Self {
            stdout: step.stdout,
            stderr: step.stderr,
            exit_code: step.exit_code,
            outcome: step.outcome,
            result: step.result,
            error: step.error,
            truncated: step.truncated,
            duration_ms: step.duration_ms,
        }
    }
}

/// Waits before something is tried again, and longer the next time.
async fn again(run: &str, why: &Problem, pause: &mut Duration) {
    warn!(run, code = %why.code, "tried again");
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(AGAIN.1);
}

fn run_not_found() -> Problem {
    Problem::new(ProblemCode::RunNotFound, "run not found")
}
