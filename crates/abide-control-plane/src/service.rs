//! What the API does, independent of HTTP.

mod agents;
mod dialect;
mod jobs;
mod sessions;
mod steps;
mod terminals;

use std::sync::Arc;

use abide_data_plane::auth::Authorizer;
use abide_data_plane::client::DataPlaneClient;
use abide_model::{Problem, ProblemCode, Timestamp};
use abide_session_agent::{SessionAgent, Tasks};
use abide_store::{Store, StoreError};
use tokio::sync::{Semaphore, watch};

pub(crate) use agents::{did, new_agent};
pub(crate) use dialect::{Attachment, Dialect, Found, News, Owner, Refusal};
pub(crate) use jobs::{JobState, NewJob};
pub(crate) use sessions::{CreateSession, OwnerRequest, WorkspaceRequest};
pub(crate) use steps::{Caller, Submission, Submitted, with_end, with_phase};

use crate::config::ControlPlaneConfig;
use crate::metrics::Metrics;
use crate::runtimes::{LocalRuntimes, RemoteConfig, RemoteRuntimes, Runtimes};
use crate::store_recorder::StoreRecorder;

/// What becomes of the workers when the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkersAfterShutdown {
    /// They go on under their keepers until the next start.
    Keep,
    /// They are stopped first.
    End,
}

/// Somebody asked the server to stop.
pub type ShutdownRequest = Option<WorkersAfterShutdown>;

/// The control plane: one per process, shared by every request.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) config: ControlPlaneConfig,
    pub(crate) store: Store,
    pub(crate) runtimes: Box<dyn Runtimes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) authorizer: Authorizer,
    pub(crate) started_at: Timestamp,
    pub(crate) dialect: Dialect,
    /// Turns to run.
    job_turns: Semaphore,
    /// How many jobs ended since the start.
    job_ends: watch::Sender<u64>,
    /// Wakes who ends expired sessions: the next end may have come nearer.
    pub(crate) expiry_moved: tokio::sync::Notify,
    shutdown: watch::Sender<ShutdownRequest>,
}

impl ControlPlane {
    /// Puts the parts together, over the interpreters of this process; serves nothing yet.
    pub fn local(
        config: ControlPlaneConfig,
        store: Store,
        agent: Arc<SessionAgent>,
        tasks: Tasks,
    ) -> Self {
        let (max_live, workspaces) = (config.max_live, config.workspaces_dir.clone());
        let runtimes_tasks = tasks.clone();
        Self::over(config, store, tasks, |store, recorder| {
            let tasks = runtimes_tasks;
            Box::new(LocalRuntimes::new(
                agent, store, recorder, tasks, max_live, workspaces,
            ))
        })
    }

    /// The same over the sessions of a data plane.
    pub fn remote(
        config: ControlPlaneConfig,
        store: Store,
        client: DataPlaneClient,
        tasks: Tasks,
    ) -> Self {
        let queue_length = config.queue_length;
        let runtimes_tasks = tasks.clone();
        Self::over(config, store, tasks, |store, recorder| {
            Box::new(RemoteRuntimes::new(
                client,
                RemoteConfig {
                    store,
                    recorder,
                    tasks: runtimes_tasks,
                    queue_length,
                },
            ))
        })
    }

    fn over(
        config: ControlPlaneConfig,
        store: Store,
        tasks: Tasks,
        runtimes: impl FnOnce(Store, Arc<StoreRecorder>) -> Box<dyn Runtimes>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let recorder = Arc::new(StoreRecorder::new(store.clone(), Arc::clone(&metrics)));
        Self {
            runtimes: runtimes(store.clone(), recorder),
            authorizer: Authorizer::new(&config.auth),
            store,
            metrics,
            tasks,
            started_at: Timestamp::now(),
            dialect: Dialect::new(config.dialect.clone()),
            config,
            job_turns: Semaphore::new(jobs::AT_ONCE),
            job_ends: watch::channel(0).0,
            expiry_moved: tokio::sync::Notify::new(),
            shutdown: watch::channel(None).0,
        }
    }

    /// Takes over what the records say was left by the process before. Call it once, before
    /// serving.
    pub async fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        self.runtimes.recover().await?;
        self.recover_dialect().await?;
        self.resume_jobs().await
    }

    /// Changes once when somebody asks the server to stop through the API.
    pub fn shutdown_requests(&self) -> watch::Receiver<ShutdownRequest> {
        self.shutdown.subscribe()
    }

    pub(crate) fn request_shutdown(&self, workers: WorkersAfterShutdown) {
        self.shutdown.send_replace(Some(workers));
    }
}

/// An answer that is a [`Problem`].
pub(crate) type Outcome<T> = Result<T, Problem>;

/// What the store refused or failed at, as the API says it.
pub(crate) fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::AgentMissing(_) => agent_not_found(),
        StoreError::AgentInUse(_) => Problem::new(
            ProblemCode::AgentInUse,
            "the agent owns sessions; delete those first (DELETE /sessions/{id})",
        ),
        StoreError::SessionMissing(_) => session_not_found(),
        StoreError::IdTaken(id) => {
            Problem::new(ProblemCode::SessionExists, format!("the id {id} is taken"))
                .with_details(serde_json::json!({ "session_id": id }))
        }
        StoreError::NameTaken { name, existing } => Problem::new(
            ProblemCode::SessionExists,
            format!("a session named {name:?} exists already"),
        )
        .with_details(serde_json::json!({ "session_id": existing })),
        StoreError::StepElsewhere(_) => Problem::new(
            ProblemCode::IdempotencyConflict,
            "this step id belongs to another session; choose a fresh one",
        ),
        StoreError::RequestKeyReused(_) => Problem::new(
            ProblemCode::IdempotencyConflict,
            "this Idempotency-Key was used for a different request; choose a fresh one",
        ),
        StoreError::SessionLimit(limit) => Problem::new(
            ProblemCode::LimitReached,
            format!("{limit} sessions exist, which is the limit (max_sessions); delete some"),
        ),
        StoreError::Busy { .. } => Problem::new(
            ProblemCode::DatabaseUnavailable,
            "the database is busy; try again",
        ),
        StoreError::Full { .. } => Problem::new(
            ProblemCode::StorageFull,
            "the disk is full: nothing was stored; free some space and try again",
        ),
        StoreError::Closed { .. } => Problem::new(
            ProblemCode::ShuttingDown,
            "the server is stopping; try again",
        ),
        StoreError::DidTaken(_) | StoreError::NotTerminal(..) | StoreError::Database { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "store");
            Problem::new(
                ProblemCode::DatabaseUnavailable,
                "the database refused the change; the server's log says why",
            )
        }
    }
}

pub(crate) fn agent_not_found() -> Problem {
    Problem::new(ProblemCode::AgentNotFound, "Agent not found")
}

pub(crate) fn session_not_found() -> Problem {
    Problem::new(ProblemCode::SessionNotFound, "Session not found")
}
