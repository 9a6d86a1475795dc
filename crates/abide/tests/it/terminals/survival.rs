//! What terminals survive: everything above their keepers.

use abide_testkit::{processes_of_worker_dir, still_alive};
use serde_json::json;

use super::super::http::Composition as _;
use super::Terminal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_lost_or_doubled_over_kills_of_the_server() {
    let mut terminal = Terminal::shell(&["journal_bytes=8MiB"]).await;
    let mut viewer = terminal.attach("flow=block").await;
    viewer.types("echo r'e'ady\n").await;
    viewer.until("ready\r\n$ ").await;
    let mut seen = Vec::new();
    let begun = viewer.offset;
    viewer.seen.clear();
    viewer.types("seq 1 400000; echo th'e' end\n").await;
    for kills in 0.. {
        // Some of it, and then nobody is there for a while.
        let until = viewer.offset + 400_000;
        while viewer.offset < until
            && !viewer.seen.ends_with(b"the end\r\n$ ")
            && viewer.step().await
        {}
        assert_eq!(
            viewer.snapshots,
            usize::from(kills == 0),
            "the ring holds it all"
        );
        seen.append(&mut viewer.seen);
        if seen.ends_with(b"the end\r\n$ ") {
            assert!(kills >= 3, "it was killed {kills} times");
            break;
        }
        terminal.api.kill_and_up();
        let offset = viewer.offset;
        viewer = terminal
            .attach(&format!("flow=block&resume_from={offset}"))
            .await;
        viewer.offset = offset;
    }
    assert_eq!(viewer.offset - begun, seen.len() as u64);
    let mut expected = b"seq 1 400000; echo th'e' end\r\n".to_vec();
    for n in 1..=400_000 {
        expected.extend_from_slice(format!("{n}\r\n").as_bytes());
    }
    expected.extend_from_slice(b"the end\r\n$ ");
    assert!(seen == expected, "not the bytes that were printed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_is_the_same_after_a_kill_though_the_ring_has_turned() {
    let mut terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
    let mut viewer = terminal.attach("cols=60&rows=12").await;
    // Colours, a title and the alternate screen are set long before what the ring still has.
    let setting =
        "printf '\\033]2;a title\\007\\033[?1049h\\033[2J\\033[3;5H\\033[44mstanding\\033[m'";
    let printing = "i=0; while [ $i -lt 4000 ]; do printf '\\033[9;1H%060d' $i; i=$((i+1)); done";
    viewer
        .types(&format!(
            "{setting}; {printing}; printf '\\033[11;1Hal'l'\\n'\n"
        ))
        .await;
    terminal.shows("all").await;
    let before = terminal.screen().await;
    assert!(
        before.contains("    standing") && before.contains("003999"),
        "{before}"
    );
    assert!(terminal.state().await["output_start"].as_u64().unwrap() > 0);
    let ansi = format!("{}/screen?format=ansi", terminal.path);
    let coloured = terminal.api.get(&ansi).await.body;
    terminal.api.kill_and_up();
    assert_eq!(terminal.screen().await, before);
    assert_eq!(terminal.api.get(&ansi).await.body, coloured);
    let state = terminal.state().await;
    assert_eq!(state["title"], "a title");
    assert_eq!((&state["cols"], &state["rows"]), (&json!(60), &json!(12)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_nobody_saw_is_found() {
    let mut terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("").await;
    let fifo = terminal.api.server.place().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    viewer
        .types(&format!("echo g'o'; read x < {}; exit 5\n", fifo.display()))
        .await;
    viewer.until("go\r\n").await;
    let server = terminal.api.server.server_pid();
    terminal.api.server.kill_all();
    assert!(!still_alive(server));
    // It goes on, and ends, while no server is there.
    let dir = terminal.api.server.workers().join(&terminal.id);
    std::fs::write(&fifo, "\n").unwrap();
    while !dir.join("exit.json").exists() {
        tokio::task::yield_now().await;
    }
    terminal.api.up_all();
    let state = terminal.state().await;
    assert_eq!(
        (&state["state"], &state["exit"]["code"]),
        (&json!("exited"), &json!(5)),
        "{state}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_waited_for_does_not_keep_a_terminal_from_being_ended() {
    for server_is_there in [true, false] {
        let mut terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
        let mut viewer = terminal.attach("flow=block").await;
        viewer.types("while :; do echo and so on; done\n").await;
        // It sees some of it, and then takes no more: the ring fills, and the program waits.
        viewer.until("and so on\r\nand so on\r\n").await;
        let dir = terminal.api.server.workers().join(&terminal.id);
        let processes = processes_of_worker_dir(&dir);
        if server_is_there {
            assert_eq!(terminal.api.delete(&terminal.path).await.status, 204);
        } else {
            terminal.api.server.kill_all();
            terminal.api.server.end_workers();
        }
        for pid in processes {
            assert!(!still_alive(pid), "{pid} is left");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_terminal_that_is_ended() {
    for how in ["terminal", "session", "server"] {
        let mut terminal = Terminal::shell(&[]).await;
        let mut viewer = terminal.attach("").await;
        // Deaf to hang-ups, and in a session of its own.
        viewer
            .types("nohup sleep 1001 & setsid sleep 1002 & echo r'e'ady\n")
            .await;
        viewer.until("ready\r\n").await;
        let dir = terminal.api.server.workers().join(&terminal.id);
        let mut processes = processes_of_worker_dir(&dir);
        let named = terminal.id.clone();
        processes.extend(processes_of_worker_dir(std::path::Path::new(&named)));
        assert!(processes.len() >= 4, "{processes:?}");
        match how {
            "terminal" => assert_eq!(terminal.api.delete(&terminal.path).await.status, 204),
            "session" => {
                let path = format!("{}?force=true", terminal.session);
                assert_eq!(terminal.api.delete(&path).await.status, 204);
            }
            _ => terminal.api.server.end_all(),
        }
        for pid in processes {
            assert!(!still_alive(pid), "{how}: {pid} is left");
        }
    }
}

/// What was answered is there once, whole and in order; what was under way when the server was killed may
/// be missing from its end on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_is_there_in_order_over_kills_of_the_server() {
    const ROUNDS: usize = 5;
    let mut terminal = Terminal::shell(&[]).await;
    let heard = terminal.api.server.home().join("heard");
    let mut viewer = terminal.attach("").await;
    let listen = format!("stty raw -echo; echo g'o'; cat > {}\n", heard.display());
    viewer.types(&listen).await;
    viewer.until("go").await;
    let path = format!("{}/input", terminal.path);
    let mut typed: Vec<(String, bool)> = Vec::new();
    for round in 0..ROUNDS {
        let pieces: Vec<String> = (0..300)
            .map(|n| {
                let len = if n % 10 == 5 { 90_000 } else { n };
                format!("<{round}.{n}:{}>", "x".repeat(len))
            })
            .collect();
        let requests: Vec<_> = pieces
            .iter()
            .map(|piece| terminal.api.request("POST", &path).body(piece.clone()))
            .collect();
        let (count, mut counted) = tokio::sync::watch::channel(0);
        let mut typing = tokio::task::JoinSet::new();
        typing.spawn(async move {
            for request in requests {
                match request.send().await {
                    Ok(answer) if answer.status() == 204 => count.send_modify(|count| *count += 1),
                    _ => break,
                }
            }
            *count.borrow()
        });
        // In the midst of a small one or of a large one.
        counted
            .wait_for(|count| *count >= 20 + round * 7)
            .await
            .unwrap();
        terminal.api.kill_and_up();
        let answered = typing.join_next().await.unwrap().unwrap();
        assert!(answered < pieces.len(), "it was not killed in between");
        let attempted = pieces.into_iter().take(answered + 1).enumerate();
        typed.extend(attempted.map(|(n, piece)| (piece, n < answered)));
    }
    let end = terminal.api.request("POST", &path).body("<end>");
    assert_eq!(end.send().await.unwrap().status(), 204);
    typed.push(("<end>".to_owned(), true));
    let mut text = String::new();
    while !text.ends_with("<end>") {
        tokio::task::yield_now().await;
        text = std::fs::read_to_string(&heard).unwrap();
    }
    let mut rest = text.as_str();
    for (at, (piece, is_answered)) in typed.iter().enumerate() {
        if let Some(behind) = rest.strip_prefix(piece.as_str()) {
            rest = behind;
            continue;
        }
        assert!(!is_answered, "lost: {}", &piece[..10.min(piece.len())]);
        let begun = rest.find(&typed[at + 1].0).expect("the next was answered");
        assert!(piece.starts_with(&rest[..begun]), "not its beginning");
        rest = &rest[begun..];
    }
    assert_eq!(rest, "");
}
