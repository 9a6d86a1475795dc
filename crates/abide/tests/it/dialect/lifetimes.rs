//! How long terminals live, and how many.

use serde_json::json;

use super::super::http::Composition as _;
use super::{Client, gone, health, healthy, processes_of, server, server_of_users, token};
use crate::api::http::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_owner_has_a_quota_and_all_have_one() {
    let api = server_of_users(&["max_terminals_per_owner=2", "max_terminals=3"]);
    let mut alice = Client::with_token(&api, &token(json!({ "sub": "alice" }))).await;
    let mut bob = Client::with_token(&api, &token(json!({ "sub": "bob" }))).await;
    alice.create("a1").await;
    alice.create("a2").await;
    alice
        .say("create_session", json!({ "sessionId": "a3" }))
        .await;
    assert_eq!(
        alice.error().await.0,
        "maximum sessions reached: 2 of one user"
    );
    bob.create("b1").await;
    bob.say("create_session", json!({ "sessionId": "b2" }))
        .await;
    assert_eq!(
        bob.error().await.0,
        "maximum sessions reached: 3 of all users"
    );
    // One that has ended makes room.
    alice.types("a1", "exit\r").await;
    alice.told("session_closed").await;
    alice.create("a3").await;
    assert_eq!(alice.ids().await, ["a2", "a3"]);
    alice
        .say("close_session", json!({ "sessionId": "a3" }))
        .await;
    alice.told("session_closed").await;
    bob.create("b2").await;
    assert_eq!(health(&api).await["sessions"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_create_the_same_at_once_get_one() {
    let api = server(&[]);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Client::of(&api).await;
        client
            .say("create_session", json!({ "sessionId": "t" }))
            .await;
        clients.push(client);
    }
    let (mut created, mut refused) = (0, 0);
    for client in &mut clients {
        let answer = client.told_any().await;
        match answer["type"].as_str().unwrap() {
            "session_created" => created += 1,
            _ => {
                assert_eq!(answer["data"]["error"], "session already exists: t");
                refused += 1;
            }
        }
    }
    assert_eq!((created, refused), (1, 5));
    let sessions = api.get("/sessions").await.check(200);
    assert_eq!(sessions.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_have_ended_are_kept_for_a_while_and_not_all() {
    let api = server(&["exited_terminals=2"]);
    let mut client = Client::of(&api).await;
    for id in ["t1", "t2", "t3"] {
        client.create(id).await;
        client.types(id, "exit 1\r").await;
        client.told("session_closed").await;
        // Recorded before the next one ends.
        while client.list().await.last().unwrap()["status"] != "exited" {}
    }
    assert_eq!(client.ids().await, ["t2", "t3"]);
    healthy(&api, "exitedSessions", 2).await;
    let api = server(&["exited_terminal_time=1ms"]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client.types("t", "exit\r").await;
    client.told("session_closed").await;
    healthy(&api, "sessions", 0).await;
    client
        .say("reattach_session", json!({ "sessionId": "t" }))
        .await;
    assert_eq!(client.error().await.0, "session not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_one_ended_while_no_server_was_there_is_known_to_the_next() {
    let mut api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    let fifo = api.server.place().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let waiting = format!("echo g'o'; read x < {}; exit 5\r", fifo.display());
    client.types("t", &waiting).await;
    client.until("t", "go\r\n").await;
    let processes = processes_of(&api, "t").await;
    api.server.kill_all();
    std::fs::write(&fifo, "\n").unwrap();
    gone(&processes).await;
    api.up_all();
    let mut client = Client::of(&api).await;
    client
        .say("reattach_session", json!({ "sessionId": "t" }))
        .await;
    let error = client.told("error").await;
    assert_eq!(error["data"]["details"], "Session t has exited (code: 5)");
    // And to the one after that.
    api.kill_and_up();
    let mut client = Client::of(&api).await;
    assert_eq!(client.list().await[0]["status"], "exited");
    client.create("t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_begins_anew_with_the_server() {
    let mut api = server(&["orphan_grace=2s"]);
    let mut client = Client::of(&api).await;
    client.create("kept").await;
    client.create("left").await;
    api.kill_and_up();
    let up = std::time::Instant::now();
    let mut client = Client::of(&api).await;
    client.reattach("kept").await;
    healthy(&api, "sessions", 1).await;
    assert!(
        up.elapsed() >= std::time::Duration::from_millis(1500),
        "{:?}",
        up.elapsed()
    );
    client.types("kept", "echo st'i'll\r").await;
    client.until("kept", "still\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_being_closed_when_the_server_died_does_not_come_back() {
    let mut api = server(&["terminal_close_grace=2s"]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client.types("t", "trap '' HUP TERM; echo d'ea'f\r").await;
    client.until("t", "deaf\r\n$ ").await;
    let processes = processes_of(&api, "t").await;
    client
        .say("close_session", json!({ "sessionId": "t" }))
        .await;
    client.told("session_closed").await;
    // Closing takes its time, and nobody waits for it.
    client.create("u").await;
    assert_eq!(client.ids().await, ["u"]);
    api.kill_and_up();
    let mut client = Client::of(&api).await;
    assert_eq!(client.ids().await, ["u"]);
    // The next server has ended what the one before had begun to.
    assert!(!processes.is_empty());
    gone(&processes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_counts() {
    let api = server(&[]);
    let none = health(&api).await;
    assert_eq!(none["status"], "healthy");
    for field in [
        "sessions",
        "orphanedSessions",
        "exitedSessions",
        "bufferBytes",
    ] {
        assert_eq!(none[field], 0, "{field}");
    }
    let mut client = Client::of(&api).await;
    client.create("t1").await;
    let mut other = Client::of(&api).await;
    other.create("t2").await;
    other.create("t3").await;
    other.types("t3", "exit\r").await;
    other.told("session_closed").await;
    healthy(&api, "exitedSessions", 1).await;
    drop(other);
    healthy(&api, "orphanedSessions", 2).await;
    let some = health(&api).await;
    assert_eq!(some["sessions"], 3);
    assert!(some["bufferBytes"].as_u64().unwrap() > 0);
    // How many there are is nobody's business who has no key.
    assert_eq!(Answer::of(api.bare("GET", "/health")).await.status, 401);
}
