//! Who may use which session, and which agent.

use abide_model::ProblemCode as Code;
use serde_json::json;

use super::{Agent, TOKEN, options, refused, step};
use crate::api::http::Answer;

#[tokio::test]
async fn the_first_registration_binds_the_token() {
    let mut agent = Agent::enforced();
    agent.register("s1").await;
    agent.run("s1", "x = 1").await;
    agent.token = Some("somebody else's".to_owned());
    let register = json!({ "sessionId": "s1", "runtime": "python" });
    for runtime in ["python", "node"] {
        // Not even told that the runtime is another one.
        let body = json!({ "sessionId": "s1", "runtime": runtime });
        let answer = agent.post("/v1/sessions", &body).await;
        let said = refused(&answer, 401, Code::InvalidSessionToken);
        assert_eq!(said, "invalid session token");
    }
    for (method, path) in [
        ("POST", "/v1/sessions/s1/token"),
        ("POST", "/v1/sessions/s1/restart"),
        ("POST", "/v1/sessions/s1/interrupt"),
        ("POST", "/v1/sessions/s1/terminate"),
        ("GET", "/v1/sessions/s1"),
        ("GET", "/v1/sessions/s1/steps/a"),
        ("DELETE", "/v1/sessions/s1/steps/a"),
        ("GET", "/v1/sessions/s1/output"),
    ] {
        let body = json!({ "token": "mine now" }).to_string();
        let answer = Answer::of(agent.request(method, path).body(body)).await;
        refused(&answer, 401, Code::InvalidSessionToken);
    }
    let answer = agent.post("/v1/steps", &step("s1", "a", "x = 2")).await;
    refused(&answer, 401, Code::InvalidSessionToken);
    agent.token = Some(TOKEN.to_owned());
    agent.post("/v1/sessions", &register).await.check(200);
    assert_eq!(
        agent.run("s1", "print(x)").await["stdout"],
        "1\n",
        "the owner is not locked out"
    );
}

#[tokio::test]
async fn a_token_is_changed_by_who_has_it_and_stays_changed() {
    let mut agent = Agent::enforced();
    agent.register("s1").await;
    let rotate = |token: &str| json!({ "token": token });
    let path = "/v1/sessions/s1/token";
    refused(
        &agent.post(path, &rotate(" ")).await,
        400,
        Code::InvalidInput,
    );
    agent.post(path, &rotate("new")).await.check(200);
    refused(
        &agent.get("/v1/sessions/s1").await,
        401,
        Code::InvalidSessionToken,
    );
    agent.token = Some("new".to_owned());
    agent.get("/v1/sessions/s1").await.check(200);
    agent.agent.kill().unwrap();
    agent.up_again();
    agent.get("/v1/sessions/s1").await.check(200);
    agent.token = Some(TOKEN.to_owned());
    refused(
        &agent.get("/v1/sessions/s1").await,
        401,
        Code::InvalidSessionToken,
    );
    // At rest there is neither.
    for entry in std::fs::read_dir(agent.agent.files().join("sessions")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path().join("session.json")).unwrap();
        assert!(!text.contains(TOKEN) && !text.contains("\"new\""), "{text}");
    }
}

#[tokio::test]
async fn a_secret_is_for_the_plane_above() {
    let agent = Agent::with(options().env("ABIDE_AGENT_SECRET", "between planes"));
    let register = json!({ "sessionId": "s1", "runtime": "python" });
    let answer = agent.post("/v1/sessions", &register).await;
    refused(&answer, 401, Code::AuthenticationRequired);
    let send = |method: &str, path: &str, secret: &str, body: &str| {
        let request = agent.request(method, path).bearer_auth(secret);
        Answer::of(request.body(body.to_owned()))
    };
    let body = register.to_string();
    let wrong = send("POST", "/v1/sessions", "guessed", &body).await;
    refused(&wrong, 401, Code::InvalidApiKey);
    send("POST", "/v1/sessions", "between planes", &body)
        .await
        .check(200);
    // To find a session again its token is enough.
    agent.post("/v1/sessions", &register).await.check(200);
    for path in ["/v1/sessions", "/v1/news"] {
        refused(&agent.get(path).await, 401, Code::AuthenticationRequired);
        refused(
            &send("GET", path, "guessed", "").await,
            401,
            Code::InvalidApiKey,
        );
    }
    let list = send("GET", "/v1/sessions", "between planes", "")
        .await
        .check(200);
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["sessionId"]),
        (1, &json!("s1"))
    );
    assert_eq!(list[0]["status"], "registered");
    // The secret opens no session, but ends one.
    let steps = agent
        .bare("POST", "/v1/steps")
        .bearer_auth("between planes");
    let answer = Answer::of(steps.body(step("s1", "a", "1").to_string())).await;
    refused(&answer, 401, Code::InvalidSessionToken);
    let end = |secret: &str| {
        let request = agent.bare("POST", "/v1/sessions/s1/terminate");
        Answer::of(request.bearer_auth(secret))
    };
    refused(&end("guessed").await, 401, Code::InvalidSessionToken);
    end("between planes").await.check(200);
    refused(&end("between planes").await, 404, Code::SessionNotFound);
}

#[tokio::test]
async fn without_a_secret_nobody_lists_sessions_where_tokens_are_asked_for() {
    let enforced = Agent::enforced();
    let bypass = Agent::bypass();
    for path in ["/v1/sessions", "/v1/news"] {
        refused(&enforced.get(path).await, 403, Code::Forbidden);
        assert_eq!(bypass.get(path).await.check(200), json!([]));
    }
}

#[tokio::test]
async fn what_is_meant_for_another_agent_is_not_done() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let ours = agent.boot_id().await;
    let meant_for = |boot_id: &str, method: &str, path: &str, body: &str| {
        let request = agent
            .request(method, path)
            .header("x-abide-boot-id", boot_id);
        Answer::of(request.body(body.to_owned()))
    };
    let run = step("s1", "a", "open('done', 'w')").to_string();
    for (method, path, body) in [
        ("POST", "/v1/steps", run.as_str()),
        ("POST", "/v1/sessions/s1/restart", ""),
        ("POST", "/v1/sessions/s1/terminate", ""),
        ("GET", "/v1/sessions/s1", ""),
        // Whatever else is wrong with it.
        ("POST", "/v1/steps", "{"),
    ] {
        let answer = meant_for("another", method, path, body).await;
        refused(&answer, 409, Code::RuntimeIdentityMismatch);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["details"]["boot_id"], ours);
        assert_eq!(problem["retryable"], false);
    }
    let listed = agent.run("s1", "import os; print(os.listdir())").await;
    assert_eq!(listed["stdout"], "[]\n", "nothing was done");
    meant_for(&ours, "POST", "/v1/steps", &run).await.check(200);
}

#[tokio::test]
async fn a_web_page_elsewhere_cannot_use_the_agent() {
    let bypass = Agent::bypass();
    let enforced = Agent::enforced();
    let body = json!({ "sessionId": "s1", "runtime": "python" }).to_string();
    for agent in [&bypass, &enforced] {
        let request = agent.request("POST", "/v1/sessions");
        let request = request
            .header("origin", "http://evil.example")
            .body(body.clone());
        refused(&Answer::of(request).await, 403, Code::ForbiddenOrigin);
    }
    // A name of somebody else's that points here.
    let rebound = bypass
        .request("GET", "/v1/sessions")
        .header("host", "evil.example:9000");
    refused(&Answer::of(rebound).await, 403, Code::ForbiddenOrigin);
    for host in ["localhost:9000", "10.1.2.3:9000", "[::1]:9000"] {
        let request = bypass.request("GET", "/v1/sessions").header("host", host);
        Answer::of(request).await.check(200);
    }
}
