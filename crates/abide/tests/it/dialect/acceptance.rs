//! The acceptance cases of the contract, A1 to A18, as far as they go over the wire. What a browser does
//! with what comes (tabs, storage, overlays) is tested with the web page.

use serde_json::json;

use super::super::http::Composition as _;
use super::{
    Client, counted, drawn, gone, health, healthy, plain, processes_of, server, server_of_users,
    session_of, shown, token, workspace_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_create_type_see_the_echo() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client.types("tab-1", "echo h'el'lo\r").await;
    client.until("tab-1", "echo h'el'lo\r\nhello\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_shell_variable_survives_who_goes_and_comes_back() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client.types("tab-1", "X=ke'p't; echo d'on'e\r").await;
    client.until("tab-1", "done\r\n$ ").await;
    drop(client);
    let mut client = Client::of(&api).await;
    assert_eq!(client.ids().await, ["tab-1"]);
    client.reattach("tab-1").await;
    client.types("tab-1", "echo $X\r").await;
    client.until("tab-1", "echo $X\r\nkept\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a_dropped_connection_doubles_nothing() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client.types("tab-1", "echo onl'y' once\r").await;
    client.until("tab-1", "only once\r\n$ ").await;
    let before = client.seen["tab-1"].clone();
    drop(client);
    let mut client = Client::of(&api).await;
    let scrollback = client.reattach("tab-1").await;
    assert!(scrollback.starts_with("\x1bc"), "{scrollback:?}");
    // The page keeps its terminal, and writes to it whatever comes.
    let screen = shown(&format!("{before}{scrollback}"));
    assert_eq!(screen.matches("only once").count(), 1, "{screen}");
    assert_eq!(screen, shown(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a4_stored_tabs_are_made_anew_under_their_names() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    assert!(client.list().await.is_empty());
    for (id, name) in [("tab-1", "Terminal 1"), ("tab-2", "logs")] {
        client
            .create_with(json!({ "sessionId": id, "rows": 24, "cols": 80, "name": name }))
            .await;
    }
    let list = client.list().await;
    let names: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Terminal 1", "logs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_twelve_terminals_are_twelve_whatever_a_page_shows_at_once() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    let ids: Vec<_> = (0..12).map(|n| format!("tab-{n}")).collect();
    for id in &ids {
        client.create(id).await;
    }
    drop(client);
    let mut client = Client::of(&api).await;
    // In the order in which they were made.
    assert_eq!(client.ids().await, ids);
    for id in &ids {
        client.reattach(id).await;
        client.types(id, "echo a'li've\r").await;
        client.until(id, "alive\r\n$ ").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_the_tab_of_a_shell_that_exited_can_be_used_again() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client.types("tab-1", "exit 7\r").await;
    let closed = client.told("session_closed").await;
    assert_eq!(closed["data"]["reason"], "process_exit");
    assert_eq!(closed["data"]["exitCode"], 7);
    drop(client);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client.types("tab-1", "echo a'ne'w\r").await;
    client.until("tab-1", "anew\r\n$ ").await;
    assert_eq!(client.ids().await, ["tab-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_a_second_client_sees_and_the_first_goes_on_seeing() {
    let api = server(&[]);
    let mut one = Client::of(&api).await;
    one.create("tab-1").await;
    let mut other = Client::of(&api).await;
    other.reattach("tab-1").await;
    other.types("tab-1", "echo fr'o'm other\r").await;
    one.until("tab-1", "from other\r\n$ ").await;
    other.until("tab-1", "from other\r\n$ ").await;
    one.types("tab-1", "echo fr'o'm one\r").await;
    one.until("tab-1", "from one\r\n$ ").await;
    other.until("tab-1", "from one\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_who_leaves_silences_nobody() {
    // So short a grace that a terminal taken for abandoned would be gone at once.
    let api = server(&["orphan_grace=1ms"]);
    let mut one = Client::of(&api).await;
    one.create("tab-1").await;
    let mut other = Client::of(&api).await;
    other.reattach("tab-1").await;
    drop(one);
    other.types("tab-1", "echo st'i'll here\r").await;
    other.until("tab-1", "still here\r\n$ ").await;
    // The other way round: who came first sees on when who came last goes.
    let mut third = Client::of(&api).await;
    third.reattach("tab-1").await;
    drop(third);
    other.types("tab-1", "echo a'n'd still\r").await;
    other.until("tab-1", "and still\r\n$ ").await;
    assert_eq!(health(&api).await["orphanedSessions"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_twenty_reattachments_lose_and_double_no_line() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    let counting = "i=0; while [ ! -e stop ]; do echo \"n=$i;\"; i=$((i+1)); done; echo en'd'=$i\r";
    client.types("tab-1", counting).await;
    client.until("tab-1", "n=1").await;
    let mut last = 0;
    for n in 0..20 {
        drop(client);
        client = Client::of(&api).await;
        client.reattach("tab-1").await;
        // Some of what follows; if it is too slow for that, it is shown the present again.
        let shown = client.seen["tab-1"].len();
        for _ in 0..20 {
            assert!(client.step().await);
        }
        assert_ne!(client.seen["tab-1"].len(), shown, "nothing followed");
        let now = counted(&client.seen["tab-1"]);
        assert!(now > last, "{n}");
        last = now;
    }
    let session = session_of(&api, "tab-1").await;
    std::fs::write(workspace_of(&api, &session).join("stop"), "").unwrap();
    client.until("tab-1", "end=").await;
    client.types("tab-1", "echo $i; echo fin'al'ly\r").await;
    client.until("tab-1", "finally\r\n").await;
    let seen = &client.seen["tab-1"];
    let drawn = drawn(seen);
    let end = drawn.rsplit("end=").next().unwrap();
    let end: u64 = end.lines().next().unwrap().trim().parse().unwrap();
    assert_eq!(counted(seen), end - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_no_character_is_ever_split() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    let printing =
        "i=0; while [ $i -lt 20000 ]; do printf 'é漢👍é漢👍x'; i=$((i+1)); done; echo th'e' end\r";
    client.types("tab-1", printing).await;
    client.until("tab-1", "the end\r\n$ ").await;
    let live = client.seen["tab-1"].clone();
    assert!(!live.contains('\u{fffd}'));
    for _ in 0..5 {
        let mut other = Client::of(&api).await;
        let replayed = other.reattach("tab-1").await;
        assert!(replayed.contains("漢👍é漢👍x") && !replayed.contains('\u{fffd}'));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_the_alternate_screen_and_modes_survive_the_wrap_of_the_ring() {
    let api = server(&["terminal_output=64KiB"]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    let setting = "printf '\\033[?1049h\\033[?2004h\\033[?1h\\033[2J\\033[3;5Hstand'; printf 'ing'";
    let painting = "i=0; while [ $i -lt 4000 ]; do printf '\\033[9;1H%060d' $i; i=$((i+1)); done";
    let end = "printf '\\033[11;1Hal'; printf 'l'; read x";
    client
        .types("tab-1", &format!("{setting}; {painting}; {end}\r"))
        .await;
    client.until("tab-1", "all").await;
    drop(client);
    let mut client = Client::of(&api).await;
    let scrollback = client.reattach("tab-1").await;
    for mode in ["\x1b[?1047h", "\x1b[?2004h", "\x1b[?1h"] {
        assert!(scrollback.contains(mode), "{mode:?} in {scrollback:?}");
    }
    let screen = shown(&scrollback);
    assert!(
        screen.contains("    standing") && screen.contains("003999"),
        "{screen}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_what_is_replayed_asks_rings_and_copies_nothing() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    let queries = "printf '\\033[c\\033[6n\\033[5n\\033]11;?\\007\\033]52;c;aGk=\\007\\007\\033P$qm\\033\\134'";
    client
        .types("tab-1", &format!("{queries}; echo as'k'ed\r"))
        .await;
    client.until("tab-1", "asked\r\n$ ").await;
    let live = client.seen["tab-1"].clone();
    assert!(live.contains("\x1b[6n"), "live it is as it was written");
    drop(client);
    let mut client = Client::of(&api).await;
    let scrollback = client.reattach("tab-1").await;
    assert!(scrollback.contains("asked"), "{scrollback:?} {live:?}");
    for query in [
        "\x1b[c",
        "\x1b[6n",
        "\x1b[5n",
        "\x1b]11;?",
        "\x1b]52;",
        "\x07",
        "\x1bP$q",
    ] {
        assert!(!scrollback.contains(query), "{query:?} in {scrollback:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_who_stops_reading_stops_nobody() {
    let api = server(&[]);
    let mut slow = Client::of(&api).await;
    slow.create("tab-1").await;
    let mut quick = Client::of(&api).await;
    quick.reattach("tab-1").await;
    // Far more than the ring and all buffers on the way hold, and `slow` reads none of it.
    slow.types("tab-1", "seq 1 2000000; echo th'e' end\r").await;
    quick.until("tab-1", "the end").await;
    // Other terminals of the connection that reads nothing are not held up either.
    quick.create("tab-2").await;
    // It is shown the present in the end, and not everything on the way there.
    slow.until("tab-1", "the end").await;
    let skipped = slow.others.iter().filter(|it| it["type"] == "scrollback");
    assert!(skipped.count() >= 1, "shown all of 16 MB");
    for client in [&slow, &quick] {
        let seen = plain(&client.seen["tab-1"]);
        assert!(seen.contains("1999999\r\n2000000\r\nthe end"));
    }
    quick.types("tab-1", "echo al'l'right\r").await;
    slow.until("tab-1", "allright\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_a_minute_of_key_repeat_keeps_the_link() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    // A minute of it, as fast as it can be sent; that no steady rate wears the allowance down is shown
    // where the allowance is.
    client.types("tab-1", "stty -echo; wc -c <<.\r").await;
    for _ in 0..30 * 60 {
        client.types("tab-1", "x").await;
        client.types("tab-1", "\r").await;
    }
    client.types("tab-1", ".\r").await;
    client.until("tab-1", "3600\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_another_users_terminals_are_not_there_and_not_to_be_had() {
    let api = server_of_users(&[]);
    let mut alice = Client::with_token(&api, &token(json!({ "sub": "alice" }))).await;
    alice.create("tab-1").await;
    let mut bob = Client::with_token(&api, &token(json!({ "sub": "bob" }))).await;
    assert!(bob.list().await.is_empty());
    for (kind, data) in [
        (
            "reattach_session",
            json!({ "sessionId": "tab-1", "rows": 9, "cols": 9 }),
        ),
        ("close_session", json!({ "sessionId": "tab-1" })),
        (
            "rename_session",
            json!({ "sessionId": "tab-1", "name": "mine" }),
        ),
    ] {
        bob.say(kind, data).await;
        let error = bob.error().await;
        assert_eq!(
            error,
            ("not authorized".to_owned(), json!("tab-1")),
            "{kind}"
        );
    }
    bob.types("tab-1", "echo in'trud'er\r").await;
    assert_eq!(bob.error().await.0, "not authorized");
    bob.say_to("resize", "tab-1", json!({ "rows": 9, "cols": 9 }))
        .await;
    assert_eq!(bob.error().await.0, "not authorized");
    // The same id is another terminal.
    bob.create("tab-1").await;
    bob.types("tab-1", "echo bo'b's\r").await;
    bob.until("tab-1", "bobs\r\n$ ").await;
    bob.say("close_session", json!({ "sessionId": "tab-1" }))
        .await;
    bob.told("session_closed").await;
    alice.types("tab-1", "stty size; echo al'ice's\r").await;
    alice.until("tab-1", "24 80\r\nalices\r\n$ ").await;
    let seen = &alice.seen["tab-1"];
    assert!(
        !seen.contains("intruder") && !seen.contains("bobs"),
        "{seen}"
    );
    // Users of another tenant do not even learn that there is such a terminal.
    let stranger = token(json!({ "sub": "alice", "tenant_id": "elsewhere" }));
    let mut stranger = Client::with_token(&api, &stranger).await;
    assert!(stranger.list().await.is_empty());
    let data = json!({ "sessionId": "tab-1", "rows": 9, "cols": 9 });
    stranger.say("reattach_session", data).await;
    assert_eq!(stranger.error().await.0, "session not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a16_an_abandoned_terminal_is_gone_with_its_processes_and_files() {
    let api = server(&["orphan_grace=1"]);
    let mut client = Client::of(&api).await;
    client.create("tab-1").await;
    client
        .types("tab-1", "sleep 1003 & setsid sleep 1004 & echo st'ar'ted\r")
        .await;
    client.until("tab-1", "started\r\n").await;
    let processes = processes_of(&api, "tab-1").await;
    assert!(processes.len() >= 4, "{processes:?}");
    let session = session_of(&api, "tab-1").await;
    let left = std::time::Instant::now();
    drop(client);
    healthy(&api, "sessions", 0).await;
    gone(&processes).await;
    let took = left.elapsed();
    assert!((1..6).contains(&took.as_secs()), "{took:?}");
    let path = format!("/sessions/{}", session["id"].as_str().unwrap());
    while api.get(&path).await.status != 404 {}
    assert!(!workspace_of(&api, &session).exists());
    let workers = api.server.workers();
    assert_eq!(std::fs::read_dir(workers).unwrap().count(), 0);
    assert!(Client::of(&api).await.list().await.is_empty());
    assert_eq!(health(&api).await["bufferBytes"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a17_shells_outlive_the_server() {
    let mut api = server(&[]);
    let mut client = Client::of(&api).await;
    for (id, name) in [("tab-2", "two"), ("tab-1", "one")] {
        client
            .create_with(json!({ "sessionId": id, "rows": 24, "cols": 80, "name": name }))
            .await;
        client.types(id, &format!("X={id}; echo d'on'e\r")).await;
        client.until(id, "done\r\n$ ").await;
    }
    client
        .say(
            "rename_session",
            json!({ "sessionId": "tab-1", "name": "uno" }),
        )
        .await;
    client.told("session_renamed").await;
    let processes = processes_of(&api, "tab-1").await;
    api.kill_and_up();
    let mut client = Client::of(&api).await;
    let list = client.list().await;
    let named: Vec<_> = list
        .iter()
        .map(|it| {
            (
                it["sessionId"].as_str().unwrap(),
                it["name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(named, [("tab-2", "two"), ("tab-1", "uno")]);
    for id in ["tab-1", "tab-2"] {
        client.reattach(id).await;
        client.types(id, "echo $X\r").await;
        client.until(id, &format!("echo $X\r\n{id}\r\n$ ")).await;
    }
    assert_eq!(processes_of(&api, "tab-1").await, processes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a18_a_new_token_finds_the_same_names_in_the_same_order() {
    let api = server_of_users(&[]);
    let mut client = Client::with_token(&api, &token(json!({ "sub": "alice" }))).await;
    for id in ["c", "a", "b"] {
        client
            .create_with(json!({ "sessionId": id, "rows": 24, "cols": 80, "name": id }))
            .await;
    }
    let before = client.list().await;
    drop(client);
    let mut client = Client::with_token(&api, &token(json!({ "sub": "alice" }))).await;
    let after = client.list().await;
    let names = |list: &[serde_json::Value]| -> Vec<_> {
        list.iter()
            .map(|it| (it["sessionId"].clone(), it["name"].clone()))
            .collect()
    };
    assert_eq!(names(&after), names(&before));
    assert_eq!(client.ids().await, ["c", "a", "b"]);
}
