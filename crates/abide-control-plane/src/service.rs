//! What the API does, independent of HTTP.

mod agents;
mod sessions;
mod steps;

use std::collections::HashMap;
use std::sync::Arc;

use abide_model::{Problem, ProblemCode, SessionId, Timestamp};
use abide_session_agent::{SessionAgent, Tasks};
use abide_store::{Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use agents::{did, new_agent};
pub(crate) use sessions::{CreateSession, OwnerRequest, WorkspaceRequest};
pub(crate) use steps::{Caller, Submission, Submitted, with_end, with_phase};

use crate::config::ControlPlaneConfig;
use crate::metrics::Metrics;
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
    pub(crate) agent: Arc<SessionAgent>,
    pub(crate) recorder: Arc<StoreRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) started_at: Timestamp,
    shutdown: watch::Sender<ShutdownRequest>,
    /// One session's interpreter is started, restarted or ended by one request at a time.
    locks: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

impl ControlPlane {
    /// Puts the parts together; serves nothing yet.
    pub fn new(
        config: ControlPlaneConfig,
        store: Store,
        agent: Arc<SessionAgent>,
        tasks: Tasks,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        Self {
            recorder: Arc::new(StoreRecorder::new(store.clone(), Arc::clone(&metrics))),
            config,
            store,
            agent,
            metrics,
            tasks,
            started_at: Timestamp::now(),
            shutdown: watch::channel(None).0,
            locks: Mutex::default(),
        }
    }

    /// Changes once when somebody asks the server to stop through the API.
    pub fn shutdown_requests(&self) -> watch::Receiver<ShutdownRequest> {
        self.shutdown.subscribe()
    }

    pub(crate) fn request_shutdown(&self, workers: WorkersAfterShutdown) {
        self.shutdown.send_replace(Some(workers));
    }

    /// Serialises starting, restarting and ending one session's interpreter.
    pub(crate) async fn lock(&self, session: SessionId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            // Entries nobody holds are dropped here, so the map stays as small as its use.
            if locks.len() > 1024 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(session).or_default())
        };
        lock.lock_owned().await
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
