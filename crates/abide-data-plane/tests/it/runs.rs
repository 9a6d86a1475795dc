//! One-shot runs over HTTP.

use serde_json::{Value, json};

use crate::world::World;

async fn post(url: String, body: Value) -> (u16, Value) {
    let response = reqwest::Client::new().post(url).json(&body).send();
    let response = response.await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(url: String) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_run_is_executed_once_recorded_and_cleaned_up() {
    let world = World::new();
    let url = world.serve_openly().await;
    let job = json!({"jobId": "j1", "language": "python3", "code": "x", "timeoutMs": 5000});
    let (status, run) = post(format!("{url}/runs?wait_ms=30000"), job.clone()).await;
    assert_eq!(
        (status, &run["run_id"], &run["id"]),
        (202, &json!("j1-run"), &json!("j1-run"))
    );
    assert_eq!(
        (&run["status"], &run["stdout"]),
        (&json!("finished"), &json!("ran x"))
    );
    assert_eq!(run["exitCode"], 0);
    let (status, shown) = get(format!("{url}/runs/j1-run")).await;
    assert_eq!((status, &shown), (200, &run));
    // The same job again is the same run; the same name for another is a conflict.
    assert_eq!(post(format!("{url}/runs"), job).await, (202, run));
    let other = json!({"jobId": "j1", "language": "node", "code": "x"});
    let (status, problem) = post(format!("{url}/runs"), other).await;
    assert_eq!(
        (status, &problem["error"]),
        (409, &json!("idempotency_conflict"))
    );
    let memory = world.agent.memory.lock();
    assert_eq!(memory.executions.len(), 1);
    assert!(memory.sessions.is_empty());
}

#[tokio::test]
async fn a_run_can_be_ended_and_what_is_wrong_is_said() {
    let world = World::new();
    let url = world.serve_openly().await;
    let job = json!({"jobId": "j1", "language": "node", "code": "wait for ever"});
    let (status, run) = post(format!("{url}/runs"), job).await;
    assert_eq!((status, &run["status"]), (202, &json!("running")));
    world
        .agent
        .wait_for(|memory| memory.executions.len() == 1)
        .await;
    let (status, run) = post(format!("{url}/runs/j1-run/terminate"), json!({})).await;
    assert_eq!((status, &run["status"]), (202, &json!("terminated")));
    assert!(world.agent.memory.lock().sessions.is_empty());
    let (status, problem) = get(format!("{url}/runs/j2-run")).await;
    assert_eq!((status, &problem["error"]), (404, &json!("run_not_found")));
    for (body, field) in [
        (json!({"language": "python", "code": "x"}), "jobId"),
        (
            json!({"jobId": "a/b", "language": "python", "code": "x"}),
            "jobId",
        ),
        (
            json!({"jobId": "j", "language": "ruby", "code": "x"}),
            "language",
        ),
        (json!({"jobId": "j", "language": "node"}), "code"),
    ] {
        let (status, problem) = post(format!("{url}/runs"), body).await;
        assert_eq!(status, 400);
        assert!(
            problem["message"].as_str().unwrap().contains(field),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn an_idempotency_key_names_one_run() {
    let world = World::new();
    let url = world.serve_openly().await;
    let send = async |job: &str| {
        let job = json!({"jobId": job, "language": "python", "code": "x"});
        let request = reqwest::Client::new().post(format!("{url}/runs?wait_ms=30000"));
        let response = request.header("idempotency-key", "k").json(&job).send();
        response.await.unwrap().status().as_u16()
    };
    assert_eq!(send("j1").await, 202);
    assert_eq!(send("j1").await, 202);
    assert_eq!(send("j2").await, 409);
    assert_eq!(world.agent.executions(), 1);
}
