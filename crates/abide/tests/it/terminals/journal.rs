//! What a terminal wrote, by offset and as a recording.

use std::time::Duration;

use abide_model::{CastEvent, CastHeader, CastReader, FromTerminal, ProblemCode, ToTerminal};
use abide_terminal::{Screen, ScrollbackLimit, Size};
use serde_json::json;

use super::super::http::Composition as _;
use super::Terminal;

/// A recording, read.
struct Cast {
    header: CastHeader,
    events: Vec<(Duration, CastEvent)>,
}

impl Cast {
    async fn of(terminal: &Terminal, format: &str) -> Self {
        let path = format!("{}/recording?format={format}", terminal.path);
        let answer = terminal.api.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/x-asciicast");
        let mut lines = answer.text().lines();
        let (mut reader, header) = CastReader::new(lines.next().unwrap()).unwrap();
        let events = lines.map(|line| reader.event(line).unwrap().unwrap());
        let events = events.collect();
        Self { header, events }
    }

    /// All output, in one piece.
    fn output(&self) -> String {
        let outputs = self.events.iter().filter_map(|(_, event)| match event {
            CastEvent::Output(text) => Some(text.as_str()),
            _ => None,
        });
        outputs.collect()
    }

    /// What a terminal shows that has seen all of it.
    fn screen(&self) -> String {
        let size = |cols, rows| Size::new(cols, rows).unwrap();
        let begun = size(self.header.cols, self.header.rows);
        let mut screen = Screen::new(begun, ScrollbackLimit(0), 0);
        for (_, event) in &self.events {
            match event {
                CastEvent::Output(text) => screen.feed(text.as_bytes()),
                CastEvent::Resize { cols, rows } => screen.resize(size(*cols, *rows)),
                _ => {}
            }
        }
        screen.text()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_read_by_offset() {
    let terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("resume_from=0").await;
    viewer
        .types("printf 'gr\\303\\274n\\n'; echo th'e' end\n")
        .await;
    viewer.until("the end\r\n$ ").await;
    assert_eq!(viewer.snapshots, 0);
    let whole = viewer.seen.clone();
    let output = async |query: &str| {
        let path = format!("{}/output?{query}", terminal.path);
        terminal.api.get(&path).await
    };
    let all = output("").await;
    assert_eq!((all.status, &all.body), (200, &whole));
    assert_eq!(all.header("x-output-from"), "0");
    assert_eq!(all.header("x-output-next"), whole.len().to_string());
    let part = output("from=3&to=11").await;
    assert_eq!(part.body, whole[3..11]);
    assert_eq!(part.header("x-output-next"), "11");
    let end = whole.len();
    let beyond = output(&format!("from={end}&to={}", end + 10)).await;
    assert_eq!((beyond.status, beyond.body.len()), (200, 0));
    assert_eq!(output(&format!("from={end}&to={end}")).await.status, 200);
    let followed = output(&format!("follow=1&to={end}")).await;
    assert_eq!(followed.body, whole);
    let problem = output("from=3&to=2")
        .await
        .problem(ProblemCode::InvalidInput);
    assert_eq!(problem["detail"][0]["loc"], json!(["query", "to"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_have_left_the_ring_are_named() {
    let mut terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
    let mut viewer = terminal.attach("flow=block").await;
    viewer.types("seq 1 40000; echo th'e' end\n").await;
    viewer.until("the end\r\n$ ").await;
    for _ in 0..2 {
        let answer = terminal
            .api
            .get(&format!("{}/output?from=0", terminal.path))
            .await;
        let problem = answer.problem(ProblemCode::OutputExpired);
        let earliest = problem["details"]["earliest"].as_u64().unwrap();
        assert!(earliest > 0 && earliest < viewer.offset, "{problem}");
        let rest = terminal.api.get(&format!("{}/output", terminal.path)).await;
        assert_eq!(rest.header("x-output-from"), earliest.to_string());
        assert!(viewer.seen.ends_with(&rest.body));
        assert_eq!(rest.body.len() as u64, viewer.offset - earliest);
        terminal.api.kill_and_up();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_has_everything_with_its_times() {
    let spec = json!({
        "command": ["/bin/sh", "-c", "PS1='$ ' exec /bin/sh"], "cols": 70, "rows": 20
    });
    let terminal = Terminal::start(&[], spec).await;
    let mut viewer = terminal.attach("resume_from=0").await;
    viewer.until("$ ").await;
    viewer
        .types("printf '\\342\\226\\210\\n'; echo b'e'fore; sleep 0.3\n")
        .await;
    viewer.until("before\r\n$ ").await;
    viewer
        .says(&ToTerminal::Resize { cols: 50, rows: 10 })
        .await;
    let resized = viewer.told(|message| {
        matches!(message, FromTerminal::Resize { cols: 50, rows: 10 }).then_some(())
    });
    resized.await;
    viewer.types("exit 7\n").await;
    let exit = viewer.told(|message| matches!(message, FromTerminal::Exit { .. }).then_some(()));
    exit.await;
    for format in ["v2", "v3"] {
        let cast = Cast::of(&terminal, format).await;
        assert_eq!((cast.header.cols, cast.header.rows), (70, 20));
        assert!(cast.header.timestamp.is_some());
        assert!(cast.header.command.as_ref().unwrap().contains("/bin/sh"));
        assert_eq!(cast.output(), viewer.text(), "{format}");
        let resize = CastEvent::Resize { cols: 50, rows: 10 };
        let at = cast.events.iter().position(|(_, event)| *event == resize);
        assert!(at.is_some(), "{format}");
        // The program slept before the next prompt came.
        let (first, last) = (cast.events[0].0, cast.events.last().unwrap().0);
        assert!(
            last - first >= Duration::from_millis(300),
            "{first:?} {last:?}"
        );
        assert!(last < Duration::from_secs(120), "{last:?}");
        let ends = cast
            .events
            .iter()
            .any(|(_, event)| *event == CastEvent::Exit(7));
        assert_eq!(ends, format == "v3");
    }
    let path = format!("{}/recording?format=v1", terminal.path);
    terminal
        .api
        .get(&path)
        .await
        .problem(ProblemCode::InvalidInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_a_ring_that_has_turned_begins_with_the_screen() {
    let mut terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
    let mut viewer = terminal.attach("cols=60&rows=12").await;
    // Drawn once, long before what the ring still has.
    let standing = "printf '\\033[?1049h\\033[2J\\033[3;5Hstanding'";
    let printing = "i=0; while [ $i -lt 4000 ]; do printf '\\033[9;1H%060d' $i; i=$((i+1)); done";
    viewer
        .types(&format!(
            "{standing}; {printing}; printf '\\033[11;1Hal'l'\\n'\n"
        ))
        .await;
    terminal.shows("all").await;
    for _ in 0..2 {
        let state = terminal.state().await;
        let (start, end) = (&state["output_start"], &state["output_end"]);
        let held = end.as_u64().unwrap() - start.as_u64().unwrap();
        assert!(start.as_u64().unwrap() > 0);
        let cast = Cast::of(&terminal, "v3").await;
        assert_eq!((cast.header.cols, cast.header.rows), (60, 12));
        assert_eq!(cast.header.timestamp, None);
        assert_eq!(cast.screen(), terminal.screen().await);
        assert!(cast.screen().contains("standing"));
        // Nearly all of what the ring has: keyframes are a quarter of it apart.
        let (_, first) = &cast.events[0];
        let CastEvent::Output(snapshot) = first else {
            panic!("{first:?}")
        };
        assert!(snapshot.starts_with("\u{18}\u{1b}c"));
        let recorded = (cast.output().len() - snapshot.len()) as u64;
        assert!(
            recorded <= held && recorded > held / 2,
            "{recorded} of {held}"
        );
        terminal.api.kill_and_up();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_survives_when_small_writes_have_turned_the_ring() {
    let mut terminal = Terminal::shell(&["journal_bytes=64KiB"]).await;
    let mut viewer = terminal.attach("cols=60&rows=12").await;
    // A key at a time: the ring runs out of entries long before it runs out of bytes.
    let program = "import os,tty\ntty.setraw(0)\n\
        os.write(1,b'\\033[2J\\033[3;5Hstanding\\033[9;1Hgo')\n\
        while os.read(0,1)!=b'q': os.write(1,b'.\\b')\n\
        os.write(1,b'\\033[11;1Hdone ')\nos.read(0,1)\n";
    let path = terminal.api.server.place().join("program.py");
    std::fs::write(&path, program).unwrap();
    viewer.types(&format!("python3 {}\n", path.display())).await;
    viewer.until("go").await;
    for _ in 0..600 {
        viewer.seen.clear();
        viewer.types("k").await;
        viewer.until(".\u{8}").await;
    }
    viewer.types("q").await;
    terminal.shows("done").await;
    let state = terminal.state().await;
    let (start, end) = (&state["output_start"], &state["output_end"]);
    assert!(end.as_u64().unwrap() < 16 * 1024, "{state}");
    assert!(start.as_u64().unwrap() > 100, "{state}");
    let before = terminal.screen().await;
    assert!(before.contains("    standing"), "{before}");
    terminal.api.kill_and_up();
    assert_eq!(terminal.screen().await, before);
    assert_eq!(Cast::of(&terminal, "v3").await.screen(), before);
}
