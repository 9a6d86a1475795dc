//! One-shot runs outlive the data plane that they were submitted to.

use abide_model::ProblemCode as Code;
use serde_json::{Value, json};

use super::{Planes, refused};
use crate::api::http::Answer;

/// A run of Python that notes in the workspace `work` that it was executed.
fn noted(job: &str, code: &str) -> Value {
    let code = format!("open('ran', 'a').write('x')\n{code}");
    json!({ "jobId": job, "language": "python", "code": code, "workspaceRef": "work" })
}

async fn post(planes: &Planes, key: &str, run: &Value) -> Answer {
    let request = planes.request("POST", "/runs?wait_ms=60000");
    let request = request.header("idempotency-key", key);
    Answer::of(request.body(run.to_string())).await
}

/// A run once it has ended.
async fn ended(planes: &Planes, run: &str) -> Value {
    let path = format!("/runs/{run}?wait_ms=60000");
    let run = planes.get(&path).await.check(200);
    assert!(run["finished_at"].is_string(), "it does not end: {run}");
    run
}

/// How often code ran in the workspace.
fn times(planes: &Planes) -> usize {
    let ran = planes.data.files().join("workspaces/work/ran");
    std::fs::read_to_string(ran).unwrap_or_default().len()
}

/// Waits until the agent has no session any more.
async fn nothing_is_left(planes: &Planes) {
    let sessions = async || {
        let url = format!("{}/v1/sessions", planes.agent.url());
        let request = planes.http.get(url).bearer_auth(super::SECRET);
        Answer::of(request).await.check(200)
    };
    while sessions().await != json!([]) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_and_its_key_are_known_to_the_data_plane_that_comes_after() {
    let mut planes = Planes::start();
    let run = noted("j1", "print('out'); 6 * 7");
    let told = post(&planes, "k", &run).await.check(202);
    assert_eq!(
        (&told["status"], &told["stdout"], &told["exitCode"]),
        (&json!("finished"), &json!("out\n"), &json!(0)),
        "{told}"
    );
    let failing = noted("j2", "1 / 0");
    let failed = post(&planes, "l", &failing).await.check(202);
    assert_eq!(failed["status"], "failed");
    planes.restart_data_plane();
    assert_eq!(planes.get("/runs/j1-run").await.check(200), told);
    assert_eq!(planes.get("/runs/j2-run").await.check(200), failed);
    assert_eq!(post(&planes, "k", &run).await.check(202), told);
    let other = post(&planes, "k", &noted("j3", "1")).await;
    refused(&other, 409, Code::IdempotencyConflict);
    let other = post(&planes, "m", &noted("j1", "something else")).await;
    refused(&other, 409, Code::IdempotencyConflict);
    assert_eq!(times(&planes), 2);
    nothing_is_left(&planes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_data_plane_is_killed_ends_once_and_leaves_nothing() {
    let mut planes = Planes::start();
    let [through, ended_meanwhile, lost] = [(); 3].map(|()| planes.gate());
    for (job, gate) in [("j1", &through), ("j2", &ended_meanwhile)] {
        let run = noted(job, &format!("{}\nprint('on')", gate.begins_and_waits()));
        planes.post("/runs", &run).await.check(202);
        gate.begun().await;
    }
    planes.data.kill().unwrap();
    ended_meanwhile.open();
    tokio::task::block_in_place(|| planes.data.up().unwrap());
    planes.client = super::Client::of(&planes.data);
    let run = planes.get("/runs/j1-run").await.check(200);
    assert_eq!(run["status"], "running", "{run}");
    through.open();
    for run in ["j1-run", "j2-run"] {
        let run = ended(&planes, run).await;
        assert_eq!(
            (&run["status"], &run["stdout"]),
            (&json!("finished"), &json!("on\n")),
            "{run}"
        );
    }
    assert_eq!(times(&planes), 2, "each once");
    nothing_is_left(&planes).await;

    // Its runtime is lost as well: then it has failed, and is not run again elsewhere.
    let run = noted("j3", &lost.begins_and_waits());
    planes.post("/runs", &run).await.check(202);
    lost.begun().await;
    planes.data.kill().unwrap();
    planes.replace_agent();
    tokio::task::block_in_place(|| planes.data.up().unwrap());
    planes.client = super::Client::of(&planes.data);
    let failed = ended(&planes, "j3-run").await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["problem"]["code"], "runtime_identity_mismatch");
    assert_eq!(times(&planes), 3);
    nothing_is_left(&planes).await;
    planes.restart_data_plane();
    assert_eq!(planes.get("/runs/j3-run").await.check(200), failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_ended_stays_so() {
    let mut planes = Planes::start();
    let gate = planes.gate();
    let run = noted("j1", &gate.begins_and_waits());
    planes.post("/runs", &run).await.check(202);
    gate.begun().await;
    let path = "/runs/j1-run/terminate";
    let terminated = planes.post(path, &Value::Null).await.check(202);
    assert_eq!(terminated["status"], "terminated");
    nothing_is_left(&planes).await;
    planes.restart_data_plane();
    let after = planes.get("/runs/j1-run").await.check(200);
    assert_eq!(
        (&after["status"], &after["finished_at"]),
        (&json!("terminated"), &terminated["finished_at"])
    );
    assert_eq!(after["problem"], Value::Null);
}
