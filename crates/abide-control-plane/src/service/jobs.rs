//! One-shot runs: a session of its own, one step, and what came of it.
//!
//! A job is recorded before anything of it is made, under the names of its session and its step. What
//! it lacks after a restart of the server is then done: each part of it can be done again.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{
    AgentStep, Job, JobEnd, JobId, JobStatus, JsonObject, NewSession, Problem, ProblemCode,
    Runtime, SessionId, StepId, StepStatus, SubmitStep, Timestamp,
};
use abide_store::{CreatedJob, RequestKey, StoreError};
use tracing::{info, warn};

use super::store_problem;
use super::{Caller, ControlPlane, Outcome, OwnerRequest, Submission, WorkspaceRequest};

/// Jobs that run at once; the others wait.
pub(super) const AT_ONCE: usize = 32;
/// Pause before something that failed for a time is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A request for a job, checked field by field.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) owner: OwnerRequest,
    pub(crate) runtime: Runtime,
    pub(crate) code: String,
    pub(crate) stdin: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) metadata: JsonObject,
}

/// A job as it stands.
#[derive(Debug, Clone)]
pub(crate) struct JobState {
    pub(crate) job: Job,
    pub(crate) status: JobStatus,
    /// What became of its step, or how that stands.
    pub(crate) step: Option<AgentStep>,
}

impl ControlPlane {
    /// Records a job and sets about it. The same key again is the same job.
    pub(crate) async fn create_job(
        self: &Arc<Self>,
        new: NewJob,
        key: Option<RequestKey>,
    ) -> Outcome<JobState> {
        let job = Job {
            id: JobId::new(),
            session_id: SessionId::new(),
            step_id: StepId::new(),
            agent_id: self.owner(new.owner).await?,
            runtime: new.runtime,
            code: new.code,
            stdin: new.stdin,
            timeout_ms: new.timeout_ms,
            metadata: new.metadata,
            created_at: Timestamp::now(),
            finished_at: None,
            end: None,
        };
        let created = self.store.create_job(key, job).await;
        match created.map_err(store_problem)? {
            CreatedJob::New(job) => {
                self.set_about(job.clone());
                Ok(JobState {
                    job,
                    status: JobStatus::Queued,
                    step: None,
                })
            }
            CreatedJob::Existing(job) => self.job_as_it_stands(job).await,
        }
    }

    /// A job as it stands, or as it ended within `wait`.
    pub(crate) async fn job(&self, id: JobId, wait: Duration) -> Outcome<JobState> {
        // Looked at before the job: an end in between wakes the wait.
        let mut ends = self.job_ends.subscribe();
        ends.mark_unchanged();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let job = self.store.job(id).await.map_err(store_problem)?;
            let job = job.ok_or_else(|| Problem::new(ProblemCode::JobNotFound, "Job not found"))?;
            let over = job.end.is_some() || self.tasks.stopping().is_cancelled();
            if over
                || tokio::time::timeout_at(deadline, ends.changed())
                    .await
                    .is_err()
            {
                return self.job_as_it_stands(job).await;
            }
        }
    }

    /// Sets about every job that a server before this one left. Call it once.
    pub(super) async fn resume_jobs(self: &Arc<Self>) -> Result<(), StoreError> {
        let left = self.store.jobs_under_way().await?;
        if !left.is_empty() {
            info!(jobs = left.len(), "going on with jobs");
        }
        for job in left {
            self.set_about(job);
        }
        Ok(())
    }

    async fn job_as_it_stands(&self, job: Job) -> Outcome<JobState> {
        if let Some(end) = &job.end {
            return Ok(JobState {
                status: end.status(),
                step: end.step.clone(),
                job,
            });
        }
        // Not made yet, perhaps.
        let step = self.step(job.session_id, job.step_id).await.ok();
        let status = match &step {
            Some(step) if step.status != StepStatus::Queued => JobStatus::Running,
            _ => JobStatus::Queued,
        };
        Ok(JobState {
            job,
            status,
            step: step
                .filter(|step| !step.status.is_terminal())
                .map(|step| AgentStep {
                    exit_code: None,
                    outcome: None,
                    ..step.into()
                }),
        })
    }

    fn set_about(self: &Arc<Self>, job: Job) {
        let this = Arc::clone(self);
        let work = crate::trace::carried(async move {
            let stopping = this.tasks.stopping();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.do_job(job) => {}
            }
        });
        self.tasks.spawn("job", work);
    }

    async fn do_job(self: &Arc<Self>, job: Job) {
        let Ok(_turn) = self.job_turns.acquire().await else {
            return;
        };
        if job.end.is_none() {
            let end = match self.run_job(&job).await {
                Ok(step) => JobEnd {
                    step: Some(step),
                    problem: None,
                },
                Err(problem) => {
                    info!(job = %job.id, code = %problem.code, "job could not be run");
                    JobEnd {
                        step: None,
                        problem: Some(problem),
                    }
                }
            };
            let mut pause = AGAIN.0;
            while let Err(error) = self.store.finish_job(job.id, end.clone()).await {
                warn!(job = %job.id, error = &error as &dyn std::error::Error, "end not recorded");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
            }
            self.job_ends.send_modify(|count| *count += 1);
        }
        let mut pause = AGAIN.0;
        loop {
            match self.delete_session(job.session_id, true).await {
                Err(problem) if problem.code != ProblemCode::SessionNotFound.as_str() => {
                    warn!(job = %job.id, message = %problem.message, "session not removed yet");
                }
                _ => match self.store.job_cleaned(job.id).await {
                    Ok(()) => return,
                    Err(error) => {
                        warn!(job = %job.id, error = &error as &dyn std::error::Error, "not noted");
                    }
                },
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// Runs a job's code, or finds out what came of it.
    async fn run_job(self: &Arc<Self>, job: &Job) -> Outcome<AgentStep> {
        let session = NewSession {
            id: job.session_id,
            agent_id: job.agent_id,
            session_type: "job".to_owned(),
            context: JsonObject::empty(),
            runtime_backend: None,
            runtime_metadata: job.metadata.clone(),
            name: None,
            runtime: job.runtime,
            workspace: self
                .runtimes
                .workspace(job.session_id, WorkspaceRequest::Scratch)?,
            ttl_seconds: None,
            sliding: false,
        };
        match self.store.create_session(session).await {
            // Made by the server before.
            Ok(_) | Err(StoreError::IdTaken(_)) => {}
            Err(error) => return Err(store_problem(error)),
        }
        let mut pause = AGAIN.0;
        loop {
            let submission = Submission {
                step: SubmitStep {
                    code: job.code.clone(),
                    step_id: Some(job.step_id),
                    timeout_ms: job.timeout_ms,
                    stdin: job.stdin.clone(),
                },
                key: None,
                caller: Caller::Waits,
            };
            let ended = match self.submit(job.session_id, submission).await {
                Ok(submitted) => self.ended(submitted).await,
                Err(problem) => Err(problem),
            };
            match ended {
                Ok(step) if step.status.is_terminal() => return Ok(step.into()),
                // Nobody can say yet; the same step again is no other execution.
                Ok(_) => {}
                Err(problem) if problem.retryable || is_uncertain(&problem) => {}
                Err(problem) => return Err(problem),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

/// Whether the step may be under way all the same.
fn is_uncertain(problem: &Problem) -> bool {
    problem.code == ProblemCode::RuntimeUnreachable.as_str()
        && problem
            .details
            .as_ref()
            .is_some_and(|details| details["sent"] == true)
}
