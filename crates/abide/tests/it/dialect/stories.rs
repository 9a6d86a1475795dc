//! The specification's user stories and edge cases. What of them is a browser's (tabs at once, overlays,
//! storage, the active tab) is tested with the web page; here it is what such a page would be sent. US4 and
//! E3 ask for less than is true here: shells survive the server, too.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::http::Composition as _;
use super::{
    Client, counted, gone, health, healthy, plain, processes_of, server, server_of_users, shown,
    three, token,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us1_a_refresh_brings_every_terminal_back() {
    let api = server(&[]);
    let mut client = three(&api).await;
    client.types("x", "sleep 1006 & echo p'i'd=$!\r").await;
    client.until("x", "pid=").await;
    client
        .types(
            "y",
            "i=0; while :; do echo \"n=$i;\"; i=$((i+1)); /bin/true; done\r",
        )
        .await;
    client.until("y", "n=0;").await;
    let mut before = Vec::new();
    for id in ["x", "y", "z"] {
        before.push(processes_of(&api, id).await);
    }
    drop(client);
    // AS1.1, AS1.3: the same processes, names and order, soon.
    let begun = Instant::now();
    let mut client = Client::of(&api).await;
    let list = client.list().await;
    let names: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Terminal 1", "build", "logs"]);
    for id in ["x", "y", "z"] {
        client.reattach(id).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    for (id, before) in ["x", "z"].into_iter().zip([&before[0], &before[2]]) {
        assert_eq!(processes_of(&api, id).await, *before, "{id}");
    }
    // AS1.2: what was printed is there, and goes on.
    let scrollback = client.seen["y"].clone();
    assert!(plain(&scrollback).contains("n=0;"), "{scrollback:?}");
    let last = counted(&client.seen["y"]);
    while counted(&client.seen["y"]) < last + 3 {
        assert!(client.step().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us2_a_lost_network_loses_nothing() {
    let api = server(&[]);
    let client = three(&api).await;
    let fifo = api.server.place().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut client = client;
    let waiting = format!("cat {}; echo a'l'l read\r", fifo.display());
    client.types("x", &waiting).await;
    client.settled().await;
    let before = processes_of(&api, "y").await;
    drop(client);
    healthy(&api, "orphanedSessions", 3).await;
    // AS2.3: printed while nobody was there.
    std::fs::write(&fifo, "printed meanwhile\n").unwrap();
    let mut client = Client::of(&api).await;
    // AS2.1, AS2.2: all are there, and none was made anew.
    assert_eq!(client.ids().await, ["x", "y", "z"]);
    assert_eq!(processes_of(&api, "y").await, before);
    client.reattach("x").await;
    client.until("x", "all read").await;
    assert!(shown(&client.seen["x"]).contains("printed meanwhile"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us3_what_is_left_alone_stays_or_goes_as_configured() {
    // AS3.1, AS3.3: without a grace all stay until they are closed.
    let api = server_of_users(&[]);
    drop(three(&api).await);
    healthy(&api, "orphanedSessions", 3).await;
    // AS3.2: another user does not see them; the same user does, in every window (FR-010).
    let mut other = Client::with_token(&api, &token(json!({ "sub": "other" }))).await;
    assert!(other.list().await.is_empty());
    let mut client = Client::of(&api).await;
    for id in ["x", "y", "z"] {
        client.reattach(id).await;
        client
            .say("close_session", json!({ "sessionId": id }))
            .await;
        client.told("session_closed").await;
    }
    assert_eq!(health(&api).await["sessions"], 0);
    // With one they go.
    let api = server(&["orphan_grace=1"]);
    drop(three(&api).await);
    healthy(&api, "sessions", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn us4_after_the_death_of_everything_terminals_are_made_anew_under_their_names() {
    let mut api = server(&[]);
    let client = three(&api).await;
    let mut processes = Vec::new();
    for id in ["x", "y", "z"] {
        processes.extend(processes_of(&api, id).await);
    }
    drop(client);
    // As when the machine goes down: server, keepers and shells.
    api.server.kill_all();
    for pid in &processes {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    gone(&processes).await;
    api.up_all();
    let mut client = Client::of(&api).await;
    // AS4.1: none is offered as running. AS4.2, AS4.3: the same ids and names can be had again.
    for listed in client.list().await {
        assert_eq!(listed["status"], "exited", "{listed}");
    }
    drop(client);
    let mut client = three(&api).await;
    let list = client.list().await;
    let names: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Terminal 1", "build", "logs"]);
    assert!(list.iter().all(|it| it["status"] == "running"), "{list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_a_grace_that_ends_while_output_pours() {
    let api = server(&["orphan_grace=300ms"]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    let processes = processes_of(&api, "t").await;
    client
        .types("t", "while :; do echo and so on; done\r")
        .await;
    client.until("t", "and so on\r\nand so on\r\n").await;
    drop(client);
    healthy(&api, "sessions", 0).await;
    gone(&processes).await;
    // The server is as good as before.
    Client::of(&api).await.create("t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_two_windows_share_the_terminals() {
    let api = server(&[]);
    let mut one = three(&api).await;
    let mut other = Client::of(&api).await;
    assert_eq!(other.ids().await, ["x", "y", "z"]);
    other.reattach("y").await;
    other.create("w").await;
    assert_eq!(one.ids().await, ["x", "y", "z", "w"]);
    one.reattach("w").await;
    other.types("w", "echo sh'ar'ed\r").await;
    one.until("w", "shared\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_a_program_that_ends_while_nobody_looks_is_not_offered() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    let fifo = api.server.place().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    client
        .types("t", &format!("read x < {}; exit 9\r", fifo.display()))
        .await;
    client.settled().await;
    drop(client);
    std::fs::write(&fifo, "\n").unwrap();
    healthy(&api, "exitedSessions", 1).await;
    let mut client = Client::of(&api).await;
    assert_eq!(client.list().await[0]["status"], "exited");
    client
        .say("reattach_session", json!({ "sessionId": "t" }))
        .await;
    let error = client.told("error").await;
    assert_eq!(error["data"]["details"], "Session t has exited (code: 9)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_is_oldest_goes_when_there_is_too_much() {
    let api = server(&["terminal_output=100KiB"]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client
        .types(
            "t",
            "i=0; while [ $i -lt 40000 ]; do echo \"n=$i;\"; i=$((i+1)); done; echo th'e' end\r",
        )
        .await;
    client.until("t", "the end").await;
    drop(client);
    let mut client = Client::of(&api).await;
    let scrollback = client.reattach("t").await;
    assert_eq!(counted(&scrollback), 39_999);
    assert!(!plain(&scrollback).contains("n=0;"));
    assert!(scrollback.len() < 230 * 1024, "{}", scrollback.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_window_that_makes_terminals_while_others_wait_for_theirs() {
    let api = server(&[]);
    drop(three(&api).await);
    healthy(&api, "orphanedSessions", 3).await;
    let mut other = Client::of(&api).await;
    other.create("w").await;
    let mut first = Client::of(&api).await;
    for id in ["x", "y", "z"] {
        first.reattach(id).await;
        first.types(id, "echo st'i'll\r").await;
        first.until(id, "still\r\n$ ").await;
    }
    other.types("w", "echo a'l'so\r").await;
    other.until("w", "also\r\n$ ").await;
}
