//! The event log: written with each change, read by page, followed across servers.

use abide_model::{EventKind, ProblemCode};
use serde_json::{Value, json};

use super::http::{Api, data};

const AGGREGATE: &str = "0191e7a0-7c1e-7000-8000-0000000000ee";

/// The events after a sequence number, oldest first.
async fn after(api: &Api, sequence: i64) -> Vec<Value> {
    let query = format!("/events?after_seq={sequence}&limit=1000");
    let Value::Array(events) = api.get(&query).await.check(200) else {
        panic!("no array");
    };
    events
}

#[tokio::test]
async fn each_change_is_told_once_with_the_payload_of_the_contract() {
    let api = Api::cold();
    let agent = api
        .post("/agents", &json!({ "name": "a" }))
        .await
        .check(201);
    let agent_id = &agent["id"];
    let agent_path = format!("/agents/{}", agent_id.as_str().unwrap());
    api.patch(&agent_path, &json!({"metadata": {"b": 1}, "status": null}))
        .await
        .check(200);
    let body = json!({"agent_id": agent_id, "runtime_backend": "local"});
    let path = api.session(body).await;
    let update = json!({"x": 1, "runtime_metadata": null, "checkpoint": {}, "status": "paused"});
    api.patch(&path, &update).await.check(200);
    api.patch(&path, &json!({ "status": null }))
        .await
        .check(200);
    api.get(&path).await.check(200);
    api.patch(&path, &json!({ "status": "active" }))
        .await
        .check(200);
    let step = api.run(&path, "print('out')").await;
    api.delete(&format!("{path}?force=1")).await;
    api.delete(&agent_path).await;
    let events = after(&api, 0).await;
    let told: Vec<(&str, &Value)> = events
        .iter()
        .map(|e| (e["event_type"].as_str().unwrap(), &e["payload"]))
        .collect();
    let worker = &events[5]["payload"]["worker_id"];
    let exit = &events[8]["payload"]["exit"];
    let expected = [
        (
            "agent.created",
            json!({"name": "a", "agent_type": "general", "did": agent["did"]}),
        ),
        ("agent.updated", json!({"updates": {"metadata": {"b": 1}}})),
        (
            "session.created",
            json!({
                "agent_id": agent_id, "session_type": "conversation", "runtime_backend": "local"
            }),
        ),
        // Every recognised field that was sent, also as null, in a fixed order.
        (
            "session.updated",
            json!({
                "agent_id": agent_id, "status": "paused",
                "updates": ["status", "checkpoint", "runtime_metadata"],
            }),
        ),
        (
            "session.updated",
            json!({
                "agent_id": agent_id, "status": "active", "updates": ["status"]
            }),
        ),
        (
            "worker.started",
            json!({
                "worker_id": worker, "kind": "interpreter", "runtime": "python", "generation": 1
            }),
        ),
        (
            "step.accepted",
            json!({"step_id": step["id"], "sequence": 1}),
        ),
        (
            "step.completed",
            json!({
                "step_id": step["id"], "sequence": 1, "status": "completed",
                "stdout_bytes": 4, "stderr_bytes": 0,
            }),
        ),
        ("worker.exited", json!({"worker_id": worker, "exit": exit})),
        (
            "session.deleted",
            json!({"agent_id": agent_id, "status": "active"}),
        ),
        ("agent.deleted", json!({})),
    ];
    let expected: Vec<(&str, &Value)> = expected.iter().map(|(t, p)| (*t, p)).collect();
    assert_eq!(told, expected);
    // Tested elsewhere: expiry takes its time, and only terminals are changed.
    let elsewhere = [EventKind::SessionExpired, EventKind::WorkerUpdated];
    let now = |kind: &&EventKind| !elsewhere.contains(kind);
    for kind in EventKind::ALL.iter().filter(now).map(|kind| kind.as_str()) {
        assert!(
            told.iter().any(|(told, _)| *told == kind),
            "{kind} never happened"
        );
    }
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], n + 1, "no gap");
        assert_eq!(event["version"], 1);
        let kind = event["event_type"].as_str().unwrap();
        let about = if kind.starts_with("agent.") {
            "agent"
        } else {
            "session"
        };
        assert_eq!(event["aggregate_type"], about);
        let id = if about == "agent" {
            agent_id.as_str().unwrap()
        } else {
            &path[10..]
        };
        assert_eq!(event["aggregate_id"], id);
        assert_eq!(event["metadata"], json!({}), "{kind}");
        let one = api
            .get(&format!("/events/{}", event["id"].as_str().unwrap()))
            .await;
        assert_eq!(&one.check(200), event);
    }
}

#[tokio::test]
async fn clients_append_and_query_their_own() {
    let api = Api::cold();
    let body = json!({
        "event_type": "build.done", "aggregate_type": "build", "aggregate_id": AGGREGATE,
        "payload": {"b": 1, "a": 2}, "metadata": {"m": 1}, "version": 7,
    });
    let first = api.post("/events/", &body).await;
    let sent = first.check(201);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&sent[field], value);
    }
    assert_eq!(sent["sequence"], 1);
    let least = json!({"event_type": "x", "aggregate_type": "y", "aggregate_id": AGGREGATE});
    let least = api.post("/events", &least).await.check(201);
    assert_eq!(least["payload"], json!({}));
    assert_eq!(least["metadata"], json!({}));
    assert_eq!(least["version"], 1);
    api.session(json!({})).await;
    for (query, expected) in [
        ("", &[4, 3, 2, 1][..]),
        ("?limit=2", &[4, 3]),
        ("?limit=2&offset=1", &[3, 2]),
        ("?after_seq=0", &[1, 2, 3, 4]),
        ("?after_seq=1&limit=2", &[2, 3]),
        ("?after_seq=4", &[]),
        ("?event_type=x", &[2]),
        ("?event_type=x,build.done", &[2, 1]),
        ("?event_type=x,build.done&after_seq=0", &[1, 2]),
        ("?aggregate_type=build", &[1]),
        (
            &format!("?aggregate_id={}", AGGREGATE.to_uppercase()),
            &[2, 1],
        ),
        ("?aggregate_type=session", &[4]),
        ("?aggregate_type=none", &[]),
    ] {
        let found = api.get(&format!("/events{query}")).await.check(200);
        let found: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["sequence"].as_i64().unwrap())
            .collect();
        assert_eq!(found, expected, "{query}");
    }
    api.get(&format!("/events/{AGGREGATE}"))
        .await
        .problem(ProblemCode::EventNotFound);
}

#[tokio::test]
async fn order_of_events_is_order_of_commits() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    for _ in 0..10 {
        let patches = [
            "paused",
            "active",
            "completed",
            "crashed",
            "paused",
            "active",
        ]
        .map(|status| json!({ "status": status }));
        let patches = patches.iter().map(|body| api.patch(&path, body));
        futures_util::future::join_all(patches).await;
        let told = api.get("/events?limit=1").await.check(200);
        let stored = api.get(&path).await.check(200);
        assert_eq!(told[0]["payload"]["status"], stored["status"]);
    }
}

#[tokio::test]
async fn a_follower_misses_nothing_across_a_killed_server() {
    let mut api = Api::cold();
    let mut stream = api.stream("/events", None).await;
    let path = api.session(json!({})).await;
    let mut seen = Vec::new();
    for (kind, sequence) in [("agent.created", "1"), ("session.created", "2")] {
        let message = stream.next().await.unwrap();
        assert_eq!(message.event, kind);
        assert_eq!(message.id.as_deref(), Some(sequence));
        assert_eq!(data(&message)["event_type"], kind);
        seen.push(data(&message));
    }
    api.patch(&path, &json!({ "status": "paused" }))
        .await
        .check(200);
    api.kill_and_up();
    // Whatever was still sent before the server died counts as seen.
    let mut last = "2".to_owned();
    while let Some(message) = stream.next().await {
        last = message.id.clone().unwrap();
        seen.push(data(&message));
    }
    api.patch(&path, &json!({ "status": "active" }))
        .await
        .check(200);
    let mut stream = api.stream("/events", Some(&last)).await;
    while seen.len() < 4 {
        seen.push(data(&stream.next().await.unwrap()));
    }
    assert_eq!(seen, after(&api, 0).await);
    // The header counts for more than the parameter; filters hold for streams as well.
    let mut stream = api
        .stream("/events?after_seq=0&event_type=session.updated", Some("3"))
        .await;
    assert_eq!(data(&stream.next().await.unwrap()), seen[3]);
    let mut stream = api.stream("/events?after_seq=1", None).await;
    assert_eq!(data(&stream.next().await.unwrap()), seen[1]);
}
