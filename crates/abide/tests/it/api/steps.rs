//! Steps: submitted, waited for, listed, repeated, cancelled, ordered.

use abide_model::{ProblemCode, StepId, Timestamp};
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _};

/// A step that says it has begun and then waits for an interrupt.
const WAITS: &str = "import threading\nprint('on', flush=True)\nthreading.Event().wait()";

#[tokio::test]
async fn a_step_answers_when_it_has_ended_with_everything_about_it() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7";
    let step = api
        .step(&path, json!({"code": code, "timeout_ms": 60_000}))
        .await;
    let expected = json!({
        "id": step["id"], "session_id": path[10..], "sequence": 1, "status": "completed",
        "code": code, "stdout": "out\n", "stderr": "err\n", "stdout_bytes": 4, "stderr_bytes": 4,
        "truncated": false, "result": {"text": "42"}, "error": null, "exit": null,
        "timeout_ms": 60_000, "created_at": step["created_at"],
        "started_at": step["started_at"], "finished_at": step["finished_at"],
        "duration_ms": step["duration_ms"], "queue_position": 0,
    });
    assert_eq!(step, expected);
    let time = |field: &str| step[field].as_str().unwrap().to_owned();
    assert!(time("created_at") <= time("started_at") && time("started_at") <= time("finished_at"));
    assert!(step["duration_ms"].as_f64().unwrap() > 0.0);
    let read = api
        .get(&format!("{path}/steps/{}", step["id"].as_str().unwrap()))
        .await;
    assert_eq!(read.check(200), step, "recorded as it was answered");
    let error = api.run(&path, "def f():\n    return nope\nf()").await;
    assert_eq!(error["status"], "error");
    assert_eq!(error["error"]["type"], "NameError");
    assert_eq!(error["error"]["message"], "name 'nope' is not defined");
    let traceback = error["error"]["traceback"].as_str().unwrap();
    assert!(
        traceback.contains("return nope") && traceback.contains("line 3"),
        "{traceback}"
    );
    assert_eq!(error["result"], Value::Null);
    assert_eq!(
        api.get(&format!("{path}/steps")).await.check(200),
        json!([step, error])
    );
}

#[tokio::test]
async fn without_waiting_it_is_accepted_and_can_be_waited_for_later() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let first = api.submit(&path, &pipe.reads()).await;
    api.begun(&first).await;
    let body = json!({ "code": "print('second')\n2" });
    let second = api
        .post(&format!("{path}/steps?wait=0"), &body)
        .await
        .check(202);
    assert_eq!(second["status"], "queued");
    assert_eq!(second["queue_position"], 1, "behind the one that runs");
    let third = api
        .post(&format!("{path}/steps?wait=false"), &body)
        .await
        .check(202);
    assert_eq!(third["queue_position"], 2);
    // As it stands, with what it has printed so far.
    let now = api.get(&first).await.check(200);
    assert_eq!(now["status"], "running");
    assert_eq!(now["stdout"], "on\n");
    assert_eq!(now["stdout_bytes"], 3);
    assert!(now["started_at"].is_string() && now["finished_at"].is_null());
    let third = format!("{path}/steps/{}", third["id"].as_str().unwrap());
    let queued = api.get(&third).await.check(200);
    assert_eq!(
        (&queued["status"], &queued["queue_position"]),
        (&json!("queued"), &json!(2))
    );
    let list = api.get(&format!("{path}/steps")).await.check(200);
    let statuses: Vec<&Value> = (0..3).map(|n| &list[n]["status"]).collect();
    assert_eq!(statuses, ["running", "queued", "queued"], "{list}");
    // A long poll that runs out says how things stand.
    let short = api.get(&format!("{third}?wait=1")).await.check(200);
    assert_eq!(short["status"], "queued");
    let (ended, ()) = tokio::join!(api.ended(&third), async { pipe.write("x") });
    assert_eq!(ended["result"]["text"], "2");
    assert_eq!(ended["queue_position"], 0);
    assert_eq!(api.get(&first).await.check(200)["result"]["text"], "'x'");
    api.get(&format!("{first}?wait=301"))
        .await
        .problem(ProblemCode::InvalidInput);
}

#[tokio::test]
async fn steps_are_listed_oldest_first_by_page() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    for n in 1..=5 {
        api.run(&path, &n.to_string()).await;
    }
    for (query, expected) in [
        ("", &[1, 2, 3, 4, 5][..]),
        ("?limit=2", &[1, 2]),
        ("?after=2&limit=2", &[3, 4]),
        ("?after=5", &[]),
        ("?limit=0", &[]),
    ] {
        let list = api.get(&format!("{path}/steps{query}")).await.check(200);
        let list: Vec<i64> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["sequence"].as_i64().unwrap())
            .collect();
        assert_eq!(list, expected, "{query}");
    }
}

#[tokio::test]
async fn a_repeated_step_is_executed_once() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let count = "n = globals().get('n', 0) + 1\nn";
    let id = StepId::new();
    let body = json!({ "code": count, "step_id": id });
    let answers = (0..6).map(|_| api.step(&path, body.clone()));
    let answers = futures_util::future::join_all(answers).await;
    assert!(
        answers.iter().all(|step| *step == answers[0]),
        "{answers:?}"
    );
    assert_eq!(answers[0]["id"], id.to_string());
    assert_eq!(answers[0]["result"]["text"], "1");
    let steps = format!("{path}/steps");
    let other = json!({ "code": "n", "step_id": id });
    api.post(&steps, &other)
        .await
        .problem(ProblemCode::IdempotencyConflict);
    let elsewhere = api.session(json!({})).await;
    let refused = api.post(&format!("{elsewhere}/steps"), &body).await;
    refused.problem(ProblemCode::IdempotencyConflict);
    let keyed = |code: &str| {
        let request = api
            .request("POST", &steps)
            .header("idempotency-key", "again");
        Answer::of(request.json(&json!({ "code": code })))
    };
    let first = keyed(count).await.check(200);
    assert_eq!(first["result"]["text"], "2");
    assert_eq!(keyed(count).await.check(200), first);
    keyed("n").await.problem(ProblemCode::IdempotencyConflict);
    // A repetition is answered whatever has become of the session.
    for status in ["paused", "completed"] {
        api.patch(&path, &json!({ "status": status }))
            .await
            .check(200);
        assert_eq!(api.step(&path, body.clone()).await, answers[0], "{status}");
    }
}

#[tokio::test]
async fn cancelling_takes_out_of_the_queue_or_interrupts() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "kept = 'yes'").await;
    let running = api.submit(&path, &format!("{WAITS}\nprint('never')")).await;
    let waiting = api.submit(&path, "never = 1").await;
    api.begun(&running).await;
    assert_eq!(
        api.delete(&waiting).await.check(202)["id"],
        waiting[waiting.len() - 36..]
    );
    let cancelled = api.ended(&waiting).await;
    assert_eq!(cancelled["status"], "interrupted");
    assert_eq!(cancelled["started_at"], Value::Null, "it never ran");
    assert_eq!(api.get(&running).await.check(200)["status"], "running");
    assert_eq!(api.delete(&running).await.check(202)["status"], "running");
    let interrupted = api.ended(&running).await;
    assert_eq!(interrupted["status"], "interrupted");
    assert_eq!(interrupted["stdout"], "on\n");
    assert_eq!(interrupted["error"]["type"], "KeyboardInterrupt");
    // One that has ended stays as it is.
    assert_eq!(api.delete(&running).await.check(202), interrupted);
    let interrupt = api.submit(&path, WAITS).await;
    api.begun(&interrupt).await;
    let answer = Answer::of(api.request("POST", &format!("{path}/interrupt"))).await;
    assert_eq!((answer.status, answer.text()), (202, ""));
    assert_eq!(api.ended(&interrupt).await["status"], "interrupted");
    let idle = Answer::of(api.request("POST", &format!("{path}/interrupt"))).await;
    assert_eq!(idle.status, 202, "nothing runs, nothing happens");
    let state = api.run(&path, "kept, 'never' in globals()").await;
    assert_eq!(state["result"]["text"], "('yes', False)");
}

#[tokio::test]
async fn one_session_in_order_many_in_parallel() {
    let api = Api::with(&["warm_python=2"]);
    let (one, two) = (api.session(json!({})).await, api.session(json!({})).await);
    api.run(&one, "order = []").await;
    let mut steps = Vec::new();
    for n in 0..20 {
        steps.push(api.submit(&one, &format!("order.append({n})")).await);
    }
    api.ended(&steps[19]).await;
    let order = api.run(&one, "order == list(range(20))").await;
    assert_eq!(order["result"]["text"], "True");
    // Each of two sessions waits for what the other does meanwhile: only in parallel can it end.
    let (a, b) = (Pipe::new(&api), Pipe::new(&api));
    let meet = |first: &Pipe, second: &Pipe| {
        format!(
            "import os\nfd = os.open({:?}, os.O_RDWR)\nos.write(fd, b'x')\n\
             other = os.open({:?}, os.O_RDWR)\nos.read(other, 1)",
            first.path, second.path
        )
    };
    let (left, right) = (meet(&a, &b), meet(&b, &a));
    let (left, right) = tokio::join!(api.run(&one, &left), api.run(&two, &right));
    assert_eq!(left["result"]["text"], "b'x'", "{left}");
    assert_eq!(right["result"]["text"], "b'x'", "{right}");
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let api = Api::with(&["queue_length=3"]);
    let path = api.session(json!({})).await;
    let running = api.submit(&path, WAITS).await;
    for _ in 0..2 {
        api.submit(&path, "1").await;
    }
    let steps = format!("{path}/steps?wait=0");
    let full = api.post(&steps, &json!({ "code": "1" })).await;
    let full = full.problem(ProblemCode::LimitReached);
    assert_eq!(full["details"]["queued"], 3);
    api.begun(&running).await;
    api.delete(&running).await;
    api.ended(&running).await;
    let last = api.submit(&path, "'room again'").await;
    assert_eq!(api.ended(&last).await["result"]["text"], "'room again'");
}

#[tokio::test]
async fn a_timeout_keeps_the_state_and_the_partial_output() {
    let api = Api::with(&["step_timeout=200ms"]);
    let path = api.session(json!({})).await;
    api.step(&path, json!({"code": "x = 41", "timeout_ms": 60_000}))
        .await;
    for limit in [Some(1000), None] {
        let step = api
            .step(&path, json!({ "code": WAITS, "timeout_ms": limit }))
            .await;
        assert_eq!(step["status"], "timeout", "{step}");
        if limit.is_some() {
            assert_eq!(step["stdout"], "on\n");
        }
        assert_eq!(step["timeout_ms"], limit.unwrap_or(200));
        // From acceptance on: the clock runs before the interpreter's own begins.
        let time = |field: &str| Timestamp::parse(step[field].as_str().unwrap()).unwrap();
        let took = time("finished_at").as_micros() - time("created_at").as_micros();
        assert!(took >= limit.unwrap_or(200) * 1000, "{step}");
        assert!(step["error"]["type"].is_string(), "{step}");
    }
    assert_eq!(api.run(&path, "x + 1").await["result"]["text"], "42");
}

/// The interrupt comes while Python counts without looking for signals, on its way to sleep.
#[tokio::test]
async fn an_interrupt_right_before_a_wait_costs_nothing() {
    let api = Api::with(&["interrupt_grace=30s"]);
    let path = api.session(json!({})).await;
    let asleep = "import collections, functools, itertools, operator, os, time\nkept = 1\n\
        call = operator.methodcaller('__call__')\n\
        say = functools.partial(os.write, 1, b'on\\n')\n\
        count = functools.partial(collections.deque, itertools.repeat(None, 10 ** 8), 0)\n\
        list(map(call, [say, count, functools.partial(time.sleep, 600)]))";
    let step = api.submit(&path, asleep).await;
    api.begun(&step).await;
    api.delete(&step).await.check(202);
    let step = api.ended(&step).await;
    assert_eq!(step["status"], "interrupted");
    assert_eq!(step["error"]["type"], "KeyboardInterrupt", "{step}");
    assert_eq!(api.run(&path, "kept").await["result"]["text"], "1");
}

#[tokio::test]
async fn an_ignored_interrupt_costs_the_interpreter_not_the_session() {
    let api = Api::with(&["interrupt_grace=100ms"]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    let stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n\
                    print('on', flush=True)\nwhile True: signal.pause()";
    let step = api.submit(&path, stubborn).await;
    api.begun(&step).await;
    api.delete(&step).await.check(202);
    let step = api.ended(&step).await;
    assert_eq!(step["status"], "interrupted");
    assert_eq!(step["stdout"], "on\n");
    assert_eq!(step["exit"]["signal"], 9, "{step}");
    let steps = format!("{path}/steps");
    let refused = api.post(&steps, &json!({ "code": "x" })).await;
    let refused = refused.problem(ProblemCode::RuntimeCrashed);
    assert_eq!(refused["details"]["exit"]["signal"], 9);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("ignored an interrupt")
    );
    assert_eq!(api.get(&path).await.check(200)["status"], "crashed");
    let restarted = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
    assert_eq!(restarted.check(200)["status"], "active");
    assert_eq!(
        api.run(&path, "'x' in globals()").await["result"]["text"],
        "False"
    );
    let workers = api.get(&format!("{path}/workers")).await.check(200);
    let shape = |n: usize| (&workers[n]["generation"], &workers[n]["state"]);
    assert_eq!(shape(0), (&json!(1), &json!("exited")));
    assert_eq!(shape(1), (&json!(2), &json!("running")));
}

#[tokio::test]
async fn a_session_that_is_not_active_takes_no_steps() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    let steps = format!("{path}/steps");
    for status in ["paused", "completed"] {
        api.patch(&path, &json!({ "status": status }))
            .await
            .check(200);
        let refused = api.post(&steps, &json!({ "code": "x" })).await;
        let refused = refused.problem(ProblemCode::SessionNotActive);
        assert!(refused["message"].as_str().unwrap().contains(status));
    }
    api.patch(&path, &json!({ "status": "active" }))
        .await
        .check(200);
    assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
}

#[tokio::test]
async fn a_session_whose_time_is_up_is_ended_and_takes_no_steps() {
    let api = Api::with(&[]);
    let path = api.session(json!({ "ttl_seconds": 4 })).await;
    let workspace = api.server.scratch().0.join(&path[10..]);
    let started = api
        .run(&path, "open('file', 'w').close(); import os; os.getpid()")
        .await;
    let pid: u32 = started["result"]["text"].as_str().unwrap().parse().unwrap();
    assert!(workspace.join("file").exists());
    // Would go on for ever.
    let step = api.step(&path, json!({ "code": WAITS })).await;
    assert_eq!(step["status"], "interrupted");
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "1" }))
        .await;
    refused.problem(ProblemCode::SessionExpired);
    let refused = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
    refused.problem(ProblemCode::SessionExpired);
    // What is recorded can still be read.
    assert_eq!(api.get(&path).await.check(200)["status"], "completed");
    let steps = api.get(&format!("{path}/steps")).await.check(200);
    assert_eq!(steps, json!([started, step]));
    let told = api.get("/events?limit=1000").await.check(200);
    let kinds: Vec<_> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["event_type"])
        .collect();
    assert!(kinds.contains(&&json!("session.expired")), "{kinds:?}");
    assert!(!abide_testkit::still_alive(pid), "its interpreter");
    while workspace.exists() {
        // Removed right after the interpreter has ended; asking is what passes the time.
        api.get(&path).await.check(200);
    }
}

#[tokio::test]
async fn a_sliding_session_lives_as_long_as_it_is_used() {
    let api = Api::with(&[]);
    let path = api
        .session(json!({ "ttl_seconds": 2, "sliding": true }))
        .await;
    let expires_at = |session: &Value| session["expires_at"].as_str().unwrap().to_owned();
    let first = expires_at(&api.get(&path).await.check(200));
    // A step that takes longer than the session's time is use; the next one comes in time.
    let step = api
        .step(&path, json!({ "code": WAITS, "timeout_ms": 3000 }))
        .await;
    assert_eq!(step["status"], "timeout");
    assert_eq!(api.run(&path, "6 * 7").await["result"]["text"], "42");
    let session = api.get(&path).await.check(200);
    assert!(expires_at(&session) > first);
    assert_eq!(
        (&session["status"], &session["sliding"]),
        (&json!("active"), &json!(true))
    );
    loop {
        // Looking at it is not use.
        let session = api.get(&path).await.check(200);
        if session["status"] == "completed" {
            break;
        }
    }
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "1" }))
        .await;
    refused.problem(ProblemCode::SessionExpired);
}

#[tokio::test]
async fn commands_of_runtime_routing_clients_are_steps() {
    let api = Api::with(&[]);
    let path = api
        .session(json!({"tenantId": "t", "agentId": "a", "policyId": "p"}))
        .await;
    let steps = format!("{path}/steps");
    let answer = api
        .post(&steps, &json!({ "command": "print('hi')\n5" }))
        .await
        .check(202);
    for (field, value) in [
        ("status", json!("accepted")),
        ("stdout", json!("hi\n")),
        ("stderr", json!("")),
        ("outcome", json!("completed")),
        ("result", json!("5")),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    let recorded = format!("{steps}/{}", answer["id"].as_str().unwrap());
    assert_eq!(api.get(&recorded).await.check(200)["status"], "completed");
    let failed = api
        .post(&steps, &json!({"command": "1/0", "stepId": StepId::new()}))
        .await;
    let failed = failed.check(202);
    assert_eq!(failed["status"], "accepted");
    assert_eq!(failed["outcome"], "error");
    let stderr = failed["stderr"].as_str().unwrap();
    assert!(
        stderr.contains("ZeroDivisionError"),
        "the traceback is where they look: {stderr}"
    );
    api.post(&steps, &json!({}))
        .await
        .problem(ProblemCode::InvalidInput);
}

/// A named pipe that a step reads to wait for the test, or for another step.
pub(crate) struct Pipe {
    path: std::path::PathBuf,
}

impl Pipe {
    pub(crate) fn new(api: &Api) -> Self {
        let path = api.server.home().join(StepId::new().to_string());
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        Self { path }
    }

    /// Code that says `on` and then waits for [`Self::write`]; its value is what was written.
    pub(crate) fn reads(&self) -> String {
        format!("print('on', flush=True)\nopen({:?}).read()", self.path)
    }

    /// Code that waits for [`Self::write`].
    pub(crate) fn waits(&self) -> String {
        format!("_ = open({:?}).read()", self.path)
    }

    /// Lets the step go on.
    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}
