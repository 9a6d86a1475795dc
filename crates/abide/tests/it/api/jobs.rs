//! Jobs: run once, shown, repeated, cleaned up after, found again.

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api, data};
use super::steps::Pipe;

/// A job that was accepted.
async fn accepted(api: &Api, body: Value) -> String {
    let job = api.post("/jobs", &body).await.check(202);
    assert_eq!(job["status"], "queued");
    job["id"].as_str().unwrap().to_owned()
}

/// A job once it has ended.
async fn ended(api: &Api, id: &str) -> Value {
    let job = api.get(&format!("/jobs/{id}?wait=60")).await.check(200);
    assert!(job["finishedAt"].is_string(), "it does not end: {job}");
    job
}

/// Returns once as many sessions were removed.
async fn removed(api: &Api, count: usize) {
    let path = "/events?after_seq=0&event_type=session.deleted";
    let mut events = api.stream(path, None).await;
    for _ in 0..count {
        data(&events.next().await.unwrap());
    }
}

#[tokio::test]
async fn a_job_runs_in_a_session_of_its_own_which_is_removed() {
    let api = Api::with(&[]);
    let body = json!({
        "tenantId": "t1", "agentId": "agent-1", "policyId": "p1", "language": "Python3",
        "code": "import sys\nprint(sys.stdin.read(), end='')\nprint('err', file=sys.stderr)\n6 * 7",
        "stdin": "from the request",
    });
    let id = accepted(&api, body).await;
    let job = ended(&api, &id).await;
    for (field, value) in [
        ("id", json!(id)),
        ("status", json!("finished")),
        ("language", json!("python")),
        ("stdout", json!("from the request")),
        ("stderr", json!("err\n")),
        ("exitCode", json!(0)),
        ("outcome", json!("completed")),
        ("result", json!({"text": "42"})),
        ("error", Value::Null),
        ("problem", Value::Null),
        ("truncated", json!(false)),
    ] {
        assert_eq!(job[field], value, "{field}: {job}");
    }
    let owner = format!("/agents/{}", job["agentId"].as_str().unwrap());
    assert_eq!(api.get(&owner).await.check(200)["name"], "agent-1");
    removed(&api, 1).await;
    assert_eq!(api.get("/sessions").await.check(200), json!([]));
    assert_eq!(api.get("/status").await.check(200)["live_interpreters"], 0);
    let still = api.get(&format!("/jobs/{id}")).await.check(200);
    assert_eq!(still, job, "what came of it stays");
}

#[tokio::test]
async fn a_job_that_fails_says_how() {
    let api = Api::with(&[]);
    for (code, timeout, exit, outcome) in [
        ("1 / 0", 60_000, 1, "error"),
        ("import os; os._exit(3)", 60_000, 3, "crashed"),
        ("import os; os.kill(os.getpid(), 9)", 60_000, 137, "crashed"),
        (
            "import threading; threading.Event().wait()",
            300,
            124,
            "timeout",
        ),
    ] {
        let body = json!({ "language": "python", "code": code, "timeoutMs": timeout });
        let job = ended(&api, &accepted(&api, body).await).await;
        assert_eq!(job["status"], "failed", "{code}");
        assert_eq!(
            (&job["exitCode"], &job["outcome"]),
            (&json!(exit), &json!(outcome)),
            "{code}"
        );
    }
    let body = json!({ "language": "python", "code": "1 / 0" });
    let job = ended(&api, &accepted(&api, body).await).await;
    assert!(
        job["stderr"]
            .as_str()
            .unwrap()
            .contains("ZeroDivisionError")
    );
    assert_eq!(job["error"]["type"], "ZeroDivisionError");
    removed(&api, 5).await;
}

#[tokio::test]
async fn a_running_job_shows_what_it_has_printed() {
    let api = Api::with(&[]);
    let pipe = Pipe::new(&api);
    let body = json!({ "language": "python", "code": pipe.reads() });
    let id = accepted(&api, body).await;
    // Its session is told of before its step runs.
    let path = "/events?after_seq=0&event_type=step.accepted";
    let event = data(&api.stream(path, None).await.next().await.unwrap());
    let (session, step) = (&event["aggregate_id"], &event["payload"]["step_id"]);
    let step = format!(
        "/sessions/{}/steps/{}",
        session.as_str().unwrap(),
        step.as_str().unwrap()
    );
    api.begun(&step).await;
    let job = api.get(&format!("/jobs/{id}")).await.check(200);
    assert_eq!(
        (&job["status"], &job["stdout"]),
        (&json!("running"), &json!("on\n"))
    );
    assert_eq!(
        (&job["exitCode"], &job["finishedAt"]),
        (&Value::Null, &Value::Null)
    );
    let (job, ()) = tokio::join!(ended(&api, &id), async { pipe.write("go") });
    assert_eq!(job["result"]["text"], "'go'");
}

#[tokio::test]
async fn a_repeated_job_is_run_once() {
    let api = Api::with(&[]);
    let (count, _) = super::http::Composition::directory(&api.server, "count");
    let file = count.join("runs");
    let code = format!("open({:?}, 'a').write('x')", file.display().to_string());
    let body = json!({ "language": "python", "code": code });
    let send = async |body: &Value| {
        let request = api.request("POST", "/jobs").header("idempotency-key", "k");
        Answer::of(request.json(body)).await
    };
    let first = send(&body).await.check(202);
    let id = first["id"].as_str().unwrap();
    for _ in 0..3 {
        assert_eq!(send(&body).await.check(202)["id"], id);
    }
    ended(&api, id).await;
    let again = send(&body).await.check(202);
    assert_eq!(
        (&again["id"], &again["status"]),
        (&json!(id), &json!("finished"))
    );
    let other = json!({ "language": "python", "code": "2" });
    send(&other).await.problem(ProblemCode::IdempotencyConflict);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x");
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_named() {
    let api = Api::cold();
    let answer = api.post("/jobs", &json!({ "language": "ruby" })).await;
    let wrong = answer.wrong_fields();
    assert_eq!(
        wrong,
        [
            ("enum".to_owned(), json!(["body", "language"])),
            ("missing".to_owned(), json!(["body", "code"])),
        ]
    );
    let unknown = api.get("/jobs/0191e7a0-7c1e-7000-8000-00000000002a").await;
    unknown.problem(ProblemCode::JobNotFound);
    assert_eq!(api.get("/jobs/x").await.status, 422);
}

#[tokio::test]
async fn a_job_goes_on_when_the_server_is_killed() {
    let mut api = Api::with(&[]);
    let pipe = Pipe::new(&api);
    let running = accepted(&api, json!({ "language": "python", "code": pipe.reads() })).await;
    let path = "/events?after_seq=0&event_type=step.accepted";
    data(&api.stream(path, None).await.next().await.unwrap());
    let over = json!({ "language": "python", "code": "print('before')" });
    let over = accepted(&api, over).await;
    ended(&api, &over).await;
    api.kill_and_up();
    let (job, ()) = tokio::join!(ended(&api, &running), async { pipe.write("still there") });
    assert_eq!(job["result"]["text"], "'still there'", "{job}");
    assert_eq!(job["stdout"], "on\n");
    assert_eq!(ended(&api, &over).await["stdout"], "before\n");
    removed(&api, 2).await;
    assert_eq!(api.get("/sessions").await.check(200), json!([]));
}
