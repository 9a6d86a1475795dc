//! Health, documentation, metrics and request ids.

use std::collections::BTreeSet;

use abide_control_plane::METRIC_NAMES;
use abide_model::ProblemCode;
use serde_json::json;

use super::http::{Answer, Api, Composition as _};

#[tokio::test]
async fn health_in_every_spelling() {
    let api = Api::cold();
    let root = Answer::of(api.bare("GET", "/")).await.check(200);
    assert_eq!(root["service"], "abide");
    assert_eq!(root["status"], "operational");
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    for path in root["endpoints"].as_object().unwrap().values() {
        let path = path.as_str().unwrap();
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    for path in ["/healthz", "/health/live"] {
        let alive = Answer::of(api.bare("GET", path)).await.check(200);
        assert_eq!(alive["status"], "alive", "{path}");
    }
    for path in ["/readyz", "/health/ready"] {
        let ready = Answer::of(api.bare("GET", path)).await.check(200);
        assert_eq!(
            ready,
            json!({"status": "ready", "database": "up"}),
            "{path}"
        );
    }
    let health = api.get("/health").await.check(200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        health,
        json!({
            "status": "healthy", "service": "abide", "version": version,
            "sessions": 0, "orphanedSessions": 0, "exitedSessions": 0, "bufferBytes": 0,
        })
    );
    let denied = Answer::of(api.bare("GET", "/health")).await;
    denied.problem(ProblemCode::AuthenticationRequired);
}

#[tokio::test]
async fn status_tells_what_the_server_is_doing() {
    let api = Api::with(&["warm_python=1", "warm_node=0"]);
    let path = api.session(json!({})).await;
    let code = "import threading\nprint('on', flush=True)\nthreading.Event().wait()";
    let running = api.submit(&path, code).await;
    let waiting = api.submit(&path, "1").await;
    api.begun(&running).await;
    let status = api.get("/status").await.check(200);
    assert_eq!(status["pid"], api.server.pid().unwrap());
    assert_eq!(status["url"], api.server.url());
    assert_eq!(status["data_dir"], api.server.own_files().to_str().unwrap());
    for (field, value) in [
        ("sessions", 1),
        ("live_interpreters", 1),
        ("running_steps", 1),
        ("queued_steps", 1),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!(status["warm"]["node"], 0);
    let metrics = Answer::of(api.bare("GET", "/metrics")).await;
    for line in [
        "abide_sessions 1",
        "abide_interpreters 1",
        "abide_running_steps 1",
        "abide_queued_steps 1",
    ] {
        assert!(
            metrics.text().lines().any(|l| l == line),
            "{line} in {}",
            metrics.text()
        );
    }
    api.delete(&running).await;
    api.ended(&waiting).await;
}

#[tokio::test]
async fn metrics_are_the_listed_ones_and_count() {
    let api = Api::cold();
    let path = api.session(json!({})).await;
    api.run(&path, "print('123456789')").await;
    api.run(&path, "1/0").await;
    api.get("/nowhere").await;
    // A step is counted once its end is durable, a moment after it was answered.
    let counted = "abide_step_duration_seconds_count 2";
    let mut answer = Answer::of(api.bare("GET", "/metrics")).await;
    for _ in 0..1000 {
        if answer.text().contains(counted) {
            break;
        }
        answer = Answer::of(api.bare("GET", "/metrics")).await;
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, kind));
    let text = answer.text();
    let families: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let listed: BTreeSet<&str> = METRIC_NAMES
        .iter()
        .map(|(name, _)| name.strip_suffix("_total").unwrap_or(name))
        .collect();
    assert_eq!(families, listed);
    for line in [
        "abide_steps_total{status=\"completed\"} 1",
        "abide_steps_total{status=\"error\"} 1",
        "abide_step_output_bytes_total{stream=\"stdout\"} 10",
        "abide_step_duration_seconds_count 2",
        "abide_http_requests_total{route=\"/sessions\",method=\"POST\",status=\"201\"} 1",
        "abide_http_requests_total{route=\"/sessions/{session_id}/steps\",method=\"POST\",status=\"200\"} 2",
        "abide_http_requests_total{route=\"(none)\",method=\"GET\",status=\"404\"} 1",
        "abide_sessions 1",
        "abide_interpreters 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn documentation_is_served_whole_and_leaves_nothing_out() {
    let api = Api::cold();
    let document = Answer::of(api.bare("GET", "/openapi.json"))
        .await
        .check(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "Abide");
    let page = Answer::of(api.bare("GET", "/docs")).await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let text = page.text();
    for part in [
        "src=\"http",
        "src='http",
        "href=\"http",
        "@import",
        "url(http",
        "//cdn",
    ] {
        assert!(!text.contains(part), "{part}: everything is embedded");
    }
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let api = Api::cold();
    let ask = |path: &'static str, id: &'static str| {
        Answer::of(api.request("GET", path).header("x-request-id", id))
    };
    let answer = ask("/sessions", "my-id-1").await;
    assert_eq!(answer.header("x-request-id"), "my-id-1");
    let refused = ask("/nowhere", "my-id-2")
        .await
        .problem(ProblemCode::NotFound);
    assert_eq!(refused["request_id"], "my-id-2");
    let made: BTreeSet<String> = [
        api.get("/sessions").await,
        api.get("/sessions").await,
        Answer::of(api.bare("GET", "/sessions")).await,
        Answer::of(api.bare("GET", "/healthz")).await,
        ask("/sessions", "not one word").await,
    ]
    .iter()
    .map(|answer| answer.header("x-request-id").to_owned())
    .collect();
    assert_eq!(made.len(), 5, "each has one of its own: {made:?}");
    assert!(made.iter().all(|id| id.len() == 32), "{made:?}");
}
