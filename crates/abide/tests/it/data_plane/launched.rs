//! A data plane that launches its session agent, and what the two survive.

use abide_testkit::{processes_of_worker_dir, still_alive};
use serde_json::json;

use super::{Plane, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_is_back_with_its_sessions_before_the_next_step_fails() {
    let plane = Plane::launching();
    let before = plane.create("s1").await;
    plane.run("s1", "x = 40").await;
    for round in 1..=3 {
        let old = plane.program.agent_pid();
        plane.program.kill_agent().unwrap();
        let step = json!({ "command": "x += 1; print(x)", "stepId": format!("step-{round}") });
        let step = plane.post("/sessions/s1/steps", &step).await.check(202);
        assert_eq!(step["stdout"], format!("{}\n", 40 + round), "{step}");
        assert_ne!(plane.program.agent_pid(), old);
    }
    let after = plane.get("/sessions/s1").await.check(200);
    assert_eq!(after["workerId"], before["workerId"]);
    assert_ne!(after["bootId"], before["bootId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_data_plane_takes_its_agent_over_again() {
    let mut plane = Plane::launching();
    let before = plane.create("s1").await;
    plane.run("s1", "x = 41").await;
    let agent = plane.program.agent_pid();
    // A step under way when it dies is asked for afterwards, and was run once.
    let body = json!({ "command": "x += 1; print(x)", "stepId": "once" });
    let accepted = plane.post("/sessions/s1/steps?wait=0", &body).await;
    accepted.check(202);
    plane.program.kill().unwrap();
    plane.up_again();
    assert_eq!(plane.program.agent_pid(), agent, "the same process");
    let step = plane
        .get("/sessions/s1/steps/once?wait_ms=60000")
        .await
        .check(200);
    assert_eq!(step["stdout"], "42\n");
    let again = plane.post("/sessions/s1/steps", &body).await.check(202);
    assert_eq!(again["stdout"], "42\n");
    plane.prints("s1", "print(x)", "42\n").await;
    let after = plane.get("/sessions/s1").await.check(200);
    assert_eq!(
        (&after["workerId"], &after["bootId"]),
        (&before["workerId"], &before["bootId"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_data_plane_ends_its_agent_and_sessions_go_on() {
    let mut plane = Plane::launching();
    plane.create("s1").await;
    plane.run("s1", "x = 41").await;
    let agent = plane.program.agent_pid().unwrap().unsigned_abs();
    assert_eq!(plane.program.stop().unwrap().code, Some(0));
    plane.up_again();
    assert!(
        !still_alive(agent),
        "it was ended before the next one began"
    );
    plane.prints("s1", "print(x + 1)", "42\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_sessions_leave_no_process_and_no_scratch() {
    let plane = Plane::launching();
    let session = plane.create("s1").await;
    let worker = session["workerId"].as_str().unwrap().to_owned();
    let body = json!({ "command": "while True: pass" });
    plane
        .post("/sessions/s1/steps?wait=0", &body)
        .await
        .check(202);
    plane
        .post("/sessions/s1/terminate", &json!({}))
        .await
        .check(202);
    let workers = plane.program.files().join("agent/session-agent/workers");
    for pid in processes_of_worker_dir(&workers.join(worker)) {
        assert!(!still_alive(pid), "process {pid} is left");
    }
    let scratch = plane.program.files().join("workspaces/.scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_code_sees_nothing_of_the_planes_secrets() {
    let plane = Plane::with(
        options()
            .env("ABIDE_PLANE_KEYS", "the key between planes")
            .env("AUTH_JWT_SECRET", "the secret of tokens"),
    );
    let send = async |path: &str, body: &serde_json::Value| {
        let request = plane.http.post(format!("{}{path}", plane.program.url()));
        let request = request.bearer_auth("the key between planes");
        request.body(body.to_string()).send().await.unwrap()
    };
    let response = send("/sessions", &json!({ "sessionId": "s1" })).await;
    assert_eq!(response.status(), 202);
    let code = "import os\nfor p in (os.getpid(), os.getppid()):\n  print(open(f'/proc/{p}/environ').read())";
    let response = send("/sessions/s1/steps", &json!({ "command": code })).await;
    let text = response.text().await.unwrap();
    assert!(text.contains("ABIDE_"), "{text}");
    let secret = std::fs::read_to_string(plane.program.files().join("agent/secret")).unwrap();
    for secret in ["the key", "the secret", secret.trim()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    // The session agent itself knows its own secret and no other.
    let agent = plane.program.agent_pid().unwrap();
    let environ = std::fs::read(format!("/proc/{agent}/environ")).unwrap();
    let environ = String::from_utf8_lossy(&environ);
    assert!(!environ.contains("the key") && !environ.contains("the secret"));
    let answer = plane.get("/sessions").await;
    assert_eq!(answer.status, 401);
}
