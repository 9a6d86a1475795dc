//! Stopping: quick ends, nothing lost, nothing left over.

use std::time::{Duration, Instant};

use abide_model::ProblemCode;
use abide_testkit::still_alive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _, data};
use super::steps::Pipe;

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn termination_drains_at_once_and_the_step_goes_on() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let step = api
        .submit(&path, &format!("x = 41\n{}", pipe.reads()))
        .await;
    let queued = api.submit(&path, "x + 1").await;
    api.begun(&step).await;
    // Somebody waits for a step, somebody streams one, somebody follows the events.
    let mut events = api.stream("/events", None).await;
    let third = uuid::Uuid::now_v7().to_string();
    let body = json!({"code": "x + 2", "step_id": third});
    let mut waiting = tokio::task::JoinSet::new();
    let request = api.request("POST", &format!("{path}/steps")).json(&body);
    waiting.spawn(Answer::of(request));
    let accepted = events.next().await.unwrap();
    assert_eq!(accepted.event, "step.accepted");
    let accepted: serde_json::Value = serde_json::from_slice(&accepted.data).unwrap();
    assert_eq!(accepted["payload"]["step_id"], third);
    let mut stream = api.stream(&step, None).await;
    assert_eq!(stream.next().await.unwrap().event, "started");
    let begun = Instant::now();
    signal(api.server.pid().unwrap(), Signal::TERM);
    let exited = api.server.wait_for_end();
    let took = begun.elapsed();
    assert_eq!(exited.code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!api.server.own_files().join("server.json").exists());
    assert!(
        stream
            .rest()
            .await
            .iter()
            .all(|event| event.event == "stdout")
    );
    assert!(events.rest().await.is_empty());
    let told = waiting.join_next().await.unwrap().unwrap();
    let told = told.problem(ProblemCode::ShuttingDown);
    assert_eq!(told["details"]["step_id"], third);
    pipe.write("while nobody looked");
    api.up_again();
    assert_eq!(
        api.ended(&step).await["result"]["text"],
        "'while nobody looked'"
    );
    assert_eq!(api.ended(&queued).await["result"]["text"], "42");
    let third = format!("{path}/steps/{third}");
    assert_eq!(api.ended(&third).await["result"]["text"], "43");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_through_the_api_keeps_or_ends_the_workers() {
    let mut api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pid = api.run(&path, "import os\nx = 1\nos.getpid()").await;
    let pid: u32 = pid["result"]["text"].as_str().unwrap().parse().unwrap();
    for query in ["", "?workers=keep"] {
        let answer = Answer::of(api.request("POST", &format!("/shutdown{query}"))).await;
        assert_eq!((answer.status, answer.text()), (202, ""));
        assert_eq!(api.server.wait_for_end().code, Some(0));
        assert!(still_alive(pid));
        api.up_again();
        assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
    }
    let waits = "import threading\nprint('on', flush=True)\nthreading.Event().wait()";
    let running = api.submit(&path, waits).await;
    api.begun(&running).await;
    let answer = Answer::of(api.request("POST", "/shutdown?workers=end")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(api.server.wait_for_end().code, Some(0));
    assert!(!still_alive(pid));
    api.up_again();
    assert_eq!(api.get(&running).await.check(200)["status"], "interrupted");
    let workers = api.get(&format!("{path}/workers")).await.check(200);
    assert_eq!(workers[0]["state"], "exited");
    // Stopped on purpose is not crashed, and a restart is all it takes to go on.
    assert_eq!(api.get(&path).await.check(200)["status"], "active");
    Answer::of(api.request("POST", &format!("{path}/restart")))
        .await
        .check(200);
    assert_eq!(api.run(&path, "1 + 1").await["result"]["text"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_sessions_at_once() {
    let mut api = Api::with(&["warm_python=2"]);
    let all = (0..20).map(|n| {
        let api = &api;
        async move {
            let path = api.session(json!({ "name": format!("s{n}") })).await;
            let step = api
                .run(&path, &format!("import os\n{n} * {n}, os.getpid()"))
                .await;
            step["result"]["text"].as_str().unwrap().to_owned()
        }
    });
    let values = futures_util::future::join_all(all).await;
    let mut pids = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let (square, pid) = value.trim_matches(['(', ')']).split_once(", ").unwrap();
        assert_eq!(square, (n * n).to_string());
        pids.push(pid.to_owned());
    }
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 20, "an interpreter for each");
    let status = api.get("/status").await.check(200);
    assert_eq!(status["live_interpreters"], 20);
    let answer = Answer::of(api.request("POST", "/shutdown?workers=end")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(api.server.wait_for_end().code, Some(0));
    for pid in pids {
        assert!(!still_alive(pid.parse().unwrap()), "{pid}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_session_ends_what_runs_in_it() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let code = "import os, subprocess, threading\n\
                child = subprocess.Popen(['cat', '/dev/zero'], stdout=subprocess.DEVNULL)\n\
                print(os.getpid(), child.pid, flush=True)\nthreading.Event().wait()";
    let mut stream = api.stream_step(&path, code).await;
    stream.next().await.unwrap();
    let printed = data(&stream.next().await.unwrap());
    let pids: Vec<u32> = printed["text"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(pids.iter().all(|pid| still_alive(*pid)));
    let deleted = api.delete(&format!("{path}?force=true")).await;
    assert_eq!(deleted.status, 204);
    assert!(pids.iter().all(|pid| !still_alive(*pid)), "{pids:?}");
    let rest = stream.rest().await;
    let end: Value = data(rest.last().unwrap());
    assert_eq!(end["status"], "interrupted", "whoever waited is told");
    let left = std::fs::read_dir(api.server.scratch().0).unwrap();
    assert_eq!(left.count(), 0);
}
