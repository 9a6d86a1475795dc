//! `abide up` as a process: its lock, its log, its limits, its children and its pool.

use std::time::{Duration, Instant};

use abide_testkit::{ServerOptions, TestServer, processes_of_worker_dir};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::http::{Answer, Api};
use crate::abide::Place;

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

#[test]
fn log_lines_are_json_with_request_ids() {
    let place = Place::new();
    let up = [
        "up",
        "-d",
        "--port",
        "0",
        "--set",
        "log_format=json",
        "--set",
        "warm_python=0",
    ];
    place.run(&up).check(0, "");
    place.run(&["run", "-s", "demo", "1"]).check(0, "");
    place.run(&["down"]).check(0, "");
    let log = std::fs::read_to_string(place.data_dir().join("abide.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let answered: Vec<&Value> = lines
        .iter()
        .filter(|l| l["message"] == "answered")
        .collect();
    assert!(answered.len() >= 3, "{log}");
    for line in &answered {
        let id = line["span"]["id"].as_str().unwrap();
        assert!(!id.is_empty());
        assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
        assert!(line["ms"].is_number() && line["timestamp"].is_string());
        assert!(line["span"]["route"].is_string() && line["span"]["method"].is_string());
    }
    let key = std::fs::read_to_string(place.data_dir().join("key")).unwrap();
    assert!(!log.contains(key.trim()), "the key is not logged");
}

#[tokio::test]
async fn the_server_may_open_many_files_and_programs_as_many_as_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let few = directory.path().join("abide-with-few-files");
    let exe = env!("CARGO_BIN_EXE_abide");
    std::fs::write(
        &few,
        format!("#!/bin/sh\nulimit -Sn 200\nexec '{exe}' \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&few, std::fs::Permissions::from_mode(0o700)).unwrap();
    let api = Api::of(TestServer::start(ServerOptions::new(&few)).unwrap());
    let path = api.session(json!({})).await;
    let code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[0]";
    let step = api.run(&path, code).await;
    assert_eq!(step["result"]["text"], "200");
    let limits = format!("/proc/{}/limits", api.server.pid().unwrap());
    let limits = std::fs::read_to_string(limits).unwrap();
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = open_files.unwrap().split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "soft and hard limit");
}
