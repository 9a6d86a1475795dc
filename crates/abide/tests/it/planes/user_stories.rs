//! What the user stories say of operation without remote exec, and the others for both runtimes
//! through a connection that is cut after every answer.

use abide_model::ProblemCode as Code;
use abide_testkit::proxy::{Action, Fault, Point};
use serde_json::json;

use super::{Planes, agent_options, data_options, options, refused};
use crate::api::http::Answer;
use crate::api::process::children;

/// Ends each connection with the end of the step's answer, so that no request uses one twice.
fn cut_after_each_answer(planes: &Planes) {
    planes.proxy.plan(|request| {
        let step = request.is("POST", "/v1/steps");
        let cut = Fault::new(Point::InResponse(200), Action::Cut);
        step.then_some(cut).into_iter().collect()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us1_1_variables_survive_steps_whose_connections_break() {
    let planes = Planes::start();
    cut_after_each_answer(&planes);
    planes.create("p").await;
    planes
        .create_with(json!({ "sessionId": "n", "runtime": "node" }))
        .await;
    planes.prints("p", "x = 5 * 10", "").await;
    planes.prints("n", "let x = 5 * 10", "").await;
    planes.prints("p", "print(x)", "50\n").await;
    planes.prints("n", "console.log(x)", "50\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us1_2_files_survive_steps_whose_connections_break() {
    let planes = Planes::start();
    cut_after_each_answer(&planes);
    planes.create("p").await;
    planes
        .create_with(json!({ "sessionId": "n", "runtime": "node" }))
        .await;
    planes
        .prints("p", "_ = open('f', 'w').write('kept')", "")
        .await;
    let write = "require('fs').writeFileSync('f', 'kept by node')";
    planes.prints("n", write, "").await;
    planes
        .prints("p", "print(open('f').read())", "kept\n")
        .await;
    let read = "console.log(require('fs').readFileSync('f', 'utf8'))";
    planes.prints("n", read, "kept by node\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us2_1_two_sessions_run_in_their_own_runtimes() {
    let planes = Planes::start();
    let (a, b) = (planes.create("a").await, planes.create("b").await);
    assert_ne!(a["workerId"], b["workerId"]);
    let pid = "import os\nprint(os.getpid(), os.getcwd())";
    let (in_a, in_b) = (planes.run("a", pid).await, planes.run("b", pid).await);
    assert_ne!(in_a["stdout"], in_b["stdout"]);
    // Both at work at the same time: each waits for the other through the test.
    let (gate_a, gate_b) = (planes.gate(), planes.gate());
    let code = |name: &str, gate: &super::Gate| {
        format!("mine = {name:?}\n{}\nprint(mine)", gate.begins_and_waits())
    };
    let (code_a, code_b) = (code("a", &gate_a), code("b", &gate_b));
    let both = async {
        gate_a.begun().await;
        gate_b.begun().await;
        gate_b.open();
        gate_a.open();
    };
    let (in_a, in_b, ()) = tokio::join!(planes.run("a", &code_a), planes.run("b", &code_b), both);
    assert_eq!(
        (&in_a["stdout"], &in_b["stdout"]),
        (&json!("a\n"), &json!("b\n"))
    );
    planes.prints("a", "print(mine)", "a\n").await;
    planes.prints("b", "print(mine)", "b\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us2_2_restarted_runtime_is_detected() {
    let mut planes = Planes::start();
    let before = planes.create("s1").await;
    planes.run("s1", "x = 1").await;
    // Restarted with its interpreters: the same session goes on.
    planes.restart_agent();
    planes.prints("s1", "print(x)", "1\n").await;
    let whole = planes.session("s1").await;
    assert_eq!(whole["workerId"], before["workerId"]);
    assert_ne!(
        whole["bootId"], before["bootId"],
        "the route knows who it is now"
    );
    // Restarted without them. Only a step gets through, so that nobody else notices first.
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    planes.replace_agent();
    planes.proxy.plan(|request| {
        let step = request.is("POST", "/v1/steps") || request.is("GET", "/v1/sessions/s1");
        let cut = Fault::new(Point::BeforeRequest, Action::Cut);
        (!step).then_some(cut).into_iter().collect()
    });
    planes.proxy.refuse(false).unwrap();
    let answer = planes.submit("s1", "after", "print(x)").await;
    let problem = refused(&answer, 409, Code::RuntimeIdentityMismatch);
    assert_eq!(problem["retryable"], false);
    assert_eq!(planes.session("s1").await["status"], "crashed");
    let answer = planes.submit("s1", "after", "print(x)").await;
    refused(&answer, 503, Code::RuntimeCrashed);
    planes.proxy.forward();
    planes
        .post("/sessions/s1/restart", &json!({}))
        .await
        .check(202);
    planes
        .prints("s1", "print('x' in globals())", "False\n")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us3_1_a_step_succeeds_in_production_by_the_approved_channel() {
    let production = |options: abide_testkit::AgentOptions| options.env("ABIDE_ENV", "production");
    let planes = Planes::with(production(agent_options()), production(data_options()));
    let session = planes.create("s1").await;
    assert_eq!(session["authMode"], "enforced");
    planes.prints("s1", "print(6 * 7)", "42\n").await;
    // Not without the data plane's key, and not past it without the session's token.
    let step = json!({ "command": "print(1)" }).to_string();
    let url = format!("{}/sessions/s1/steps", planes.data.url());
    let answer = Answer::of(planes.http.post(url).body(step)).await;
    refused(&answer, 401, Code::AuthenticationRequired);
    let step = json!({ "sessionId": "s1", "stepId": "x", "code": "print(1)" }).to_string();
    let url = format!("{}/v1/steps", planes.agent.url());
    let direct = planes.http.post(url).bearer_auth(super::SECRET).body(step);
    refused(&Answer::of(direct).await, 401, Code::InvalidSessionToken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us3_2_nothing_else_than_the_approved_channel_is_tried() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.prints("s1", "print(1)", "1\n").await;
    // While it cannot be used, nothing runs anywhere.
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    let answer = planes.submit("s1", "refused", "open('ran', 'w')").await;
    refused(&answer, 503, Code::RuntimeUnreachable);
    let started = children(planes.data.pid().unwrap());
    assert!(
        started.is_empty(),
        "the data plane runs something: {started:?}"
    );
    planes.proxy.refuse(false).unwrap();
    planes
        .prints("s1", "import os; print(os.listdir())", "[]\n")
        .await;
    for path in ["exec", "attach", "portforward"] {
        let path = format!("/sessions/s1/{path}");
        let answer = planes.post(&path, &json!({ "command": "id" })).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us3_3_bypass_by_explicit_flag() {
    let agent = options().env("SESSION_AGENT_AUTH_BYPASS", "true");
    let data = options()
        .env("AUTHZ_BYPASS", "true")
        .env("SESSION_AGENT_AUTH_MODE", "bypass");
    let planes = Planes::with(agent.clone(), data.clone());
    let create = json!({ "sessionId": "s1" }).to_string();
    let url = format!("{}/sessions", planes.data.url());
    let session = Answer::of(planes.http.post(url).body(create))
        .await
        .check(202);
    assert_eq!(session["authMode"], "bypass");
    planes.prints("s1", "print(1)", "1\n").await;
    // Only the exact word, and never in production.
    for environment in ["production", "Prod"] {
        let agent = agent.clone().env("ENV", environment);
        let exited = abide_testkit::TestAgent::start(agent).unwrap_err();
        assert!(exited.to_string().contains("code: Some("), "{exited}");
        let data = data.clone().env("ENV", environment);
        let exited = abide_testkit::TestDataPlane::start(data).unwrap_err();
        assert!(exited.to_string().contains("code: Some("), "{exited}");
    }
    let other = options().env("SESSION_AGENT_AUTH_BYPASS", "TRUE");
    let agent = abide_testkit::TestAgent::start(other).unwrap();
    let url = format!("{}/v1/sessions", agent.url());
    let create = json!({ "sessionId": "s1", "runtime": "python" }).to_string();
    let answer = Answer::of(planes.http.post(url).body(create)).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
}
