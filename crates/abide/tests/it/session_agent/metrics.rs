//! `GET /metrics`: open to probes, and it tells what the agent has in hand.

use std::collections::BTreeSet;

use abide_session_agent::METRIC_NAMES;
use serde_json::json;

use super::{Agent, options};
use crate::api::http::Answer;

#[tokio::test]
async fn metrics_tell_of_steps_queues_workers_and_the_pool() {
    let agent = Agent::with(options().set("warm_python=1"));
    agent.register("m1").await;
    let body = json!({ "sessionId": "m2", "runtime": "node" });
    agent.post("/v1/sessions", &body).await.check(200);
    agent.run("m1", "x = 1").await;
    agent.run("m1", "1 / 0").await;
    let gate = agent.gate();
    agent.submit("m1", "runs", &gate.waits()).await;
    agent.submit("m1", "waits", "x").await;
    let mut text = String::new();
    // The pool is filled again in the background.
    while !text.contains("abide_session_agent_warm_interpreters{runtime=\"python\"} 1\n") {
        let answer = Answer::of(agent.bare("GET", "/metrics")).await;
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        text = answer.text().to_owned();
    }
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
        "steps_total{status=\"completed\"} 1",
        "steps_total{status=\"error\"} 1",
        "step_duration_seconds_count 2",
        "sessions 2",
        "interpreters{runtime=\"python\"} 1",
        "interpreters{runtime=\"node\"} 1",
        "warm_interpreters{runtime=\"node\"} 0",
        "running_steps 1",
        "queued_steps 1",
        "http_requests_total{route=\"/v1/sessions\",method=\"POST\",status=\"200\"} 2",
        "http_requests_total{route=\"/v1/steps\",method=\"POST\",status=\"202\"} 2",
    ] {
        let line = format!("abide_session_agent_{line}");
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    gate.open().await;
    agent.ended("m1", "waits").await;
}
