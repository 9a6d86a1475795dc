//! The functional requirements of session routing, each by its name.
//!
//! FR-010, that each story has tests, is what the modules beside this one are for.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use abide_model::ProblemCode as Code;
use abide_testkit::{TestAgent, TestDataPlane};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Planes, agent_options, data_options, options, refused};
use crate::api::http::Answer;
use crate::api::process::children;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_001_state_is_kept_across_steps() {
    let mut planes = Planes::start();
    planes.create("p").await;
    planes
        .create_with(json!({ "sessionId": "n", "runtime": "javascript" }))
        .await;
    let define = "import json\ndef twice(x): return 2 * x\ntotal = 0";
    planes.prints("p", define, "").await;
    planes
        .prints("n", "function twice(x) { return 2 * x } let total = 0", "")
        .await;
    for n in 1..=5 {
        planes
            .prints("p", &format!("total += twice({n})"), "")
            .await;
        planes
            .prints("n", &format!("total += twice({n}); undefined"), "")
            .await;
    }
    // Also across the planes' own deaths.
    planes.restart_agent();
    planes.restart_data_plane();
    planes.prints("p", "print(json.dumps(total))", "30\n").await;
    planes.prints("n", "console.log(total)", "30\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_002_workspace_files_are_kept_across_steps() {
    let mut planes = Planes::start();
    let named = json!({ "sessionId": "named", "workspaceRef": "team/project" });
    planes.create_with(named).await;
    planes.create("scratch").await;
    for session in ["named", "scratch"] {
        let write = format!("_ = open('f', 'w').write('of {session}')");
        planes.prints(session, &write, "").await;
    }
    planes.restart_agent();
    for session in ["named", "scratch"] {
        // In an interpreter of its own as well.
        let path = format!("/sessions/{session}/restart");
        planes.post(&path, &Value::Null).await.check(202);
        let expected = format!("of {session}\n");
        planes
            .prints(session, "print(open('f').read())", &expected)
            .await;
    }
    let root = planes.data.files().join("workspaces");
    let kept = std::fs::read_to_string(root.join("team/project/f")).unwrap();
    assert_eq!(kept, "of named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_003_the_session_id_alone_says_where_a_step_runs() {
    let planes = Planes::start();
    planes.create("p").await;
    planes
        .create_with(json!({ "sessionId": "n", "runtime": "node" }))
        .await;
    // The request's own opinion is not asked for.
    let step = json!({ "command": "print(type(1).__name__)", "runtime": "node",
        "sessionId": "n", "endpoint": "http://127.0.0.1:1" });
    let step = planes.post("/sessions/p/steps", &step).await.check(202);
    assert_eq!(step["stdout"], "int\n");
    let step = json!({ "command": "console.log(typeof 1)", "runtime": "python" });
    let step = planes.post("/sessions/n/steps", &step).await.check(202);
    assert_eq!(step["stdout"], "number\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_004_no_step_ever_reaches_another_sessions_runtime() {
    let planes = Planes::start();
    let sessions = ["a", "b", "c"];
    for session in sessions {
        planes.create(session).await;
        planes.run(session, &format!("mine = {session:?}")).await;
    }
    // The same step id in each, all at once.
    let same = sessions.map(|session| planes.submit(session, "same-id", "print(mine)"));
    let answers = futures_util::future::join_all(same).await;
    for (session, answer) in sessions.iter().zip(answers) {
        assert_eq!(answer.check(202)["stdout"], format!("{session}\n"));
        let found = planes.ended(session, "same-id").await;
        assert_eq!(found["stdout"], format!("{session}\n"));
    }
    // One that is gone takes no other's place.
    planes.terminate("b").await;
    let answer = planes.submit("b", "next", "print(mine)").await;
    refused(&answer, 410, Code::SessionExpired);
    planes.create("b").await;
    let step = planes.run("b", "print('mine' in globals())").await;
    assert_eq!(step["stdout"], "False\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_005_what_is_unavailable_is_a_deterministic_error() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    let mut told = Vec::new();
    for _ in 0..2 {
        let answer = planes.submit("s1", "same", "1").await;
        let mut problem = refused(&answer, 503, Code::RuntimeUnreachable);
        assert_eq!(problem["retryable"], false);
        assert_eq!(problem["details"]["attempts"], 3);
        problem.as_object_mut().unwrap().remove("request_id");
        told.push(problem);
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_006_production_has_no_exec() {
    let production = |options: abide_testkit::AgentOptions| options.env("ENV", "production");
    let planes = Planes::with(production(agent_options()), production(data_options()));
    planes.create("s1").await;
    planes.prints("s1", "print(1)", "1\n").await;
    // All that the data plane ever did is speak to the agent.
    let started = children(planes.data.pid().unwrap());
    assert!(started.is_empty(), "{started:?}");
    assert_eq!(planes.proxy.count("POST", "/v1/steps"), 1);
}

/// The lines that a data plane logged as JSON.
fn logged(planes: &Planes) -> Vec<Value> {
    let log = std::fs::read_to_string(planes.data.home().join("log")).unwrap();
    let lines = log.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// The planes with the data plane's log in a file, by a program in between that `dir` holds.
fn logging(dir: &TempDir) -> Planes {
    let mut data = data_options().set("log=info").set("log_format=json");
    let script = dir.path().join("logging");
    let text = format!("#!/bin/sh\nexec {:?} \"$@\" 2>>\"$HOME/log\"\n", data.exe);
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    data.exe = script;
    data.settings.retain(|setting| setting != "log=warn");
    Planes::with(agent_options(), data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_007_every_routing_decision_is_a_log_line() {
    let dir = tempfile::tempdir().unwrap();
    let planes = logging(&dir);
    planes.create("s1").await;
    planes.submit("s1", "good", "1").await.check(202);
    planes.submit("s1", "raises", "1 / 0").await.check(202);
    planes.submit("never", "nowhere", "1").await;
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    planes.submit("s1", "unreachable", "1").await;
    let (lines, endpoint) = (logged(&planes), planes.proxy.url());
    for (session, step, attempt, outcome) in [
        ("s1", "good", 1, "completed"),
        ("s1", "raises", 1, "error"),
        ("never", "nowhere", 1, "session_not_found"),
        ("s1", "unreachable", 3, "runtime_unreachable"),
    ] {
        let decided: Vec<_> = lines
            .iter()
            .filter(|line| line["message"] == "step routed" && line["step_id"] == step)
            .collect();
        let [line] = decided[..] else {
            panic!("{step}: not one line but {decided:?}");
        };
        let (runtime, endpoint, mode) = if session == "s1" {
            let runtime = endpoint.trim_start_matches("http://");
            (runtime, endpoint.as_str(), "enforced")
        } else {
            ("", "", "")
        };
        let fields = [
            ("session_id", json!(session)),
            ("runtime_id", json!(runtime)),
            ("target_endpoint", json!(endpoint)),
            ("auth_mode", json!(mode)),
            ("attempt", json!(attempt)),
            ("outcome", json!(outcome)),
        ];
        for (name, value) in fields {
            assert_eq!(line[name], value, "{name}: {line}");
        }
    }
    assert!(
        !logged(&planes)
            .iter()
            .any(|line| line.to_string().contains(super::KEY))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_008_the_session_agent_is_a_program_of_its_own_for_both_runtimes() {
    // As in a container of its own: a data directory, an address, and nothing else.
    let agent = TestAgent::start(options()).unwrap();
    let http = super::client();
    let send = |path: &str, body: Value| {
        let request = http.post(format!("{}{path}", agent.url()));
        Answer::of(
            request
                .header("x-session-token", "t")
                .body(body.to_string()),
        )
    };
    for (runtime, code) in [("python", "print(1)"), ("node", "console.log(1)")] {
        let body = json!({ "sessionId": runtime, "runtime": runtime, "token": "t" });
        send("/v1/sessions", body).await.check(200);
        let body = json!({ "sessionId": runtime, "stepId": "1", "code": code });
        let step = send("/v1/steps", body).await.check(200);
        assert_eq!(
            (&step["status"], &step["stdout"]),
            (&json!("completed"), &json!("1\n"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr_009_a_local_run_without_credentials_is_one_explicit_setting_away() {
    let data = TestDataPlane::start(options().env("ENV", "dev").env("AUTHZ_BYPASS", "true"));
    let data = data.unwrap();
    let http = super::client();
    let send = |path: &str, body: Value| {
        let request = http.post(format!("{}{path}", data.url()));
        Answer::of(request.body(body.to_string()))
    };
    let create = json!({ "sessionId": "s1", "runtime": "python" });
    send("/sessions", create.clone()).await.check(202);
    let step = send("/sessions/s1/steps", json!({ "command": "print(1)" })).await;
    assert_eq!(step.check(202)["stdout"], "1\n");
    // Without it nobody gets in, except to ask how it is.
    let data = TestDataPlane::start(options().env("ENV", "dev")).unwrap();
    let create = http
        .post(format!("{}/sessions", data.url()))
        .body(create.to_string());
    refused(&Answer::of(create).await, 401, Code::AuthenticationRequired);
    let health = http.get(format!("{}/healthz", data.url()));
    Answer::of(health).await.check(200);
}
