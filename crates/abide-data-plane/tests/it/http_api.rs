//! The API as clients of the contract see it.

use abide_data_plane::auth::AuthConfig;
use abide_model::STEP_FRAMES;
use reqwest::Client;
use serde_json::{Value, json};

use crate::fake_agent::Fault;
use crate::world::World;

struct Api {
    client: Client,
    url: String,
}

impl Api {
    async fn of(world: &World) -> Self {
        Self {
            client: Client::new(),
            url: world.serve_openly().await,
        }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send();
        let response = response.await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn create_step_and_terminate_as_the_contract_has_it() {
    let world = World::new();
    let api = Api::of(&world).await;
    // Names in any case, unknown fields, no content type.
    let body = r#"{"SessionID": "s1", "policyId": "p", "runtime": "Python3", "extra": [1]}"#;
    let (status, session) = api.post("/sessions", body).await;
    assert_eq!(status, 202);
    assert_eq!(
        (&session["id"], &session["status"]),
        (&json!("s1"), &json!("running"))
    );
    assert_eq!(session["runtime"], "python");
    assert!(
        session["runtimeId"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
    assert!(session.get("token").is_none());
    let (status, step) = api
        .post(
            "/sessions/s1/steps",
            r#"{"command": "x", "stepId": "first"}"#,
        )
        .await;
    assert_eq!(status, 202);
    assert_eq!(
        (
            &step["stepId"],
            &step["status"],
            &step["stdout"],
            &step["stderr"],
            &step["exitCode"]
        ),
        (
            &json!("first"),
            &json!("completed"),
            &json!("ran x"),
            &json!(""),
            &json!(0)
        )
    );
    let (status, shown) = api.get("/sessions/s1/steps/first?wait_ms=100").await;
    assert_eq!((status, &shown["stdout"]), (200, &json!("ran x")));
    let (status, listed) = api.get("/sessions").await;
    assert_eq!((status, listed.as_array().unwrap().len()), (200, 1));
    let (status, shown) = api.get("/sessions/s1").await;
    assert_eq!((status, &shown["id"]), (200, &json!("s1")));
    let (status, ended) = api.post("/sessions/s1/terminate", "").await;
    assert_eq!((status, &ended["status"]), (202, &json!("terminated")));
    let (status, problem) = api.post("/sessions/s1/steps", r#"{"code": "x"}"#).await;
    assert_eq!(status, 410);
    assert_eq!(problem["error"], "session_expired");
    assert_eq!(problem["retryable"], false);
    assert!(problem["message"].is_string());
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_400_and_named() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    for (path, body, named) in [
        ("/sessions", "{", "JSON"),
        ("/sessions", "[]", "object"),
        ("/sessions", "{}", "sessionId"),
        ("/sessions", r#"{"sessionId": "../x"}"#, "sessionId"),
        (
            "/sessions",
            r#"{"sessionId": "s", "runtime": "ruby"}"#,
            "runtime",
        ),
        (
            "/sessions",
            r#"{"sessionId": "s", "ttlSeconds": -1}"#,
            "ttlSeconds",
        ),
        (
            "/sessions",
            r#"{"sessionId": "s", "workspaceRef": "../x"}"#,
            "workspaceRef",
        ),
        ("/sessions/s1/steps", "", "JSON"),
        ("/sessions/s1/steps", "{}", "command"),
        ("/sessions/s1/steps", r#"{"command": " "}"#, "command"),
        (
            "/sessions/s1/steps",
            r#"{"command": "x", "stepId": "a b"}"#,
            "stepId",
        ),
        (
            "/sessions/s1/steps",
            r#"{"command": "x", "timeoutMs": 0}"#,
            "timeoutMs",
        ),
    ] {
        let (status, problem) = api.post(path, body).await;
        assert_eq!(status, 400, "{body}: {problem}");
        assert!(
            problem["message"].as_str().unwrap().contains(named),
            "{body}: {problem}"
        );
        assert_eq!(problem["retryable"], false);
    }
    let (status, problem) = api.post("/sessions/no/steps", r#"{"code": "x"}"#).await;
    assert_eq!(
        (status, &problem["error"]),
        (404, &json!("session_not_found"))
    );
    let (status, _) = api.post("/sessions/no/terminate", "").await;
    assert_eq!(status, 404);
    let (status, _) = api.get("/nowhere").await;
    assert_eq!(status, 404);
    let (status, _) = api.post("/sessions/s1", "").await;
    assert_eq!(status, 405);
    assert_eq!(world.agent.executions(), 0);
}

#[tokio::test]
async fn a_uuid_is_one_session_however_it_is_spelled() {
    let world = World::new();
    let api = Api::of(&world).await;
    let id = "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B";
    let (_, session) = api
        .post("/sessions", json!({ "sessionId": id }).to_string())
        .await;
    assert_eq!(session["id"], id.to_ascii_lowercase());
    let (status, _) = api
        .post(&format!("/sessions/{id}/steps"), r#"{"code": "x"}"#)
        .await;
    assert_eq!(status, 202);
}

#[tokio::test]
async fn limits_of_the_client_go_on_to_the_runtime() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    for (body, execution, queue) in [
        (r#"{"code": "a"}"#, None, None),
        (r#"{"code": "b", "timeoutMs": 700}"#, Some(700), Some(700)),
        (
            r#"{"code": "c", "timeout_ms": 700, "queueTimeoutMs": 9}"#,
            Some(700),
            Some(9),
        ),
    ] {
        api.post("/sessions/s1/steps", body).await;
        let memory = world.agent.memory.lock();
        let limits = memory.limits.last().unwrap();
        assert_eq!(*limits, (execution, queue), "{body}");
    }
}

#[tokio::test]
async fn an_idempotency_key_names_one_step() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    world.create("s2").await;
    let mut ids = Vec::new();
    for session in ["s1", "s1", "s2"] {
        let request = api
            .client
            .post(format!("{}/sessions/{session}/steps", api.url));
        let request = request
            .header("idempotency-key", "once")
            .body(r#"{"code": "x"}"#);
        let step: Value = request.send().await.unwrap().json().await.unwrap();
        ids.push(step["stepId"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(world.agent.executions(), 2);
}

#[tokio::test]
async fn a_step_as_events_and_as_frames() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    let stream = async |accept: &str, step: &str, query: &str| {
        let url = format!("{}/sessions/s1/steps{query}", api.url);
        let body = json!({"code": "x", "stepId": step}).to_string();
        let request = api.client.post(url).header("accept", accept).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    };
    for fault in [None, Some(Fault::CutAfter)] {
        if let Some(fault) = fault {
            world.agent.fault(fault);
        }
        let name = format!("e{}", fault.is_some());
        let text = stream("text/event-stream", &name, "").await;
        let names: Vec<_> = text
            .lines()
            .filter_map(|l| l.strip_prefix("event: "))
            .collect();
        assert_eq!(names, ["started", "stdout", "completed"], "{text}");
        let last = text
            .lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .next_back();
        let last: Value = serde_json::from_str(last.unwrap()).unwrap();
        assert_eq!(
            (&last["stepId"], &last["stdout"]),
            (&json!(name), &json!("ran x"))
        );
    }
    for (query, expected) in [
        ("", vec!["started", "ended"]),
        ("?output=1", vec!["started", "output", "ended"]),
    ] {
        let text = stream(STEP_FRAMES, &format!("f{}", query.len()), query).await;
        let lines: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let names: Vec<_> = lines.iter().map(|l| l["frame"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
    }
    // What keeps a step from its runtime is an answer, not a stream.
    world.agent.die("s1");
    let request = api.client.post(format!("{}/sessions/s1/steps", api.url));
    let request = request
        .header("accept", STEP_FRAMES)
        .body(r#"{"code": "x"}"#);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "runtime_crashed");
}

#[tokio::test]
async fn output_is_passed_through() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    let url = format!("{}/sessions/s1/output?from=3&end=9", api.url);
    let response = api.client.get(url).send().await.unwrap();
    assert_eq!(response.headers()["x-output-head"], "7");
    assert_eq!(response.headers()["content-type"], STEP_FRAMES);
    let frame: Value = response.json().await.unwrap();
    assert_eq!(
        (&frame["frame"], &frame["end"]),
        (&json!("output"), &json!(9))
    );
}

#[tokio::test]
async fn only_probes_come_in_without_a_token() {
    let world = World::new();
    let url = world
        .serve(AuthConfig {
            keys: vec!["the key".to_owned()],
            ..AuthConfig::default()
        })
        .await;
    let client = Client::new();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let response = client.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let guarded = [
        ("GET", "/sessions"),
        ("POST", "/sessions"),
        ("GET", "/sessions/s1"),
        ("POST", "/sessions/s1/steps"),
        ("GET", "/sessions/s1/steps/t"),
        ("DELETE", "/sessions/s1/steps/t"),
        ("POST", "/sessions/s1/interrupt"),
        ("POST", "/sessions/s1/restart"),
        ("POST", "/sessions/s1/terminate"),
        ("GET", "/sessions/s1/output"),
        ("POST", "/runs"),
        ("GET", "/runs/r"),
        ("POST", "/runs/r/terminate"),
    ];
    for (method, path) in guarded {
        for token in [None, Some("wrong")] {
            let mut request = client.request(method.parse().unwrap(), format!("{url}{path}"));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.body("{}").send().await.unwrap();
            assert_eq!(response.status(), 401, "{method} {path} {token:?}");
        }
        let request = client.request(method.parse().unwrap(), format!("{url}{path}"));
        let response = request
            .bearer_auth("the key")
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_ne!(response.status(), 401, "{method} {path}");
    }
}

#[tokio::test]
async fn web_pages_elsewhere_get_nowhere() {
    let world = World::new();
    let api = Api::of(&world).await;
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
        let request = api.client.get(format!("{}/sessions", api.url));
        let response = request.header(name, value).send().await.unwrap();
        assert_eq!(response.status(), 403, "{name}");
    }
}

#[tokio::test]
async fn metrics_tell_of_steps_and_retries() {
    let world = World::new();
    let api = Api::of(&world).await;
    world.create("s1").await;
    world.agent.fault(Fault::Draining);
    api.post("/sessions/s1/steps", r#"{"code": "x"}"#).await;
    api.post("/sessions/no/steps", r#"{"code": "x"}"#).await;
    let response = api.client.get(format!("{}/metrics", api.url)).send();
    let text = response.await.unwrap().text().await.unwrap();
    for line in [
        "abide_data_plane_steps_total{outcome=\"completed\"} 1",
        "abide_data_plane_steps_total{outcome=\"session_not_found\"} 1",
        "abide_data_plane_route_lookups_total{found=\"nowhere\"} 1",
        "abide_data_plane_queue_depth 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("abide_data_plane_retries_total 0"), "{text}");
}

#[tokio::test]
async fn what_befalls_sessions_is_told_in_order_to_whoever_asks_what_is_new() {
    let world = World::new();
    let api = Api::of(&world).await;
    let (status, none) = api.get("/events").await;
    assert_eq!(
        (status, &none["last"], &none["events"]),
        (200, &json!(0), &json!([]))
    );
    let epoch = none["epoch"].as_str().unwrap().to_owned();
    let (waited, _) = tokio::join!(
        api.get("/events?after=0&wait_ms=60000"),
        api.post("/sessions", r#"{"sessionId": "s1"}"#)
    );
    let first = &waited.1["events"][0];
    assert_eq!(
        (&first["sequence"], &first["sessionId"], &first["status"]),
        (&json!(1), &json!("s1"), &json!("ready"))
    );
    assert!(first["workerId"].is_string(), "{first}");
    api.post("/sessions/s1/terminate", "").await;
    let path = format!("/events?after=1&epoch={epoch}");
    let (_, told) = api.get(&path).await;
    assert_eq!(told["events"].as_array().unwrap().len(), 1);
    assert_eq!(told["events"][0]["status"], "terminated");
    assert_eq!(
        (&told["earliest"], &told["last"]),
        (&json!(1), &json!(2)),
        "{told}"
    );
    // Numbers of another start mean nothing: the answer says where to begin, at once.
    let (_, other) = api
        .get("/events?after=7&epoch=of-before&wait_ms=60000")
        .await;
    assert_eq!(
        (&other["epoch"], &other["last"], &other["events"]),
        (&json!(epoch), &json!(2), &json!([]))
    );
}
