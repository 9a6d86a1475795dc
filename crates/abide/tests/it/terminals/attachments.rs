//! One who looks and types.

use abide_model::{FromTerminal, SnapshotReason, ToTerminal, ViewerRole};
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::super::http::Composition as _;
use super::{Attachment, Terminal};
use crate::api::http::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_is_typed_into_and_seen_until_it_ends() {
    let terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("cols=101&rows=31").await;
    let size = viewer.told(|message| match message {
        FromTerminal::Attached {
            worker_id, role, ..
        } => Some((worker_id.to_string(), *role)),
        _ => None,
    });
    assert_eq!(size.await, (terminal.id.clone(), ViewerRole::Drive));
    viewer
        .types("stty size; echo $TERM $COLORTERM; tty\n")
        .await;
    viewer
        .until("31 101\r\nxterm-256color truecolor\r\n/dev/pts/")
        .await;
    terminal.shows("31 101\nxterm-256color truecolor").await;
    viewer
        .says(&ToTerminal::Resize { cols: 90, rows: 20 })
        .await;
    viewer.types("stty size\n").await;
    viewer.until("20 90\r\n").await;
    let state = terminal.state().await;
    assert_eq!((&state["cols"], &state["rows"]), (&json!(90), &json!(20)));
    assert_eq!(state["viewers"], 1);
    // A process that keeps the terminal open does not keep the end from being told.
    viewer.types("sleep 1000 & exit 7\n").await;
    let exit = viewer.told(|message| match message {
        FromTerminal::Exit { exit } => Some(exit.clone()),
        _ => None,
    });
    assert_eq!(exit.await.code, Some(7));
    let listed = terminal
        .api
        .get(&format!("{}/workers", terminal.session))
        .await;
    let listed = listed.check(200);
    assert_eq!(listed[0]["state"], "exited");
    assert_eq!(listed[0]["exit"]["code"], 7);
    // What it shows can be looked at until it is ended.
    terminal.shows("20 90").await;
    let deleted = terminal.api.delete(&terminal.path).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(viewer.closed().await.0, CloseCode::Normal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_and_a_signal_end_programs() {
    let spec = json!({ "command": ["/bin/sh", "-c", "echo ready; exec sleep 1000"] });
    let terminal = Terminal::start(&[], spec).await;
    let mut viewer = terminal.attach("").await;
    terminal.shows("ready").await;
    viewer.types("\u{3}").await;
    let exit = viewer.told(|message| match message {
        FromTerminal::Exit { exit } => Some(exit.clone()),
        _ => None,
    });
    let exit = exit.await;
    assert_eq!((exit.code, exit.signal), (None, Some(2)), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_paste_arrives_whole() {
    let terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("").await;
    viewer
        .types("stty raw -echo; echo go; head -c 1000000 > pasted; stty sane; echo d'o'ne\n")
        .await;
    viewer.until("go\n").await;
    let paste: Vec<u8> = (0..1_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let path = format!("{}/input", terminal.path);
    let sent = terminal.api.request("POST", &path).body(paste.clone());
    assert_eq!(Answer::of(sent).await.status, 204);
    viewer.until("done\r\n").await;
    let (scratch, _) = terminal.api.server.scratch();
    let file = scratch.join(&terminal.session[10..]).join("pasted");
    let pasted = std::fs::read(file).unwrap();
    let differs = pasted
        .iter()
        .zip(&paste)
        .position(|(one, other)| one != other);
    assert_eq!((pasted.len(), differs), (paste.len(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_returns_gets_what_followed() {
    let terminal = Terminal::shell(&[]).await;
    let mut first = terminal.attach("").await;
    first.types("echo one\n").await;
    first.until("one\r\n$ ").await;
    let (offset, mut whole) = (first.offset, first.seen.clone());
    first.types("echo two; echo thr'e'e\n").await;
    first.until("three\r\n$ ").await;
    let mut second = terminal.attach(&format!("resume_from={offset}")).await;
    second.offset = offset;
    second.until("three\r\n$ ").await;
    assert_eq!(second.snapshots, 0);
    whole.extend_from_slice(&second.seen);
    assert_eq!(whole, first.seen);
    // From an offset that never was, it is a snapshot.
    let mut third = terminal.attach("resume_from=1000000").await;
    while third.snapshots == 0 {
        assert!(third.step().await);
    }
    assert_eq!(third.offset, first.offset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_before_leaving_is_typed() {
    let terminal = Terminal::shell(&[]).await;
    let typed = terminal.api.server.place().join("typed");
    for n in 0..20 {
        let mut viewer = terminal.attach("scrollback=0").await;
        viewer
            .types(&format!("echo {n} >> {}\n", typed.display()))
            .await;
        viewer.socket.close(None).await.unwrap();
    }
    let lines = || std::fs::read_to_string(&typed).unwrap_or_default();
    while lines().lines().count() < 20 {
        tokio::task::yield_now().await;
    }
    let mut all: Vec<u32> = lines().lines().map(|line| line.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_comes_first_and_the_scrollback_behind_it() {
    let terminal = Terminal::shell(&[]).await;
    let mut first = terminal.attach("flow=block").await;
    first.types("seq 1 20000; echo th'e' end\n").await;
    first.until("the end\r\n$ ").await;
    let offset = first.offset;

    let mut second = terminal.try_attach("").await.unwrap();
    let reason = |message: &FromTerminal| match message {
        FromTerminal::Snapshot { reason, .. } => Some(*reason),
        _ => None,
    };
    assert_eq!(second.told(reason).await, SnapshotReason::Attach);
    assert!(second.step().await);
    let lines = |viewer: &Attachment, from: u32| {
        let lines: Vec<_> = (from..=20_000).map(|n| n.to_string()).collect();
        let text = format!("{}\r\nthe end\r\n$ ", lines.join("\r\n"));
        String::from_utf8_lossy(&viewer.drawn).contains(&text)
    };
    let at_once = second.drawn.len();
    assert!(second.snapshots == 1 && at_once < 100 * 1024, "{at_once}");
    assert!(lines(&second, 19_979) && !lines(&second, 1));

    assert_eq!(second.told(reason).await, SnapshotReason::Scrollback);
    assert!(second.step().await);
    assert!(second.snapshots == 2 && lines(&second, 1));
    assert_eq!(second.offset, offset, "nothing was printed meanwhile");

    let mut third = terminal.attach("scrollback=0").await;
    third.types("echo mo're'\n").await;
    third.until("more\r\n$ ").await;
    assert_eq!(third.snapshots, 1, "nothing is behind what was asked for");
    second.until("more\r\n$ ").await;
    assert_eq!(second.snapshots, 2);
}
