//! What is asked for wrongly, and what is not there.

use abide_model::ProblemCode;
use serde_json::json;

use super::Terminal;
use crate::api::http::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_field_and_the_fix() {
    let terminal = Terminal::shell(&[]).await;
    let workers = format!("{}/workers", terminal.session);
    let post = async |path: &str, body: serde_json::Value| {
        Answer::of(terminal.api.request("POST", path).json(&body)).await
    };
    for (body, field) in [
        (json!({ "kind": "interpreter" }), "kind"),
        (json!({ "command": "ls -l" }), "command"),
        (json!({ "command": ["a\0b"] }), "command"),
        (json!({ "cols": 1 }), "cols"),
        (json!({ "rows": 1001 }), "rows"),
        (json!({ "size_policy": "largest" }), "size_policy"),
        (json!({ "name": "x".repeat(200) }), "name"),
    ] {
        let problem = post(&workers, body.clone())
            .await
            .problem(ProblemCode::InvalidInput);
        let named = problem["detail"][0]["loc"].to_string();
        assert!(named.contains(field), "{body}: {problem}");
    }
    let resize = format!("{}/resize", terminal.path);
    let problem = post(&resize, json!({ "cols": 80 }))
        .await
        .problem(ProblemCode::InvalidInput);
    assert!(
        problem["detail"][0]["loc"].to_string().contains("rows"),
        "{problem}"
    );
    let screen = format!("{}/screen?format=png", terminal.path);
    terminal
        .api
        .get(&screen)
        .await
        .problem(ProblemCode::InvalidInput);
    let other = format!("{workers}/01900000-0000-7000-8000-000000000000");
    terminal
        .api
        .get(&other)
        .await
        .problem(ProblemCode::WorkerNotFound);
    terminal
        .api
        .get(&format!("{other}/screen"))
        .await
        .problem(ProblemCode::WorkerNotFound);
    // Another session's terminal is not there.
    let session = terminal.api.session(json!({})).await;
    let foreign = format!("{session}/workers/{}", terminal.id);
    terminal
        .api
        .get(&foreign)
        .await
        .problem(ProblemCode::WorkerNotFound);
    assert!(terminal.try_attach("role=own").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_is_a_clear_error() {
    let terminal = Terminal::shell(&[]).await;
    let workers = format!("{}/workers", terminal.session);
    let body = json!({ "command": ["/nowhere/program"] });
    let answer = Answer::of(terminal.api.request("POST", &workers).json(&body)).await;
    let problem = answer.problem(ProblemCode::RuntimeUnavailable);
    let message = problem["detail"].as_str().unwrap();
    assert!(message.contains("/nowhere/program"), "{message}");
    let listed = terminal.api.get(&workers).await.check(200);
    assert_eq!(listed[1]["state"], "exited");
    let failed = format!("{workers}/{}", listed[1]["id"].as_str().unwrap());
    terminal
        .api
        .get(&format!("{failed}/screen"))
        .await
        .problem(ProblemCode::WorkerGone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interpreter_is_no_terminal() {
    let terminal = Terminal::shell(&[]).await;
    terminal.api.run(&terminal.session, "1").await;
    let workers = format!("{}/workers", terminal.session);
    let listed = terminal.api.get(&workers).await.check(200);
    let listed = listed.as_array().unwrap();
    let interpreter = listed
        .iter()
        .find(|worker| worker["kind"] == "interpreter")
        .unwrap();
    let path = format!("{workers}/{}", interpreter["id"].as_str().unwrap());
    assert_eq!(
        terminal.api.get(&path).await.check(200)["runtime"],
        "python"
    );
    terminal
        .api
        .get(&format!("{path}/screen"))
        .await
        .problem(ProblemCode::InvalidInput);
    terminal
        .api
        .delete(&path)
        .await
        .problem(ProblemCode::InvalidInput);
    // Each goes on without the other.
    assert_eq!(terminal.api.delete(&terminal.path).await.status, 204);
    terminal.api.run(&terminal.session, "1").await;
}
