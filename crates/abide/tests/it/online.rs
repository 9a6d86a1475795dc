//! Commands against a running server.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use abide_testkit::{ServerOptions, TestServer};
use rustix::process::{Pid, Signal, kill_process};

use crate::abide::{Ended, ended};

fn serve() -> TestServer {
    let options = ServerOptions::new(env!("CARGO_BIN_EXE_abide"))
        .set("warm_python=1")
        .set("interrupt_grace=60s");
    TestServer::start(options).unwrap()
}

fn abide(server: &TestServer, args: &[&str]) -> Ended {
    ended(&server.command(args).output().unwrap())
}

fn json(server: &TestServer, args: &[&str]) -> serde_json::Value {
    let said = abide(server, args);
    said.check(0, "");
    serde_json::from_str(&said.stdout).unwrap()
}

/// A command that goes on, read line by line.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(server: &TestServer, args: &[&str]) -> Self {
        let mut command = server.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    fn press_ctrl_c(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    fn end(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ended {
            code,
            stdout,
            stderr,
        }
    }
}

#[test]
fn a_step_shows_its_output_its_value_and_its_end() {
    let server = serve();
    for (code, exit, stdout, stderr) in [
        ("x = 41", 0, "", ""),
        ("x + 1", 0, "42\n", ""),
        ("print('a', end=''); 7", 0, "a\n7\n", ""),
        (
            "import sys; print('e', file=sys.stderr); 'v'",
            0,
            "'v'\n",
            "e\n",
        ),
        (
            "print('before'); 1/0",
            1,
            "before\n",
            "ZeroDivisionError: division by zero",
        ),
        ("raise KeyboardInterrupt", 130, "", "KeyboardInterrupt"),
        ("x", 0, "41\n", ""),
    ] {
        let said = abide(&server, &["run", "-s", "demo", code]);
        said.check(exit, stderr);
        assert_eq!(said.stdout, stdout, "{code}");
    }
    abide(
        &server,
        &[
            "run",
            "-s",
            "demo",
            "--timeout",
            "200ms",
            "while True: pass",
        ],
    )
    .check(124, "");
    let crashed = abide(&server, &["run", "-s", "demo", "import os; os._exit(3)"]);
    crashed.check(139, "`abide restart demo` gives it a fresh interpreter");
    abide(&server, &["run", "-s", "demo", "1"]).check(65, "abide restart");
    abide(&server, &["restart", "demo"]).check(0, "");
    abide(&server, &["run", "-s", "demo", "x"]).check(1, "NameError");
    abide(&server, &["run", "-s", "demo", "--runtime", "node", "1"]).check(65, "runs python");
    abide(&server, &["run", "-s", "no such name", "1"]).check(64, "cannot be a session's name");
}

#[test]
fn code_and_input_come_from_where_they_are() {
    let server = serve();
    std::fs::write(server.home().join("code.py"), "print(input())").unwrap();
    std::fs::write(server.home().join("input"), "hello\n").unwrap();
    let said = abide(&server, &["run", "-f", "code.py", "--stdin-file", "input"]);
    assert_eq!(said.stdout, "hello\n", "{}", said.stderr);
    let code = std::fs::File::open(server.home().join("code.py")).unwrap();
    let said = server.command(&["run", "-"]).stdin(code).output().unwrap();
    ended(&said).check(1, "EOFError");
    let step = json(&server, &["run", "-o", "json", "6 * 7"]);
    assert_eq!(step["result"]["text"], "42");
    let id = abide(&server, &["run", "--no-wait", "7"]).stdout;
    assert_eq!(id.trim().len(), 36, "{id}");
}

#[test]
fn ctrl_c_interrupts_and_twice_leaves_running() {
    let server = serve();
    let code = "import signal\nprint('begun', flush=True)\nsignal.pause()";
    let mut once = Running::start(&server, &["run", "-s", "once", code]);
    assert_eq!(once.line(), "begun\n");
    once.press_ctrl_c();
    once.end().check(130, "KeyboardInterrupt");

    // Swallows the interrupt and goes on until the test opens the gate.
    let gate = server.home().join("gate");
    let code = format!(
        "import os, signal\nos.mkfifo({gate:?})\nprint('begun', flush=True)\ntry:\n    signal.pause()\n\
         except KeyboardInterrupt:\n    open({gate:?}).close()\n    swallowed = 1"
    );
    let mut twice = Running::start(&server, &["run", "-s", "twice", &code]);
    assert_eq!(twice.line(), "begun\n");
    twice.press_ctrl_c();
    assert!(twice.error_line().contains("interrupting"));
    twice.press_ctrl_c();
    twice
        .end()
        .check(131, "`abide logs -f twice` follows its output");
    drop(std::fs::OpenOptions::new().write(true).open(&gate).unwrap());
    assert_eq!(
        abide(&server, &["run", "-s", "twice", "swallowed"]).stdout,
        "1\n"
    );
}

#[test]
fn a_step_is_followed_through_the_death_of_the_server() {
    let mut server = serve();
    let gate = server.home().join("gate");
    // Goes on once the test has opened the gate, that is after the new server is up.
    let code = format!(
        "import os\nos.mkfifo({gate:?})\nprint('first', flush=True)\nopen({gate:?}).close()\n\
         print('second')\n'value'"
    );
    let mut step = Running::start(&server, &["run", "-s", "demo", &code]);
    assert_eq!(step.line(), "first\n");
    server.kill().unwrap();
    server.up(&[]).unwrap();
    drop(std::fs::OpenOptions::new().write(true).open(&gate).unwrap());
    let said = step.end();
    said.check(0, "lost the server");
    assert_eq!(said.stdout, "second\n'value'\n");
}

#[test]
fn sessions_are_listed_shown_and_removed() {
    let server = serve();
    for name in ["a", "b"] {
        abide(&server, &["run", "-s", name, "1"]).check(0, "");
    }
    let listed = json(&server, &["ls", "-o", "json"]);
    assert_eq!(
        (listed[0]["name"].as_str(), listed[1]["name"].as_str()),
        (Some("b"), Some("a"))
    );
    assert_eq!(
        json(&server, &["ls", "-o", "json", "--limit", "1"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        json(&server, &["ls", "-o", "json", "--status", "paused"]),
        serde_json::json!([])
    );
    let id = listed[0]["id"].as_str().unwrap();
    for name in ["b", id] {
        let shown = json(&server, &["show", name, "-o", "json"]);
        assert_eq!(shown["session"]["id"], id);
        assert_eq!(shown["steps"][0]["code"], "1");
        assert_eq!(shown["workers"][0]["state"], "running");
    }
    assert!(abide(&server, &["show", "b"]).stdout.contains("completed"));
    abide(&server, &["rm", "a"]).check(65, "--force");
    let removed = abide(&server, &["rm", "--force", "a", "nobody", "b"]);
    removed.check(66, "there is no session \"nobody\"");
    assert_eq!(removed.stdout, "removed a\nremoved b\n");
    assert_eq!(json(&server, &["status", "-o", "json"])["sessions"], 0);
}

#[test]
fn logs_events_and_checkpoints_are_read() {
    let server = serve();
    abide(
        &server,
        &["run", "-s", "demo", "print('one'); print('two')"],
    )
    .check(0, "");
    assert_eq!(abide(&server, &["logs", "demo"]).stdout, "one\ntwo\n");
    assert_eq!(
        abide(&server, &["logs", "demo", "--tail", "4"]).stdout,
        "two\n"
    );
    let piece = json(&server, &["logs", "demo", "-o", "json"]);
    assert_eq!((&piece["from"], &piece["next"]), (&0.into(), &8.into()));

    let mut logs = Running::start(&server, &["logs", "-f", "demo", "--tail", "4"]);
    let mut events = Running::start(
        &server,
        &["events", "-f", "--after", "0", "-s", "demo", "-o", "json"],
    );
    assert_eq!(logs.line(), "two\n");
    assert!(events.line().contains("\"session.created\""));
    abide(&server, &["run", "-s", "demo", "print('three')"]).check(0, "");
    assert_eq!(logs.line(), "three\n");
    for _ in 0..10 {
        if events.line().contains("\"sequence\":2,") {
            break;
        }
    }
    logs.child.kill().unwrap();
    events.child.kill().unwrap();
    logs.end();
    events.end();
    let last = json(
        &server,
        &[
            "events",
            "-o",
            "json",
            "--type",
            "step.completed",
            "--limit",
            "1",
        ],
    );
    assert_eq!(last[0]["payload"]["sequence"], 2);

    abide(&server, &["checkpoint", "get", "demo"]).check(66, "has no checkpoint");
    abide(
        &server,
        &["checkpoint", "set", "demo", r#"{"b": 1.10, "a": []}"#],
    )
    .check(0, "");
    assert_eq!(
        abide(&server, &["checkpoint", "get", "demo"]).stdout,
        "{\"b\": 1.10, \"a\": []}\n"
    );
}

#[test]
fn a_wrong_key_is_said() {
    let server = serve();
    abide(&server, &["ls", "--key", "wrong"]).check(77, "hint: the key comes from");
}

#[test]
fn up_in_the_background_and_down() {
    let mut server = serve();
    abide(&server, &["up", "-d"]).check(65, "already running");
    server.down().unwrap();
    let up = abide(&server, &["up", "-d", "--port", "0"]);
    up.check(0, "");
    assert!(
        up.stdout.starts_with("Abide is up at http://"),
        "{}",
        up.stdout
    );
    abide(&server, &["run", "x = 1"]).check(0, "");
    let down = abide(&server, &["down", "--keep-workers"]);
    assert!(
        down.stdout.contains("left running"),
        "{} {}",
        down.stdout,
        down.stderr
    );
    abide(&server, &["up", "-d", "--port", "0"]).check(0, "");
    assert_eq!(abide(&server, &["run", "x"]).stdout, "1\n");
    assert_eq!(abide(&server, &["down"]).stdout, "Abide is down\n");
    abide(&server, &["down"]).check(69, "no Abide server is running");
}
