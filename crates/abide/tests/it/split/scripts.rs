//! What clients of runtime routing do first, in a development environment where nobody is asked who
//! they are: three health checks, a session, three steps.

use std::process::Command;

use abide_testkit::{AgentOptions, Plane, TestStack};
use serde_json::{Value, json};

use crate::api::http::Answer;

/// Three planes that let everybody in.
pub(super) fn open() -> TestStack {
    let options = AgentOptions::new(env!("CARGO_BIN_EXE_abide"))
        .env("ENV", "development")
        .env("AUTHZ_BYPASS", "true")
        .env("SESSION_AGENT_AUTH_BYPASS", "true")
        .env("SESSION_AGENT_AUTH_MODE", "bypass");
    TestStack::start(options).unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[test]
fn the_scripts_of_older_deployments_pass() {
    let stack = open();
    let output = Command::new("python3")
        .arg("local_stack.py")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"))
        .env_remove("http_proxy")
        .env("BASE_URL", stack.url())
        .env("DATA_PLANE_URL", stack.plane_url(Plane::Data))
        .env("SESSION_AGENT_URL", stack.plane_url(Plane::Agent))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    let lines: Vec<&str> = said.lines().collect();
    // The interpreter's own output is not in the order of the shell's.
    let steps: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let printed: Vec<&Value> = steps.iter().map(|step| &step["stdout"]).collect();
    assert_eq!(printed, ["hello\n", "", "50\n"], "{said}");
    assert!(lines.contains(&"the stack is whole"), "{said}");
}

#[tokio::test]
async fn every_code_and_body_of_the_flow_is_right_in_both_languages() {
    let stack = open();
    let http = http();
    for (plane, path) in [
        (Plane::Control, "/healthz"),
        (Plane::Data, "/healthz"),
        (Plane::Agent, "/v1/health"),
    ] {
        let url = format!("{}{path}", stack.plane_url(plane));
        Answer::of(http.get(url)).await.check(200);
    }
    let post = async |path: &str, body: Value| {
        Answer::of(http.post(format!("{}{path}", stack.url())).json(&body)).await
    };
    for (runtime, says, sets, tells) in [
        ("python", "print(\"hello\")", "x=5*10", "print(x)"),
        ("node", "console.log(\"hello\")", "x=5*10", "console.log(x)"),
    ] {
        let body = json!({
            "tenantId": "tenant-1", "agentId": "agent-1", "policyId": "policy-1",
            "ttlSeconds": 3600, "runtime": runtime,
        });
        let session = post("/sessions", body).await.check(201);
        assert_eq!(session["status"], "active");
        assert_eq!(session["runtime"], runtime);
        assert_eq!(session["ttl_seconds"], 3600);
        assert_eq!(
            session["runtime_metadata"],
            json!({ "tenant_id": "tenant-1" })
        );
        let id = session["id"].as_str().unwrap();
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let path = format!("/sessions/{id}/steps");
        let mut ids = Vec::new();
        for (command, printed) in [(says, "hello\n"), (sets, ""), (tells, "50\n")] {
            let step = post(&path, json!({ "command": command })).await.check(202);
            assert_eq!(step["status"], "accepted", "{step}");
            assert_eq!(
                (&step["stdout"], &step["stderr"]),
                (&json!(printed), &json!(""))
            );
            assert_eq!(step["outcome"], "completed");
            ids.push(step["id"].clone());
        }
        // The same step has the same id in every plane.
        for id in ids {
            let id = id.as_str().unwrap();
            let below = format!("{}{path}/{id}", stack.plane_url(Plane::Data));
            assert_eq!(Answer::of(http.get(below)).await.check(200)["stepId"], id);
            let session = path.trim_end_matches("/steps");
            let agent = stack.plane_url(Plane::Agent);
            let agent = format!("{agent}/v1{session}/steps/{id}");
            assert_eq!(Answer::of(http.get(agent)).await.check(200)["stepId"], id);
        }
    }
    // A job, too.
    let body = json!({ "language": "javascript", "code": "console.log('once')" });
    let job = post("/jobs", body).await.check(202);
    assert_eq!(job["status"], "queued");
    let job = format!(
        "{}/jobs/{}?wait=60",
        stack.url(),
        job["id"].as_str().unwrap()
    );
    let job = Answer::of(http.get(job)).await.check(200);
    assert_eq!(
        (&job["status"], &job["stdout"], &job["exitCode"]),
        (&json!("finished"), &json!("once\n"), &json!(0))
    );
}
