//! What becomes of steps and sessions when a plane is not there, dies, or comes back.

use abide_model::{ProblemCode, StepId};
use abide_testkit::{Plane, TestStack, processes_of_worker_dir};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _, data};
use super::steps::Pipe;

/// Code that notes that it runs, in a file of its own, and then waits for the pipe.
struct Counted {
    file: std::path::PathBuf,
    pipe: Pipe,
}

impl Counted {
    fn new(api: &Api) -> Self {
        Self {
            file: api.server.home().join(format!("runs-{}", StepId::new())),
            pipe: Pipe::new(api),
        }
    }

    fn code(&self) -> String {
        format!(
            "open({:?}, 'a').write('x')\n{}",
            self.file,
            self.pipe.reads()
        )
    }

    #[track_caller]
    fn ran_once(&self) {
        assert_eq!(std::fs::read_to_string(&self.file).unwrap(), "x");
    }
}

/// A step that runs, and a caller who waits for it.
async fn waited_for(
    api: &Api,
    path: &str,
    code: String,
) -> (StepId, tokio::task::JoinHandle<Answer>) {
    let id = StepId::new();
    let body = json!({ "code": code, "step_id": id });
    let request = api.request("POST", &format!("{path}/steps")).json(&body);
    #[expect(clippy::disallowed_methods, reason = "a client of the test's own")]
    let waits = tokio::spawn(Answer::of(request));
    let mut events = api
        .stream("/events?after_seq=0&event_type=step.accepted", None)
        .await;
    while data(&events.next().await.unwrap())["payload"]["step_id"] != id.to_string() {}
    api.begun(&format!("{path}/steps/{id}")).await;
    (id, waits)
}

fn post_below(api: &Api, plane: Plane, path: &str) -> reqwest::RequestBuilder {
    let url = format!("{}{path}", api.server.plane_url(plane));
    let http = Client::builder().no_proxy().build().unwrap();
    http.post(url).bearer_auth(TestStack::PLANE_KEY)
}

#[tokio::test]
async fn steps_go_on_while_the_control_plane_is_dead() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 20").await;
    let counted = Counted::new(&api);
    let running = api.submit(&path, &counted.code()).await;
    api.begun(&running).await;
    let mut queued = Vec::new();
    for n in 0..3 {
        queued.push(api.submit(&path, &format!("x += {n}\nx")).await);
    }
    api.kill_and_up();
    let later = api.submit(&path, "x * 2").await;
    counted.pipe.write("through");
    let step = api.ended(&running).await;
    assert_eq!(
        (&step["status"], &step["result"]["text"]),
        (&json!("completed"), &json!("'through'"))
    );
    assert_eq!(step["stdout"], "on\n");
    for (step, expected) in queued.iter().zip(["20", "21", "23"]) {
        assert_eq!(api.ended(step).await["result"]["text"], expected);
    }
    assert_eq!(api.ended(&later).await["result"]["text"], "46");
    counted.ran_once();
    let output = api.get(&format!("{running}/output")).await;
    assert_eq!(output.bytes(200), b"on\n");
}

#[tokio::test]
async fn what_ended_while_the_control_plane_was_dead_is_found() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let counted = Counted::new(&api);
    let running = api.submit(&path, &counted.code()).await;
    api.begun(&running).await;
    api.server.kill(Plane::Control).unwrap();
    counted.pipe.write("unseen");
    // The agent has it in its ledger once a question for it is answered.
    let id = running.rsplit('/').next().unwrap();
    let below = format!(
        "{}{path}/steps/{id}?wait_ms=60000",
        api.server.plane_url(Plane::Data)
    );
    let http = Client::builder().no_proxy().build().unwrap();
    let seen = Answer::of(http.get(below).bearer_auth(TestStack::PLANE_KEY)).await;
    assert_eq!(seen.check(200)["status"], "completed");
    api.server.up(Plane::Control).unwrap();
    api.reconnect();
    assert_eq!(api.ended(&running).await["result"]["text"], "'unseen'");
    counted.ran_once();
}

#[tokio::test]
async fn a_caller_gets_the_answer_through_a_data_plane_that_was_killed_meanwhile() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    let counted = Counted::new(&api);
    let (_, waits) = waited_for(&api, &path, counted.code()).await;
    api.server.kill(Plane::Data).unwrap();
    counted.pipe.write("in between");
    api.server.up(Plane::Data).unwrap();
    let step = waits.await.unwrap().check(200);
    assert_eq!(step["result"]["text"], "'in between'", "{step}");
    counted.ran_once();
    assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
}

#[tokio::test]
async fn a_caller_gets_the_answer_of_an_agent_that_was_killed_meanwhile() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    let counted = Counted::new(&api);
    let (_, waits) = waited_for(&api, &path, counted.code()).await;
    api.server.kill(Plane::Agent).unwrap();
    counted.pipe.write("kept");
    api.server.up(Plane::Agent).unwrap();
    let step = waits.await.unwrap().check(200);
    assert_eq!(step["result"]["text"], "'kept'", "{step}");
    counted.ran_once();
    assert_eq!(
        api.run(&path, "x").await["result"]["text"],
        "1",
        "it has its variables"
    );
}

#[tokio::test]
async fn without_a_data_plane_a_step_is_refused_and_over() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    api.server.kill(Plane::Data).unwrap();
    let id = StepId::new();
    let body = json!({ "code": "x += 1", "step_id": id });
    let refused = api.post(&format!("{path}/steps"), &body).await;
    let refused = refused.problem(ProblemCode::RuntimeUnreachable);
    assert_eq!(refused["retryable"], false);
    assert_eq!(refused["details"], json!({ "attempts": 3, "sent": false }));
    let step = api.get(&format!("{path}/steps/{id}")).await.check(200);
    assert_eq!(
        step["status"], "interrupted",
        "it did not run, and will not"
    );
    assert_eq!(step["error"]["type"], "RuntimeUnreachable");
    // A session that was never opened needs none to be made, listed and removed.
    let other = api.session(json!({})).await;
    assert_eq!(api.delete(&format!("{other}?force=1")).await.status, 204);
    api.server.up(Plane::Data).unwrap();
    assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
}

#[tokio::test]
async fn without_an_agent_the_data_planes_answer_comes_through() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    api.server.kill(Plane::Agent).unwrap();
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "x += 1" }))
        .await;
    let refused = refused.problem(ProblemCode::RuntimeUnreachable);
    assert_eq!(refused["message"], "runtime agent is not reachable");
    assert_eq!(refused["details"]["sent"], false);
    api.server.up(Plane::Agent).unwrap();
    assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
}

/// The next event of a session's record; the session is `crashed` then.
async fn crash(api: &Api, path: &str) -> Value {
    let events = format!(
        "/events?after_seq=0&event_type=session.updated&aggregate_id={}",
        &path[10..]
    );
    let crash = data(&api.stream(&events, None).await.next().await.unwrap());
    assert_eq!(crash["payload"]["status"], "crashed", "{crash}");
    crash
}

#[tokio::test]
async fn a_crash_between_steps_is_told_before_anybody_asks() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pid = api.run(&path, "import os; os.getpid()").await;
    let pid: i32 = pid["result"]["text"].as_str().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let crash = crash(&api, &path).await;
    let reason = crash["metadata"]["reason"].as_str().unwrap();
    assert!(reason.contains("killed by signal 9"), "{reason}");
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "1" }))
        .await;
    let refused = refused.problem(ProblemCode::RuntimeCrashed);
    assert_eq!(refused["details"]["exit"]["signal"], 9);
    let steps = api.get(&format!("{path}/steps")).await.check(200);
    assert_eq!(
        steps.as_array().unwrap().len(),
        1,
        "what is refused so is no step"
    );
}

#[tokio::test]
async fn an_agent_that_lost_its_sessions_is_a_mismatch_and_the_session_crashed() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    api.server.kill(Plane::Data).unwrap();
    api.server.kill(Plane::Agent).unwrap();
    for pid in processes_of_worker_dir(&api.server.files(Plane::Agent)) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
        // A keeper takes its program along, which may be gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
    std::fs::remove_dir_all(api.server.files(Plane::Agent)).unwrap();
    api.server.up(Plane::Agent).unwrap();
    api.server.up(Plane::Data).unwrap();
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "x" }))
        .await;
    // Whoever notices first: the step, or the comparison at the data plane's start.
    let problem = refused.problem(ProblemCode::RuntimeIdentityMismatch);
    assert_eq!(problem["retryable"], false);
    crash(&api, &path).await;
    let restart = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
    assert_eq!(restart.check(200)["status"], "active");
    assert_eq!(
        api.run(&path, "globals().get('x')").await["result"]["text"],
        Value::Null
    );
}

#[tokio::test]
async fn a_session_that_is_ended_below_is_gone() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let counted = Counted::new(&api);
    let (id, waits) = waited_for(&api, &path, counted.code()).await;
    let ended = post_below(&api, Plane::Data, &format!("{path}/terminate"));
    Answer::of(ended).await.check(202);
    let step = waits.await.unwrap().check(200);
    assert!(
        ["crashed", "interrupted"].contains(&step["status"].as_str().unwrap()),
        "{step}"
    );
    let refused = api
        .post(&format!("{path}/steps"), &json!({ "code": "1" }))
        .await;
    let refused = refused.problem(ProblemCode::SessionExpired);
    assert_eq!(refused["retryable"], false);
    assert_eq!(
        api.get(&format!("{path}/steps/{id}")).await.check(200),
        step
    );
    let workers = api.get(&format!("{path}/workers")).await.check(200);
    assert_eq!(workers[0]["state"], "exited", "{workers}");
    let restart = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
    restart.check(200);
    assert_eq!(api.run(&path, "1").await["result"]["text"], "1");
}

#[tokio::test]
async fn a_session_that_is_restarted_below_goes_on_here() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "x = 1").await;
    let restart = post_below(&api, Plane::Data, &format!("{path}/restart"));
    let worker = Answer::of(restart).await.check(202)["workerId"].clone();
    let started = format!(
        "/events?after_seq=0&event_type=worker.started&aggregate_id={}",
        &path[10..]
    );
    let mut events = api.stream(&started, None).await;
    while data(&events.next().await.unwrap())["payload"]["worker_id"] != worker {}
    let step = api.run(&path, "globals().get('x', 'fresh')").await;
    assert_eq!(step["result"]["text"], "'fresh'");
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing_in_any_plane() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "open('made', 'w').write('here')").await;
    let (scratch, _) = api.server.scratch();
    assert!(scratch.join(&path[10..]).join("made").exists());
    assert_eq!(api.delete(&format!("{path}?force=1")).await.status, 204);
    assert!(!scratch.join(&path[10..]).exists());
    let http = Client::builder().no_proxy().build().unwrap();
    let below = format!("{}{path}", api.server.plane_url(Plane::Data));
    let below = Answer::of(http.get(below).bearer_auth(TestStack::PLANE_KEY)).await;
    assert_eq!(below.check(200)["status"], "terminated");
}

#[tokio::test]
async fn a_data_plane_that_stands_still_for_a_while_costs_nothing_but_time() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let counted = Counted::new(&api);
    let (_, waits) = waited_for(&api, &path, counted.code()).await;
    api.server.signal(Plane::Data, Signal::STOP).unwrap();
    counted.pipe.write("meanwhile");
    let queued = StepId::new();
    let body = json!({ "code": "print('next')", "step_id": queued });
    let steps = format!("{path}/steps");
    let next = api.post(&steps, &body);
    let goes_on = async {
        // Recorded, so it is on its way.
        let accepted = "/events?after_seq=0&event_type=step.accepted";
        let mut events = api.stream(accepted, None).await;
        while data(&events.next().await.unwrap())["payload"]["step_id"] != queued.to_string() {}
        api.server.signal(Plane::Data, Signal::CONT).unwrap();
    };
    let (next, ()) = tokio::join!(next, goes_on);
    assert_eq!(next.check(200)["stdout"], "next\n");
    let step = waits.await.unwrap().check(200);
    assert_eq!(step["result"]["text"], "'meanwhile'");
    counted.ran_once();
}

#[tokio::test]
async fn a_reader_who_stops_reading_does_not_keep_the_end_from_the_records() {
    let api = Api::with(&["journal_bytes=1MiB"]);
    let path = api.session(json!({})).await;
    let code = "import os\nfor n in range(1200): os.write(1, b'x' * 65536)";
    let mut stream = api.stream_step(&path, code).await;
    let started = data(&stream.next().await.unwrap());
    let step = format!("{path}/steps/{}", started["id"].as_str().unwrap());
    // Nobody reads on. The program waits for them for some seconds, and no longer.
    let ended = api.ended(&step).await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["stdout_bytes"], 1200 * 65536);
    let rest = stream.rest().await;
    let names: Vec<&str> = rest.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names.last(), Some(&"completed"));
    assert!(
        names.contains(&"gap"),
        "what left the journal is said to be missing"
    );
}
