//! The specification of persistent terminals, clause by clause: stories, edge cases, requirements, success
//! criteria. What of a clause is a browser's (tabs at once, overlays, storage) is tested with the web
//! page; here it is what such a page would be sent. US4 and E3 say more than here is true: shells survive
//! the server, too.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Client, counted, gone, health, healthy, plain, processes_of, server, server_of_users, shown,
    token,
};
use crate::api::http::Api;

/// Terminals as a page makes them, with names.
async fn three(api: &Api) -> Client {
    let mut client = Client::of(api).await;
    for (id, name) in [("x", "Terminal 1"), ("y", "build"), ("z", "logs")] {
        client
            .create_with(json!({ "sessionId": id, "rows": 24, "cols": 80, "name": name }))
            .await;
    }
    client
}

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
    let fifo = api.server.home().join("fifo");
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
    api.server.kill().unwrap();
    for pid in &processes {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    gone(&processes).await;
    api.up_again();
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
    let fifo = api.server.home().join("fifo");
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
    assert!(health(&api).await["bufferBytes"].as_u64().unwrap() <= 104 * 1024);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fr001_fr007_fr011_terminals_outlive_connections_and_go_on_being_read() {
    // The default is for ever.
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client.types("t", "seq 1 50000; touch d'one'; cat\r").await;
    client.settled().await;
    drop(client);
    let session = super::session_of(&api, "t").await;
    let workspace = session["workspace"]["path"].as_str().unwrap();
    let file = std::path::Path::new(workspace).join("done");
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
    assert_eq!(client.ids().await, [id.clone()]);
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

// FR-013, that single mode is as it was: `super::single`.

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
        let status = format!("/proc/{}/status", api.server.pid().unwrap());
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
