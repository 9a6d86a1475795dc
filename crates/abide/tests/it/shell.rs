//! Terminals from the command line: `abide shell`, `attach`, `screen`, `send` and `wait`.

#[path = "shell/recordings.rs"]
mod recordings;

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use abide_testkit::Terminal;
use rustix::process::{Pid, Signal, kill_process};

use super::http::{Composition as _, Server};
use crate::abide::{Ended, ended};

/// A shell that says nothing but `$ `.
const SHELL: [&str; 4] = ["--", "/bin/sh", "-c", "PS1='$ ' exec /bin/sh"];

fn serve() -> Server {
    Server::begin(&["warm_python=0"])
}

/// An attached shell `demo/one` at its prompt, and the settings that its terminal had before.
fn shell(server: &Server) -> (Terminal, String) {
    let args = [&["shell", "-s", "demo", "--name", "one"], &SHELL[..]].concat();
    let mut terminal = server.cli_on_terminal(&args);
    let before = terminal.settings().unwrap();
    terminal.wait_for("$ ").unwrap();
    assert_ne!(terminal.settings().unwrap(), before);
    (terminal, before)
}

/// Types a line and waits for what it answers and for the next prompt. What is waited for must
/// not stand in the line itself, which is shown as it is typed.
#[track_caller]
fn answers(terminal: &mut Terminal, line: &str, answer: &str) {
    terminal.press(&format!("{line}\r")).unwrap();
    terminal.wait_for(&format!("{answer}\r\n")).unwrap();
    terminal.wait_for("$ ").unwrap();
}

/// Waits for the program's end; its terminal must be as it was.
#[track_caller]
fn leaves(mut terminal: Terminal, code: i32, before: &str) -> String {
    let (exited, shown) = terminal.end().unwrap();
    assert_eq!(exited.code, Some(code), "{shown}");
    assert_eq!(terminal.settings().unwrap(), before);
    shown
}

fn run(server: &Server, args: &[&str]) -> Ended {
    ended(&server.cli(args).output().unwrap())
}

#[test]
fn a_shell_outlives_whoever_looks_at_it() {
    let server = serve();
    let (mut terminal, before) = shell(&server);
    answers(&mut terminal, "stty size; x=41", "50 200");
    terminal.press("\x1d").unwrap();
    let shown = leaves(terminal, 0, &before);
    assert!(
        shown.contains("[detached; `abide attach demo/one` comes back]"),
        "{shown}"
    );

    let mut terminal = server.cli_on_terminal(&["attach", "--detach-key", "ctrl-q"]);
    let before = terminal.settings().unwrap();
    // What it had shown is shown again.
    terminal.wait_for("50 200").unwrap();
    terminal.wait_for("$ ").unwrap();
    answers(&mut terminal, "echo kept-$((x + 1))", "kept-42");
    terminal.press("\x11").unwrap();
    leaves(terminal, 0, &before);
}

#[test]
fn keys_and_the_exit_code_pass_through() {
    let server = serve();
    let (mut terminal, before) = shell(&server);
    // Shown as it is typed, and again when it has been read: now the program runs.
    terminal.press("cat\rmeow\r").unwrap();
    terminal.wait_for("meow\r\nmeow\r\n").unwrap();
    terminal.press("\x03").unwrap();
    terminal.wait_for("$ ").unwrap();
    answers(&mut terminal, "echo st'op'ped", "stopped");
    terminal.press("exit 7\r").unwrap();
    leaves(terminal, 7, &before);

    let args = ["shell", "-s", "demo", "--", "/bin/sh", "-c", "kill -9 $$"];
    run(&server, &args).check(137, "");
    let ended = run(&server, &["shell", "-s", "demo", "--", "echo", "done"]);
    ended.check(0, "");
    assert_eq!(ended.stdout, "done\r\n");
}

#[test]
fn the_window_is_followed() {
    let server = serve();
    let script = "trap 'stty size' WINCH; tail -f /dev/null & echo ready; while :; do wait; done";
    let args = ["shell", "--", "/bin/sh", "-c", script];
    let mut terminal = server.cli_on_terminal(&args);
    terminal.wait_for("ready\r\n").unwrap();
    terminal.resize(101, 31).unwrap();
    terminal.wait_for("31 101\r\n").unwrap();
}

#[test]
fn it_goes_on_when_the_server_is_back_and_can_be_left_when_it_is_not() {
    let mut server = serve();
    let (mut terminal, before) = shell(&server);
    answers(&mut terminal, "x=1", "x=1");
    server.kill_server();
    terminal.wait_for("abide: reconnecting").unwrap();
    terminal.press("echo typed-$((x + 1))").unwrap();
    server.start_again();
    answers(&mut terminal, "", "typed-2");

    server.kill_server();
    terminal.wait_for("abide: reconnecting").unwrap();
    terminal.press("\x03").unwrap();
    let shown = leaves(terminal, 75, &before);
    assert!(shown.contains("the server is away"), "{shown}");
    assert!(
        shown.contains("`abide attach demo/one` comes back"),
        "{shown}"
    );
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let server = serve();
    let (terminal, before) = shell(&server);
    let pid = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    leaves(terminal, 143, &before);
}

#[test]
fn no_line_is_lost_or_doubled_when_the_server_is_killed() {
    let mut server = serve();
    let script = "read go; seq 1 200000; exit 5";
    let mut child = server
        .cli(&["shell", "-s", "demo", "--", "/bin/sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"go\n").unwrap();
    let mut out = child.stdout.take().unwrap();
    // So little that much of it is still to come.
    let mut seen = vec![0; 300_000];
    out.read_exact(&mut seen).unwrap();
    server.kill_server();
    server.start_again();
    out.read_to_end(&mut seen).unwrap();
    let ended = ended(&child.wait_with_output().unwrap());
    ended.check(5, "lost the server");
    let lines: String = (1..=200_000).map(|n| format!("{n}\r\n")).collect();
    let expected = format!("go\r\n{lines}");
    assert!(seen == expected.as_bytes(), "{} bytes", seen.len());
}

#[test]
fn who_only_looks_does_not_type() {
    let server = serve();
    let (mut terminal, _) = shell(&server);
    let mut looker = server.cli_on_terminal(&["attach", "demo", "--view"]);
    let before = looker.settings().unwrap();
    looker.wait_for("$ ").unwrap();
    looker.press("echo loo'ker'\r").unwrap();
    answers(&mut terminal, "echo dri'ver'", "driver");
    let passed = looker.wait_for("driver\r\n").unwrap();
    assert!(!passed.contains("loo"), "{passed}");
    looker.press("\x03").unwrap();
    leaves(looker, 0, &before);
}

#[test]
fn a_program_types_waits_and_reads() {
    let server = serve();
    let start = |name| {
        let args = [&["shell", "-s", "demo", "-d", "--name", name], &SHELL[..]].concat();
        let started = run(&server, &args);
        started.check(0, "");
        assert_eq!(started.stdout, format!("demo/{name}\n"));
    };
    run(&server, &["attach"]).check(66, "no terminal is alive");
    start("one");
    run(
        &server,
        &["send", "demo", "echo hi-$((6*7));", "seq 500", "--enter"],
    )
    .check(0, "");
    let limit = ["--timeout", "20s"];
    let wait = |what: &[&str]| run(&server, &[&["wait", "demo/one"], what, &limit].concat());
    // It may have scrolled off the screen by now, or not.
    let found = wait(&["--for", r"^(hi-42|5\d\d)$"]);
    found.check(0, "");
    assert!(
        ["hi-42\n", "500\n"].contains(&&*found.stdout),
        "{}",
        found.stdout
    );
    wait(&["--for", "idle", "--idle", "10ms"]).check(0, "");
    let screen = run(&server, &["screen", "demo"]);
    assert!(
        screen.stdout.ends_with("\n499\n500\n$\n"),
        "{}",
        screen.stdout
    );
    run(
        &server,
        &["wait", "demo", "--for", "never", "--timeout", "10ms"],
    )
    .check(124, "demo/one");

    start("two");
    let several = run(&server, &["attach", "demo"]);
    several.check(64, "demo/one");
    several.check(64, "demo/two");
    run(&server, &["send", "demo/one", "exit 3", "--enter"]).check(0, "");
    // Before it has ended, and after.
    for _ in 0..2 {
        let end = wait(&["--for", "exit"]);
        end.check(0, "");
        assert_eq!(end.stdout, "it exited with code 3\n");
    }
    wait(&["--for", "never"]).check(1, "it exited with code 3");
}
