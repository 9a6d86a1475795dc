//! Health, documentation, metrics, request ids and logs.

use std::collections::BTreeSet;

use abide_control_plane::METRIC_NAMES;
use abide_model::ProblemCode;
use abide_testkit::{ServerOptions, TestServer};
use serde_json::{Value, json};

use super::http::{Answer, Api};
use crate::abide::Place;

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
        json!({"status": "healthy", "service": "abide", "version": version})
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
    assert_eq!(status["data_dir"], api.server.data_dir().to_str().unwrap());
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

#[test]
fn log_lines_are_json_with_request_ids() {
    let place = Place::new();
    let up = [
        "up",
        "-d",
        "--port",
        "0",
        "--set",
        "log_format=json",
        "--set",
        "warm_python=0",
    ];
    place.run(&up).check(0, "");
    place.run(&["run", "-s", "demo", "1"]).check(0, "");
    place.run(&["down"]).check(0, "");
    let log = std::fs::read_to_string(place.data_dir().join("abide.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let answered: Vec<&Value> = lines
        .iter()
        .filter(|l| l["message"] == "answered")
        .collect();
    assert!(answered.len() >= 3, "{log}");
    for line in &answered {
        let id = line["span"]["id"].as_str().unwrap();
        assert!(!id.is_empty());
        assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
        assert!(line["ms"].is_number() && line["timestamp"].is_string());
        assert!(line["span"]["route"].is_string() && line["span"]["method"].is_string());
    }
    let key = std::fs::read_to_string(place.data_dir().join("key")).unwrap();
    assert!(!log.contains(key.trim()), "the key is not logged");
}

#[tokio::test]
async fn the_server_may_open_many_files_and_programs_as_many_as_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let few = directory.path().join("abide-with-few-files");
    let exe = env!("CARGO_BIN_EXE_abide");
    std::fs::write(
        &few,
        format!("#!/bin/sh\nulimit -Sn 200\nexec '{exe}' \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&few, std::fs::Permissions::from_mode(0o700)).unwrap();
    let api = Api::of(TestServer::start(ServerOptions::new(&few)).unwrap());
    let path = api.session(json!({})).await;
    let code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[0]";
    let step = api.run(&path, code).await;
    assert_eq!(step["result"]["text"], "200");
    let limits = format!("/proc/{}/limits", api.server.pid().unwrap());
    let limits = std::fs::read_to_string(limits).unwrap();
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = open_files.unwrap().split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "soft and hard limit");
}
