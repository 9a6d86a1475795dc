//! The specification's functional requirements and success criteria, as far as they go over the wire.
//! FR-013, that single mode is as it was, is [`super::single`].

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::http::Composition as _;
use super::{
    Client, counted, gone, health, healthy, plain, processes_of, server, session_of, three,
    workspace_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr001_fr007_fr011_terminals_outlive_connections_and_go_on_being_read() {
    // The default is for ever.
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client.types("t", "seq 1 50000; touch d'one'; cat\r").await;
    client.settled().await;
    drop(client);
    let session = session_of(&api, "t").await;
    let file = workspace_of(&api, &session).join("done");
    while !file.exists() {
        tokio::task::yield_now().await;
    }
    let mut client = Client::of(&api).await;
    client.reattach("t").await;
    client.until("t", "50000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr002_fr003_fr009_what_is_there_is_listed_and_come_back_to_by_its_id() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    let id = uuid::Uuid::new_v4().to_string();
    client.create(&id).await;
    let before = processes_of(&api, &id).await;
    drop(client);
    let mut client = Client::of(&api).await;
    assert_eq!(client.ids().await, [id.as_str()]);
    client.reattach(&id).await;
    assert_eq!(processes_of(&api, &id).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr004_what_was_printed_comes_first_in_one_message_and_then_what_follows() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client.create("empty").await;
    client
        .types("t", "i=0; while :; do echo \"n=$i;\"; i=$((i+1)); done\r")
        .await;
    client.until("t", "n=100;").await;
    drop(client);
    let mut client = Client::of(&api).await;
    client
        .say("reattach_session", json!({ "sessionId": "t" }))
        .await;
    let first = client.told_any().await;
    assert_eq!(
        (&first["type"], &first["sessionId"]),
        (&json!("session_reattached"), &json!("t"))
    );
    assert!(client.seen.is_empty(), "output before its scrollback");
    let second = client.told_any().await;
    assert_eq!(
        (&second["type"], &second["sessionId"]),
        (&json!("scrollback"), &json!("t"))
    );
    // Also where there is next to nothing to show: exactly one.
    client.types("t", "\u{3}").await;
    client.others.clear();
    client
        .say("reattach_session", json!({ "sessionId": "empty" }))
        .await;
    client.reattached("empty").await;
    client.settled().await;
    let more = client.others.iter().filter(|it| it["sessionId"] == "empty");
    assert_eq!(more.count(), 0);
    // Coming back over the same connection is coming back.
    client.reattach("empty").await;
    client.types("empty", "echo on'c'e\r").await;
    client.until("empty", "once\r\n$ ").await;
    assert_eq!(client.seen["empty"].matches("once").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr005_sc004_the_grace_is_kept_to_and_starts_anew_with_every_absence() {
    let api = server(&["orphan_grace=2s"]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    let processes = processes_of(&api, "t").await;
    let mut left = Instant::now();
    // Absences that are too short each, and together longer than the grace.
    for _ in 0..4 {
        drop(client);
        left = Instant::now();
        healthy(&api, "orphanedSessions", 1).await;
        while left.elapsed() < Duration::from_millis(700) {
            assert_eq!(health(&api).await["sessions"], 1);
        }
        client = Client::of(&api).await;
        client.reattach("t").await;
    }
    drop(client);
    let last = Instant::now();
    assert!(last > left);
    healthy(&api, "sessions", 0).await;
    gone(&processes).await;
    let took = last.elapsed();
    assert!(
        took >= Duration::from_millis(1900) && took < Duration::from_secs(7),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr006_fr012_sc002_at_least_the_last_256_kib_are_shown() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client
        .types("t", "seq -f 'n=%.0f; and so on' 1 60000; echo th'e' end\r")
        .await;
    client.until("t", "the end").await;
    drop(client);
    let mut client = Client::of(&api).await;
    let scrollback = client.reattach("t").await;
    // Lines to the worth of 256 KiB, without a gap up to the last.
    assert_eq!(counted(&scrollback), 60_000);
    let lines: usize = plain(&scrollback)
        .lines()
        .filter(|line| line.starts_with("n="))
        .map(|line| line.len() + 2)
        .sum();
    assert!(lines >= 256 * 1024, "{lines}");
    assert!(lines <= 450 * 1024, "{lines}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr008_what_has_ended_is_marked_and_its_id_can_be_had_again() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    let processes = processes_of(&api, "t").await;
    client.types("t", "kill -9 $$\r").await;
    let closed = client.told("session_closed").await;
    assert_eq!(closed["data"]["exitCode"], 128 + 9);
    assert_eq!(client.list().await[0]["status"], "exited");
    // Nothing is left of it, no zombie either.
    gone(&processes).await;
    client.seen.clear();
    client.create("t").await;
    assert_eq!(client.list().await[0]["status"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr010_several_windows_see_the_same_terminal_at_once() {
    let api = server(&[]);
    let mut clients = vec![three(&api).await];
    for _ in 0..4 {
        let mut client = Client::of(&api).await;
        client.reattach("x").await;
        clients.push(client);
    }
    clients[2].types("x", "echo to a'l'l\r").await;
    for client in &mut clients {
        client.until("x", "to all\r\n$ ").await;
    }
}

/// What a page that shows its tabs at once is sent: names, order and states with the first answer. The
/// overlay itself is the page's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr014_the_first_answer_has_all_that_tabs_need() {
    let api = server(&[]);
    drop(three(&api).await);
    let mut client = Client::of(&api).await;
    for listed in client.list().await {
        assert!(listed["name"].is_string() && listed["createdAt"].is_string());
        assert_eq!(listed["status"], "running");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc001_sc006_every_process_is_kept_over_many_refreshes_without_anybody_doing_anything() {
    let api = server(&[]);
    let mut client = three(&api).await;
    let mut before = Vec::new();
    for id in ["x", "y", "z"] {
        before.push(processes_of(&api, id).await);
    }
    for _ in 0..10 {
        drop(client);
        client = Client::of(&api).await;
        for id in client.ids().await {
            client.reattach(&id).await;
        }
    }
    for (id, before) in ["x", "y", "z"].into_iter().zip(before) {
        assert_eq!(processes_of(&api, id).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc003_a_full_history_is_back_within_two_seconds() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client
        .types("t", "seq -f '%.0f and so on' 1 100000; echo th'e' end\r")
        .await;
    client.until("t", "the end").await;
    drop(client);
    let begun = Instant::now();
    let mut client = Client::of(&api).await;
    client.list().await;
    let scrollback = client.reattach("t").await;
    let took = begun.elapsed();
    assert!(scrollback.len() > 256 * 1024);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc005_an_abandoned_terminal_costs_its_buffer_and_little_more() {
    let api = server(&[]);
    let memory = || {
        let status = format!("/proc/{}/status", api.server.server_pid());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap()
    };
    let mut client = Client::of(&api).await;
    let filling = "seq 1 100000; echo th'e' end\r";
    // What comes with the first ones is not theirs.
    for n in 0..4 {
        client.create(&format!("first-{n}")).await;
        client.types(&format!("first-{n}"), filling).await;
        client.until(&format!("first-{n}"), "the end").await;
    }
    let before = memory();
    const MORE: usize = 16;
    for n in 0..MORE {
        let id = format!("t-{n}");
        client.create(&id).await;
        client.types(&id, filling).await;
        client.until(&id, "the end").await;
    }
    drop(client);
    healthy(&api, "orphanedSessions", 20).await;
    let each = memory().saturating_sub(before) / MORE;
    assert!(each < 2 * 256 + 256, "{each} KiB each");
}
