//! Viewers that read nothing, next to nothing, or are very many; and many terminals.

use abide_model::FromTerminal;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{Attachment, Terminal, started};

/// Bytes that the kernel takes for one connection before anybody reads them, and a snapshot.
const CONNECTION: u64 = 5 * 1024 * 1024;

/// Everybody who looks at one terminal.
const VIEWERS: usize = 200;

/// Terminals of the test that counts them; `ABIDE_TERMINALS=1000` has so many.
const TERMINALS: usize = 24;

/// One who is attached and reads what it wants to, with next to no buffer.
async fn attach_raw(terminal: &Terminal, query: &str) -> TcpStream {
    let address = terminal
        .api
        .server
        .url()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET {}/attach?{query} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        terminal.path, terminal.api.key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

async fn metric(terminal: &Terminal, name: &str) -> u64 {
    let text = terminal.api.get("/metrics").await;
    let line = text.text().lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or(" 0").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_or_next_to_nothing_is_sent_next_to_nothing() {
    let terminal = Terminal::shell(&["journal_bytes=1MiB"]).await;
    let never = attach_raw(&terminal, "").await;
    let mut hardly = attach_raw(&terminal, "role=view").await;
    let mut quick = terminal.attach("flow=block").await;
    let sent = "abide_terminal_sent_bytes_total";
    let line = "0123456789".repeat(19);
    let command = format!("yes {line} | head -n 120000; echo th'e' end\n");
    quick.types(&command).await;
    let mut read = 0;
    let mut quick_bytes = 0;
    while !quick.seen.ends_with(b"the end\r\n$ ") {
        let before = quick.offset;
        assert!(quick.step().await);
        quick_bytes += quick.offset.saturating_sub(before);
        if quick.seen.len() > 1_000_000 {
            // A byte for each megabyte that others see.
            hardly.read_u8().await.unwrap();
            read += 1;
            quick.seen.drain(..900_000);
        }
    }
    let printed = 120_000 * (line.len() as u64 + 2);
    assert!(
        quick.snapshots == 1 && quick_bytes >= printed,
        "every byte, for whom it waits"
    );
    assert!(read > 10, "{read}");
    // All that the two were sent fits into the buffers of their connections.
    let others = metric(&terminal, sent).await.saturating_sub(quick_bytes);
    println!("{printed} bytes printed, {others} sent to the two who hardly read");
    assert!(others < 2 * CONNECTION, "{others} of {printed}");
    assert_eq!(metric(&terminal, "abide_terminal_viewers").await, 3);
    drop(never);
    drop(hardly);
    let told = quick.told(|message| match message {
        FromTerminal::Viewers { viewers, .. } => (viewers.len() == 1).then_some(()),
        _ => None,
    });
    told.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_sees_the_same_bytes() {
    let terminal = Terminal::shell(&[]).await;
    let mut all: Vec<Attachment> = Vec::new();
    for _ in 0..VIEWERS {
        all.push(terminal.attach("resume_from=0").await);
    }
    assert_eq!(terminal.state().await["viewers"], VIEWERS);
    all[0].types("seq 1 1000; echo th'e' end\n").await;
    join_all(all.iter_mut().map(|viewer| viewer.until("the end\r\n$ "))).await;
    let (first, others) = all.split_first().unwrap();
    let lines: String = (1..=1000).map(|n| format!("{n}\r\n")).collect();
    assert!(first.text().contains(&lines));
    for (index, other) in others.iter().enumerate() {
        assert_eq!(other.snapshots, 0, "viewer {index}");
        assert!(other.seen == first.seen, "viewer {index} saw other bytes");
    }
    let status = terminal.api.get("/status").await.check(200);
    let expected = json!({ "live": 1, "ended": 0, "viewers": VIEWERS });
    assert_eq!(status["terminals"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_terminals_are_there_after_a_kill() {
    let count = std::env::var_os("ABIDE_TERMINALS");
    let count = count.map_or(TERMINALS, |text| text.to_str().unwrap().parse().unwrap());
    let limit = format!("max_live={}", count + 8);
    let mut terminal = Terminal::shell(&["journal_bytes=64KiB", &limit]).await;
    let mut all = vec![terminal.path.clone()];
    let mut session = terminal.session.clone();
    while all.len() < count {
        if all.len().is_multiple_of(32) {
            session = terminal.api.session(json!({})).await;
        }
        let script = format!("echo terminal {}; exec cat", all.len());
        let spec = json!({ "command": ["/bin/sh", "-c", script] });
        all.push(started(&terminal.api, &session, spec).await.0);
    }
    terminal.api.kill_and_up();
    let status = terminal.api.get("/status").await.check(200);
    assert_eq!(status["terminals"]["live"], count);
    for (index, path) in all.into_iter().enumerate().skip(1) {
        terminal.path = path;
        terminal.shows("terminal").await;
        assert_eq!(terminal.screen().await, format!("terminal {index}"));
        let mut viewer = terminal.attach("").await;
        viewer.types(&format!("typed into {index}\n")).await;
        viewer
            .until(&format!("typed into {index}\r\ntyped into {index}\r\n"))
            .await;
    }
}
