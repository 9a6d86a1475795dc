//! SIGKILL in the middle of a burst of changes: what was answered is there, whole.
//!
//! The process that is killed is this test binary again, told by an environment variable to run
//! [`burst`], which writes a line after every answer.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use abide_model::{
    Event, Exit, SessionChanges, SessionId, SessionStatus, StepFilter, StepId, StepStatus,
    WorkerId, WorkerState,
};
use abide_store::{Store, StoreOptions};
use rusqlite::Connection;

use crate::fixtures::{finish, log, new_agent, new_session, new_step, new_worker, outcome};

/// Names the database to the process that is to be killed.
const DATABASE: &str = "ABIDE_TEST_BURST_DATABASE";
const ROUNDS: usize = 20;
const CALLERS: usize = 8;

/// One answered change, as a line of text.
fn say(what: &str, id: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // One write, so that lines of several callers do not mix.
    out.write_all(format!("answered {what} {id}\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: does nothing unless the test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let store = Store::open(Path::new(&path), StoreOptions::default()).unwrap();
    let agent = store.ensure_agent(new_agent("owner")).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            loop {
                let session = store.create_session(new_session(agent.id)).await.unwrap();
                say("created", session.id);
                let worker = store.assign_worker(new_worker(session.id)).await.unwrap();
                say("assigned", worker.id);
                let step = new_step(session.id);
                store.accept_step(step.clone()).await.unwrap();
                say("accepted", format_args!("{}/{}", session.id, step.id));
                let context = abide_model::JsonObject::from_value(
                    &serde_json::json!({ "filling": "x".repeat(3_000) }),
                )
                .unwrap();
                let changes = SessionChanges {
                    context: Some(context),
                    ..SessionChanges::default()
                };
                store.update_session(session.id, changes).await.unwrap();
                say("updated", session.id);
                let done = outcome(step.id, StepStatus::Completed);
                assert!(finish(&store, session.id, done).await.unwrap());
                say("finished", format_args!("{}/{}", session.id, step.id));
                let exit = Exit {
                    signal: Some(9),
                    ..Exit::default()
                };
                store
                    .worker_crashed(worker.id, exit, "killed".to_owned())
                    .await
                    .unwrap();
                say("crashed", worker.id);
            }
        });
    }
    callers.join_next().await;
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::burst", "--nocapture", "--test-threads=1"])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a burst after `lines` answers; returns all that came, by what was answered.
fn kill_after(path: &Path, lines: usize) -> Vec<(String, String)> {
    let mut child = start(path);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..lines {
        assert_ne!(
            output.read_line(&mut text).unwrap(),
            0,
            "the burst ended by itself"
        );
    }
    child.kill().unwrap();
    output.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    // A line without its end was cut by the kill.
    let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    complete
        .lines()
        .filter_map(|line| line.strip_prefix("answered ")?.split_once(' '))
        .map(|(what, id)| (what.to_owned(), id.to_owned()))
        .collect()
}

#[tokio::test]
async fn what_was_answered_survives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    let mut answered = Vec::new();
    for round in 0..ROUNDS {
        // Early, so that the kill also meets recovery and the first checkpoint, and later.
        let news = kill_after(&path, 5 + round * 41);
        assert!(!news.is_empty());
        answered.extend(news);

        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let log = log(&store).await;
        for (what, id) in &answered {
            assert!(
                is_there(&store, what, id).await,
                "round {round}: {what} {id} is lost"
            );
        }
        check_nothing_is_half_written(&store, &log).await;
        assert_eq!(store.verify().await.unwrap(), Vec::<String>::new());
        // Closing by dropping, on even rounds, leaves the log for the next start.
        if round % 2 == 1 {
            store.close().await;
        }
        drop(store);
        let raw = Connection::open(&path).unwrap();
        let dangling = raw
            .prepare("PRAGMA foreign_key_check")
            .unwrap()
            .exists([])
            .unwrap();
        assert!(!dangling);
    }
}

async fn is_there(store: &Store, what: &str, id: &str) -> bool {
    let session = async || store.session(SessionId::parse(id).unwrap()).await.unwrap();
    let worker = async || store.worker(WorkerId::parse(id).unwrap()).await.unwrap();
    match what {
        "created" => session().await.is_some(),
        "updated" => session()
            .await
            .is_some_and(|s| s.context.as_str().len() > 3_000),
        "assigned" => worker().await.is_some(),
        "crashed" => match worker().await {
            Some(worker) if worker.state == WorkerState::Exited => {
                let session = store.session(worker.session_id).await.unwrap().unwrap();
                session.status == SessionStatus::Crashed
            }
            _ => false,
        },
        "accepted" | "finished" => {
            let (session, step) = id.split_once('/').unwrap();
            let (session, step) = (
                SessionId::parse(session).unwrap(),
                StepId::parse(step).unwrap(),
            );
            let step = store.step(session, step).await.unwrap();
            step.is_some_and(|step| what == "accepted" || step.status == StepStatus::Completed)
        }
        other => panic!("{other}?"),
    }
}

/// Records and events agree, both ways, for every session.
async fn check_nothing_is_half_written(store: &Store, log: &[Event]) {
    let sequences: HashSet<i64> = log.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences.len(), log.len());
    assert!(log.is_sorted_by(|a, b| a.sequence < b.sequence));
    let mut counts = BTreeMap::<_, BTreeMap<&str, usize>>::new();
    for event in log.iter().filter(|event| event.aggregate_type == "session") {
        let of = counts.entry(event.aggregate_id).or_default();
        *of.entry(event.event_type.as_str()).or_default() += 1;
    }
    assert_eq!(store.count_sessions().await.unwrap(), counts.len() as u64);
    for (id, counts) in counts {
        let count = |kind: &str| counts.get(kind).copied().unwrap_or(0);
        let session = store.session(SessionId(id)).await.unwrap().unwrap();
        assert_eq!(count("session.created"), 1);
        assert_eq!(count("session.updated") as i64, session.version - 1);
        let steps = store
            .steps(
                session.id,
                StepFilter {
                    after: 0,
                    limit: 100,
                },
            )
            .await
            .unwrap();
        assert_eq!(count("step.accepted"), steps.len());
        let finished = steps.iter().filter(|step| step.status.is_terminal());
        assert_eq!(count("step.completed"), finished.count());
        let workers = store.workers(session.id).await.unwrap();
        assert_eq!(count("worker.started"), workers.len());
        let exited = workers
            .iter()
            .filter(|worker| worker.state == WorkerState::Exited)
            .count();
        assert_eq!(count("worker.exited"), exited);
        let crashed = session.status == SessionStatus::Crashed;
        assert_eq!(
            crashed,
            exited == 1,
            "a crash and its status are one change"
        );
    }
}
