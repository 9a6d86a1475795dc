//! Session records, as `session-service` clients know them, and what Abide adds.

use abide_model::{ProblemCode, Timestamp};
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _};

const FIELDS: &[&str] = &[
    "id",
    "agent_id",
    "session_type",
    "status",
    "context",
    "checkpoint",
    "runtime_backend",
    "runtime_metadata",
    "created_at",
    "updated_at",
    "name",
    "runtime",
    "workspace",
    "ttl_seconds",
    "expires_at",
    "sliding",
    "version",
];

/// The names of the outermost object, in the order in which they were sent.
fn names(text: &str) -> Vec<String> {
    let (mut depth, mut names, mut rest) = (0, Vec::new(), text.char_indices());
    while let Some((at, c)) = rest.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let mut end = at;
                while let Some((here, c)) = rest.next() {
                    match c {
                        '\\' => drop(rest.next()),
                        '"' => {
                            end = here;
                            break;
                        }
                        _ => {}
                    }
                }
                if depth == 1 && text[end + 1..].starts_with(':') {
                    names.push(text[at + 1..end].to_owned());
                }
            }
            _ => {}
        }
    }
    names
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_new_session_has_every_field_in_order_with_its_default() {
    let api = Api::cold();
    let agent = api
        .post("/agents", &json!({ "name": "a" }))
        .await
        .check(201);
    let answer = api
        .post("/sessions/", &json!({ "agent_id": agent["id"] }))
        .await;
    let session = answer.check(201);
    assert_eq!(names(answer.text()), FIELDS);
    let id = session["id"].as_str().unwrap();
    let uuid: uuid::Uuid = id.parse().unwrap();
    assert_eq!(id, uuid.hyphenated().to_string());
    assert_eq!(uuid.get_version_num(), 7);
    let created = session["created_at"].as_str().unwrap();
    assert!(created.ends_with('Z') && Timestamp::parse(created).is_some());
    let workspace = format!("{}{id}", api.server.scratch().1);
    let expected = json!({
        "id": id, "agent_id": agent["id"], "session_type": "conversation", "status": "active",
        "context": {}, "checkpoint": null, "runtime_backend": null, "runtime_metadata": {},
        "created_at": created, "updated_at": created, "name": null, "runtime": "python",
        "workspace": { "kind": "scratch", "path": workspace }, "ttl_seconds": null,
        "expires_at": null, "sliding": false, "version": 1,
    });
    assert_eq!(session, expected);
    let read = api.get(&format!("/sessions/{id}")).await;
    assert_eq!(read.body, answer.body, "read as it was created");
}

#[tokio::test]
async fn creation_takes_what_is_given_and_ignores_what_it_does_not_know() {
    let api = Api::cold();
    let (_, dir) = api.server.directory("given");
    let id = "0191e7a0-7c1e-7000-8000-00000000002a";
    let body = json!({
        "session_type": "", "context": {"a": [1, {}]}, "runtime_backend": "kubernetes",
        "runtime_metadata": {"pod": "x"}, "runtime": "JavaScript", "ttl_seconds": 3600,
        "name": "demo", "workspace": dir, "session_id": id.to_uppercase(),
        "status": "crashed", "checkpoint": {"x": 1}, "id": "y", "user_id": 3, "metadata": {"m": 1},
    });
    let session = api.post("/sessions", &body).await.check(201);
    for (field, value) in [
        ("id", json!(id)),
        ("session_type", json!("")),
        ("context", json!({"a": [1, {}]})),
        ("runtime_backend", json!("kubernetes")),
        ("runtime_metadata", json!({"pod": "x"})),
        ("runtime", json!("node")),
        ("ttl_seconds", json!(3600)),
        ("name", json!("demo")),
        ("workspace", json!({"kind": "directory", "path": dir})),
        ("status", json!("active")),
        ("checkpoint", Value::Null),
    ] {
        assert_eq!(session[field], value, "{field}");
    }
    let time = |field: &str| Timestamp::parse(session[field].as_str().unwrap()).unwrap();
    assert_eq!(time("expires_at"), time("created_at").plus_seconds(3600));
    // The owner of sessions that name none is one agent, made on first use.
    let other = api.post("/sessions", &json!({})).await.check(201);
    assert_eq!(other["agent_id"], session["agent_id"]);
    let owner = format!("/agents/{}", session["agent_id"].as_str().unwrap());
    assert_eq!(api.get(&owner).await.check(200)["name"], "default");
    for workspace in [
        json!({"kind": "directory", "path": dir}),
        json!({ "path": dir }),
    ] {
        let body = json!({ "workspace": workspace });
        let session = api.post("/sessions", &body).await.check(201);
        assert_eq!(
            session["workspace"],
            json!({"kind": "directory", "path": dir})
        );
    }
}

#[tokio::test]
async fn json_comes_back_to_the_letter() {
    let api = Api::cold();
    let context = r#"{"zz": 1, "a": 123456789012345678901234567890, "b": 1.10, "c": 1e30, "é": "ü\u00e9", "a2": {"y":1,"x":2}, "nul": "\u0000"}"#;
    let body = format!(r#"{{"context": {context}, "runtime_metadata": {context}}}"#);
    let created = api.raw("POST", "/sessions", &body).await;
    let id = created.check(201)["id"].as_str().unwrap().to_owned();
    let changed = format!(r#"{{"checkpoint": {context}}}"#);
    let changed = api.raw("PATCH", &format!("/sessions/{id}"), &changed).await;
    assert_eq!(changed.status, 200);
    assert_eq!(
        changed.text().matches(context).count(),
        3,
        "{}",
        changed.text()
    );
    let list = api.get("/sessions").await;
    assert_eq!(list.text(), format!("[{}]", changed.text()));
}

#[tokio::test]
async fn an_update_replaces_whole_fields_and_null_leaves_them() {
    let api = Api::cold();
    let path = api
        .session(json!({"context": {"a": 1}, "runtime_metadata": {"b": 2}}))
        .await;
    let before = api.get(&path).await.check(200);
    // Nothing to change: the session as it is, no event.
    for body in [
        json!({}),
        json!({"status": null, "context": null, "checkpoint": null, "runtime_metadata": null}),
        json!({"session_type": 5, "agent_id": [], "runtime_backend": {}, "unknown": true}),
    ] {
        assert_eq!(api.patch(&path, &body).await.check(200), before, "{body}");
    }
    let update = json!({"context": {"c": 3}, "checkpoint": {"step": 1}, "status": null});
    let after = api.patch(&path, &update).await.check(200);
    assert_eq!(after["context"], json!({"c": 3}), "no merge");
    assert_eq!(after["checkpoint"], json!({"step": 1}));
    assert_eq!(after["runtime_metadata"], json!({"b": 2}));
    assert_eq!(after["status"], "active");
    assert_eq!(after["version"], 2);
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
    assert_eq!(after["created_at"], before["created_at"]);
    // Equal values are a change of their own.
    let again = api.patch(&path, &update).await.check(200);
    assert!(again["updated_at"].as_str() > after["updated_at"].as_str());
    assert_eq!(again["version"], 3);
    // A checkpoint cannot be taken back, only emptied.
    let kept = api.patch(&path, &json!({ "checkpoint": null })).await;
    assert_eq!(kept.check(200)["checkpoint"], json!({"step": 1}));
    let emptied = api.patch(&path, &json!({ "checkpoint": {} })).await;
    assert_eq!(emptied.check(200)["checkpoint"], json!({}));
    // Any status may follow any other.
    let all = ["active", "paused", "completed", "crashed"];
    for (from, to) in all.iter().flat_map(|from| all.map(|to| (*from, to))) {
        for status in [from, to] {
            let session = api.patch(&path, &json!({ "status": status })).await;
            assert_eq!(session.check(200)["status"], status, "{from} to {to}");
        }
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let api = Api::cold();
    let agent = api
        .post("/agents", &json!({ "name": "a" }))
        .await
        .check(201);
    let mut paths = Vec::new();
    for n in 0..5 {
        let owner = json!({ "agent_id": agent["id"] });
        let body = if n % 2 == 0 { owner } else { json!({}) };
        paths.push(api.session(body).await);
    }
    let status = |path: &str, status: &str| {
        let (path, body) = (path.to_owned(), json!({ "status": status }));
        let api = &api;
        async move { drop(api.patch(&path, &body).await.check(200)) }
    };
    status(&paths[1], "paused").await;
    status(&paths[2], "completed").await;
    let newest: Vec<&str> = paths
        .iter()
        .rev()
        .map(|path| &path["/sessions/".len()..])
        .collect();
    let get = |query: String| {
        let api = &api;
        async move { api.get(&format!("/sessions{query}")).await }
    };
    let of = |query: String| async move { get(query).await.check(200) };
    assert_eq!(ids(&of(String::new()).await), newest);
    let agent_id = agent["id"].as_str().unwrap();
    let owned = [newest[0], newest[2], newest[4]];
    for spelling in [
        agent_id.to_owned(),
        agent_id.to_uppercase(),
        agent_id.replace('-', ""),
        format!("%7B{agent_id}%7D"),
    ] {
        assert_eq!(ids(&of(format!("/?agent_id={spelling}")).await), owned);
    }
    assert_eq!(
        of(format!("?agent_id={}", uuid::Uuid::nil())).await,
        json!([])
    );
    assert_eq!(ids(&of("?status=paused".to_owned()).await), [newest[3]]);
    let two = of("?status=paused,completed".to_owned()).await;
    assert_eq!(ids(&two), [newest[2], newest[3]]);
    assert_eq!(of("?limit=0".to_owned()).await, json!([]));
    assert_eq!(ids(&of("?limit=1000000".to_owned()).await), newest);
    assert_eq!(ids(&of("?unknown=1&offset=2".to_owned()).await), newest);
    // Page by page, in the same order.
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = get(format!("?limit=2{cursor}")).await;
        let sessions = page.check(200);
        assert!(ids(&sessions).len() <= 2);
        seen.extend(ids(&sessions).iter().map(|id| (*id).to_owned()));
        if page.header("x-next-cursor").is_empty() {
            break;
        }
        cursor = format!("&cursor={}", page.header("x-next-cursor"));
    }
    assert_eq!(seen, newest);
}

#[tokio::test]
async fn both_spellings_of_a_collection_and_every_spelling_of_an_id() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    let id = &path["/sessions/".len()..];
    let session = api.get(&path).await.check(200);
    for spelling in [
        format!("{id}/"),
        id.to_uppercase(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
    ] {
        let read = api.get(&format!("/sessions/{spelling}")).await;
        assert_eq!(read.check(200), session, "{spelling}");
    }
    for (collection, count) in [("sessions", 1), ("agents", 1), ("events", 2)] {
        for slash in ["", "/"] {
            let list = api
                .get(&format!("/{collection}{slash}?limit=9"))
                .await
                .check(200);
            assert_eq!(list.as_array().unwrap().len(), count, "{collection}{slash}");
        }
    }
    for slash in ["", "/"] {
        let create = api.post(&format!("/sessions{slash}"), &json!({})).await;
        create.check(201);
        let steps = api.get(&format!("{path}/steps{slash}")).await;
        assert_eq!(steps.check(200), json!([]));
    }
}

#[tokio::test]
async fn a_taken_name_or_id_names_the_session_that_has_it() {
    let api = Api::cold();
    let first = api
        .post("/sessions", &json!({ "name": "demo" }))
        .await
        .check(201);
    let taken = api.post("/sessions", &json!({ "name": "demo" })).await;
    let taken = taken.problem(ProblemCode::SessionExists);
    assert_eq!(taken["details"]["session_id"], first["id"]);
    let taken = api
        .post("/sessions", &json!({ "session_id": first["id"] }))
        .await;
    let taken = taken.problem(ProblemCode::SessionExists);
    assert_eq!(taken["details"]["session_id"], first["id"]);
    let found = api.get("/sessions?name=demo").await.check(200);
    assert_eq!(found, json!([first]));
    assert_eq!(api.get("/sessions?name=none").await.check(200), json!([]));
    let id = first["id"].as_str().unwrap();
    let gone = api.delete(&format!("/sessions/{id}?force=true")).await;
    assert_eq!((gone.status, gone.text()), (204, ""));
    let again = api
        .post("/sessions", &json!({ "name": "demo" }))
        .await
        .check(201);
    assert_ne!(again["id"], first["id"]);
}

#[tokio::test]
async fn an_idempotency_key_creates_one_session() {
    let api = Api::cold();
    let create = |key: &'static str, body: &'static str| {
        let request = api
            .request("POST", "/sessions")
            .header("idempotency-key", key);
        Answer::of(request.body(body))
    };
    let first = create("one", r#"{"session_type": "a"}"#).await;
    let first_session = first.check(201);
    let second = create("one", r#"{"session_type": "a"}"#).await;
    assert_eq!(second.check(201), first_session);
    let other = create("two", r#"{"session_type": "a"}"#).await.check(201);
    assert_ne!(other["id"], first_session["id"]);
    create("one", r#"{"session_type": "b"}"#)
        .await
        .problem(ProblemCode::IdempotencyConflict);
    let at_once = futures_util::future::join_all((0..8).map(|_| create("three", "{}"))).await;
    let mut ids: Vec<_> = at_once
        .iter()
        .map(|answer| answer.check(201)["id"].as_str().unwrap().to_owned())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "eight at once, one session");
}

#[tokio::test]
async fn deletion_asks_for_force_while_active_and_takes_everything_along() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    api.delete(&path).await.problem(ProblemCode::SessionActive);
    api.delete(&format!("{path}?force=false"))
        .await
        .problem(ProblemCode::SessionActive);
    api.patch(&path, &json!({ "status": "completed" }))
        .await
        .check(200);
    assert_eq!(api.delete(&path).await.status, 204);
    for path in [path.clone(), format!("{path}/steps")] {
        api.get(&path).await.problem(ProblemCode::SessionNotFound);
    }
    api.delete(&path)
        .await
        .problem(ProblemCode::SessionNotFound);
    let told = api.get("/events?limit=1").await.check(200);
    assert_eq!(told[0]["event_type"], "session.deleted");
    assert_eq!(told[0]["payload"]["status"], "completed");
}

#[tokio::test]
async fn no_more_sessions_than_the_server_may_have() {
    let api = Api::with(&["warm_python=0", "max_sessions=2"]);
    let path = api.session(json!({})).await;
    api.session(json!({})).await;
    let full = api.post("/sessions", &json!({})).await;
    let full = full.problem(ProblemCode::LimitReached);
    assert!(full["message"].as_str().unwrap().contains("max_sessions"));
    assert_eq!(api.delete(&format!("{path}?force=1")).await.status, 204);
    api.session(json!({})).await;
}

#[tokio::test]
async fn names_of_runtime_routing_clients_work() {
    let api = Api::cold();
    let body = json!({
        "tenantId": "t1", "agentId": "agent-1", "policyId": "p1", "ttlSeconds": 60,
        "runtime": "python3", "sessionId": "0191e7a0-7c1e-7000-8000-00000000002b",
        "sessionType": "task",
    });
    let session = api.post("/sessions", &body).await.check(201);
    assert_eq!(session["id"], "0191e7a0-7c1e-7000-8000-00000000002b");
    assert_eq!(session["ttl_seconds"], 60);
    assert_eq!(session["runtime"], "python");
    assert_eq!(session["session_type"], "task");
    let owner = format!("/agents/{}", session["agent_id"].as_str().unwrap());
    assert_eq!(api.get(&owner).await.check(200)["name"], "agent-1");
    let same = json!({ "agentId": "agent-1" });
    let other = api.post("/sessions", &same).await.check(201);
    assert_eq!(
        other["agent_id"], session["agent_id"],
        "one label, one agent"
    );
    let by_id = json!({ "agentId": session["agent_id"] });
    let third = api.post("/sessions", &by_id).await.check(201);
    assert_eq!(third["agent_id"], session["agent_id"]);
}

#[tokio::test]
async fn a_name_stands_for_the_id_in_every_path() {
    let api = Api::cold();
    let session = api.post("/sessions", &json!({ "name": "demo" })).await;
    let session = session.check(201);
    assert_eq!(api.get("/sessions/demo").await.check(200), session);
    let step = api.run("/sessions/demo", "print('by name')").await;
    assert_eq!(step["session_id"], session["id"]);
    let step = format!("/sessions/demo/steps/{}", step["id"].as_str().unwrap());
    assert_eq!(api.get(&step).await.check(200)["stdout"], "by name\n");
    for path in [format!("{step}/output"), "/sessions/demo/output".to_owned()] {
        assert_eq!(api.get(&path).await.bytes(200), b"by name\n");
    }
    for path in ["steps", "workers"] {
        let list = api.get(&format!("/sessions/demo/{path}")).await.check(200);
        assert_eq!(list.as_array().unwrap().len(), 1, "{path}");
    }
    for path in ["restart", "interrupt"] {
        let answer = Answer::of(api.request("POST", &format!("/sessions/demo/{path}"))).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
    }
    let paused = api
        .patch("/sessions/demo", &json!({ "status": "paused" }))
        .await;
    assert_eq!(paused.check(200)["status"], "paused");
    assert_eq!(api.delete("/sessions/demo").await.status, 204);
    // As for any other text that is no id.
    api.get("/sessions/demo")
        .await
        .problem(ProblemCode::InvalidInput);
}
