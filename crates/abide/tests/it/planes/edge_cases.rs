//! The specification's edge cases: runtimes that crash, sessions that expire, agents that nobody
//! can reach.

use std::time::Instant;

use abide_model::ProblemCode as Code;
use abide_testkit::proxy::{Action, Fault, Point};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Planes, SECRET, agent_options, data_options, refused, signal};
use crate::api::http::Answer;

/// The interpreter's process id.
async fn interpreter(planes: &Planes, session: &str) -> u32 {
    let step = planes.run(session, "import os; print(os.getpid())").await;
    step["stdout"].as_str().unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_crashed_between_steps_is_named() {
    let planes = Planes::start();
    let before = planes.create("s1").await;
    let pid = interpreter(&planes, "s1").await;
    signal(pid, Signal::KILL);
    // A step that comes before the agent has noticed is handed over to a dead interpreter, and
    // told as such.
    let news = format!("{}/v1/news?wait_ms=60000", planes.agent.url());
    let news = planes.http.get(news).bearer_auth(SECRET);
    assert_eq!(Answer::of(news).await.check(200)[0]["sessionId"], "s1");
    let answer = planes.submit("s1", "next", "open('ran', 'w')").await;
    let problem = refused(&answer, 503, Code::RuntimeCrashed);
    assert_eq!(problem["retryable"], false);
    assert_eq!(planes.session("s1").await["status"], "crashed");
    let restarted = planes.post("/sessions/s1/restart", &Value::Null).await;
    assert_ne!(restarted.check(202)["workerId"], before["workerId"]);
    planes
        .prints("s1", "import os; print(os.listdir())", "[]\n")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_ends_its_interpreter_has_one_end_and_the_next_is_refused() {
    let planes = Planes::start();
    planes.create("s1").await;
    let code = "print('last words', flush=True)\nimport os; os._exit(3)";
    let ended = planes.submit("s1", "fatal", code).await.check(202);
    assert_eq!(
        (&ended["status"], &ended["outcome"], &ended["exitCode"]),
        (&json!("failed"), &json!("crashed"), &json!(3)),
        "{ended}"
    );
    assert_eq!(ended["stdout"], "last words\n");
    assert_eq!(planes.ended("s1", "fatal").await, ended);
    let answer = planes.submit("s1", "next", "1").await;
    refused(&answer, 503, Code::RuntimeCrashed);
    let again = planes.submit("s1", "fatal", code).await;
    assert_eq!(
        again.check(202),
        ended,
        "what it came to can still be asked for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_gone_with_all_it_had() {
    let planes = Planes::start();
    planes.create("other").await;
    let expiring = json!({ "sessionId": "s1", "ttlSeconds": 1 });
    assert!(planes.create_with(expiring).await["expiresAt"].is_string());
    let cwd = planes.run("s1", "import os; print(os.getcwd())").await;
    let cwd = cwd["stdout"].as_str().unwrap().trim().to_owned();
    planes
        .wait_for(1, "POST", "/v1/sessions/s1/terminate")
        .await;
    let answer = planes.submit("s1", "late", "1").await;
    let problem = refused(&answer, 410, Code::SessionExpired);
    assert_eq!(problem["retryable"], false);
    assert_eq!(planes.session("s1").await["status"], "expired");
    // Its end waits for the interpreter's; the same name may be used once that is there.
    planes.create("s1").await;
    assert!(!std::path::Path::new(&cwd).exists(), "{cwd} is left");
    planes
        .prints("s1", "import os; print(os.listdir())", "[]\n")
        .await;
    planes
        .prints("other", "print('untouched')", "untouched\n")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_step_keeps_a_sliding_session_from_expiring() {
    let planes = Planes::start();
    let body = json!({ "sessionId": "s1", "ttlSeconds": 2, "sliding": true });
    planes.create_with(body).await;
    planes
        .create_with(json!({ "sessionId": "clock", "ttlSeconds": 4 }))
        .await;
    let gate = planes.gate();
    let code = format!("{}\nprint('done')", gate.waits());
    let opening = async {
        // Twice its time has passed when this one expires.
        planes
            .wait_for(1, "POST", "/v1/sessions/clock/terminate")
            .await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(planes.submit("s1", "long", &code), opening);
    assert_eq!(answer.check(202)["stdout"], "done\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_nobody_can_reach_is_tried_three_times_and_named() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.prints("s1", "print(1)", "1\n").await;
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    let begun = Instant::now();
    let answer = planes.submit("s1", "lost", "open('ran', 'w')").await;
    let took = begun.elapsed().as_millis();
    let problem = refused(&answer, 503, Code::RuntimeUnreachable);
    let details = &problem["details"];
    assert_eq!(
        (
            &problem["retryable"],
            &details["attempts"],
            &details["sent"]
        ),
        (&json!(false), &json!(3), &json!(false)),
        "{problem}"
    );
    // 200 ms and 400 ms, each up to a quarter longer.
    assert!((600..5000).contains(&took), "{took} ms");
    assert_eq!(
        planes.session("s1").await["status"],
        "running",
        "it may be back"
    );
    planes.proxy.refuse(false).unwrap();
    planes
        .prints("s1", "import os; print(os.listdir())", "[]\n")
        .await;
    let found = planes.get("/sessions/s1/steps/lost").await;
    refused(&found, 404, Code::StepNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_back_at_the_third_attempt_runs_the_step_once() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    let metrics = async |name: &str| {
        let text = planes.get("/metrics").await.text().to_owned();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let name = "abide_data_plane_retries_total";
    let before = metrics(name).await;
    let back = async {
        while metrics(name).await < before + 2.0 {
            tokio::task::yield_now().await;
        }
        planes.proxy.refuse(false).unwrap();
    };
    let (answer, ()) = tokio::join!(planes.submit("s1", "a", "print('once')"), back);
    assert_eq!(answer.check(202)["stdout"], "once\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_behind_something_that_only_closes_connections_is_named_too() {
    let planes = Planes::with(agent_options(), data_options().set("step_grace=500ms"));
    planes.create("s1").await;
    planes.proxy.plan(|request| {
        let cut = Fault::new(Point::BeforeRequest, Action::Cut);
        let meant = request.is("POST", "/v1/steps") || request.has("/v1/sessions/s1/steps");
        meant.then_some(cut).into_iter().collect()
    });
    let body = json!({ "stepId": "lost", "command": "1", "timeoutMs": 1 });
    let answer = planes.post("/sessions/s1/steps", &body).await;
    let problem = refused(&answer, 503, Code::RuntimeUnreachable);
    assert_eq!(
        (&problem["retryable"], &problem["details"]["sent"]),
        (&json!(false), &json!(true)),
        "it cannot know: {problem}"
    );
    assert_eq!(planes.proxy.count("POST", "/v1/steps"), 1, "sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_was_is_not_found_and_what_was_ended_is_gone() {
    let planes = Planes::start();
    let answer = planes.submit("never", "a", "1").await;
    refused(&answer, 404, Code::SessionNotFound);
    let answer = planes.post("/sessions/never/terminate", &Value::Null).await;
    refused(&answer, 404, Code::SessionNotFound);
    planes.create("s1").await;
    planes.terminate("s1").await;
    planes.terminate("s1").await;
    let answer = planes.submit("s1", "a", "1").await;
    refused(&answer, 410, Code::SessionExpired);
    assert_eq!(planes.session("s1").await["status"], "terminated");
}
