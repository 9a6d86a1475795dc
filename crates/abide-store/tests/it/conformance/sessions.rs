//! Sessions.

use abide_model::{
    AgentId, JsonObject, NewSession, Runtime, RuntimeBackend, Session, SessionChanges,
    SessionFilter, SessionId, SessionStatus, Workspace, WorkspaceKind,
};
use abide_store::{Accepted, Created, RequestKey, Store, StoreError};
use serde_json::json;

use crate::fixtures::{
    self, check_event, last_event, log, new_session, new_step, new_worker, owner, session,
};

pub(crate) async fn create_answers_the_record(store: &Store) {
    let agent = owner(store).await;
    let new = NewSession {
        session_type: "task".to_owned(),
        runtime_backend: Some(RuntimeBackend::Local),
        runtime_metadata: fixtures::json(json!({"pid": 7})),
        runtime: Runtime::Node,
        workspace: Workspace {
            kind: WorkspaceKind::Directory,
            path: "/srv/ü".to_owned(),
        },
        ..new_session(agent.id)
    };
    let session = store.create_session(new.clone()).await.unwrap();
    let expected = Session {
        id: new.id,
        agent_id: agent.id,
        session_type: "task".to_owned(),
        status: SessionStatus::Active,
        context: JsonObject::empty(),
        checkpoint: None,
        runtime_backend: Some(RuntimeBackend::Local),
        runtime_metadata: new.runtime_metadata,
        created_at: session.created_at,
        updated_at: session.created_at,
        name: None,
        runtime: Runtime::Node,
        workspace: new.workspace,
        ttl_seconds: None,
        sliding: false,
        expires_at: None,
        version: 1,
    };
    assert_eq!(session, expected);
    assert_eq!(store.session(new.id).await.unwrap(), Some(expected));
    assert_eq!(store.session(SessionId::new()).await.unwrap(), None);
    let payload = json!({"agent_id": agent.id, "session_type": "task", "runtime_backend": "local"});
    let event = last_event(store).await;
    check_event(&event, "session.created", ("session", new.id.0), payload);
    assert_eq!(event.created_at, session.created_at);
    assert_eq!(event.metadata, JsonObject::empty());

    let plain = store.create_session(new_session(agent.id)).await.unwrap();
    let payload =
        json!({"agent_id": agent.id, "session_type": "conversation", "runtime_backend": null});
    check_event(
        &last_event(store).await,
        "session.created",
        ("session", plain.id.0),
        payload,
    );
}

pub(crate) async fn conflicts_are_named(store: &Store) {
    let stranger = AgentId::new();
    let error = store
        .create_session(new_session(stranger))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::AgentMissing(id) if id == stranger),
        "{error}"
    );

    let agent = owner(store).await;
    let demo = NewSession {
        name: Some("demo".to_owned()),
        ..new_session(agent.id)
    };
    let first = store.create_session(demo.clone()).await.unwrap();
    let error = store.create_session(demo.clone()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::IdTaken(id) if id == first.id.0),
        "{error}"
    );
    let error = store
        .create_session(NewSession {
            id: SessionId::new(),
            ..demo
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::NameTaken { name, existing }
            if name == "demo" && *existing == first.id),
        "{error}"
    );
    assert_eq!(store.count_sessions().await.unwrap(), 1);
}

pub(crate) async fn json_comes_back_to_the_letter(store: &Store) {
    let text = r#"{"b": 1.10,  "a": 123456789012345678901234567890, "a":"\u0000é\ud83d", "z":{}}"#;
    let exact = JsonObject::from_text(text.to_owned()).unwrap();
    let agent = owner(store).await;
    let new = NewSession {
        context: exact.clone(),
        ..new_session(agent.id)
    };
    let id = store.create_session(new).await.unwrap().id;
    let changes = SessionChanges {
        checkpoint: Some(exact),
        ..SessionChanges::default()
    };
    store.update_session(id, changes).await.unwrap();
    let session = store.session(id).await.unwrap().unwrap();
    assert_eq!(session.context.as_str(), text);
    assert_eq!(session.checkpoint.unwrap().as_str(), text);
}

pub(crate) async fn expiry_follows_ttl(store: &Store) {
    let agent = owner(store).await;
    let new = NewSession {
        ttl_seconds: Some(90),
        ..new_session(agent.id)
    };
    let session = store.create_session(new).await.unwrap();
    assert_eq!(
        session.expires_at,
        Some(session.created_at.plus_seconds(90))
    );
    assert_eq!(store.session(session.id).await.unwrap(), Some(session));
}

pub(crate) async fn renewal_and_expiry_exclude_each_other(store: &Store) {
    let agent = owner(store).await;
    let with = |ttl, sliding| NewSession {
        ttl_seconds: ttl,
        sliding,
        ..new_session(agent.id)
    };
    let fixed = store.create_session(with(Some(60), false)).await.unwrap();
    let slides = store.create_session(with(Some(90), true)).await.unwrap();
    store.create_session(with(None, false)).await.unwrap();
    assert_eq!(store.next_session_expiry().await.unwrap(), fixed.expires_at);

    let soon = fixed.created_at.plus_seconds(50);
    assert!(!store.renew_session(fixed.id, soon).await.unwrap());
    assert!(store.renew_session(slides.id, soon).await.unwrap());
    let renewed = store.session(slides.id).await.unwrap().unwrap();
    assert_eq!(renewed.expires_at, Some(soon.plus_seconds(90)));
    assert_eq!(
        renewed.version, slides.version,
        "not a change of the record"
    );
    // Never back.
    assert!(
        store
            .renew_session(slides.id, fixed.created_at)
            .await
            .unwrap()
    );
    let again = store.session(slides.id).await.unwrap().unwrap();
    assert_eq!(again.expires_at, renewed.expires_at);

    let later = fixed.created_at.plus_seconds(100);
    let overdue = store.overdue_sessions(later, 10).await.unwrap();
    assert_eq!(
        overdue,
        std::slice::from_ref(&fixed),
        "the other was renewed"
    );
    assert!(!store.expire_session(slides.id, later).await.unwrap());
    assert!(store.expire_session(fixed.id, later).await.unwrap());
    assert!(
        !store.expire_session(fixed.id, later).await.unwrap(),
        "once"
    );
    let expired = store.session(fixed.id).await.unwrap().unwrap();
    assert_eq!(
        (expired.status, expired.version, expired.updated_at),
        (SessionStatus::Completed, fixed.version + 1, later)
    );
    let payload = json!({ "agent_id": agent.id, "status": "completed" });
    check_event(
        &last_event(store).await,
        "session.expired",
        ("session", fixed.id.0),
        payload,
    );
    let much_later = later.plus_seconds(1000);
    assert!(store.extend_session(slides.id, much_later).await.unwrap());
    assert_eq!(store.overdue_sessions(much_later, 10).await.unwrap(), []);
    let at_last = much_later.plus_seconds(90);
    assert!(store.expire_session(slides.id, at_last).await.unwrap());
    assert!(!store.renew_session(slides.id, at_last).await.unwrap());
    assert!(!store.extend_session(slides.id, at_last).await.unwrap());
    assert_eq!(store.next_session_expiry().await.unwrap(), None);
}

pub(crate) async fn names_address_sessions(store: &Store) {
    let agent = owner(store).await;
    let new = NewSession {
        name: Some("demo".to_owned()),
        ..new_session(agent.id)
    };
    let session = store.create_session(new.clone()).await.unwrap();
    assert_eq!(
        store.session_by_name("demo").await.unwrap(),
        Some(session.clone())
    );
    assert_eq!(store.session_by_name("Demo").await.unwrap(), None);
    store.delete_session(session.id).await.unwrap();
    assert_eq!(store.session_by_name("demo").await.unwrap(), None);
    let again = store
        .create_session(NewSession {
            id: SessionId::new(),
            ..new
        })
        .await
        .unwrap();
    assert_eq!(store.session_by_name("demo").await.unwrap(), Some(again));
}

pub(crate) async fn lists_filter_and_page(store: &Store) {
    use SessionStatus::{Active, Completed, Crashed, Paused};
    let agents = [owner(store).await.id, owner(store).await.id];
    let mut all = Vec::new();
    for n in 0..12_usize {
        let name = (n == 5).then(|| "five".to_owned());
        let new = NewSession {
            name,
            ..new_session(agents[n % 2])
        };
        let id = store.create_session(new).await.unwrap().id;
        let status = SessionStatus::ALL[n / 2 % 4];
        let changes = SessionChanges {
            status: Some(status),
            ..SessionChanges::default()
        };
        all.insert(0, store.update_session(id, changes).await.unwrap().unwrap());
    }
    let check = async |filter: SessionFilter| {
        let expected: Vec<_> = all
            .iter()
            .filter(|s| filter.agent_id.is_none_or(|id| s.agent_id == id))
            .filter(|s| filter.statuses.is_empty() || filter.statuses.contains(&s.status))
            .filter(|s| filter.name.is_none() || s.name == filter.name)
            .filter(|s| {
                filter
                    .after
                    .is_none_or(|after| (s.created_at, s.id) < after)
            })
            .take(usize::try_from(filter.limit).unwrap())
            .cloned()
            .collect();
        assert_eq!(
            store.sessions(&filter).await.unwrap(),
            expected,
            "{filter:?}"
        );
        expected.len()
    };
    let mut shown = 0;
    for agent_id in [None, Some(agents[0]), Some(agents[1]), Some(AgentId::new())] {
        for statuses in [
            vec![],
            vec![Active],
            vec![Crashed],
            vec![Paused, Active],
            vec![Completed, Crashed, Paused],
            SessionStatus::ALL.to_vec(),
        ] {
            for name in [None, Some("five"), Some("six")] {
                for after in [None, Some(3), Some(11)] {
                    for limit in [0, 2, 100] {
                        shown += check(SessionFilter {
                            agent_id,
                            statuses: statuses.clone(),
                            name: name.map(str::to_owned),
                            after: after.map(|n: usize| (all[n].created_at, all[n].id)),
                            limit,
                        })
                        .await;
                    }
                }
            }
        }
    }
    assert!(
        shown > 100,
        "the filters should let something through: {shown}"
    );
}

pub(crate) async fn update_replaces_what_is_given(store: &Store) {
    let before = session(store).await;
    let about = ("session", before.id.0);
    let changes = SessionChanges {
        status: Some(SessionStatus::Paused),
        context: Some(fixtures::json(json!({"step": 1}))),
        ..SessionChanges::default()
    };
    let after = store
        .update_session(before.id, changes)
        .await
        .unwrap()
        .unwrap();
    let expected = Session {
        status: SessionStatus::Paused,
        context: fixtures::json(json!({"step": 1})),
        updated_at: after.updated_at,
        version: 2,
        ..before.clone()
    };
    assert_eq!(after, expected);
    assert!(after.updated_at > before.updated_at);
    assert_eq!(store.session(before.id).await.unwrap(), Some(after));
    let payload =
        json!({"agent_id": before.agent_id, "status": "paused", "updates": ["status", "context"]});
    check_event(&last_event(store).await, "session.updated", about, payload);

    // The same again, with every field: still a change.
    let changes = SessionChanges {
        status: Some(SessionStatus::Paused),
        context: Some(fixtures::json(json!({"step": 1}))),
        checkpoint: Some(fixtures::json(json!({"n": [1, 2]}))),
        runtime_metadata: Some(fixtures::json(json!({"host": "h"}))),
        reason: Some("because".to_owned()),
        ..SessionChanges::default()
    };
    let after = store
        .update_session(before.id, changes)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(after.version, 3);
    assert_eq!(after.checkpoint, Some(fixtures::json(json!({"n": [1, 2]}))));
    assert_eq!(after.runtime_metadata, fixtures::json(json!({"host": "h"})));
    assert_eq!(store.session(before.id).await.unwrap(), Some(after.clone()));
    let event = last_event(store).await;
    assert_eq!(event.created_at, after.updated_at);
    assert_eq!(event.metadata.to_value(), json!({"reason": "because"}));

    // Each field alone leaves the others.
    let alone = SessionChanges {
        runtime_metadata: Some(JsonObject::empty()),
        ..SessionChanges::default()
    };
    store.update_session(before.id, alone).await.unwrap();
    let alone = SessionChanges {
        checkpoint: Some(JsonObject::empty()),
        ..SessionChanges::default()
    };
    store.update_session(before.id, alone).await.unwrap();
    let last = store.session(before.id).await.unwrap().unwrap();
    assert_eq!((last.context, last.version), (after.context, 5));
    assert_eq!(last.checkpoint, Some(JsonObject::empty()));
    assert_eq!(last.runtime_metadata, JsonObject::empty());
    assert_eq!(last.status, SessionStatus::Paused);

    let changes = SessionChanges {
        status: Some(SessionStatus::Active),
        ..SessionChanges::default()
    };
    assert_eq!(
        store
            .update_session(SessionId::new(), changes)
            .await
            .unwrap(),
        None
    );
}

pub(crate) async fn update_names_what_the_request_named(store: &Store) {
    let session = session(store).await;
    let changes = SessionChanges {
        checkpoint: Some(JsonObject::empty()),
        named: vec!["status", "checkpoint"],
        ..SessionChanges::default()
    };
    store.update_session(session.id, changes).await.unwrap();
    let updates = last_event(store).await.payload.to_value()["updates"].clone();
    assert_eq!(updates, json!(["status", "checkpoint"]));
}

pub(crate) async fn empty_update_changes_nothing(store: &Store) {
    let session = session(store).await;
    let events = log(store).await.len();
    let changes = SessionChanges {
        named: vec!["status"],
        ..SessionChanges::default()
    };
    let answer = store
        .update_session(session.id, changes.clone())
        .await
        .unwrap();
    assert_eq!(answer, Some(session));
    assert_eq!(
        store
            .update_session(SessionId::new(), changes)
            .await
            .unwrap(),
        None
    );
    assert_eq!(log(store).await.len(), events);
}

pub(crate) async fn delete_takes_steps_and_workers(store: &Store) {
    let session = session(store).await;
    let step = new_step(session.id);
    assert!(matches!(
        store.accept_step(step.clone()).await,
        Ok(Accepted::New(_))
    ));
    let worker = store.assign_worker(new_worker(session.id)).await.unwrap();
    let deleted = store.delete_session(session.id).await.unwrap();
    assert_eq!(deleted, Some(session.clone()));
    assert_eq!(store.session(session.id).await.unwrap(), None);
    assert_eq!(store.step(session.id, step.id).await.unwrap(), None);
    assert_eq!(store.worker(worker.id).await.unwrap(), None);
    assert_eq!(store.running_workers().await.unwrap(), []);
    assert!(store.unfinished_steps(None).await.unwrap().is_empty());
    let payload = json!({"agent_id": session.agent_id, "status": "active"});
    let about = ("session", session.id.0);
    check_event(&last_event(store).await, "session.deleted", about, payload);
    let events = log(store).await;
    assert_eq!(events.len(), 5, "the history stays: {events:?}");
    assert_eq!(store.delete_session(session.id).await.unwrap(), None);
    assert_eq!(log(store).await.len(), 5);
}

pub(crate) async fn idempotency_key_creates_once(store: &Store) {
    let agent = owner(store).await;
    let request = |key: &str, fingerprint: &str| RequestKey {
        key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
    };
    let create = async |key, fingerprint| {
        let new = new_session(agent.id);
        store
            .create_session_idempotent(request(key, fingerprint), new)
            .await
    };
    let Ok(Created::New(first)) = create("k", "f").await else {
        panic!("should be new")
    };
    assert_eq!(
        create("k", "f").await.unwrap(),
        Created::Existing(first.clone())
    );
    let error = create("k", "g").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::RequestKeyReused(key) if key == "k"),
        "{error}"
    );
    assert!(matches!(create("l", "f").await, Ok(Created::New(_))));
    assert_eq!(store.count_sessions().await.unwrap(), 2);

    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, new, request) = (store.clone(), new_session(agent.id), request("r", "f"));
        racers.spawn(async move {
            match store.create_session_idempotent(request, new).await.unwrap() {
                Created::New(session) => (1, session.id),
                Created::Existing(session) => (0, session.id),
            }
        });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().map(|(new, _)| new).sum::<u32>(), 1);
    assert!(answers.iter().all(|(_, id)| *id == answers[0].1));

    // The key is as durable as what it made, and no more.
    store.delete_session(first.id).await.unwrap();
    assert!(matches!(create("k", "g").await, Ok(Created::New(_))));
}

pub(crate) async fn count_follows(store: &Store) {
    let agent = owner(store).await;
    assert_eq!(store.count_sessions().await.unwrap(), 0);
    let id = store
        .create_session(new_session(agent.id))
        .await
        .unwrap()
        .id;
    store.create_session(new_session(agent.id)).await.unwrap();
    assert_eq!(store.count_sessions().await.unwrap(), 2);
    let again = NewSession {
        id,
        ..new_session(agent.id)
    };
    store.create_session(again).await.unwrap_err();
    store.delete_session(id).await.unwrap();
    store.delete_session(id).await.unwrap();
    assert_eq!(store.count_sessions().await.unwrap(), 1);
}
