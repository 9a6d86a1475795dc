//! Workspaces, ends and news: nothing is left over.

use abide_model::ProblemCode as Code;
use abide_testkit::processes_of_worker_dir;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Agent, refused, step};
use crate::api::http::Answer;
use crate::api::process::children;

#[tokio::test]
async fn terminate_answers_while_an_endless_step_runs_and_leaves_nothing() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    // With a child of its own that ignores polite signals.
    let code = format!(
        "import subprocess\n\
         child = subprocess.Popen(['sh', '-c', 'trap \"\" HUP INT TERM; while :; do read x; done'],\n\
         stdin=subprocess.PIPE, start_new_session=True)\n{}\nwhile True: pass",
        gate.waits()
    );
    let body = step("s1", "endless", &code);
    let ending = async {
        gate.open().await;
        agent.post("/v1/sessions/s1/terminate", &Value::Null).await
    };
    let (step, terminated) = tokio::join!(agent.post("/v1/steps", &body), ending);
    terminated.check(200);
    // Whoever waited hears of it.
    assert_eq!(step.check(200)["status"], "failed");
    let left = processes_of_worker_dir(&agent.agent.files());
    let left: Vec<_> = left
        .into_iter()
        .filter(|pid| Some(*pid) != agent.agent.pid())
        .collect();
    assert!(left.is_empty(), "orphans: {left:?}");
    let children = children(agent.agent.pid().unwrap());
    assert!(children.is_empty(), "zombies or children: {children:?}");
    for dir in ["sessions", "workers", "workspaces"] {
        let mut entries = std::fs::read_dir(agent.agent.files().join(dir)).unwrap();
        assert!(entries.next().is_none(), "{dir}");
    }
    refused(
        &agent.get("/v1/sessions/s1").await,
        404,
        Code::SessionNotFound,
    );
    // The name is free, with nothing of the one before.
    agent.register("s1").await;
    assert_eq!(
        agent.run("s1", "import os; print(os.listdir())").await["stdout"],
        "[]\n"
    );
    let again = agent
        .post("/v1/steps", &body_of("endless"))
        .await
        .check(200);
    assert_eq!(again["stdout"], "anew\n", "and its step names are");
}

fn body_of(id: &str) -> Value {
    step("s1", id, "print('anew')")
}

#[tokio::test]
async fn a_directory_that_was_named_is_used_made_and_kept() {
    let agent = Agent::enforced();
    let dir = agent.agent.home().join("made/for/it");
    let body = json!({ "sessionId": "s1", "runtime": "python", "workspaceDir": dir });
    agent.post("/v1/sessions", &body).await.check(200);
    agent.run("s1", "open('file', 'w').write('x')").await;
    agent
        .post("/v1/sessions/s1/terminate", &Value::Null)
        .await
        .check(200);
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "x");
}

#[tokio::test]
async fn a_death_is_told_to_who_waits_for_it() {
    let agent = Agent::bypass();
    let session = agent.register("s1").await;
    let pid = agent.run("s1", "import os; print(os.getpid())").await;
    let pid: i32 = pid["stdout"].as_str().unwrap().trim().parse().unwrap();
    let waiting = agent.get("/v1/news?after=0&wait_ms=60000");
    let killing = async { kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap() };
    let (news, ()) = tokio::join!(waiting, killing);
    let news = news.check(200);
    let exit = &news[0];
    assert_eq!(
        (&exit["sessionId"], &exit["workerId"]),
        (&json!("s1"), &session["workerId"])
    );
    assert_eq!(exit["exit"]["signal"], 9);
    let after = format!("/v1/news?after={}", exit["sequence"]);
    assert_eq!(agent.get(&after).await.check(200), json!([]));
    let shown = agent.get("/v1/sessions/s1").await.check(200);
    assert_eq!(
        (&shown["status"], &shown["exit"]["signal"]),
        (&json!("crashed"), &json!(9))
    );
    // What ends on request is no news.
    agent.register("s2").await;
    agent
        .post("/v1/sessions/s2/restart", &Value::Null)
        .await
        .check(200);
    agent
        .post("/v1/sessions/s2/terminate", &Value::Null)
        .await
        .check(200);
    assert_eq!(agent.get(&after).await.check(200), json!([]));
}

#[tokio::test]
async fn restart_ends_what_runs_and_the_session_goes_on() {
    let agent = Agent::enforced();
    let first = agent.register("s1").await;
    agent.run("s1", "x = 1; open('file', 'w')").await;
    let gate = agent.gate();
    agent
        .submit(
            "s1",
            "endless",
            &format!("{}\nwhile True: pass", gate.waits()),
        )
        .await;
    agent.submit("s1", "behind", "print('never')").await;
    gate.open().await;
    let fresh = agent
        .post("/v1/sessions/s1/restart", &Value::Null)
        .await
        .check(200);
    assert_ne!(fresh["workerId"], first["workerId"]);
    for id in ["endless", "behind"] {
        let ended = agent.ended("s1", id).await;
        assert_eq!(
            (&ended["status"], &ended["stdout"]),
            (&json!("failed"), &json!("")),
            "{ended}"
        );
    }
    let seen = agent
        .run("s1", "import os; print('x' in globals(), os.listdir())")
        .await;
    assert_eq!(seen["stdout"], "False ['file']\n");
    // The output of the interpreter before is still there.
    let old = first["workerId"].as_str().unwrap();
    agent
        .get(&format!("/v1/sessions/s1/output?worker={old}"))
        .await
        .bytes(200);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let agent = Agent::enforced();
    let body = json!({ "sessionId": "s1", "runtime": "python" }).to_string();
    // Sent, and the connection closed before the answer.
    let address = agent.agent.url().trim_start_matches("http://").to_owned();
    let mut connection = std::net::TcpStream::connect(&address).unwrap();
    let request = format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: {address}\r\nx-session-token: {}\r\n\
         content-length: {}\r\n\r\n{body}",
        super::TOKEN,
        body.len()
    );
    std::io::Write::write_all(&mut connection, request.as_bytes()).unwrap();
    drop(connection);
    let registered = Answer::of(agent.request("POST", "/v1/sessions").body(body)).await;
    let worker = registered.check(200)["workerId"].clone();
    assert_eq!(
        agent.get("/v1/sessions/s1").await.check(200)["workerId"],
        worker
    );
    assert_eq!(agent.get("/v1/health").await.check(200)["interpreters"], 1);
}
