//! A data plane that runs its sessions in its own process, and what they survive.

use abide_model::ProblemCode;
use abide_testkit::{processes_of_worker_dir, still_alive};
use serde_json::json;

use super::{Plane, open};

const IN_PROCESS: &str = "agent_in_process=true";

fn in_process() -> Plane {
    Plane::with(open().set(IN_PROCESS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_the_one_process() {
    let mut plane = in_process();
    let before = plane.create("s1").await;
    plane.run("s1", "x = 41").await;
    assert_eq!(plane.program.agent_pid(), None, "no other process");
    // A step under way when it dies is asked for afterwards, and was run once.
    let body = json!({ "command": "x += 1; print(x)", "stepId": "once" });
    let accepted = plane.post("/sessions/s1/steps?wait=0", &body).await;
    accepted.check(202);
    plane.program.kill().unwrap();
    plane.up_again();
    let again = plane.post("/sessions/s1/steps", &body).await.check(202);
    assert_eq!(again["stdout"], "42\n");
    plane.prints("s1", "print(x)", "42\n").await;
    let after = plane.get("/sessions/s1").await.check(200);
    assert_eq!(after["workerId"], before["workerId"]);
    assert_eq!(after["runtimeId"], before["runtimeId"]);
    assert_ne!(after["bootId"], before["bootId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stay_when_a_launched_agent_takes_its_place_and_back() {
    let mut plane = in_process();
    plane.create("s1").await;
    plane.run("s1", "x = 0").await;
    for (round, setting) in ["agent_in_process=false", IN_PROCESS].iter().enumerate() {
        assert_eq!(plane.program.stop().unwrap().code, Some(0));
        plane.program.set(setting);
        plane.up_again();
        let printed = format!("{}\n", round + 1);
        plane.prints("s1", "x += 1; print(x)", &printed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_step_prints_and_how_it_fails_is_told_as_by_an_agent_apart() {
    let plane = in_process();
    plane.create("s1").await;
    let step = plane.run("s1", "print('x' * 100_000); 1 / 0").await;
    assert_eq!(step["error"]["type"], "ZeroDivisionError", "{step}");
    assert_eq!(step["truncated"], true);
    assert!(step["stdout"].as_str().unwrap().starts_with("xxx"));
    let path = format!("/sessions/s1/steps/{}", step["stepId"].as_str().unwrap());
    assert_eq!(plane.get(&path).await.check(200), step);
    let step = plane.run("s1", "import os; os._exit(3)").await;
    let how = (&step["outcome"], &step["exitCode"]);
    assert_eq!(how, (&json!("crashed"), &json!(3)));
    let body = json!({ "command": "1" });
    let next = plane.post("/sessions/s1/steps", &body).await;
    next.problem(ProblemCode::RuntimeCrashed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_sessions_leave_no_process() {
    let plane = in_process();
    let session = plane.create("s1").await;
    let worker = session["workerId"].as_str().unwrap().to_owned();
    let body = json!({ "command": "while True: pass" });
    let submitted = plane.post("/sessions/s1/steps?wait=0", &body).await;
    submitted.check(202);
    let terminated = plane.post("/sessions/s1/terminate", &json!({})).await;
    terminated.check(202);
    let workers = plane.program.files().join("agent/session-agent/workers");
    for pid in processes_of_worker_dir(&workers.join(worker)) {
        assert!(!still_alive(pid), "process {pid} is left");
    }
}
