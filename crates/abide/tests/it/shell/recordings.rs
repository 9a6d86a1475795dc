//! `abide record` and `abide play`, and what the other commands say of terminals.

use abide_model::{CastEvent, CastReader};
use tempfile::TempDir;

use super::super::http::{Composition as _, Server};
use super::{SHELL, answers, leaves, run, serve, shell};

/// The text of a recording's output, and how its program ended.
fn read(cast: &str) -> (String, Option<i32>) {
    let mut lines = cast.lines();
    let (mut reader, _) = CastReader::new(lines.next().unwrap()).unwrap();
    let (mut output, mut exit) = (String::new(), None);
    for line in lines {
        match reader.event(line).unwrap().unwrap().1 {
            CastEvent::Output(text) => output.push_str(&text),
            CastEvent::Exit(status) => exit = Some(status),
            _ => {}
        }
    }
    (output, exit)
}

/// A file with this in it, and its path.
fn file(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it.cast");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

fn start(server: &Server, name: &str) {
    let args = [&["shell", "-s", "demo", "-d", "--name", name], &SHELL[..]].concat();
    run(server, &args).check(0, "");
}

#[test]
fn a_program_is_recorded_as_it_is_seen_and_played_again() {
    let server = serve();
    let (_dir, path) = file("");
    let script = "stty size; printf '\\033[?1049hgr\\303\\274n\\033[?1049l'; read x; exit 7";
    let mut terminal = server.cli_on_terminal(&[
        "record", "demo/rec", "-o", &path, "--", "/bin/sh", "-c", script,
    ]);
    let before = terminal.settings().unwrap();
    terminal.wait_for("50 200\r\n").unwrap();
    terminal.wait_for("grün\x1b[?1049l").unwrap();
    terminal.press("typed\r").unwrap();
    leaves(terminal, 7, &before);
    let cast = std::fs::read_to_string(&path).unwrap();
    let (output, exit) = read(&cast);
    assert_eq!(exit, Some(7), "{cast}");
    let expected = "50 200\r\n\x1b[?1049hgrün\x1b[?1049ltyped\r\n";
    assert_eq!(output, expected);
    assert!(cast.contains("/bin/sh -c stty size"), "{cast}");

    let played = run(&server, &["play", &path, "--speed", "1000"]);
    played.check(0, "");
    assert_eq!(played.stdout, expected);
}

#[test]
fn a_terminal_that_is_there_is_recorded_from_its_journal() {
    let server = serve();
    let (mut terminal, before) = shell(&server);
    answers(&mut terminal, "echo one-$((40 + 2))", "one-42");
    terminal.press("\x1d").unwrap();
    leaves(terminal, 0, &before);
    for (format, version) in [("v3", "\"version\":3"), ("v2", "\"version\":2")] {
        let recorded = run(&server, &["record", "demo/one", "--format", format]);
        recorded.check(0, "");
        assert!(recorded.stdout.lines().next().unwrap().contains(version));
        let (output, _) = read(&recorded.stdout);
        assert!(output.ends_with("one-42\r\n$ "), "{output}");
        let (_dir, path) = file(&recorded.stdout);
        let played = run(&server, &["play", &path, "--speed", "1000"]);
        assert_eq!(played.stdout, output);
    }
    // Attached to it, from now on, until it is left.
    let (_dir, path) = file("");
    let mut terminal = server.cli_on_terminal(&["record", "demo/one", "--attach", "-o", &path]);
    let before = terminal.settings().unwrap();
    terminal.wait_for("one-42").unwrap();
    terminal.wait_for("$ ").unwrap();
    answers(&mut terminal, "echo two-$((40 + 2))", "two-42");
    terminal.press("\x1d").unwrap();
    leaves(terminal, 0, &before);
    let (output, exit) = read(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(exit, None);
    assert!(
        output.contains("one-42") && output.ends_with("two-42\r\n$ "),
        "{output}"
    );
    run(&server, &["record", "demo", "--attach"]).check(64, "--output");
}

#[test]
fn playing_leaves_the_terminal_as_it_was() {
    let server = serve();
    // The alternate screen and the mouse, a question to the terminal, and then nothing for an hour.
    let cast = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n\
        # a comment\n\
        [0.1, \"o\", \"\\u001b[?1049h\\u001b[?1000h\\u001b[ccolours\"]\n\
        [3600, \"o\", \"late\"]\n";
    let (_dir, path) = file(cast);
    for keys in ["q", "\x03"] {
        let mut terminal = server.cli_on_terminal(&["play", &path]);
        let before = terminal.settings().unwrap();
        let shown = terminal.wait_for("colours").unwrap();
        assert!(!shown.contains("\x1b[c"), "{shown:?}");
        terminal.press(keys).unwrap();
        let code = if keys == "q" { 0 } else { 130 };
        let shown = leaves(terminal, code, &before);
        assert!(
            shown.contains("\x1b[?1049l") && shown.contains("\x1b[?1000l"),
            "{shown:?}"
        );
        assert!(!shown.contains("late"));
    }
    let mut terminal = server.cli_on_terminal(&["play", &path, "--idle-limit", "10ms"]);
    let before = terminal.settings().unwrap();
    terminal.wait_for("late").unwrap();
    leaves(terminal, 0, &before);
}

#[test]
fn what_is_no_recording_is_refused() {
    let server = serve();
    let check = |text: &str, code, complaint: &str| {
        let (_dir, path) = file(text);
        run(&server, &["play", &path]).check(code, complaint);
    };
    check("", 65, "no header");
    check("hello\n", 65, "no header");
    check("{\"version\":1}\n", 65, "version 1");
    let head = "{\"version\":2,\"width\":80,\"height\":24}\n";
    check(&format!("{head}[\"o\"]\n"), 65, "no event");
    check(head, 0, "");
    run(&server, &["play", "/nowhere/it.cast"]).check(74, "/nowhere/it.cast");
    run(&server, &["play", "-", "--speed", "0"]).check(64, "greater than 0");
}

#[test]
fn terminals_are_listed_renamed_and_started_again() {
    let server = serve();
    start(&server, "one");
    start(&server, "two");
    run(&server, &["shell", "-s", "demo", "-d", "--", "/bin/cat"]).check(0, "");
    let listed = run(&server, &["ls"]);
    listed.check(0, "");
    assert!(listed.stdout.contains("TERMINALS"), "{}", listed.stdout);
    assert!(listed.stdout.contains("one,two,+1"), "{}", listed.stdout);
    let renamed = run(&server, &["rename", "demo/two", "server"]);
    renamed.check(0, "");
    assert_eq!(renamed.stdout, "demo/server\n");

    run(&server, &["send", "demo/server", "x=lost", "--enter"]).check(0, "");
    let again = run(&server, &["restart", "demo/server"]);
    again.check(0, "");
    assert_eq!(again.stdout, "demo/server\n");
    run(
        &server,
        &["send", "demo/server", "echo x=$x-$((6*7))", "--enter"],
    )
    .check(0, "");
    let limit = ["--timeout", "20s"];
    let waiting = ["wait", "demo/server", "--for", "^x=-42$"];
    run(&server, &[&waiting[..], &limit].concat()).check(0, "");

    let shown = run(&server, &["show", "demo"]);
    shown.check(0, "");
    let rows: Vec<_> = shown
        .stdout
        .lines()
        .filter(|row| row.contains("terminal"))
        .collect();
    assert_eq!(rows.len(), 4, "{}", shown.stdout);
    let live = |row: &&&str| row.contains("running") && row.contains("80x24");
    assert_eq!(rows.iter().filter(live).count(), 3, "{}", shown.stdout);
    let status = run(&server, &["status"]);
    assert!(
        status.stdout.contains("3 live, 1 ended, 0 viewers"),
        "{}",
        status.stdout
    );
}
