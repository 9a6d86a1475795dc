//! The user stories of session routing, on a session agent that the test starts and kills.

use abide_testkit::TestAgent;
use serde_json::json;

use super::{Plane, open, options};

fn agent() -> TestAgent {
    TestAgent::start(options()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us1_1_a_variable_of_one_step_is_there_in_the_next() {
    let agent = agent();
    let plane = Plane::on(&agent);
    plane.create("s1").await;
    plane.prints("s1", "print(\"hello\")", "hello\n").await;
    plane.prints("s1", "x=5*10", "").await;
    plane.prints("s1", "print(x)", "50\n").await;
    let body = json!({ "sessionId": "n1", "runtime": "javascript" });
    plane.post("/sessions", &body).await.check(202);
    plane.prints("n1", "const y = 5 * 10", "").await;
    plane.prints("n1", "console.log(y)", "50\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us1_2_a_file_of_one_step_is_there_in_the_next() {
    let agent = agent();
    let plane = Plane::on(&agent);
    let body = json!({ "sessionId": "s1", "workspaceRef": "shared" });
    plane.post("/sessions", &body).await.check(202);
    plane.run("s1", "open('f', 'w').write('kept')").await;
    plane
        .prints("s1", "print(open('f').read())", "kept\n")
        .await;
    // Also for another session of the same workspace, and after the first has ended.
    plane
        .post("/sessions/s1/terminate", &json!({}))
        .await
        .check(202);
    let body = json!({ "sessionId": "s2", "workspaceRef": "shared" });
    plane.post("/sessions", &body).await.check(202);
    plane
        .prints("s2", "print(open('f').read())", "kept\n")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us2_1_each_step_runs_in_its_own_sessions_runtime() {
    let agent = agent();
    let plane = Plane::on(&agent);
    for session in ["a", "b"] {
        plane.create(session).await;
        plane.run(session, &format!("secret = {session:?}")).await;
    }
    let both = tokio::join!(
        plane.run("a", "print(secret)"),
        plane.run("b", "print(secret)")
    );
    assert_eq!(
        (&both.0["stdout"], &both.1["stdout"]),
        (&json!("a\n"), &json!("b\n"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us2_2_a_runtime_that_lost_the_session_is_a_clear_error() {
    let mut lost = agent();
    let plane = Plane::on(&lost);
    plane.create("s1").await;
    plane.run("s1", "x = 1").await;
    // Its data directory is gone, and with it all that it knew.
    let address = lost.url().trim_start_matches("http://").to_owned();
    lost.kill().unwrap();
    let other = TestAgent::start(options().at(&address)).unwrap();
    let step = json!({ "command": "print(x)", "stepId": "t" });
    let problem = plane.post("/sessions/s1/steps", &step).await;
    let text = problem.text().to_owned();
    // Whoever noticed first: the step, or the comparison that the restart set off.
    assert_eq!(problem.status, 409, "{text}");
    assert!(text.contains("runtime_identity_mismatch"), "{text}");
    assert!(text.contains("\"retryable\":false"), "{text}");
    let session = plane.get("/sessions/s1").await.check(200);
    assert_eq!(session["status"], "crashed");
    // A fresh interpreter is there for the asking.
    plane
        .post("/sessions/s1/restart", &json!({}))
        .await
        .check(202);
    plane.prints("s1", "print(2)", "2\n").await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us3_3_outside_production_the_agents_tokens_can_be_left_out() {
    let agent = TestAgent::start(options().env("SESSION_AGENT_AUTH_BYPASS", "true")).unwrap();
    let options = open()
        .env("SESSION_AGENT_ENDPOINT", agent.url())
        .env("SESSION_AGENT_AUTH_MODE", "bypass");
    let plane = Plane::with(options);
    let session = plane.create("s1").await;
    assert_eq!(session["authMode"], "bypass");
    plane.prints("s1", "print(1)", "1\n").await;
    for (variable, value) in [
        ("SESSION_AGENT_AUTH_MODE", "bypass"),
        ("AUTHZ_BYPASS", "true"),
    ] {
        let mut command = plane.program.command(&["data-plane", "--port", "0"]);
        let refused = command
            .env_remove("AUTHZ_BYPASS")
            .env_remove("SESSION_AGENT_AUTH_MODE")
            .env("ENV", "Prod")
            .env(variable, value)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.starts_with(&format!("config error: {variable} ")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_many_sessions_keep_their_own_output() {
    let agent = agent();
    let plane = Plane::on(&agent);
    let sessions: Vec<String> = (0..8).map(|n| format!("s{n}")).collect();
    futures_util::future::join_all(sessions.iter().map(|session| async {
        let session = session.as_str();
        plane.create(session).await;
        plane.run(session, &format!("secret = {session:?}")).await;
        for _ in 0..5 {
            plane
                .prints(session, "print(secret)", &format!("{session}\n"))
                .await;
        }
    }))
    .await;
}
