//! Starting and stopping: one server a place, quick ends, nothing lost, nothing left over.

use std::time::{Duration, Instant};

use abide_model::ProblemCode;
use abide_testkit::{ServerOptions, TestServer, processes_of_worker_dir, still_alive};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};

use super::http::{Answer, Api, data};
use super::steps::Pipe;

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Children of a process, dead ones too, with their states.
pub(crate) fn children(of: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let mut rest = stat.rsplit(')').next().unwrap().split_whitespace();
        let (state, parent) = (rest.next().unwrap(), rest.next().unwrap());
        if parent == of.to_string() {
            found.push((pid, state.to_owned()));
        }
    }
    found
}

/// Whether a process ends within a generous time.
fn ends(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0
}

#[tokio::test]
async fn a_second_server_in_the_same_place_is_refused() {
    let mut api = Api::cold();
    let pid = api.server.pid().unwrap();
    let second = api.server.command(&["up", "--port", "0"]).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    for part in [
        &format!("pid {pid}"),
        "another server",
        "abide down",
        "--data-dir",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(api.get("/sessions").await.status, 200, "the first goes on");
    // One that was killed does not block the next.
    api.server.kill().unwrap();
    api.up_again();
    assert_eq!(api.get("/sessions").await.status, 200);
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
    let exited = api.server.wait().unwrap();
    let took = begun.elapsed();
    assert_eq!(exited.code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!api.server.data_dir().join("server.json").exists());
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
        assert_eq!(api.server.wait().unwrap().code, Some(0));
        assert!(still_alive(pid));
        api.up_again();
        assert_eq!(api.run(&path, "x").await["result"]["text"], "1");
    }
    let waits = "import threading\nprint('on', flush=True)\nthreading.Event().wait()";
    let running = api.submit(&path, waits).await;
    api.begun(&running).await;
    let answer = Answer::of(api.request("POST", "/shutdown?workers=end")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(api.server.wait().unwrap().code, Some(0));
    assert!(!still_alive(pid));
    assert_eq!(
        processes_of_worker_dir(&api.server.data_dir()),
        Vec::<u32>::new()
    );
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
    tokio::task::block_in_place(|| api.server.down()).unwrap();
    assert_eq!(
        processes_of_worker_dir(&api.server.data_dir()),
        Vec::<u32>::new()
    );
}

/// Waits until the pool has so many idle interpreters.
async fn warm(api: &Api, runtime: &str, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    // Nothing tells when the pool is full, so this asks again and again, up to a limit.
    loop {
        let status = api.get("/status").await.check(200);
        if status["warm"][runtime] == count {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_warm_pool_is_taken_from_and_filled_again() {
    let api = Api::with(&["warm_python=2", "warm_node=1"]);
    warm(&api, "python", 2).await;
    warm(&api, "node", 1).await;
    let ready = |_: &str| {
        let dir = api.server.data_dir().join("workers");
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let idle = ready("");
    assert_eq!(idle.len(), 3);
    for runtime in ["python", "node"] {
        let path = api.session(json!({ "runtime": runtime })).await;
        api.run(&path, "1").await;
        let workers = api.get(&format!("{path}/workers")).await.check(200);
        let taken = workers[0]["id"].as_str().unwrap().to_owned();
        assert!(idle.contains(&taken), "a session takes one that was ready");
    }
    warm(&api, "python", 2).await;
    warm(&api, "node", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_zombies_after_twenty_crashes() {
    // Nothing is being started for the pool while the children are looked at.
    let mut api = Api::cold();
    let path = api.session(json!({})).await;
    for n in 0..20 {
        let code = "import os, subprocess\nsubprocess.Popen(['cat', '/dev/zero'], \
                    stdout=subprocess.DEVNULL, start_new_session=True)\nos._exit(1)";
        let step = api.run(&path, code).await;
        assert_eq!(step["status"], "crashed", "crash {n}");
        Answer::of(api.request("POST", &format!("{path}/restart")))
            .await
            .check(200);
    }
    let zombies: Vec<_> = children(api.server.pid().unwrap())
        .into_iter()
        .filter(|(_, state)| state == "Z")
        .collect();
    assert_eq!(zombies, [], "dead children of the server");
    tokio::task::block_in_place(|| api.server.down()).unwrap();
    assert_eq!(
        processes_of_worker_dir(&api.server.data_dir()),
        Vec::<u32>::new()
    );
}

#[test]
fn nothing_is_left_of_a_server_killed_while_it_filled_its_pool() {
    let options = ServerOptions::new(env!("CARGO_BIN_EXE_abide"));
    let mut server = TestServer::start(options.set("warm_python=4").set("warm_node=2")).unwrap();
    for round in 0..6 {
        // At once: some interpreters are there, some are on their way, or none is.
        server.kill().unwrap();
        if round % 2 == 0 {
            // Says so when there is nothing to end.
            let down = server.command(&["down"]).output().unwrap();
            let said = String::from_utf8_lossy(&down.stderr).into_owned();
            assert!(
                down.status.success() || said.contains("no Abide server"),
                "{said}"
            );
            // A keeper that was on its way finds that nobody has heard of it, and ends.
            for pid in processes_of_worker_dir(&server.data_dir()) {
                assert!(ends(pid), "round {round}: {pid} stays: {said}");
            }
        }
        server.up(&[]).unwrap();
    }
    server.down().unwrap();
    // One whose launcher was killed may still be about to find out.
    for pid in processes_of_worker_dir(&server.data_dir()) {
        assert!(ends(pid), "{pid} stays");
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
    let left = std::fs::read_dir(api.server.data_dir().join("workspaces")).unwrap();
    assert_eq!(left.count(), 0);
}
