//! A session outlives its server: killed at every point of a step's life, it loses nothing.

#![expect(clippy::disallowed_methods, reason = "a test has no supervisor")]

use std::collections::HashMap;

use abide_client::{Client, EventQuery, OutputFrom, StepEvent};
use abide_model::{
    CreateSession, ProblemCode, SessionId, SessionStatus, StepId, StepStatus, SubmitStep,
};
use abide_testkit::{ServerOptions, TestServer, processes_of_worker_dir};
use tokio::sync::watch;

/// Points of `abide_session_agent::crash_points`, in a step's order.
pub(crate) const POINTS: &[&str] = &[
    "step.before_accept",
    "step.before_send",
    "step.before_write",
    "step.after_send",
    "step.during_output",
    "step.before_record",
    "step.after_record",
];
const KILLS: usize = 200;
const SESSIONS: usize = 8;

fn options() -> ServerOptions {
    ServerOptions::new(env!("CARGO_BIN_EXE_abide"))
}

fn step(code: &str) -> SubmitStep {
    SubmitStep {
        code: code.to_owned(),
        ..SubmitStep::default()
    }
}

/// One step of one session, as it was answered.
struct Answered {
    id: StepId,
    n: usize,
}

/// Submits numbered steps one after another, each by an id of its own, and asks again with the
/// same id whenever the server goes away. Every answer must be that of one single execution.
async fn keep_working(
    session: SessionId,
    who: usize,
    mut server: watch::Receiver<Option<Client>>,
) -> Vec<Answered> {
    let mut answered = Vec::new();
    for n in 1.. {
        let id = StepId::new();
        let submit = SubmitStep {
            code: format!(
                "n = globals().get('n', 0) + 1\n\
                 print('session {who} step', n, 'x' * {}, flush=True)\n\
                 import sys; print('err', n, file=sys.stderr)\nn",
                n % 7 * 1000
            ),
            step_id: Some(id),
            ..SubmitStep::default()
        };
        let step = loop {
            let Some(client) = server.borrow_and_update().clone() else {
                return answered;
            };
            match client.run_step(session, &submit).await {
                Ok(step) => break step,
                Err(error) if error.is_outage() => {
                    // The next server, or the end of the test.
                    if server.changed().await.is_err() {
                        return answered;
                    }
                }
                Err(error) => panic!("session {who} step {n}: {error:?}"),
            }
        };
        let expected = format!("session {who} step {n} {}\n", "x".repeat(n % 7 * 1000));
        assert_eq!(step.status, StepStatus::Completed, "{step:?}");
        assert_eq!(step.stdout, expected, "output lost or doubled");
        assert_eq!(step.stderr, format!("err {n}\n"));
        let result = step.result.and_then(|result| result.text);
        assert_eq!(
            result,
            Some(n.to_string()),
            "executed more or less than once"
        );
        answered.push(Answered { id, n });
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_point_of_a_step_nothing_is_lost_or_doubled() {
    let mut server = TestServer::start(options().set("warm_python=0")).unwrap();
    let data_dir = server.data_dir();
    let client = server.client().unwrap();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(
            client
                .create_session(&CreateSession::default())
                .await
                .unwrap()
                .id,
        );
    }
    let (current, watcher) = watch::channel(Some(client));
    let workers: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(who, session)| tokio::spawn(keep_working(*session, who, watcher.clone())))
        .collect();
    server.kill().unwrap();
    for kill in 0..KILLS {
        let point = POINTS[kill % POINTS.len()];
        // Sometimes at once, sometimes after several sessions have passed the point.
        let count = 1 + (kill * 7 / POINTS.len()) % 20;
        let arm = ["--crash-point".to_owned(), format!("{point}:{count}")];
        let exited = tokio::task::block_in_place(|| server.try_up(&arm)).unwrap();
        let exited = match exited {
            // It was passed while results of the server before were taken over.
            Some(exited) => exited,
            None => {
                current.send_replace(Some(server.client().unwrap()));
                tokio::task::block_in_place(|| server.wait()).unwrap()
            }
        };
        assert_eq!(
            exited.signal,
            Some(9),
            "ended otherwise than at {point}:{count}"
        );
    }
    server.up(&[]).unwrap();
    let client = server.client().unwrap();
    // Everybody finishes the step under way with this server, then stops.
    current.send_replace(Some(client.clone()));
    let mut answered: HashMap<SessionId, Vec<Answered>> = HashMap::new();
    drop_when_all_worked(&current, &client, &sessions).await;
    drop(current);
    for (session, worker) in sessions.iter().zip(workers) {
        answered.insert(*session, worker.await.unwrap());
    }
    for session in &sessions {
        let answered = &answered[session];
        assert!(!answered.is_empty());
        let mut steps = Vec::new();
        loop {
            let after = i64::try_from(steps.len()).unwrap();
            let page = client.list_steps(*session, after, 1000).await.unwrap();
            if page.is_empty() {
                break;
            }
            steps.extend(page);
        }
        // In the records as they were answered, in order, without gap.
        for (index, step) in steps.iter().enumerate() {
            assert_eq!(step.sequence, i64::try_from(index).unwrap() + 1);
            assert_eq!(step.status, StepStatus::Completed, "{step:?}");
        }
        let own: Vec<_> = steps.iter().filter(|step| step.code != "None").collect();
        for one in answered {
            assert_eq!(own[one.n - 1].id, one.id);
        }
        // And each told once.
        let query = EventQuery {
            after: Some(0),
            limit: Some(10_000),
            types: vec!["step.completed".to_owned()],
            ..EventQuery::default()
        };
        let told = client.events(&query).await.unwrap();
        let told = told
            .iter()
            .filter(|event| event.aggregate_id == session.0)
            .count();
        assert_eq!(told, steps.len(), "one step.completed for each step");
        // Whole outputs, read back by offset, are what was printed.
        let last = &answered[answered.len() - 1];
        let output = client.step_output(*session, last.id, 0).await.unwrap();
        let expected = format!("{} {}\n", last.n, "x".repeat(last.n % 7 * 1000));
        assert!(String::from_utf8_lossy(&output.bytes).contains(&expected));
    }
    server.down().unwrap();
    assert_eq!(
        processes_of_worker_dir(&data_dir),
        Vec::<u32>::new(),
        "left over after down"
    );
}

/// Steps without an id of the client's: nobody can ask for them again, and yet each that was
/// executed is in the records, once, with its output.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_executed_is_recorded_also_when_nobody_knows_its_id() {
    let mut server = TestServer::start(options().set("warm_python=0")).unwrap();
    let client = server.client().unwrap();
    let session = client
        .create_session(&CreateSession::default())
        .await
        .unwrap()
        .id;
    client.run_step(session, &step("n = 0")).await.unwrap();
    server.kill().unwrap();
    for kill in 0..48 {
        let point = POINTS[kill % POINTS.len()];
        let arm = [
            "--crash-point".to_owned(),
            format!("{point}:{}", 1 + kill % 5),
        ];
        if tokio::task::block_in_place(|| server.try_up(&arm))
            .unwrap()
            .is_some()
        {
            continue;
        }
        let client = server.client().unwrap();
        while client
            .run_step(session, &step("n += 1; print('step', n)"))
            .await
            .is_ok()
        {}
        server.wait().unwrap();
    }
    server.up(&[]).unwrap();
    let client = server.client().unwrap();
    let last = client.run_step(session, &step("n")).await.unwrap();
    let executed: usize = last.result.unwrap().text.unwrap().parse().unwrap();
    assert!(executed >= 48, "only {executed} steps");
    let steps = client.list_steps(session, 0, 1000).await.unwrap();
    let recorded: Vec<_> = steps
        .iter()
        .filter(|step| step.code.starts_with("n += 1"))
        .collect();
    let expected: Vec<_> = (1..=executed).map(|n| format!("step {n}\n")).collect();
    let outputs: Vec<_> = recorded.iter().map(|step| step.stdout.clone()).collect();
    assert_eq!(outputs, expected);
    assert!(
        recorded
            .iter()
            .all(|step| step.status == StepStatus::Completed)
    );
    server.down().unwrap();
}

/// Waits until every session has completed one more step on the last server, then says that
/// there will be no other.
async fn drop_when_all_worked(
    current: &watch::Sender<Option<Client>>,
    client: &Client,
    sessions: &[SessionId],
) {
    for session in sessions {
        client.run_step(*session, &step("None")).await.unwrap();
    }
    current.send_replace(None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_keeper_is_a_crashed_session_with_its_output_and_without_its_processes() {
    let server = TestServer::start(options()).unwrap();
    let client = server.client().unwrap();
    let session = client
        .create_session(&CreateSession::default())
        .await
        .unwrap()
        .id;
    let code = "import subprocess, os\n\
                child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
                print('keeper', os.getppid(), 'child', child.pid, 'me', os.getpid(), flush=True)";
    let first = client.run_step(session, &step(code)).await.unwrap();
    let words: Vec<&str> = first.stdout.split_whitespace().collect();
    let [keeper, child, me] = [words[1], words[3], words[5]].map(|pid| pid.parse::<i32>().unwrap());
    let running = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .run_step(
                    session,
                    &step("print('last words', flush=True)\nwhile True: pass"),
                )
                .await
        }
    });
    let mut events = client
        .follow_events(&EventQuery {
            after: Some(0),
            types: vec!["worker.exited".to_owned()],
            ..EventQuery::default()
        })
        .await
        .unwrap();
    // The step's first output is in the journal once it can be read.
    let mut follow = client
        .follow_session_output(session, OutputFrom::Offset(first.stdout_bytes))
        .await
        .unwrap();
    let said = follow.next().await.unwrap().unwrap();
    assert_eq!(&said[..], b"last words\n");
    kill(keeper);
    let step_of_keeper = running.await.unwrap().unwrap();
    assert_eq!(step_of_keeper.status, StepStatus::Lost);
    assert_eq!(step_of_keeper.stdout, "last words\n");
    events.next().await.unwrap().unwrap();
    let record = client.session(session).await.unwrap();
    assert_eq!(record.status, SessionStatus::Crashed);
    for pid in [child, me] {
        assert!(
            !abide_testkit::still_alive(pid.cast_unsigned()),
            "{pid} is left"
        );
    }
    let output = client
        .session_output(session, OutputFrom::Offset(0))
        .await
        .unwrap();
    assert!(output.bytes.ends_with(b"last words\n"));
    let refused = client.run_step(session, &step("1")).await.unwrap_err();
    assert!(refused.is(ProblemCode::RuntimeCrashed), "{refused:?}");
    client.restart_session(session).await.unwrap();
    assert_eq!(
        client
            .run_step(session, &step("1 + 1"))
            .await
            .unwrap()
            .result
            .unwrap()
            .text
            .unwrap(),
        "2"
    );
}

/// While nobody reads, the ring turns: the hand-over of the step that runs may be gone when the next
/// server comes, and so may the end of the step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_hand_over_has_left_the_journal_is_not_run_again() {
    let mut server = TestServer::start(options().set("journal_bytes=64KiB")).unwrap();
    let client = server.client().unwrap();
    let new = CreateSession::default();
    let session = client.create_session(&new).await.unwrap().id;
    let [go, gone] = ["go", "gone"].map(|name| server.home().join(name));
    for (turn, afterwards) in ["None", "print('y' * 1_000_000)"].into_iter().enumerate() {
        // What is printed after the last word of a step belongs to no step, and is more than the ring.
        let code = format!(
            "import os, threading\nfor fifo in {go:?}, {gone:?}:\n    os.mkfifo(fifo)\n\
             runs = globals().get('runs', 0) + 1\n\
             print('begun', flush=True)\nopen({go:?}).close()\n\
             print('x' * 1_000_000)\n\
             def later():\n    stepping.wait()\n    {afterwards}\n    open({gone:?}, 'w').close()\n\
             stepping = threading.Event()\n\
             threading.Thread(target=later).start()\n\
             threading.Timer(0.5, stepping.set).start()\nruns"
        );
        let client = server.client().unwrap();
        let id = client.submit_step(session, &step(&code)).await.unwrap().id;
        // Handed over: it has made its fifos, and waits.
        let mut output = client.follow_step(session, id, None).await.unwrap();
        while !matches!(output.next().await.unwrap().unwrap(), StepEvent::Stdout(_)) {}
        server.kill().unwrap();
        std::fs::write(&go, "").unwrap();
        // Until the program says that all is printed.
        std::fs::read(&gone).unwrap();
        server.up(&[]).unwrap();
        let client = server.client().unwrap();
        let ended = client.wait_step(session, id, 60).await.unwrap();
        if turn == 0 {
            assert_eq!(ended.status, StepStatus::Completed, "{:?}", ended.error);
            assert_eq!(ended.result.unwrap().text.as_deref(), Some("1"));
        } else {
            // Nobody can say how it ended; that it is over, the empty step behind it says.
            assert_eq!(ended.status, StepStatus::Lost);
        }
        let next = client.run_step(session, &step("runs")).await.unwrap();
        assert_eq!(next.result.unwrap().text, Some(format!("{}", turn + 1)));
        for fifo in [&go, &gone] {
            std::fs::remove_file(fifo).unwrap();
        }
    }
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
