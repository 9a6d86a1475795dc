//! Terminals that are renamed, started again, and looked at after they have ended.

use abide_model::{FromTerminal, ProblemCode};
use abide_testkit::{processes_of_worker_dir, still_alive};
use serde_json::{Value, json};

use super::super::http::Composition as _;
use super::Terminal;
use crate::api::http::Answer;

async fn post(terminal: &Terminal, path: &str) -> Answer {
    Answer::of(terminal.api.request("POST", path)).await
}

/// What has happened in the session, by type.
async fn events(terminal: &Terminal, kind: &str) -> Vec<Value> {
    let id = terminal.session.strip_prefix("/sessions/").unwrap();
    let events = terminal
        .api
        .get(&format!("/events?event_type={kind}"))
        .await;
    let events = events.check(200);
    let all = events.as_array().or_else(|| events["events"].as_array());
    // The newest stands first.
    let all = all.unwrap().iter().rev();
    all.filter(|event| event["aggregate_id"] == id && event["event_type"] == kind)
        .map(|event| event["payload"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_renamed() {
    let spec = json!({ "command": ["/bin/cat"], "name": "one" });
    let terminal = Terminal::start(&[], spec).await;
    let patch = async |body: Value| terminal.api.patch(&terminal.path, &body).await;
    let renamed = patch(json!({ "name": "two" })).await.check(200);
    assert_eq!(renamed["terminal"]["name"], "two");
    assert_eq!(renamed["cols"], 80);
    // Nothing changes: nobody is told.
    patch(json!({ "name": "two" })).await.check(200);
    patch(json!({})).await.check(200);
    assert_eq!(terminal.state().await["terminal"]["name"], "two");
    let nameless = patch(json!({ "name": null })).await.check(200);
    assert_eq!(nameless["terminal"].get("name"), None);
    let id = &terminal.id;
    let expected = [
        json!({ "worker_id": id, "updates": { "name": "two" } }),
        json!({ "worker_id": id, "updates": { "name": "" } }),
    ];
    assert_eq!(events(&terminal, "worker.updated").await, expected);
    for (body, field) in [
        (json!({ "name": "x".repeat(200) }), "name"),
        (json!({ "size_policy": "none" }), "size_policy"),
    ] {
        let problem = patch(body).await.problem(ProblemCode::InvalidInput);
        assert_eq!(problem["detail"][0]["loc"][1], field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_started_again_and_what_it_wrote_stays() {
    let command = ["/bin/sh", "-c", "echo pid:$$:; PS1='$ ' exec /bin/sh"];
    let spec = json!({ "command": command, "name": "work", "cols": 61, "rows": 17 });
    let mut terminal = Terminal::start(&[], spec).await;
    let mut viewer = terminal.attach("cols=90&rows=33&resume_from=0").await;
    viewer.until("$ ").await;
    viewer.types("nohup sleep 1003 & echo o'l'd\n").await;
    viewer.until("old\r\n$ ").await;
    let dir = terminal.api.server.workers().join(&terminal.id);
    let processes = processes_of_worker_dir(&dir);
    assert!(!processes.is_empty());

    let again = post(&terminal, &format!("{}/restart", terminal.path)).await;
    let again = again.check(201);
    let exit = viewer.told(|message| match message {
        FromTerminal::Exit { exit } => Some(exit.clone()),
        _ => None,
    });
    assert!(exit.await.signal.is_some());
    for pid in processes {
        assert!(!still_alive(pid), "{pid} is left");
    }
    assert_eq!(again["terminal"]["replaces"], terminal.id);
    assert_eq!(again["terminal"]["name"], "work");
    assert_eq!(again["generation"], 2);
    // As large as it was.
    assert_eq!((&again["cols"], &again["rows"]), (&json!(90), &json!(33)));
    let (old, old_id) = (terminal.path.clone(), terminal.id.clone());
    terminal.id = again["id"].as_str().unwrap().to_owned();
    assert_ne!(terminal.id, old_id);
    terminal.path = format!("{}/workers/{}", terminal.session, terminal.id);
    terminal.shows("pid:").await;
    assert!(!terminal.screen().await.contains("old"));

    // The first can be looked at, also by another server.
    for turn in 0..2 {
        let screen = terminal.api.get(&format!("{old}/screen")).await;
        assert_eq!(screen.status, 200, "{turn}");
        assert!(screen.text().contains("old\n$"), "{}", screen.text());
        let output = terminal.api.get(&format!("{old}/output")).await;
        assert_eq!(output.status, 200);
        assert!(output.text().contains("old\r\n$ "), "{}", output.text());
        let state = terminal.api.get(&old).await.check(200);
        assert_eq!(state["state"], "exited");
        assert_eq!(state["cols"], 90);
        terminal.api.kill_and_up();
    }
    // It can be started again once more.
    let third = post(&terminal, &format!("{old}/restart")).await.check(201);
    assert_eq!(third["generation"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_outlive_theirs_are_found_after_a_kill_and_end_with_the_session() {
    let mut terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("").await;
    viewer.types("nohup sleep 1004 & exit 3\n").await;
    let exit = viewer.told(|message| match message {
        FromTerminal::Exit { exit } => Some(exit.code),
        _ => None,
    });
    assert_eq!(exit.await, Some(3));
    let dir = terminal.api.server.workers().join(&terminal.id);
    let mut processes = processes_of_worker_dir(&dir);
    processes.extend(processes_of_worker_dir(std::path::Path::new(&terminal.id)));
    assert!(processes.len() >= 2, "{processes:?}");
    terminal.api.kill_and_up();
    let path = format!("{}?force=true", terminal.session);
    assert_eq!(terminal.api.delete(&path).await.status, 204);
    for pid in processes {
        assert!(!still_alive(pid), "{pid} is left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interpreter_has_nothing_of_a_terminal() {
    let terminal = Terminal::shell(&[]).await;
    terminal.api.run(&terminal.session, "print('hi')").await;
    let workers = format!("{}/workers", terminal.session);
    let listed = terminal.api.get(&workers).await.check(200);
    let listed = listed.as_array().unwrap();
    let of = |kind: &str| listed.iter().find(|it| it["kind"] == kind).unwrap();
    let only_terminals = [
        "cols",
        "rows",
        "title",
        "viewers",
        "output_start",
        "terminal",
    ];
    for field in only_terminals {
        assert!(of("terminal").get(field).is_some(), "{field}");
        assert_eq!(of("interpreter").get(field), None, "{field}");
    }
    let path = format!("{workers}/{}", of("interpreter")["id"].as_str().unwrap());
    let shown = terminal.api.get(&path).await.check(200);
    assert_eq!(&shown, of("interpreter"));
    let named = terminal.api.patch(&path, &json!({ "name": "x" })).await;
    named.problem(ProblemCode::InvalidInput);
    let again = post(&terminal, &format!("{path}/restart")).await;
    again.problem(ProblemCode::InvalidInput);
    let recording = terminal.api.get(&format!("{path}/recording")).await;
    recording.problem(ProblemCode::InvalidInput);
    // What it wrote is there all the same.
    let output = terminal.api.get(&format!("{path}/output")).await;
    assert_eq!((output.status, output.text()), (200, "hi\n"));

    let live = terminal.api.get("/workers").await.check(200);
    let ids: Vec<_> = live
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, [&of("terminal")["id"], &of("interpreter")["id"]]);
}
