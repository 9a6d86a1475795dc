//! One-shot runs: a session of their own, one step, and what came of it.
//!
//! Runs are kept in memory, the newest of them: a data plane that is started anew does not know the
//! earlier ones. Their sessions end all the same, by their time to live.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use abide_model::{AgentStep, Problem, ProblemCode, RunStep, Runtime, StepId, Timestamp, new_uuid};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::plane::{CreateSession, DataPlane, StepRequest};
use crate::trace::TraceContext;

/// Runs that are remembered; with both streams full, 128 KiB each.
const REMEMBERED: usize = 1024;
/// What a run's session lives longer than the run may take, in seconds.
const MARGIN_SECONDS: i64 = 600;
/// How long the session of a run without a limit lives, in seconds.
const UNLIMITED_SECONDS: i64 = 7 * 86_400;

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
    /// `running`; `finished` when it ended with exit code 0, `failed` otherwise; `terminated`.
    status: &'static str,
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

#[derive(Debug)]
struct Run {
    new: NewRun,
    session: String,
    state: watch::Sender<RunView>,
    order: u64,
}

#[derive(Debug, Default)]
struct Known {
    runs: HashMap<String, Run>,
    order: BTreeMap<u64, String>,
    keys: HashMap<String, String>,
    next: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Runs {
    plane: Arc<DataPlane>,
    known: Mutex<Known>,
}

impl Runs {
    pub(crate) fn new(plane: Arc<DataPlane>) -> Arc<Self> {
        Arc::new(Self {
            plane,
            known: Mutex::default(),
        })
    }

    /// Starts a run, or finds the one that this job or key names. Its id.
    pub(crate) fn start(
        self: &Arc<Self>,
        new: NewRun,
        key: Option<&str>,
        trace: &TraceContext,
    ) -> Result<String, Problem> {
        let id = format!("{}-run", new.job_id);
        let mut known = self.known.lock();
        let other_by_key = key
            .and_then(|key| known.keys.get(key))
            .is_some_and(|named| *named != id);
        if other_by_key || known.runs.get(&id).is_some_and(|run| run.new != new) {
            return Err(Problem::new(
                ProblemCode::IdempotencyConflict,
                "this jobId or Idempotency-Key was used for another run",
            ));
        }
        if known.runs.contains_key(&id) {
            return Ok(id);
        }
        known.make_room()?;
        let session = new_uuid().to_string();
        let view = RunView {
            run_id: id.clone(),
            id: id.clone(),
            job_id: new.job_id.clone(),
            status: "running",
            language: new.runtime,
            created_at: self.plane.now(),
            finished_at: None,
            step: None,
            problem: None,
        };
        let order = known.next;
        known.next += 1;
        known.order.insert(order, id.clone());
        if let Some(key) = key {
            known.keys.insert(key.to_owned(), id.clone());
        }
        let run = Run {
            new: new.clone(),
            session: session.clone(),
            state: watch::channel(view).0,
            order,
        };
        known.runs.insert(id.clone(), run);
        drop(known);
        let (this, run, trace) = (Arc::clone(self), id.clone(), trace.clone());
        self.plane.tasks.spawn("run", async move {
            let answer = this.execute(new, &session, &trace).await;
            this.record(&run, answer);
        });
        Ok(id)
    }

    /// A run as it stands, or as it ended within `wait`.
    pub(crate) async fn wait(&self, run: &str, wait: Duration) -> Result<RunView, Problem> {
        let mut state = self.state(run)?;
        let ended = state.wait_for(|view| view.status != "running");
        let _ = tokio::time::timeout(wait, ended).await;
        Ok(self.state(run)?.borrow().clone())
    }

    /// Ends a run; one that has ended stays as it is.
    pub(crate) async fn terminate(
        &self,
        run: &str,
        trace: &TraceContext,
    ) -> Result<RunView, Problem> {
        let session = {
            let known = self.known.lock();
            let known = known.runs.get(run).ok_or_else(run_not_found)?;
            let finished_at = self.plane.now();
            known.state.send_if_modified(|view| {
                let running = view.status == "running";
                if running {
                    view.status = "terminated";
                    view.finished_at = Some(finished_at);
                }
                running
            });
            known.session.clone()
        };
        match self.plane.terminate(&session, trace).await {
            Err(problem) if problem.code != ProblemCode::SessionNotFound.as_str() => Err(problem),
            _ => Ok(self.state(run)?.borrow().clone()),
        }
    }

    fn state(&self, run: &str) -> Result<watch::Receiver<RunView>, Problem> {
        let known = self.known.lock();
        let run = known.runs.get(run).ok_or_else(run_not_found)?;
        Ok(run.state.subscribe())
    }

    async fn execute(
        &self,
        new: NewRun,
        session: &str,
        trace: &TraceContext,
    ) -> Result<AgentStep, Problem> {
        let lives = new.timeout_ms.map_or(UNLIMITED_SECONDS, |ms| {
            i64::try_from(ms / 1000).map_or(UNLIMITED_SECONDS, |s| s + MARGIN_SECONDS)
        });
        let create = CreateSession {
            session_id: session.to_owned(),
            runtime: new.runtime,
            workspace_ref: new.workspace_ref,
            scratch: false,
            ttl_seconds: Some(lives),
            sliding: false,
        };
        self.plane.create(create, trace).await?;
        let step = StepId::new().to_string();
        let request = StepRequest {
            run: RunStep {
                session_id: session.to_owned(),
                step_id: step.clone(),
                code: new.code,
                timeout_ms: new.timeout_ms,
                queue_timeout_ms: new.timeout_ms,
                stdin: new.stdin,
            },
            trace: trace.clone(),
        };
        let reply = self.plane.run_step(&request, true).await;
        // Whatever came of it; what cannot be ended now, the reaper ends.
        let _ = self.plane.terminate(session, trace).await;
        Ok(reply?.into_step(&step))
    }

    fn record(&self, run: &str, answer: Result<AgentStep, Problem>) {
        let finished_at = self.plane.now();
        let known = self.known.lock();
        let Some(run) = known.runs.get(run) else {
            return;
        };
        run.state.send_modify(|view| {
            let terminated = view.status == "terminated";
            view.finished_at = view.finished_at.or(Some(finished_at));
            match answer {
                Ok(step) => {
                    if !terminated {
                        view.status = match step.exit_code {
                            Some(0) => "finished",
                            _ => "failed",
                        };
                    }
                    view.step = Some(RunStepView::of(step));
                }
                Err(_) if terminated => {}
                Err(problem) => {
                    view.status = "failed";
                    view.problem = Some(problem);
                }
            }
        });
    }
}

impl Known {
    /// Forgets the oldest run that has ended, if there are too many.
    fn make_room(&mut self) -> Result<(), Problem> {
        if self.runs.len() < REMEMBERED {
            return Ok(());
        }
        let ended = |id: &&String| {
            let run = self.runs.get(*id);
            run.is_none_or(|run| run.state.borrow().status != "running")
        };
        let Some(oldest) = self.order.values().find(ended).cloned() else {
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{REMEMBERED} runs are under way already; try again later"),
            ));
        };
        if let Some(run) = self.runs.remove(&oldest) {
            self.order.remove(&run.order);
        }
        self.keys.retain(|_, id| *id != oldest);
        Ok(())
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

fn run_not_found() -> Problem {
    Problem::new(ProblemCode::RunNotFound, "run not found")
}
