//! Several who look, and how little they matter to each other and to the program.

use abide_model::{AttachmentError, FromTerminal, ToTerminal};
use serde_json::json;

use super::Terminal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_see_the_same_and_who_looks_cannot_type() {
    let terminal = Terminal::shell(&[]).await;
    let mut one = terminal.attach("").await;
    let mut other = terminal.attach("").await;
    let mut spectator = terminal.attach("role=view&cols=20&rows=5").await;
    one.types("echo fr'o'm one\n").await;
    for viewer in [&mut one, &mut other, &mut spectator] {
        viewer.until("from one\r\n$ ").await;
    }
    other.types("stty size; echo fr'o'm other\n").await;
    for viewer in [&mut one, &mut other, &mut spectator] {
        viewer.until("24 80\r\nfrom other\r\n$ ").await;
    }
    assert_eq!(terminal.state().await["viewers"], 3);
    spectator.types("echo never\n").await;
    let refused = spectator.told(|message| match message {
        FromTerminal::Error { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(refused.await, AttachmentError::NotDriving);
    drop(other);
    one.types("echo st'i'll\n").await;
    for viewer in [&mut one, &mut spectator] {
        viewer.until("still\r\n$ ").await;
        assert!(!viewer.has("never"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_is_whose_the_policy_says() {
    for (policy, expected) in [
        ("latest", "30 70"),
        ("smallest", "20 70"),
        ("owner", "20 100"),
    ] {
        let command = ["/bin/sh", "-c", "PS1='$ ' exec /bin/sh"];
        let spec = json!({ "command": command, "size_policy": policy });
        let terminal = Terminal::start(&[], spec).await;
        let _first = terminal.attach("cols=100&rows=20").await;
        let mut second = terminal.attach("cols=70&rows=30").await;
        second.types("stty size\n").await;
        second.until(&format!("{expected}\r\n")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_holds_nobody_up_and_sees_the_end_of_it() {
    // A ring of 1 MiB, and far more than that printed.
    let terminal = Terminal::shell(&["journal_bytes=1MiB"]).await;
    let mut slow = terminal.attach("").await;
    slow.types("echo r'e'ady\n").await;
    slow.until("ready\r\n$ ").await;
    // From here on it takes nothing until it has acknowledged.
    let offset = slow.offset;
    slow.says(&ToTerminal::Ack { offset }).await;
    let mut quick = terminal.attach("flow=block").await;
    quick.types("seq 1 600000; echo th'e' end\n").await;
    quick.until("the end\r\n$ ").await;
    let printed: usize = (1..=600_000_u32).map(|n| n.to_string().len() + 2).sum();
    let end = quick.text().rfind("the end").unwrap();
    assert!(
        quick.snapshots == 1 && end > printed,
        "every byte, for whom it waits"
    );
    // It was sent no more than its window, or moved forward already; in the end it sees the present.
    let snapshots = slow.snapshots;
    while slow.offset < offset + abide_model::ACK_WINDOW && slow.snapshots == snapshots {
        assert!(slow.step().await);
    }
    let window = abide_model::ACK_WINDOW + 128 * 1024;
    assert!(slow.snapshots > snapshots || slow.offset < offset + window);
    while slow.offset < quick.offset {
        let offset = slow.offset;
        slow.says(&ToTerminal::Ack { offset }).await;
        assert!(slow.step().await);
    }
    assert_eq!(
        slow.snapshots,
        snapshots + 1,
        "moved forward once, and not shown everything"
    );
    terminal.shows("599999\n600000\nthe end\n$").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pastes_a_lot_is_heard_acknowledging_what_comes_of_it() {
    let terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
    let mut viewer = terminal.attach("flow=block").await;
    viewer.types("stty raw -echo; echo g'o'; cat\n").await;
    viewer.until("go\n").await;
    let mut acknowledged = viewer.offset;
    viewer.seen.clear();
    let offset = acknowledged;
    viewer.says(&ToTerminal::Ack { offset }).await;
    // More than ring, window and keeper hold, and all of it typed before any of it is seen.
    let mut pasted = String::new();
    for n in 0..40_u8 {
        let piece = char::from(b'a' + n % 26).to_string().repeat(50_000);
        viewer.types(&piece).await;
        pasted.push_str(&piece);
    }
    while viewer.seen.len() < pasted.len() {
        assert!(viewer.step().await);
        if viewer.offset > acknowledged + 100_000 {
            acknowledged = viewer.offset;
            let offset = acknowledged;
            viewer.says(&ToTerminal::Ack { offset }).await;
        }
    }
    assert!(viewer.seen == pasted.as_bytes(), "not what was pasted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_size_come_where_they_happened() {
    let terminal = Terminal::shell(&[]).await;
    let mut driver = terminal.attach("cols=80&rows=24").await;
    let mut spectator = terminal.attach("role=view").await;
    driver.types("echo b'e'fore\n").await;
    spectator.until("before\r\n$ ").await;
    driver
        .says(&ToTerminal::Resize { cols: 60, rows: 10 })
        .await;
    let told = spectator.told(|message| match message {
        FromTerminal::Resize { cols: 60, rows } => Some(*rows),
        _ => None,
    });
    assert_eq!(told.await, 10);
}
