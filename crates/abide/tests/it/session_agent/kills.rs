//! The agent dies and is started again: sessions, interpreters and steps are where they were.

use abide_model::ProblemCode as Code;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Agent, refused, step};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Points of a step's way, in order, and after how many passes the agent dies.
const POINTS: &[&str] = &[
    "step.before_accept",
    "step.before_send",
    "step.after_send",
    "step.during_output",
    "step.before_record",
    "step.after_record",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_in_a_step_it_runs_once_and_the_same_id_finds_it() {
    let mut agent = Agent::enforced();
    let session = agent.register("s1").await;
    agent.run("s1", "n = 0").await;
    let mut boots = vec![agent.boot_id().await];
    agent.agent.kill().unwrap();
    for (round, point) in POINTS.iter().chain(POINTS).enumerate() {
        agent
            .agent
            .up(&["--crash-point", &format!("{point}:1")])
            .unwrap();
        let code = "n += 1\nprint('run', n)";
        let body = step("s1", &format!("step-{round}"), code);
        let request = agent.request("POST", "/v1/steps").body(body.to_string());
        // It dies with the request, or answers and dies then.
        let _ = request.send().await;
        let exited = tokio::task::block_in_place(|| agent.agent.wait()).unwrap();
        assert_eq!(exited.signal, Some(9), "ended otherwise than at {point}");
        agent.up_again();
        boots.push(agent.boot_id().await);
        let found = agent.get("/v1/sessions/s1").await.check(200);
        assert_eq!(found, session, "the same interpreter");
        let ended = agent.post("/v1/steps", &body).await.check(200);
        assert_eq!(ended["stdout"], format!("run {}\n", round + 1), "{point}");
        assert_eq!(ended["outcome"], "completed");
        agent.agent.kill().unwrap();
    }
    boots.dedup();
    assert_eq!(
        boots.len(),
        1 + 2 * POINTS.len(),
        "each start is told apart"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_steps_of_a_killed_agent_run_in_order() {
    let mut agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    agent
        .submit("s1", "first", &format!("order = []\n{}", gate.waits()))
        .await;
    for n in 0..3 {
        agent
            .submit("s1", &format!("next-{n}"), &format!("order.append({n})"))
            .await;
    }
    let mut impatient = step("s1", "impatient", "order.append('never')");
    impatient["queueTimeoutMs"] = json!(1000);
    agent.post("/v1/steps?wait=0", &impatient).await.check(202);
    agent.agent.kill().unwrap();
    agent.up_again();
    // Its time goes on where it was.
    assert_eq!(
        agent.ended("s1", "impatient").await["outcome"],
        "interrupted"
    );
    let first = agent.get("/v1/sessions/s1/steps/first").await.check(200);
    assert_eq!(first["status"], "running");
    gate.open().await;
    assert_eq!(
        agent.run("s1", "print(order)").await["stdout"],
        "[0, 1, 2]\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn termination_answers_who_waits_and_what_runs_goes_on() {
    let mut agent = Agent::enforced();
    agent.register("s1").await;
    let (begun, gate) = (agent.gate(), agent.gate());
    let code = format!("{}\n{}\nprint('went on')", begun.waits(), gate.waits());
    let body = step("s1", "long", &code);
    let pid = agent.agent.pid().unwrap();
    let stopping = async {
        begun.open().await;
        signal(pid, Signal::TERM);
    };
    let (answer, ()) = tokio::join!(agent.post("/v1/steps", &body), stopping);
    let said = refused(&answer, 503, Code::ShuttingDown);
    assert!(said.contains("goes on"), "{said}");
    let exited = tokio::task::block_in_place(|| agent.agent.wait()).unwrap();
    assert_eq!(exited.code, Some(0));
    assert!(!agent.agent.files().join("agent.json").exists());
    gate.open().await;
    agent.up_again();
    assert_eq!(
        agent.post("/v1/steps", &body).await.check(200)["stdout"],
        "went on\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interpreter_that_died_meanwhile_is_told_as_dead() {
    let mut agent = Agent::bypass();
    let session = agent.register("s1").await;
    let pid = agent.run("s1", "import os; print(os.getpid())").await;
    let pid: u32 = pid["stdout"].as_str().unwrap().trim().parse().unwrap();
    let gate = agent.gate();
    agent
        .submit(
            "s1",
            "caught",
            &format!("{}\nwhile True: pass", gate.waits()),
        )
        .await;
    gate.open().await;
    let last = agent.get("/v1/news").await.check(200);
    assert_eq!(last, json!([]));
    agent.agent.kill().unwrap();
    signal(pid, Signal::KILL);
    agent.up_again();
    let news = agent.get("/v1/news?wait_ms=60000").await.check(200);
    assert_eq!(news[0]["workerId"], session["workerId"]);
    let caught = agent.ended("s1", "caught").await;
    assert_eq!(
        (&caught["outcome"], &caught["exitCode"]),
        (&json!("crashed"), &json!(137))
    );
    let answer = agent.post("/v1/steps", &step("s1", "next", "1")).await;
    refused(&answer, 503, Code::RuntimeCrashed);
    // And still after another start, which has no interpreter in hand.
    agent.agent.kill().unwrap();
    agent.up_again();
    let shown = agent.get("/v1/sessions/s1").await.check(200);
    assert_eq!(
        (&shown["status"], &shown["exit"]["signal"]),
        (&json!("crashed"), &json!(9))
    );
    assert_eq!(agent.ended("s1", "caught").await, caught);
    let answer = agent.post("/v1/steps", &step("s1", "next", "1")).await;
    refused(&answer, 503, Code::RuntimeCrashed);
    agent
        .post("/v1/sessions/s1/restart", &Value::Null)
        .await
        .check(200);
    assert_eq!(agent.run("s1", "print(1)").await["stdout"], "1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_agent_left_of_a_session_is_removed() {
    let mut agent = Agent::enforced();
    agent.register("ending").await;
    agent.register("kept").await;
    agent.run("kept", "x = 1").await;
    agent.agent.kill().unwrap();
    let sessions = agent.agent.files().join("sessions");
    for entry in std::fs::read_dir(&sessions).unwrap() {
        // As after a kill in the midst of a termination.
        let path = entry.unwrap().path().join("session.json");
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("\"ending\"") {
            let text = text.replace("\"terminating\":false", "\"terminating\":true");
            std::fs::write(&path, text).unwrap();
        }
    }
    // And in the midst of a registration.
    std::fs::create_dir(sessions.join(abide_model::SessionId::new().to_string())).unwrap();
    agent.up_again();
    refused(
        &agent.get("/v1/sessions/ending").await,
        404,
        Code::SessionNotFound,
    );
    for dir in ["sessions", "workers", "workspaces"] {
        let entries = std::fs::read_dir(agent.agent.files().join(dir)).unwrap();
        assert_eq!(entries.count(), 1, "{dir}");
    }
    assert_eq!(agent.run("kept", "print(x)").await["stdout"], "1\n");
}
