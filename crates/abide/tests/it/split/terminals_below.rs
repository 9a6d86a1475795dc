//! Terminals when one of the planes below the API dies, loses them or is asked about them directly.

use abide_model::{FromTerminal, ProblemCode};
use abide_testkit::Plane;
use serde_json::json;

use super::dialect;
use super::http::{Answer, Api};
use super::terminals::Terminal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_lost_or_doubled_over_kills_of_any_plane() {
    let mut terminal = Terminal::shell(&["journal_bytes=8MiB"]).await;
    let mut viewer = terminal.attach("flow=block").await;
    viewer.types("echo r'e'ady\n").await;
    viewer.until("ready\r\n$ ").await;
    let mut seen = Vec::new();
    viewer.seen.clear();
    viewer.types("seq 1 800000; echo th'e' end\n").await;
    for kills in 0.. {
        let until = viewer.offset + 250_000;
        let is_whole = |seen: &[u8]| seen.ends_with(b"the end\r\n$ ");
        while viewer.offset < until
            && !is_whole(&viewer.seen)
            && !(viewer.seen.is_empty() && is_whole(&seen))
            && viewer.step().await
        {}
        seen.append(&mut viewer.seen);
        if is_whole(&seen) {
            assert!(kills >= 3, "planes were killed {kills} times");
            break;
        }
        let plane = Plane::ALL[kills % 3];
        terminal.api.server.kill(plane).unwrap();
        // What was under way between the planes comes, and then it breaks off.
        while viewer.step().await {}
        seen.append(&mut viewer.seen);
        terminal.api.server.up(plane).unwrap();
        terminal.api.reconnect();
        let offset = viewer.offset;
        let resumed = format!("flow=block&resume_from={offset}");
        viewer = terminal.attach(&resumed).await;
        viewer.offset = offset;
    }
    let mut expected = b"seq 1 800000; echo th'e' end\r\n".to_vec();
    for n in 1..=800_000 {
        expected.extend_from_slice(format!("{n}\r\n").as_bytes());
    }
    expected.extend_from_slice(b"the end\r\n$ ");
    assert!(seen == expected, "not the bytes that were printed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_the_dialect_notices_nothing_of_kills_below() {
    let mut api = dialect::server(&[]);
    let mut page = dialect::Client::of(&api).await;
    page.create("t").await;
    let counting =
        "i=0; while [ $i -lt 3000 ]; do echo \"n=$i;\"; i=$((i+1)); done; echo en'd'=$i\r";
    page.types("t", counting).await;
    for (plane, n) in [(Plane::Data, 500), (Plane::Agent, 1000)] {
        page.until("t", &format!("n={n};")).await;
        api.server.kill(plane).unwrap();
        api.server.up(plane).unwrap();
    }
    page.until("t", "end=3000\r\n$ ").await;
    for n in 0..3000 {
        let line = format!("n={n};\r\n");
        assert_eq!(page.seen["t"].matches(&line).count(), 1, "{line}");
    }
    // What is typed while a plane dies may be lost, as over a connection that breaks.
    while api.get("/workers").await.check(200)[0]["viewers"] != 1 {}
    page.types("t", "echo typed-$((i + 1))\r").await;
    page.until("t", "typed-3001\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_nobody_asked_about_is_told() {
    let terminal = Terminal::shell(&[]).await;
    let path = format!("{}/input", terminal.path);
    let typed = terminal.api.request("POST", &path).body("exit 6\n");
    assert_eq!(Answer::of(typed).await.status, 204);
    // Neither the terminal nor its session is asked for.
    let exited = loop {
        let events = terminal
            .api
            .get("/events?after_seq=0&limit=1000")
            .await
            .check(200);
        let mut events = events.as_array().unwrap().iter();
        if let Some(exited) = events.find(|it| it["event_type"] == "worker.exited") {
            break exited.clone();
        }
        tokio::task::yield_now().await;
    };
    let payload = &exited["payload"];
    assert_eq!(payload["worker_id"], terminal.id.as_str(), "{exited}");
    assert_eq!(payload["exit"]["code"], 6, "{exited}");
    let status = terminal.api.get("/status").await.check(200);
    assert_eq!(
        (&status["terminals"]["live"], &status["terminals"]["ended"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_terminals_says_so_and_the_session_is_crashed() {
    let mut terminal = Terminal::shell(&[]).await;
    let stack = &mut terminal.api.server;
    stack.kill(Plane::Agent).unwrap();
    let down = stack
        .command(&["down", "--data-dir"])
        .arg(stack.files(Plane::Agent))
        .output();
    assert!(down.unwrap().status.success());
    // A machine whose disk is another one.
    std::fs::remove_dir_all(stack.files(Plane::Agent)).unwrap();
    stack.up(Plane::Agent).unwrap();
    let state = loop {
        let state = terminal.state().await;
        if state["state"] == "exited" {
            break state;
        }
        tokio::task::yield_now().await;
    };
    let reason = state["exit"]["reason"].as_str().unwrap();
    assert!(reason.contains("restarted without the session"), "{reason}");
    let session = terminal.api.get(&terminal.session).await.check(200);
    assert_eq!(session["status"], "crashed");
    let screen = format!("{}/screen", terminal.path);
    terminal
        .api
        .get(&screen)
        .await
        .problem(ProblemCode::WorkerGone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_terminals_has_no_interpreter_until_it_is_given_a_step() {
    let mut terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("").await;
    let agent = async |api: &Api| {
        let url = format!("{}/v1/health", api.server.plane_url(Plane::Agent));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Answer::of(http.get(url)).await.check(200)
    };
    assert_eq!(agent(&terminal.api).await["interpreters"], 0);
    // It is found again by every plane.
    for plane in Plane::ALL {
        terminal.api.server.kill(plane).unwrap();
        terminal.api.server.up(plane).unwrap();
    }
    terminal.api.reconnect();
    while viewer.step().await {}
    let mut viewer = terminal.attach("").await;
    viewer.types("echo st'i'll\n").await;
    viewer.until("still\r\n").await;
    assert_eq!(agent(&terminal.api).await["interpreters"], 0);
    let step = terminal.api.run(&terminal.session, "6 * 7").await;
    assert_eq!(step["result"]["text"], "42", "{step}");
    assert_eq!(agent(&terminal.api).await["interpreters"], 1);
    viewer.types("exit 3\n").await;
    let exit = viewer.told(|message| match message {
        FromTerminal::Exit { exit } => exit.code,
        _ => None,
    });
    assert_eq!(exit.await, 3);
    // The interpreter goes on without it.
    assert_eq!(terminal.api.delete(&terminal.path).await.status, 204);
    let step = terminal.api.run(&terminal.session, "7 * 6").await;
    assert_eq!(step["result"]["text"], "42", "{step}");
}
