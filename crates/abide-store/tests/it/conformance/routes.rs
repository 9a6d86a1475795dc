//! Routes.

use abide_model::{AuthMode, Route, RouteStatus, Runtime, Timestamp, WorkerId};
use abide_store::{Inserted, Store, StoredRoute};

use crate::fixtures::log;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) fn new_route(session: &str) -> StoredRoute {
    StoredRoute {
        route: Route {
            session_id: session.to_owned(),
            runtime_id: format!("runtime of {session}"),
            runtime: Runtime::Node,
            endpoint: "http://127.0.0.1:9000".to_owned(),
            token: String::new(),
            auth_mode: AuthMode::Enforced,
            boot_id: "b1".to_owned(),
            worker_id: Some(WorkerId::new()),
            status: RouteStatus::Provisioning,
            workspace: "/workspaces/s1".to_owned(),
            scratch: true,
            created_at: at(10),
            last_seen_at: at(20),
            expires_at: Some(at(30)),
            sliding_seconds: Some(60),
            generation: 0,
        },
        sealed_token: vec![0, 1, 0xff],
    }
}

pub(crate) async fn inserted(store: &Store, new: StoredRoute) -> StoredRoute {
    match store.insert_route(new).await.unwrap() {
        Inserted::New(route) => route,
        Inserted::Existing(route) => panic!("there is one already: {route:?}"),
    }
}

async fn with_expiry(store: &Store, session: &str, expires_at: Option<i64>) -> StoredRoute {
    let mut new = new_route(session);
    new.route.expires_at = expires_at.map(at);
    inserted(store, new).await
}

fn names(routes: &[StoredRoute]) -> Vec<&str> {
    routes.iter().map(|r| r.route.session_id.as_str()).collect()
}

pub(crate) async fn insert_answers_the_route(store: &Store) {
    assert_eq!(store.route("s1").await.unwrap(), None);
    let mut new = new_route("s1");
    new.route.token = "secret".to_owned();
    let first = inserted(store, new).await;
    let mut expected = new_route("s1");
    expected.route.worker_id = first.route.worker_id;
    expected.route.generation = 1;
    assert_eq!(first, expected, "and the plain token is not there");
    assert_eq!(store.route("s1").await.unwrap(), Some(expected));

    let mut bare = new_route("s.2");
    bare.route.worker_id = None;
    bare.route.expires_at = None;
    bare.route.sliding_seconds = None;
    bare.route.scratch = false;
    bare.sealed_token.clear();
    let bare = inserted(store, bare).await;
    assert_eq!(store.route("s.2").await.unwrap(), Some(bare));
    assert!(log(store).await.is_empty(), "routes are not told of");
}

pub(crate) async fn insert_finds_the_first(store: &Store) {
    let first = inserted(store, new_route("s1")).await;
    let mut other = new_route("s1");
    other.route.endpoint = "http://elsewhere".to_owned();
    let again = store.insert_route(other).await.unwrap();
    assert_eq!(again, Inserted::Existing(first.clone()));
    assert_eq!(store.route("s1").await.unwrap(), Some(first));
}

pub(crate) async fn one_of_many_inserts_wins(store: &Store) {
    let attempts = (0..20).map(|number| {
        let store = store.clone();
        let mut new = new_route("s1");
        new.route.boot_id = number.to_string();
        async move { store.insert_route(new).await.unwrap() }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for attempt in attempts {
        tasks.spawn(attempt);
    }
    let answers = tasks.join_all().await;
    let stored = store.route("s1").await.unwrap().unwrap();
    let new: Vec<_> = answers
        .iter()
        .filter(|answer| matches!(answer, Inserted::New(_)))
        .collect();
    assert_eq!(new, [&Inserted::New(stored.clone())]);
    for answer in &answers {
        let (Inserted::New(route) | Inserted::Existing(route)) = answer;
        assert_eq!(route, &stored);
    }
}

pub(crate) async fn update_needs_the_generation(store: &Store) {
    let first = inserted(store, new_route("s1")).await;
    let bystander = inserted(store, new_route("s2")).await;
    let mut changed = first.clone();
    changed.route.status = RouteStatus::Ready;
    changed.route.boot_id = "b2".to_owned();
    changed.route.worker_id = None;
    changed.route.runtime = Runtime::Python;
    changed.route.runtime_id = "other".to_owned();
    changed.route.endpoint = String::new();
    changed.route.auth_mode = AuthMode::Bypass;
    changed.route.workspace = "/elsewhere".to_owned();
    changed.route.scratch = false;
    changed.route.last_seen_at = at(21);
    changed.route.expires_at = None;
    changed.route.sliding_seconds = None;
    changed.route.created_at = at(99);
    changed.route.token = "secret".to_owned();
    changed.sealed_token = vec![7];
    let second = store.update_route(changed.clone()).await.unwrap().unwrap();
    changed.route.created_at = first.route.created_at;
    changed.route.token.clear();
    changed.route.generation = first.route.generation + 1;
    assert_eq!(second, changed);

    assert_eq!(store.update_route(first).await.unwrap(), None, "overtaken");
    assert_eq!(store.update_route(new_route("s3")).await.unwrap(), None);
    assert_eq!(store.route("s1").await.unwrap(), Some(second));
    assert_eq!(store.route("s2").await.unwrap(), Some(bystander));
}

pub(crate) async fn remove_needs_the_generation(store: &Store) {
    let first = inserted(store, new_route("s1")).await;
    let second = store.update_route(first.clone()).await.unwrap().unwrap();
    let remove = |generation| store.remove_route("s1".to_owned(), generation);
    assert!(!remove(first.route.generation).await.unwrap());
    assert!(remove(second.route.generation).await.unwrap());
    assert!(!remove(second.route.generation).await.unwrap());
    assert_eq!(store.route("s1").await.unwrap(), None);
}

pub(crate) async fn a_change_of_a_removed_route_misses_its_successor(store: &Store) {
    let mut old = inserted(store, new_route("s1")).await;
    let mut stale = vec![old.clone()];
    for _ in 0..3 {
        old = store.update_route(old).await.unwrap().unwrap();
        stale.push(old.clone());
    }
    let generation = old.route.generation;
    assert!(store.remove_route("s1".into(), generation).await.unwrap());
    let next = inserted(store, new_route("s1")).await;
    assert!(next.route.generation > generation);

    let mut ended = next.clone();
    ended.route.status = RouteStatus::Terminated;
    let ended = store.update_route(ended).await.unwrap().unwrap();
    assert_eq!(store.forget_ended_routes(at(21), 10).await.unwrap(), 1);
    stale.extend([next, ended]);
    let last = inserted(store, new_route("s1")).await;
    for stale in stale {
        let generation = stale.route.generation;
        assert_eq!(store.update_route(stale).await.unwrap(), None);
        assert!(!store.remove_route("s1".into(), generation).await.unwrap());
    }
    assert_eq!(store.route("s1").await.unwrap(), Some(last));
}

pub(crate) async fn lists_page_by_session(store: &Store) {
    for session in ["c", "a", "e", "b", "d"] {
        inserted(store, new_route(session)).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.routes(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.route.session_id.clone());
        seen.extend(names(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(store.routes(None, usize::MAX).await.unwrap().len(), 5);
}

pub(crate) async fn overdue_come_first_and_ended_not_at_all(store: &Store) {
    assert_eq!(store.next_route_expiry().await.unwrap(), None);
    with_expiry(store, "later", Some(300)).await;
    with_expiry(store, "second", Some(200)).await;
    with_expiry(store, "first", Some(100)).await;
    with_expiry(store, "never", None).await;
    for (session, status) in [
        ("was terminated", RouteStatus::Terminated),
        ("was expired", RouteStatus::Expired),
    ] {
        let mut route = with_expiry(store, session, Some(50)).await;
        route.route.status = status;
        store.update_route(route).await.unwrap().unwrap();
    }
    for (session, status) in [
        ("crashed", RouteStatus::Crashed),
        ("failed", RouteStatus::Failed),
    ] {
        let mut route = with_expiry(store, session, Some(250)).await;
        route.route.status = status;
        store.update_route(route).await.unwrap().unwrap();
    }
    let expired = async |now, limit| {
        let routes = store.expired_routes(at(now), limit).await.unwrap();
        names(&routes).join(" ")
    };
    assert_eq!(store.next_route_expiry().await.unwrap(), Some(at(100)));
    assert_eq!(expired(99, 10).await, "");
    assert_eq!(expired(100, 10).await, "first");
    assert_eq!(expired(200, 10).await, "first second");
    assert_eq!(expired(200, 1).await, "first");
    assert_eq!(expired(250, 10).await, "first second crashed failed");

    let mut renewed = store.route("first").await.unwrap().unwrap();
    let overdue = renewed.clone();
    renewed.route.expires_at = Some(at(1_000));
    store.update_route(renewed).await.unwrap().unwrap();
    let mut reaped = overdue;
    reaped.route.status = RouteStatus::Expired;
    assert_eq!(
        store.update_route(reaped).await.unwrap(),
        None,
        "what was renewed is not reaped"
    );
    assert_eq!(store.next_route_expiry().await.unwrap(), Some(at(200)));
}

pub(crate) async fn only_the_ended_are_forgotten(store: &Store) {
    for (session, status, seen) in [
        ("a", RouteStatus::Terminated, 100),
        ("b", RouteStatus::Expired, 200),
        ("c", RouteStatus::Terminated, 300),
        ("d", RouteStatus::Ready, 100),
        ("e", RouteStatus::Crashed, 100),
    ] {
        let mut new = new_route(session);
        new.route.status = status;
        new.route.last_seen_at = at(seen);
        inserted(store, new).await;
    }
    assert_eq!(store.forget_ended_routes(at(100), 10).await.unwrap(), 0);
    assert_eq!(store.forget_ended_routes(at(300), 1).await.unwrap(), 1);
    assert_eq!(store.route("a").await.unwrap(), None, "the oldest first");
    assert_eq!(store.forget_ended_routes(at(300), 10).await.unwrap(), 1);
    let left = store.routes(None, 10).await.unwrap();
    assert_eq!(names(&left), ["c", "d", "e"]);
}
