//! Every refusal: its status, its code, its problem document and the fields older clients read.

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api};

const NOBODY: &str = "0191e7a0-7c1e-7000-8000-0000000000ff";

#[tokio::test]
async fn what_is_not_there() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    for (request, code, detail) in [
        (
            format!("GET /sessions/{NOBODY}"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("PATCH /sessions/{NOBODY}"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("DELETE /sessions/{NOBODY}"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("POST /sessions/{NOBODY}/restart"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("POST /sessions/{NOBODY}/interrupt"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("GET /sessions/{NOBODY}/workers"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("GET /sessions/{NOBODY}/output"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("GET /sessions/{NOBODY}/steps"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("GET /sessions/{NOBODY}/steps/{NOBODY}"),
            ProblemCode::SessionNotFound,
            "Session not found",
        ),
        (
            format!("GET {path}/steps/{NOBODY}"),
            ProblemCode::StepNotFound,
            "Step not found",
        ),
        (
            format!("DELETE {path}/steps/{NOBODY}"),
            ProblemCode::StepNotFound,
            "Step not found",
        ),
        (
            format!("GET {path}/steps/{NOBODY}/output"),
            ProblemCode::StepNotFound,
            "Step not found",
        ),
        (
            format!("GET /agents/{NOBODY}"),
            ProblemCode::AgentNotFound,
            "Agent not found",
        ),
        (
            format!("PATCH /agents/{NOBODY}"),
            ProblemCode::AgentNotFound,
            "Agent not found",
        ),
        (
            format!("DELETE /agents/{NOBODY}"),
            ProblemCode::AgentNotFound,
            "Agent not found",
        ),
        (
            format!("GET /events/{NOBODY}"),
            ProblemCode::EventNotFound,
            "Event not found",
        ),
        (
            "GET /nowhere".to_owned(),
            ProblemCode::NotFound,
            "Not Found",
        ),
        (
            "GET /health/startup".to_owned(),
            ProblemCode::NotFound,
            "Not Found",
        ),
        (
            "PUT /sessions".to_owned(),
            ProblemCode::MethodNotAllowed,
            "Method Not Allowed",
        ),
        (
            "DELETE /sessions".to_owned(),
            ProblemCode::MethodNotAllowed,
            "Method Not Allowed",
        ),
        (
            format!("PUT {path}"),
            ProblemCode::MethodNotAllowed,
            "Method Not Allowed",
        ),
        (
            format!("POST {path}"),
            ProblemCode::MethodNotAllowed,
            "Method Not Allowed",
        ),
        (
            "OPTIONS /sessions".to_owned(),
            ProblemCode::MethodNotAllowed,
            "Method Not Allowed",
        ),
    ] {
        let (method, url) = request.split_once(' ').unwrap();
        let answer = Answer::of(api.request(method, url)).await;
        let problem = answer.problem(code);
        let said = problem["detail"].as_str().unwrap();
        assert!(said.starts_with(detail), "{request}: {said}");
        if code == ProblemCode::MethodNotAllowed {
            assert!(!answer.header("allow").is_empty(), "{request}");
        }
    }
    let orphan = json!({ "agent_id": NOBODY });
    let orphan = api.post("/sessions", &orphan).await;
    assert_eq!(
        orphan.problem(ProblemCode::AgentNotFound)["error_code"],
        "E1300"
    );
}

/// One request that is refused with 422 for exactly these fields.
async fn check(api: &Api, request: &str, body: &str, expected: &[(&str, Value)]) {
    let (method, path) = request.split_once(' ').unwrap();
    let answer = api.raw(method, path, body).await;
    assert_eq!(answer.status, 422, "{request} {body}: {}", answer.text());
    let json = expected.iter().any(|(kind, _)| *kind == "json_invalid");
    let code = if json {
        ProblemCode::InvalidJson
    } else {
        ProblemCode::InvalidInput
    };
    answer.problem(code);
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, loc)| ((*kind).to_owned(), loc.clone()))
        .collect();
    assert_eq!(answer.wrong_fields(), expected, "{request} {body}");
}

#[tokio::test]
async fn wrong_fields_are_named_one_by_one() {
    let api = Api::cold();
    let session = api.session(json!({})).await;
    let body = |name: &str| json!(["body", name]);
    let query = |name: &str| json!(["query", name]);
    let create = "POST /sessions";
    let update = &format!("PATCH {session}");
    let steps = &format!("POST {session}/steps");
    let long = format!(r#"{{"session_type": "{}"}}"#, "x".repeat(101));
    let long_name = format!(r#"{{"name": "{}"}}"#, "x".repeat(101));
    let uuid_name = format!(r#"{{"name": "{NOBODY}"}}"#);
    for (request, sent, expected) in [
        (
            create,
            r#"{"agent_id": "x"}"#,
            vec![("uuid_parsing", body("agent_id"))],
        ),
        (
            create,
            r#"{"agent_id": 5}"#,
            vec![("uuid_parsing", body("agent_id"))],
        ),
        (create, &long, vec![("string_type", body("session_type"))]),
        (
            create,
            r#"{"session_type": 1}"#,
            vec![("string_type", body("session_type"))],
        ),
        (
            create,
            r#"{"session_type": "\ud800"}"#,
            vec![("string_type", body("session_type"))],
        ),
        (
            create,
            r#"{"session_type": null}"#,
            vec![("string_type", body("session_type"))],
        ),
        (
            create,
            r#"{"context": null}"#,
            vec![("dict_type", body("context"))],
        ),
        (
            create,
            r#"{"context": []}"#,
            vec![("dict_type", body("context"))],
        ),
        (
            create,
            r#"{"context": {"a": "\ud800"}}"#,
            vec![("value_error", body("context"))],
        ),
        (
            create,
            r#"{"context": {"a": 1e400}}"#,
            vec![("value_error", body("context"))],
        ),
        (
            create,
            r#"{"runtime_metadata": null}"#,
            vec![("dict_type", body("runtime_metadata"))],
        ),
        (
            create,
            r#"{"runtime_backend": "LOCAL"}"#,
            vec![("enum", body("runtime_backend"))],
        ),
        (
            create,
            r#"{"runtime": "ruby"}"#,
            vec![("enum", body("runtime"))],
        ),
        (
            create,
            r#"{"ttl_seconds": 0}"#,
            vec![("int_parsing", body("ttl_seconds"))],
        ),
        (
            create,
            r#"{"ttl_seconds": 1.5}"#,
            vec![("int_parsing", body("ttl_seconds"))],
        ),
        (
            create,
            r#"{"name": ""}"#,
            vec![("value_error", body("name"))],
        ),
        (
            create,
            r#"{"name": "a b"}"#,
            vec![("value_error", body("name"))],
        ),
        (create, &long_name, vec![("value_error", body("name"))]),
        (create, &uuid_name, vec![("value_error", body("name"))]),
        (
            create,
            r#"{"workspace": "../relative"}"#,
            vec![("value_error", body("workspace"))],
        ),
        (
            create,
            r#"{"workspace": "/no/such/directory"}"#,
            vec![("value_error", body("workspace"))],
        ),
        (
            create,
            r#"{"workspace": "/etc/passwd"}"#,
            vec![("value_error", body("workspace"))],
        ),
        (
            create,
            r#"{"workspace": 5}"#,
            vec![("value_error", body("workspace"))],
        ),
        (
            create,
            r#"{"session_id": "x"}"#,
            vec![("uuid_parsing", body("session_id"))],
        ),
        (
            create,
            r#"{"agent_id": "x", "context": 1, "runtime_backend": 2}"#,
            vec![
                ("uuid_parsing", body("agent_id")),
                ("dict_type", body("context")),
                ("enum", body("runtime_backend")),
            ],
        ),
        (
            create,
            r#"{"context": {"a": NaN}}"#,
            vec![("json_invalid", json!(["body", 18]))],
        ),
        (create, r#"{"#, vec![("json_invalid", json!(["body", 1]))]),
        (
            create,
            r#"[1]"#,
            vec![("model_attributes_type", json!(["body"]))],
        ),
        (
            create,
            r#""text""#,
            vec![("model_attributes_type", json!(["body"]))],
        ),
        (
            update,
            r#"{"status": "ACTIVE"}"#,
            vec![("enum", body("status"))],
        ),
        (update, r#"{"status": 1}"#, vec![("enum", body("status"))]),
        (
            update,
            r#"{"checkpoint": []}"#,
            vec![("dict_type", body("checkpoint"))],
        ),
        (
            update,
            r#"{"context": "x"}"#,
            vec![("dict_type", body("context"))],
        ),
        (
            update,
            r#"{"runtime_metadata": 1}"#,
            vec![("dict_type", body("runtime_metadata"))],
        ),
        (steps, "{}", vec![("missing", body("code"))]),
        (steps, r#"{"code": 1}"#, vec![("string_type", body("code"))]),
        (
            steps,
            r#"{"code": "1", "timeout_ms": 0}"#,
            vec![("int_parsing", body("timeout_ms"))],
        ),
        (
            steps,
            r#"{"code": "1", "step_id": "x"}"#,
            vec![("uuid_parsing", body("step_id"))],
        ),
        (
            steps,
            r#"{"code": "1", "stdin": []}"#,
            vec![("string_type", body("stdin"))],
        ),
        ("POST /agents", "{}", vec![("missing", body("name"))]),
        (
            "POST /agents",
            r#"{"name": "a", "metadata": 1}"#,
            vec![("dict_type", body("metadata"))],
        ),
        (
            "POST /events",
            "{}",
            vec![
                ("missing", body("event_type")),
                ("missing", body("aggregate_type")),
                ("missing", body("aggregate_id")),
            ],
        ),
        (
            "GET /sessions?limit=-1",
            "",
            vec![("int_parsing", query("limit"))],
        ),
        (
            "GET /sessions?limit=99999999999999999999",
            "",
            vec![("int_parsing", query("limit"))],
        ),
        (
            "GET /sessions?limit=x",
            "",
            vec![("int_parsing", query("limit"))],
        ),
        (
            "GET /sessions?agent_id=x",
            "",
            vec![("uuid_parsing", query("agent_id"))],
        ),
        (
            "GET /sessions?status=active,ended",
            "",
            vec![("enum", query("status"))],
        ),
        (
            "GET /sessions?cursor=x",
            "",
            vec![("value_error", query("cursor"))],
        ),
        ("GET /agents?status=x", "", vec![("enum", query("status"))]),
        (
            "GET /agents?offset=-1",
            "",
            vec![("int_parsing", query("offset"))],
        ),
        (
            "GET /events?after_seq=x",
            "",
            vec![("int_parsing", query("after_seq"))],
        ),
        (
            "GET /events?aggregate_id=x",
            "",
            vec![("uuid_parsing", query("aggregate_id"))],
        ),
        (
            &format!("GET {session}/steps?after=x"),
            "",
            vec![("int_parsing", query("after"))],
        ),
        (
            &format!("GET {session}/output?stream=x"),
            "",
            vec![("enum", query("stream"))],
        ),
        (
            "POST /shutdown?workers=x",
            "",
            vec![("enum", query("workers"))],
        ),
        (
            "GET /agents/x",
            "",
            vec![("uuid_parsing", json!(["path", "agent_id"]))],
        ),
        (
            "GET /events/x",
            "",
            vec![("uuid_parsing", json!(["path", "event_id"]))],
        ),
        (
            &format!("GET {session}/steps/x"),
            "",
            vec![("uuid_parsing", json!(["path", "step_id"]))],
        ),
        (
            "GET /sessions/x%20y",
            "",
            vec![("uuid_parsing", json!(["path", "session_id"]))],
        ),
    ] {
        check(&api, request, sent, &expected).await;
    }
}

#[tokio::test]
async fn a_json_object_is_taken_whatever_its_content_type_says() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    for kind in [
        None,
        Some("application/x-www-form-urlencoded"),
        Some("text/plain"),
        Some("application/json; charset=utf-8"),
    ] {
        let mut request = api.request("PATCH", &path).body(r#"{"status": "paused"}"#);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        assert_eq!(
            Answer::of(request).await.check(200)["status"],
            "paused",
            "{kind:?}"
        );
        // Not without a key: that is what a web form could send.
        let request = api.bare("PATCH", &path).body(r#"{"status": "active"}"#);
        Answer::of(request)
            .await
            .problem(ProblemCode::AuthenticationRequired);
    }
    let empty = Answer::of(api.request("POST", "/sessions")).await;
    empty.check(201);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_the_connection_goes_on() {
    let api = Api::with(&["warm_python=0", "max_body=64KiB"]);
    let path = api.session(json!({})).await;
    let fits = json!({"context": {"x": "y".repeat(60_000)}});
    api.patch(&path, &fits).await.check(200);
    let too_large = json!({"context": {"x": "y".repeat(66_000)}});
    let large = too_large.to_string();
    for request in ["PATCH", "POST"] {
        let url = if request == "POST" {
            "/sessions"
        } else {
            &path
        };
        let answer = api.raw(request, url, &large).await;
        let problem = answer.problem(ProblemCode::BodyTooLarge);
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains("65536"), "it says the limit: {message}");
    }
    let step = json!({ "code": format!("'{}'", "y".repeat(66_000)) });
    let refused = api.post(&format!("{path}/steps"), &step).await;
    refused.problem(ProblemCode::BodyTooLarge);
    assert_eq!(api.get(&path).await.check(200)["context"], fits["context"]);
}

#[tokio::test]
async fn what_a_client_cannot_read_back_is_not_stored() {
    let api = Api::cold();
    let deep = format!(
        r#"{{"context": {{"a": {}1{}}}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    check(
        &api,
        "POST /sessions",
        &deep,
        &[("value_error", json!(["body", "context"]))],
    )
    .await;
    // Syntax of JSON that is unusual, but can be read by everyone.
    let fine = r#"{"context": {"a": "\u0000", "a": "\ud83e\udd80", "n": -0.0, "e": 1e308}}"#;
    let stored = api.raw("POST", "/sessions", fine).await;
    stored.check(201);
    assert!(
        stored
            .text()
            .contains(&fine["{\"context\": ".len()..fine.len() - 1])
    );
}
