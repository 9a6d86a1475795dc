//! Steps: in order, each once, each with its own output, whatever else goes on.

use std::time::Instant;

use abide_model::ProblemCode as Code;
use serde_json::{Value, json};

use super::{Agent, refused, step};
use crate::api::http::Answer;

#[tokio::test]
async fn us1_1_and_us1_2_variables_and_files_are_there_in_the_next_step() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    agent
        .run("s1", "x = 41\nopen('file', 'w').write('kept')")
        .await;
    let next = agent.run("s1", "print(x + 1, open('file').read())").await;
    assert_eq!(next["stdout"], "42 kept\n");
}

#[tokio::test]
async fn node_steps_keep_state() {
    let agent = Agent::enforced();
    let body = json!({ "sessionId": "n1", "runtime": "javascript" });
    assert_eq!(
        agent.post("/v1/sessions", &body).await.check(200)["runtime"],
        "node"
    );
    agent.run("n1", "let x = 41").await;
    assert_eq!(
        agent.run("n1", "console.log(x + 1)").await["stdout"],
        "42\n"
    );
}

#[tokio::test]
async fn five_steps_at_once_each_have_their_own_output() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    agent.register("s2").await;
    let run = |n: usize| {
        let agent = &agent;
        async move {
            let session = ["s1", "s2"][n % 2];
            let code = format!("import sys; print('out {n}'); print('err {n}', file=sys.stderr)");
            let ended = agent.run(session, &code).await;
            assert_eq!(ended["stdout"], format!("out {n}\n"));
            assert_eq!(ended["stderr"], format!("err {n}\n"));
        }
    };
    tokio::join!(run(0), run(1), run(2), run(3), run(4));
}

#[tokio::test]
async fn a_step_that_is_sent_twice_while_it_runs_is_executed_once() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    let code = format!(
        "open('runs', 'a').write('x')\n{}\nprint('done')",
        gate.waits()
    );
    let body = step("s1", "same", &code);
    let send = || agent.post("/v1/steps", &body);
    let (first, second, third, ()) = tokio::join!(send(), send(), send(), gate.open());
    let first = first.check(200);
    assert_eq!(first["stdout"], "done\n");
    assert_eq!(
        (second.check(200), third.check(200)),
        (first.clone(), first.clone())
    );
    // And long after.
    agent.run("s1", "y = 2").await;
    assert_eq!(send().await.check(200), first);
    let runs = agent.run("s1", "print(open('runs').read())").await;
    assert_eq!(runs["stdout"], "x\n");
    let other = agent.post("/v1/steps", &step("s1", "same", "1")).await;
    refused(&other, 409, Code::IdempotencyConflict);
    // Another session may use the same name.
    agent.register("s2").await;
    let elsewhere = agent
        .post("/v1/steps", &step("s2", "same", "print(2)"))
        .await;
    assert_eq!(elsewhere.check(200)["stdout"], "2\n");
}

#[tokio::test]
async fn stray_output_shifts_no_result() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let code = "import os, sys\nos.system('echo leaked')\nprint('{\"status\": \"completed\"}')\n\
                os.write(1, b'raw\\n'); sys.__stdout__.write('dunder\\n')\nprint('end')";
    let ended = agent.run("s1", code).await;
    let lines: Vec<_> = ended["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 5, "{ended}");
    // A thread that prints between two steps, and is waited for by the second.
    let gate = agent.gate();
    let code = format!(
        "import threading\ndef late():\n    {}\n    print('late')\n\
         thread = threading.Thread(target=late); thread.start()",
        gate.waits()
    );
    assert_eq!(agent.run("s1", &code).await["stdout"], "");
    gate.open().await;
    agent.run("s1", "thread.join()").await;
    for n in 0..5 {
        let ended = agent.run("s1", &format!("print('own {n}')")).await;
        assert_eq!(ended["stdout"], format!("own {n}\n"));
    }
}

#[tokio::test]
async fn a_step_can_be_left_asked_for_and_cancelled() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    let code = format!("print('on', flush=True)\n{}", gate.waits());
    agent.submit("s1", "first", &code).await;
    let waiting = agent.submit("s1", "second", "print('second')").await;
    assert_eq!(
        (&waiting["stepId"], &waiting["status"]),
        (&json!("second"), &json!("accepted"))
    );
    let third = agent.submit("s1", "third", "print('third')").await;
    assert_eq!(third["status"], "accepted");
    // A long poll that runs out says how things stand.
    let path = "/v1/sessions/s1/steps";
    let now = agent
        .get(&format!("{path}/second?wait_ms=1"))
        .await
        .check(200);
    assert_eq!(now["status"], "accepted");
    let cancel = agent.request("DELETE", &format!("{path}/second"));
    assert_eq!(Answer::of(cancel).await.check(202)["stepId"], "second");
    let cancelled = agent.ended("s1", "second").await;
    assert_eq!(
        (&cancelled["status"], &cancelled["outcome"]),
        (&json!("failed"), &json!("interrupted"))
    );
    assert_eq!(cancelled["exitCode"], 130);
    assert_eq!(cancelled["stdout"], "", "it never ran");
    let (ended, ()) = tokio::join!(agent.ended("s1", "first"), gate.open());
    assert_eq!(ended["stdout"], "on\n");
    assert_eq!(agent.ended("s1", "third").await["stdout"], "third\n");
    // One that has ended stays as it is.
    let cancel = agent.request("DELETE", &format!("{path}/third"));
    assert_eq!(Answer::of(cancel).await.check(202)["status"], "completed");
}

#[tokio::test]
async fn a_running_step_is_interrupted_by_session_and_by_id() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    // Tells that it runs by opening the gate's other end.
    let endless = format!("kept = 1\n{}\nwhile True: pass", gate.waits());
    for (id, method, path) in [
        ("a", "POST", "/v1/sessions/s1/interrupt"),
        ("b", "DELETE", "/v1/sessions/s1/steps/b"),
    ] {
        agent.submit("s1", id, &endless).await;
        gate.open().await;
        let asked = Answer::of(agent.request(method, path)).await;
        assert!(asked.status < 300, "{}", asked.text());
        let ended = agent.ended("s1", id).await;
        assert_eq!(ended["outcome"], "interrupted", "{ended}");
    }
    assert_eq!(
        agent.run("s1", "print(kept)").await["stdout"],
        "1\n",
        "it lives on"
    );
}

#[tokio::test]
async fn limits_of_running_and_of_waiting() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let mut endless = step("s1", "endless", "while True: pass");
    endless["timeoutMs"] = json!(50);
    let stopped = agent.post("/v1/steps", &endless).await.check(200);
    assert_eq!(
        (&stopped["outcome"], &stopped["exitCode"]),
        (&json!("timeout"), &json!(124))
    );

    let gate = agent.gate();
    agent.submit("s1", "first", &gate.waits()).await;
    let mut impatient = step("s1", "impatient", "print('ran')");
    impatient["queueTimeoutMs"] = json!(1);
    let left = agent.post("/v1/steps", &impatient).await.check(200);
    assert_eq!(
        (&left["outcome"], &left["stdout"]),
        (&json!("interrupted"), &json!(""))
    );
    // The limit is over once its turn has come.
    let first = agent.get("/v1/sessions/s1/steps/first").await.check(200);
    assert_eq!(first["status"], "running");
    gate.open().await;
    assert_eq!(agent.ended("s1", "first").await["status"], "completed");
    let again = agent.post("/v1/steps", &impatient).await.check(200);
    assert_eq!(again, left, "it has had its chance");
}

#[tokio::test]
async fn queues_are_bounded_and_standard_input_is_given() {
    let agent = Agent::with(super::options().set("queue_length=2"));
    agent.register("s1").await;
    let gate = agent.gate();
    agent.submit("s1", "a", &gate.waits()).await;
    let mut reads = step("s1", "b", "print(input() + '!')");
    reads["stdin"] = json!("hello\n");
    agent.post("/v1/steps?wait=0", &reads).await.check(202);
    let full = agent.post("/v1/steps", &step("s1", "c", "1")).await;
    refused(&full, 429, Code::LimitReached);
    gate.open().await;
    assert_eq!(agent.ended("s1", "b").await["stdout"], "hello!\n");
}

#[tokio::test]
async fn two_sessions_do_not_see_each_other() {
    let agent = Agent::enforced();
    for session in ["s1", "s2"] {
        agent.register(session).await;
        agent
            .run(session, &format!("secret = '{session}'\nopen(secret, 'w')"))
            .await;
    }
    let begun = Instant::now();
    for session in ["s1", "s2"] {
        let seen = agent
            .run(session, "import os; print(secret, os.listdir())")
            .await;
        assert_eq!(seen["stdout"], format!("{session} ['{session}']\n"));
    }
    assert!(begun.elapsed().as_secs() < 60);
}

#[tokio::test]
async fn twenty_registrations_at_once_are_twenty_sessions_and_one_is_one() {
    let agent = Agent::enforced();
    let register = |session: String| {
        let agent = &agent;
        async move { agent.register(&session).await }
    };
    let many = futures_util::future::join_all((0..20).map(|n| register(format!("s{n}")))).await;
    let mut workers: Vec<&Value> = many.iter().map(|session| &session["workerId"]).collect();
    workers.sort_by_key(ToString::to_string);
    workers.dedup();
    assert_eq!(workers.len(), 20);
    let same = futures_util::future::join_all((0..5).map(|_| register("same".to_owned()))).await;
    assert!(
        same.iter()
            .all(|session| session["workerId"] == same[0]["workerId"])
    );
    let health = agent.get("/v1/health").await.check(200);
    assert_eq!(
        (&health["sessions"], &health["interpreters"]),
        (&json!(21), &json!(21))
    );
}
