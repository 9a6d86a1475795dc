//! Stores to test and records to put into them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use abide_model::{
    Agent, AgentId, Event, JsonObject, NewAgent, NewSession, NewStep, NewWorker, OutputView,
    Runtime, Session, SessionId, StepId, StepOutcome, StepStatus, Timestamp, WorkerId, Workspace,
    WorkspaceKind,
};
use abide_store::{EventFilter, Store, StoreError, StoreOptions};
use serde_json::Value;
use tempfile::TempDir;

/// A store in a directory of its own, whose clock moves by one microsecond with every look, so
/// that order by time is certain.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: StoreOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abide.db");
        let store = Store::open(&path, options).unwrap();
        Self {
            store,
            path,
            _directory: directory,
        }
    }
}

/// Options with the ticking clock.
pub(crate) fn options() -> StoreOptions {
    let ticks = AtomicI64::new(1_795_000_000_000_000);
    let clock = move || Timestamp::from_micros(ticks.fetch_add(1, Ordering::Relaxed));
    StoreOptions {
        clock: Arc::new(clock),
        ..StoreOptions::default()
    }
}

pub(crate) fn json(value: Value) -> JsonObject {
    JsonObject::from_value(&value).unwrap()
}

pub(crate) fn new_agent(name: &str) -> NewAgent {
    let id = AgentId::new();
    NewAgent {
        id,
        did: format!("did:agent:{name}:{id}"),
        name: name.to_owned(),
        agent_type: "general".to_owned(),
        configuration: JsonObject::empty(),
        metadata: JsonObject::empty(),
        resource_limits: JsonObject::empty(),
    }
}

pub(crate) fn new_session(agent_id: AgentId) -> NewSession {
    NewSession {
        id: SessionId::new(),
        agent_id,
        session_type: "conversation".to_owned(),
        context: JsonObject::empty(),
        runtime_backend: None,
        runtime_metadata: JsonObject::empty(),
        name: None,
        runtime: Runtime::Python,
        workspace: Workspace {
            kind: WorkspaceKind::Scratch,
            path: "/tmp/somewhere".to_owned(),
        },
        ttl_seconds: None,
        sliding: false,
    }
}

pub(crate) fn new_step(session_id: SessionId) -> NewStep {
    NewStep {
        id: StepId::new(),
        session_id,
        code: "x + 1".to_owned(),
        stdin: None,
        timeout_ms: None,
        created_at: Timestamp::from_micros(1_000),
        sequence: None,
    }
}

/// Who ran the steps.
pub(crate) const WORKER: WorkerId = WorkerId(uuid::Uuid::from_u128(
    0x0192_4f5c_77aa_7bbb_8ccc_1234_5678_9abc,
));

pub(crate) fn outcome(id: StepId, status: StepStatus) -> StepOutcome {
    StepOutcome {
        id,
        status,
        stdout: OutputView::default(),
        stderr: OutputView::default(),
        result: None,
        error: None,
        exit: None,
        started_at: Some(Timestamp::from_micros(2_000)),
        finished_at: Timestamp::from_micros(4_500),
        output_start: 0,
        output_end: 0,
        worker: Some(WORKER),
    }
}

/// Records an outcome, believing by turns that the step was accepted and that it was not; whether
/// it was the first of its step.
pub(crate) async fn finish(
    store: &Store,
    session_id: SessionId,
    outcome: StepOutcome,
) -> Result<bool, StoreError> {
    let step = NewStep {
        id: outcome.id,
        ..new_step(session_id)
    };
    static TURN: AtomicI64 = AtomicI64::new(0);
    let accepted = TURN.fetch_add(1, Ordering::Relaxed) % 2 == 0;
    let finished = store
        .finish_step(Arc::new(step), Arc::new(outcome), accepted)
        .await?;
    Ok(finished.first)
}

pub(crate) fn new_worker(session_id: SessionId) -> NewWorker {
    NewWorker::interpreter(WorkerId::new(), session_id, Runtime::Python)
}

/// An agent to own sessions.
pub(crate) async fn owner(store: &Store) -> Agent {
    store.create_agent(new_agent("owner")).await.unwrap()
}

/// A session with an owner.
pub(crate) async fn session(store: &Store) -> Session {
    let agent = owner(store).await;
    store.create_session(new_session(agent.id)).await.unwrap()
}

/// Every event, oldest first.
pub(crate) async fn log(store: &Store) -> Vec<Event> {
    store
        .events_after(0, &EventFilter::default(), i64::MAX)
        .await
        .unwrap()
}

/// The newest event.
pub(crate) async fn last_event(store: &Store) -> Event {
    store
        .events(&EventFilter::default(), 1, 0)
        .await
        .unwrap()
        .remove(0)
}

/// An event of Abide's own, as far as it can be told beforehand.
#[track_caller]
pub(crate) fn check_event(event: &Event, kind: &str, about: (&str, uuid::Uuid), payload: Value) {
    assert_eq!(event.event_type, kind);
    assert_eq!((event.aggregate_type.as_str(), event.aggregate_id), about);
    assert_eq!(event.payload.to_value(), payload);
    assert_eq!(event.version, 1);
}
