//! Many callers, one writer.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::task::{Context, Waker};

use abide_model::{AgentId, NewSession, SessionChanges, SessionId, SessionStatus};
use abide_store::{Created, Inserted, RequestKey, Store, StoreError, StoreOptions};
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::conformance::routes::new_route;
use crate::fixtures::{TestStore, log, new_session, options, owner};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creates_are_all_there() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let (store, new) = (test.store.clone(), new_session(agent.id));
        callers.spawn(async move {
            let session = store.create_session(new).await.unwrap();
            // Answered means readable, at once and by anyone.
            assert_eq!(
                store.session(session.id).await.unwrap(),
                Some(session.clone())
            );
            session.id
        });
    }
    let ids: HashSet<SessionId> = callers.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 200);
    assert_eq!(test.store.count_sessions().await.unwrap(), 200);
    let log = log(&test.store).await;
    assert!(log.iter().map(|event| event.sequence).eq(1..=201));
    let created: HashSet<_> = log[1..]
        .iter()
        .map(|event| SessionId(event.aggregate_id))
        .collect();
    assert_eq!(created, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_event_of_a_session_tells_its_state() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let mut callers = JoinSet::new();
    for _ in 0..25 {
        let session = test
            .store
            .create_session(new_session(agent.id))
            .await
            .unwrap();
        for n in 0..8 {
            let (store, id) = (test.store.clone(), session.id);
            let status = Some(SessionStatus::ALL[n % 4]);
            callers.spawn(async move {
                let changes = SessionChanges {
                    status,
                    ..SessionChanges::default()
                };
                store.update_session(id, changes).await.unwrap();
            });
        }
    }
    callers.join_all().await;
    let mut last = BTreeMap::new();
    let mut updates = BTreeMap::<_, i64>::new();
    for event in log(&test.store).await {
        if event.event_type == "session.updated" {
            last.insert(
                event.aggregate_id,
                event.payload.to_value()["status"].clone(),
            );
            *updates.entry(event.aggregate_id).or_default() += 1;
        }
    }
    assert_eq!(last.len(), 25);
    for (id, status) in last {
        let session = test.store.session(SessionId(id)).await.unwrap().unwrap();
        assert_eq!(status, session.status.as_str());
        assert_eq!(session.version, 1 + updates[&id]);
    }
}

#[tokio::test]
async fn a_refused_change_undoes_itself_only() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let mut callers = JoinSet::new();
    for n in 0..100 {
        let owner = if n % 2 == 0 { agent.id } else { AgentId::new() };
        let name = Some(format!("s{}", n % 50));
        let (store, new) = (
            test.store.clone(),
            NewSession {
                name,
                ..new_session(owner)
            },
        );
        callers.spawn(async move { store.create_session(new).await });
    }
    let answers = callers.join_all().await;
    let granted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(granted, 25);
    assert_eq!(test.store.count_sessions().await.unwrap(), 25);
    assert_eq!(log(&test.store).await.len(), 1 + 25);
}

#[tokio::test]
async fn a_caller_who_leaves_loses_only_the_answer() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let new = new_session(agent.id);
    let id = new.id;
    {
        let mut call = pin!(test.store.create_session(new));
        let begun = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(begun);
    }
    // Passes through the writer after it.
    test.store.check().await.unwrap();
    assert!(test.store.session(id).await.unwrap().is_some());
}

#[tokio::test]
async fn close_commits_what_came_before_and_ends_the_rest() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let mut waiting = JoinSet::new();
    for _ in 0..50 {
        let (store, new) = (test.store.clone(), new_session(agent.id));
        waiting.spawn(async move { store.create_session(new).await });
    }
    // On this single-threaded runtime each caller has asked before `close` does.
    tokio::task::yield_now().await;
    test.store.close().await;
    assert!(waiting.join_all().await.iter().all(Result::is_ok));

    let refused = test
        .store
        .create_session(new_session(agent.id))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Closed { .. }), "{refused}");
    let refused = test.store.session(SessionId::new()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Closed { .. }), "{refused}");
    test.store.check().await.unwrap_err();
    test.store.close().await;

    let again = Store::open(&test.path, crate::fixtures::options()).unwrap();
    assert_eq!(again.count_sessions().await.unwrap(), 50);
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let test = TestStore::new();
    // Another program holds the database, so the writer waits.
    let other = Connection::open(&test.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut call = Box::pin(test.store.check());
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Pending => waiting.push(call),
            std::task::Poll::Ready(answer) => break answer,
        }
    };
    assert!(
        matches!(refused, Err(StoreError::Busy { .. })),
        "{refused:?}"
    );
    assert!(waiting.len() > 1_000);
    // Reads go on meanwhile.
    assert_eq!(test.store.session(SessionId::new()).await.unwrap(), None);
    other.execute_batch("COMMIT").unwrap();
    for call in waiting {
        call.await.unwrap();
    }
    test.store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_programs_give_a_session_one_route() {
    let test = TestStore::new();
    let second = Store::open(&test.path, options()).unwrap();
    for session in 0..20 {
        let session = format!("s{session}");
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let programs = [test.store.clone(), second.clone()];
            let mut new = new_route(&session);
            new.route.boot_id = caller.to_string();
            callers.spawn(async move { programs[caller % 2].insert_route(new).await.unwrap() });
        }
        let new = |answer: &Inserted| matches!(answer, Inserted::New(_));
        let answers = callers.join_all().await;
        assert_eq!(answers.iter().filter(|answer| new(answer)).count(), 1);

        let (Inserted::New(route) | Inserted::Existing(route)) = &answers[0];
        let (here, there) = tokio::join!(
            test.store.update_route(route.clone()),
            second.update_route(route.clone()),
        );
        let updated: Vec<_> = [here.unwrap(), there.unwrap()]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(updated.len(), 1, "one change for each generation");
        assert_eq!(
            second.route(&session).await.unwrap().as_ref(),
            updated.first()
        );
    }
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_on_sessions_holds_whoever_creates() {
    let options = StoreOptions {
        max_sessions: Some(10),
        ..options()
    };
    let test = TestStore::with(options);
    let agent = owner(&test.store).await;
    let key = RequestKey {
        key: "first".to_owned(),
        fingerprint: "f".to_owned(),
    };
    let new = new_session(agent.id);
    let first = test
        .store
        .create_session_idempotent(key.clone(), new.clone());
    let Created::New(first) = first.await.unwrap() else {
        panic!("there was none before");
    };
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (store, new) = (test.store.clone(), new_session(agent.id));
        callers.spawn(async move { store.create_session(new).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 9);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, StoreError::SessionLimit(10)), "{refused}");
    }
    // A repetition creates nothing, so the limit is not its business.
    let again = test
        .store
        .create_session_idempotent(key, new)
        .await
        .unwrap();
    assert_eq!(again, Created::Existing(first.clone()));
    test.store.delete_session(first.id).await.unwrap();
    test.store
        .create_session(new_session(agent.id))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_never_sees_less_than_was_answered() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    let session = test
        .store
        .create_session(new_session(agent.id))
        .await
        .unwrap();
    let (written, seen) = tokio::sync::watch::channel(session.version);
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let (store, seen) = (test.store.clone(), seen.clone());
        readers.spawn(async move {
            while seen.has_changed().is_ok() {
                let answered = *seen.borrow();
                let read = store.session(session.id).await.unwrap().unwrap();
                assert!(read.version >= answered, "{} < {answered}", read.version);
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..500 {
        let changes = SessionChanges {
            status: Some(SessionStatus::Active),
            ..SessionChanges::default()
        };
        let updated = test
            .store
            .update_session(session.id, changes)
            .await
            .unwrap()
            .unwrap();
        written.send_replace(updated.version);
    }
    drop(written);
    readers.join_all().await;
    test.store.delete_session(session.id).await.unwrap();
    assert_eq!(test.store.session(session.id).await.unwrap(), None);
}
