//! Workers.

use abide_model::{
    Exit, NewWorker, Session, SessionChanges, SessionId, SessionStatus, SizePolicy,
    TerminalChanges, TerminalSpec, Worker, WorkerId, WorkerKind, WorkerState,
};
use abide_store::{Store, StoreError};
use serde_json::json;

use crate::fixtures::{check_event, last_event, log, new_worker, session};

fn killed() -> Exit {
    Exit {
        code: None,
        signal: Some(9),
        reason: "killed by signal 9".to_owned(),
    }
}

pub(crate) async fn a_terminal_is_no_interpreter(store: &Store) {
    let session = session(store).await;
    let interpreter = store.assign_worker(new_worker(session.id)).await.unwrap();
    let spec = TerminalSpec {
        name: Some("build".to_owned()),
        command: vec!["make".to_owned(), "all".to_owned()],
        cols: Some(120),
        ..TerminalSpec::default()
    };
    let new = NewWorker::terminal(WorkerId::new(), session.id, spec.clone());
    let terminal = store.assign_worker(new.clone()).await.unwrap();
    let found = (terminal.kind, terminal.runtime, terminal.generation);
    assert_eq!(found, (WorkerKind::Terminal, None, 1));
    assert_eq!(terminal.terminal, Some(spec));
    let payload = json!({"worker_id": new.id, "kind": "terminal", "generation": 1});
    let about = ("session", session.id.0);
    check_event(&last_event(store).await, "worker.started", about, payload);
    assert_eq!(store.worker(new.id).await.unwrap(), Some(terminal));
    // The session's interpreter is the one that it was, and stays so when the terminal ends.
    assert!(store.worker_exited(new.id, killed()).await.unwrap());
    let current = store.current_worker(session.id).await.unwrap();
    assert_eq!(current, Some(interpreter));
    assert_eq!(status(store, &session).await, SessionStatus::Active);
}

pub(crate) async fn a_terminal_changes(store: &Store) {
    let session = session(store).await;
    let interpreter = store.assign_worker(new_worker(session.id)).await.unwrap();
    let spec = TerminalSpec {
        name: Some("build".to_owned()),
        ..TerminalSpec::default()
    };
    let new = NewWorker::terminal(WorkerId::new(), session.id, spec.clone());
    let before = store.assign_worker(new.clone()).await.unwrap();
    let changes = TerminalChanges {
        name: Some("tests".to_owned()),
        size_policy: Some(SizePolicy::Owner),
    };
    let after = store.update_terminal(new.id, changes.clone()).await;
    let after = after.unwrap().unwrap();
    let expected = TerminalSpec {
        name: changes.name.clone(),
        size_policy: changes.size_policy,
        ..spec
    };
    assert_eq!(after.terminal, Some(expected.clone()));
    assert_eq!(after.state, before.state);
    assert_eq!(store.worker(new.id).await.unwrap(), Some(after.clone()));
    let updates = json!({"name": "tests", "size_policy": "owner"});
    let payload = json!({"worker_id": new.id, "updates": updates});
    let about = ("session", session.id.0);
    let event = last_event(store).await;
    check_event(&event, "worker.updated", about, payload);
    // What changes nothing is told nobody; an interpreter has nothing to be changed.
    for changes in [TerminalChanges::default(), changes.clone()] {
        let same = store.update_terminal(new.id, changes).await.unwrap();
        assert_eq!(same, Some(after.clone()));
    }
    let none = store.update_terminal(interpreter.id, changes.clone()).await;
    assert_eq!(none.unwrap(), None);
    let none = store.update_terminal(WorkerId::new(), changes).await;
    assert_eq!(none.unwrap(), None);
    assert_eq!(last_event(store).await, event);
    // Also of one that has ended; an empty name is none.
    assert_eq!(store.ended_terminals().await.unwrap(), []);
    store.worker_exited(new.id, killed()).await.unwrap();
    let nameless = TerminalChanges {
        name: Some(String::new()),
        size_policy: None,
    };
    let ended = store.update_terminal(new.id, nameless).await.unwrap();
    let ended = ended.unwrap();
    let expected = TerminalSpec {
        name: None,
        ..expected
    };
    assert_eq!(ended.terminal, Some(expected));
    assert_eq!(store.ended_terminals().await.unwrap(), [ended]);
}

async fn status(store: &Store, session: &Session) -> SessionStatus {
    store.session(session.id).await.unwrap().unwrap().status
}

async fn set_status(store: &Store, session: &Session, status: SessionStatus) {
    let changes = SessionChanges {
        status: Some(status),
        ..SessionChanges::default()
    };
    store
        .update_session(session.id, changes)
        .await
        .unwrap()
        .unwrap();
}

pub(crate) async fn generations_grow(store: &Store) {
    let session = session(store).await;
    assert_eq!(store.current_worker(session.id).await.unwrap(), None);
    let new = new_worker(session.id);
    let first = store.assign_worker(new.clone()).await.unwrap();
    let expected = Worker {
        id: new.id,
        session_id: session.id,
        kind: WorkerKind::Interpreter,
        runtime: new.runtime,
        terminal: None,
        state: WorkerState::Running,
        generation: 1,
        exit: None,
        created_at: first.created_at,
        ended_at: None,
    };
    assert_eq!(first, expected);
    assert_eq!(store.worker(new.id).await.unwrap(), Some(expected));
    let payload =
        json!({"worker_id": new.id, "kind": "interpreter", "runtime": "python", "generation": 1});
    check_event(
        &last_event(store).await,
        "worker.started",
        ("session", session.id.0),
        payload,
    );

    let second = store.assign_worker(new_worker(session.id)).await.unwrap();
    assert_eq!(second.generation, 2);
    assert_eq!(
        store.current_worker(session.id).await.unwrap(),
        Some(second.clone())
    );
    let elsewhere = crate::fixtures::session(store).await;
    let other = store.assign_worker(new_worker(elsewhere.id)).await.unwrap();
    assert_eq!(other.generation, 1);
    assert_eq!(
        store.workers(session.id).await.unwrap(),
        [first.clone(), second.clone()]
    );
    assert_eq!(
        store.running_workers().await.unwrap(),
        [first, second, other]
    );
}

pub(crate) async fn conflicts_are_named(store: &Store) {
    let stranger = SessionId::new();
    let error = store.assign_worker(new_worker(stranger)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::SessionMissing(id) if id == stranger),
        "{error}"
    );
    let session = session(store).await;
    let new = new_worker(session.id);
    store.assign_worker(new.clone()).await.unwrap();
    let error = store.assign_worker(new.clone()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::IdTaken(id) if id == new.id.0),
        "{error}"
    );
    assert_eq!(store.workers(session.id).await.unwrap().len(), 1);
    assert_eq!(store.worker(WorkerId::new()).await.unwrap(), None);
}

pub(crate) async fn exit_is_recorded_once(store: &Store) {
    let session = session(store).await;
    let worker = store.assign_worker(new_worker(session.id)).await.unwrap();
    assert!(store.worker_exited(worker.id, killed()).await.unwrap());
    let ended = store.worker(worker.id).await.unwrap().unwrap();
    let expected = Worker {
        state: WorkerState::Exited,
        exit: Some(killed()),
        ended_at: ended.ended_at,
        ..worker.clone()
    };
    assert_eq!(ended, expected);
    assert!(ended.ended_at > Some(worker.created_at));
    assert_eq!(store.running_workers().await.unwrap(), []);
    assert_eq!(
        store.current_worker(session.id).await.unwrap(),
        Some(ended.clone())
    );
    let payload = json!({
        "worker_id": worker.id,
        "exit": {"code": null, "signal": 9, "reason": "killed by signal 9"},
    });
    check_event(
        &last_event(store).await,
        "worker.exited",
        ("session", session.id.0),
        payload,
    );
    assert_eq!(status(store, &session).await, SessionStatus::Active);

    let events = log(store).await.len();
    assert!(
        !store
            .worker_exited(worker.id, Exit::default())
            .await
            .unwrap()
    );
    assert!(
        !store
            .worker_crashed(worker.id, killed(), "late".to_owned())
            .await
            .unwrap()
    );
    assert!(
        !store
            .worker_exited(WorkerId::new(), killed())
            .await
            .unwrap()
    );
    assert_eq!(store.worker(worker.id).await.unwrap(), Some(ended));
    assert_eq!(status(store, &session).await, SessionStatus::Active);
    assert_eq!(log(store).await.len(), events);
}

pub(crate) async fn crash_marks_the_session(store: &Store) {
    let session = session(store).await;
    let worker = store.assign_worker(new_worker(session.id)).await.unwrap();
    assert!(
        store
            .worker_crashed(worker.id, killed(), "out of luck".to_owned())
            .await
            .unwrap()
    );
    let after = store.session(session.id).await.unwrap().unwrap();
    assert_eq!((after.status, after.version), (SessionStatus::Crashed, 2));
    let log = log(store).await;
    let [.., exited, updated] = &log[..] else {
        panic!("{log:?}")
    };
    assert_eq!(exited.event_type, "worker.exited");
    let payload = json!({"agent_id": session.agent_id, "status": "crashed", "updates": ["status"]});
    check_event(
        updated,
        "session.updated",
        ("session", session.id.0),
        payload,
    );
    assert_eq!(
        updated.metadata.to_value(),
        json!({"reason": "out of luck"})
    );
}

pub(crate) async fn crash_of_a_predecessor_does_not(store: &Store) {
    let session = session(store).await;
    let old = store.assign_worker(new_worker(session.id)).await.unwrap();
    store.assign_worker(new_worker(session.id)).await.unwrap();
    assert!(
        store
            .worker_crashed(old.id, killed(), "late news".to_owned())
            .await
            .unwrap()
    );
    assert_eq!(status(store, &session).await, SessionStatus::Active);
}

pub(crate) async fn crash_leaves_ended_sessions_alone(store: &Store) {
    for ended in [SessionStatus::Paused, SessionStatus::Completed] {
        let session = session(store).await;
        let worker = store.assign_worker(new_worker(session.id)).await.unwrap();
        set_status(store, &session, ended).await;
        assert!(
            store
                .worker_crashed(worker.id, killed(), "gone".to_owned())
                .await
                .unwrap()
        );
        assert_eq!(status(store, &session).await, ended);
    }
}

pub(crate) async fn restart_revives_only_the_crashed(store: &Store) {
    let session = session(store).await;
    let first = store.assign_worker(new_worker(session.id)).await.unwrap();
    store
        .worker_crashed(first.id, killed(), "gone".to_owned())
        .await
        .unwrap();
    let second = store.assign_worker(new_worker(session.id)).await.unwrap();
    assert_eq!(
        status(store, &session).await,
        SessionStatus::Crashed,
        "assigning alone does not"
    );
    let third = store.restart_worker(new_worker(session.id)).await.unwrap();
    assert_eq!((second.generation, third.generation), (2, 3));
    assert_eq!(status(store, &session).await, SessionStatus::Active);
    let log = log(store).await;
    let [.., started, updated] = &log[..] else {
        panic!("{log:?}")
    };
    assert_eq!(started.event_type, "worker.started");
    assert_eq!(updated.payload.to_value()["status"], "active");
    assert_eq!(updated.metadata.to_value(), json!({"reason": "restarted"}));

    set_status(store, &session, SessionStatus::Paused).await;
    store.restart_worker(new_worker(session.id)).await.unwrap();
    assert_eq!(status(store, &session).await, SessionStatus::Paused);
}
