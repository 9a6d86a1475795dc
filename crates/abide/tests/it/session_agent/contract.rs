//! Every case of the contract's table for the session agent, in both modes.

use abide_model::ProblemCode as Code;
use serde_json::{Value, json};

use super::{Agent, TOKEN, refused, step};
use crate::api::http::Answer;

/// One that asks for tokens, one that does not, and which it is.
fn both_modes() -> [(Agent, bool); 2] {
    [(Agent::enforced(), true), (Agent::bypass(), false)]
}

async fn raw(agent: &Agent, path: &str, body: &str) -> Answer {
    Answer::of(agent.request("POST", path).body(body.to_owned())).await
}

#[tokio::test]
async fn health_is_open_and_names_the_boot() {
    for (agent, enforced) in both_modes() {
        let answer = Answer::of(agent.bare("GET", "/v1/health")).await;
        let health = answer.check(200);
        assert_eq!(health["status"], "ok");
        let mode = if enforced { "enforced" } else { "bypass" };
        assert_eq!(health["auth_mode"], mode);
        assert_eq!(health["boot_id"], answer.header("x-abide-boot-id"));
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        agent.register("s1").await;
        let health = agent.get("/v1/health").await.check(200);
        assert_eq!(
            (&health["sessions"], &health["interpreters"]),
            (&json!(1), &json!(1))
        );
    }
}

#[tokio::test]
async fn a_session_is_registered_used_and_terminated() {
    for (agent, _) in both_modes() {
        let session = agent.register("s1").await;
        assert_eq!(session["sessionId"], "s1");
        assert_eq!(session["status"], "registered");
        assert_eq!(session["runtime"], "python");
        let answer = agent
            .post("/v1/steps", &step("s1", "step-1", "print(1)"))
            .await;
        let ended = answer.check(200);
        for (field, value) in [
            ("stepId", json!("step-1")),
            ("status", json!("completed")),
            ("stdout", json!("1\n")),
            ("stderr", json!("")),
            ("exitCode", json!(0)),
        ] {
            assert_eq!(ended[field], value, "{ended}");
        }
        let path = "/v1/sessions/s1/terminate";
        let terminated = raw(&agent, path, "ignored").await.check(200);
        assert_eq!(
            terminated,
            json!({ "sessionId": "s1", "status": "terminated" })
        );
    }
}

#[tokio::test]
async fn a_post_without_a_token_is_refused_where_tokens_are_asked_for() {
    for (agent, enforced) in both_modes() {
        agent.register("s1").await;
        let register = json!({ "sessionId": "s2", "runtime": "python", "token": TOKEN });
        for (path, body) in [
            ("/v1/sessions", register.to_string()),
            ("/v1/sessions", "{".to_owned()),
            ("/v1/steps", step("s1", "a", "1").to_string()),
            ("/v1/steps", String::new()),
            ("/v1/sessions/s1/restart", String::new()),
            ("/v1/sessions/s1/interrupt", String::new()),
            ("/v1/sessions/s1/terminate", String::new()),
        ] {
            let answer = Answer::of(agent.bare("POST", path).body(body.clone())).await;
            if enforced {
                // Also when the body has one.
                let said = refused(&answer, 401, Code::InvalidSessionToken);
                assert_eq!(said, "missing session token");
            } else {
                assert_ne!(answer.status, 401, "{path} {body}");
            }
        }
    }
}

#[tokio::test]
async fn malformed_and_incomplete_bodies_are_400_and_name_the_field() {
    for (agent, _) in both_modes() {
        agent.register("s1").await;
        for path in ["/v1/sessions", "/v1/steps"] {
            for body in ["", "{", "{\"sessionId\":}"] {
                refused(&raw(&agent, path, body).await, 400, Code::InvalidJson);
            }
            for body in ["[]", "null", "1"] {
                refused(&raw(&agent, path, body).await, 400, Code::InvalidInput);
            }
        }
        for (path, body, field) in [
            ("/v1/sessions", json!({ "runtime": "python" }), "sessionId"),
            (
                "/v1/sessions",
                json!({ "sessionId": "", "runtime": "python" }),
                "sessionId",
            ),
            ("/v1/sessions", json!({ "sessionId": "s2" }), "runtime"),
            (
                "/v1/sessions",
                json!({ "sessionId": "s2", "runtime": "  " }),
                "runtime",
            ),
            (
                "/v1/sessions",
                json!({ "sessionId": "s2", "runtime": "ruby" }),
                "runtime",
            ),
            (
                "/v1/sessions",
                json!({ "sessionId": "../s2", "runtime": "node" }),
                "sessionId",
            ),
            (
                "/v1/sessions",
                json!({ "sessionId": "x".repeat(129), "runtime": "node" }),
                "sessionId",
            ),
            (
                "/v1/sessions",
                json!({ "sessionId": "s2", "runtime": "node", "workspaceDir": "relative" }),
                "workspaceDir",
            ),
            (
                "/v1/steps",
                json!({ "stepId": "a", "code": "1" }),
                "sessionId",
            ),
            (
                "/v1/steps",
                json!({ "sessionId": "s1", "code": "1" }),
                "stepId",
            ),
            (
                "/v1/steps",
                json!({ "sessionId": "s1", "stepId": " ", "code": "1" }),
                "stepId",
            ),
            (
                "/v1/steps",
                json!({ "sessionId": "s1", "stepId": "a" }),
                "code",
            ),
            (
                "/v1/steps",
                json!({ "sessionId": "s1", "stepId": "a", "code": " \n" }),
                "code",
            ),
            (
                "/v1/steps",
                json!({ "sessionId": "s1", "stepId": "a", "code": 5 }),
                "code",
            ),
        ] {
            let answer = agent.post(path, &body).await;
            let said = refused(&answer, 400, Code::InvalidInput);
            assert!(said.contains(field), "{body}: {said}");
        }
        // Nothing of that was made.
        assert_eq!(agent.get("/v1/health").await.check(200)["sessions"], 1);
    }
}

#[tokio::test]
async fn json_is_read_leniently() {
    let agent = Agent::enforced();
    let body = r#"{"SESSIONID": "s1", "Runtime": " PYTHON3 ", "extra": {"x": [1]}, "token": null}"#;
    let request = agent.request("POST", "/v1/sessions");
    let request = request.header("content-type", "text/plain");
    Answer::of(request.body(body)).await.check(200);
    let body = r#"{"sessionid": "s1", "STEPID": "a", "code": "print('x')", "runtime": "node"}"#;
    let ended = raw(&agent, "/v1/steps", body).await.check(200);
    assert_eq!(ended["stdout"], "x\n", "the runtime is the session's");
}

#[tokio::test]
async fn header_and_body_token_must_agree_in_both_modes() {
    for (mut agent, enforced) in both_modes() {
        agent.token = Some("one".to_owned());
        let body = json!({ "sessionId": "s1", "runtime": "python", "token": "two" });
        let answer = agent.post("/v1/sessions", &body).await;
        let said = refused(&answer, 400, Code::InvalidInput);
        assert_eq!(said, "session token mismatch");
        let body = json!({ "sessionId": "s1", "runtime": "python", "token": "one" });
        agent.post("/v1/sessions", &body).await.check(200);
        agent.token = Some("two".to_owned());
        let answer = agent.post("/v1/steps", &step("s1", "a", "1")).await;
        if enforced {
            refused(&answer, 401, Code::InvalidSessionToken);
        } else {
            answer.check(200);
        }
    }
}

#[tokio::test]
async fn another_runtime_is_a_conflict_and_an_alias_is_not() {
    for (agent, _) in both_modes() {
        let register = |runtime: &str| json!({ "sessionId": "s1", "runtime": runtime });
        let first = agent
            .post("/v1/sessions", &register("python"))
            .await
            .check(200);
        agent.run("s1", "x = 41").await;
        for runtime in ["python3", "PYTHON", "Python3"] {
            let again = agent
                .post("/v1/sessions", &register(runtime))
                .await
                .check(200);
            assert_eq!(again, first, "the same interpreter");
        }
        for runtime in ["node", "JavaScript"] {
            let answer = agent.post("/v1/sessions", &register(runtime)).await;
            let said = refused(&answer, 409, Code::RuntimeMismatch);
            assert!(said.contains("session runtime mismatch"), "{said}");
        }
        assert_eq!(
            agent.run("s1", "print(x + 1)").await["stdout"],
            "42\n",
            "state is kept"
        );
    }
}

#[tokio::test]
async fn unknown_sessions_steps_and_routes() {
    for (agent, enforced) in both_modes() {
        agent.register("s1").await;
        let answer = agent.post("/v1/steps", &step("s2", "a", "1")).await;
        refused(&answer, 404, Code::SessionNotFound);
        for (method, path) in [
            ("GET", "/v1/sessions/s2"),
            ("POST", "/v1/sessions/s2/restart"),
            ("POST", "/v1/sessions/s2/interrupt"),
            ("GET", "/v1/sessions/s2/steps/a"),
            ("DELETE", "/v1/sessions/s2/steps/a"),
            ("GET", "/v1/sessions/s2/output"),
        ] {
            let answer = Answer::of(agent.request(method, path)).await;
            refused(&answer, 404, Code::SessionNotFound);
        }
        for method in ["GET", "DELETE"] {
            let answer = Answer::of(agent.request(method, "/v1/sessions/s1/steps/a")).await;
            refused(&answer, 404, Code::StepNotFound);
        }
        let terminated = agent.post("/v1/sessions/s2/terminate", &json!({})).await;
        if enforced {
            refused(&terminated, 404, Code::SessionNotFound);
        } else {
            let expected = json!({ "sessionId": "s2", "status": "terminated" });
            assert_eq!(terminated.check(200), expected, "ended is ended");
        }
        refused(&agent.get("/v2/health").await, 404, Code::NotFound);
        let wrong = Answer::of(agent.request("PUT", "/v1/steps")).await;
        refused(&wrong, 405, Code::MethodNotAllowed);
        assert_eq!(wrong.header("allow"), "POST");
    }
}

#[tokio::test]
async fn an_exception_completes_and_a_death_fails() {
    for (agent, _) in both_modes() {
        let first = agent.register("s1").await;
        let raised = agent.run("s1", "print('before')\n1 / 0").await;
        assert_eq!(raised["status"], "completed");
        assert_eq!(
            (&raised["stdout"], &raised["exitCode"]),
            (&json!("before\n"), &json!(1))
        );
        let stderr = raised["stderr"].as_str().unwrap();
        assert!(
            stderr.contains("Traceback") && stderr.contains("ZeroDivisionError"),
            "{stderr}"
        );

        let died = agent.run("s1", "import os; os._exit(7)").await;
        assert_eq!(
            (&died["status"], &died["exitCode"]),
            (&json!("failed"), &json!(7))
        );
        let answer = agent.post("/v1/steps", &step("s1", "after", "1")).await;
        let said = refused(&answer, 503, Code::RuntimeCrashed);
        assert!(said.contains("restart"), "{said}");
        // No other interpreter in place of the one that died, whoever registers again.
        let again = agent.register("s1").await;
        assert_eq!(
            (&again["status"], &again["exit"]["code"]),
            (&json!("crashed"), &json!(7))
        );
        assert_eq!(again["workerId"], first["workerId"]);

        let path = "/v1/sessions/s1/restart";
        let fresh = agent.post(path, &Value::Null).await.check(200);
        assert_eq!(fresh["status"], "registered");
        assert_ne!(fresh["workerId"], first["workerId"]);
        assert_eq!(agent.run("s1", "print('again')").await["stdout"], "again\n");
    }
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let agent = Agent::with(super::options().set("max_body=1KiB"));
    agent.register("s1").await;
    let answer = agent
        .post("/v1/steps", &step("s1", "a", &"#".repeat(2000)))
        .await;
    refused(&answer, 413, Code::BodyTooLarge);
}
