//! What is shown on a terminal and only there: the prompt of `abide repl`, and the spinner.

use std::path::Path;
use std::time::{Duration, Instant};

use abide_testkit::{ServerOptions, Terminal, TestServer};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::abide::ended;

/// From this time on a wait is shown.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

fn serve() -> TestServer {
    let options = ServerOptions::new(env!("CARGO_BIN_EXE_abide")).set("interrupt_grace=60s");
    TestServer::start(options).unwrap()
}

/// A prompt in session `demo`, ready for the first line.
fn repl(server: &TestServer) -> Terminal {
    let mut terminal = server.terminal(&["repl", "-s", "demo"]).unwrap();
    terminal.wait_for("session demo (python)").unwrap();
    terminal.wait_for(">>> ").unwrap();
    terminal
}

/// Types a line and waits for what it answers and for the next prompt. What is waited for must
/// not stand in the line itself, which is shown as it is typed.
#[track_caller]
fn answers(terminal: &mut Terminal, keys: &str, answer: &str) {
    terminal.press(&format!("{keys}\r")).unwrap();
    terminal.wait_for(&format!("{answer}\r\n")).unwrap();
    terminal.wait_for(">>> ").unwrap();
}

fn leave(mut terminal: Terminal) {
    terminal.press("\x04").unwrap();
    let (exited, shown) = terminal.end().unwrap();
    assert_eq!(exited.code, Some(0), "{shown}");
}

#[test]
fn the_prompt_edits_lines() {
    let server = serve();
    let mut terminal = repl(&server);
    // To the left, and to the end of the line.
    answers(&mut terminal, "x = 4\x1b[D1\x1b[F; x * 1000", "14000");
    // To its beginning.
    answers(&mut terminal, "* 2000\x1b[Hx ", "28000");
    // Backspace; away with what stands before.
    answers(&mut terminal, "y = 7\x7f8; y * 11", "88");
    answers(&mut terminal, "wrong\x15'kept' * 2", "'keptkept'");
    // An unfinished line goes on; an empty one ends a block.
    answers(&mut terminal, "(y *\r 20)", "160");
    answers(
        &mut terminal,
        "def f():\r    return 'called ' + str(x)\r",
        "",
    );
    answers(&mut terminal, "f()", "'called 14'");
    leave(terminal);
}

#[test]
fn the_prompt_remembers_lines_of_the_run_before() {
    let server = serve();
    let mut terminal = repl(&server);
    answers(&mut terminal, "n = 20; n * 11", "220");
    answers(&mut terminal, "n += 1; n * 11", "231");
    leave(terminal);

    // The upward arrow, once: the last line runs again. Twice: the one before.
    let mut terminal = repl(&server);
    answers(&mut terminal, "\x1b[A", "242");
    answers(&mut terminal, "\x1b[A\x1b[A", "220");
    leave(terminal);
    let history = std::fs::read_to_string(server.data_dir().join("history")).unwrap();
    assert_eq!(history.matches("n += 1; n * 11").count(), 1, "{history}");

    // And searched backwards.
    let mut terminal = repl(&server);
    answers(&mut terminal, "\x12+= 1", "231");
    leave(terminal);
}

#[test]
fn ctrl_c_interrupts_the_step_and_not_the_prompt() {
    let server = serve();
    let mut terminal = repl(&server);
    answers(&mut terminal, "x = 41; x * 1000", "41000");
    terminal
        .press("import signal; print('beg' + 'un', flush=True); signal.pause()\r")
        .unwrap();
    terminal.wait_for("begun\r\n").unwrap();
    terminal.press("\x03").unwrap();
    terminal.wait_for("interrupting").unwrap();
    terminal.wait_for("KeyboardInterrupt").unwrap();
    terminal.wait_for(">>> ").unwrap();
    // At the prompt it clears the line.
    terminal.press("x = 'overwritten'").unwrap();
    terminal.wait_for("overwritten'").unwrap();
    terminal.press("\x03").unwrap();
    terminal.wait_for(">>> ").unwrap();
    answers(&mut terminal, "x * 1001", "41041");
    leave(terminal);
    let said = server
        .command(&["run", "-s", "demo", "x"])
        .output()
        .unwrap();
    assert_eq!(
        ended(&said).stdout,
        "41\n",
        "the session went with its prompt"
    );
}

#[test]
fn a_step_of_more_than_half_a_second_has_a_spinner_on_a_terminal() {
    let server = serve();
    let gate = server.home().join("gate");
    gate_at(&gate);
    let code = format!("open({gate:?}).close(); 'op' + 'ened'");
    let begun = Instant::now();
    let mut terminal = server.terminal(&["run", "-s", "demo", &code]).unwrap();
    terminal.wait_for("running 0s").unwrap();
    assert!(begun.elapsed() >= HALF_A_SECOND, "{:?}", begun.elapsed());
    // It turns.
    terminal.wait_for("\r⠙ running 0s").unwrap();
    terminal.wait_for("running 1s").unwrap();
    drop(std::fs::File::options().write(true).open(&gate).unwrap());
    let (exited, shown) = terminal.end().unwrap();
    assert_eq!(exited.code, Some(0));
    assert!(shown.ends_with("\r\x1b[K'opened'\r\n"), "{shown:?}");
}

#[test]
fn a_waiting_request_has_a_spinner_on_a_terminal() {
    let server = serve();
    let pid = i32::try_from(server.pid().unwrap()).unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mut terminal = server.terminal(&["run", "-s", "demo", "6 * 7"]).unwrap();
    terminal.wait_for("opening the session 0s").unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    terminal.wait_for("\r\x1b[K").unwrap();
    terminal.wait_for("42\r\n").unwrap();
    assert_eq!(terminal.end().unwrap().0.code, Some(0));
}

#[test]
fn a_quick_step_has_no_spinner() {
    let server = serve();
    // The first one may have to wait for its interpreter.
    let first = server.command(&["run", "-s", "demo", "1"]).output();
    assert!(first.unwrap().status.success());
    loop {
        let begun = Instant::now();
        let mut terminal = server.terminal(&["run", "-s", "demo", "6 * 7"]).unwrap();
        let (exited, shown) = terminal.end().unwrap();
        assert_eq!(exited.code, Some(0), "{shown}");
        // On a machine that was busy just then it may rightly have been shown.
        if begun.elapsed() < HALF_A_SECOND {
            assert_eq!(shown, "42\r\n");
            return;
        }
    }
}

#[test]
fn where_nobody_looks_there_is_no_spinner() {
    let server = serve();
    let begun = Instant::now();
    let step = ["run", "-s", "demo", "--timeout", "1s", "while True: pass"];
    let said = ended(&server.command(&step).output().unwrap());
    assert!(begun.elapsed() > HALF_A_SECOND);
    said.check(124, "after its timeout");
    for mark in ["running", "\r", "\x1b"] {
        assert!(!said.stderr.contains(mark), "{:?}", said.stderr);
    }
    assert_eq!(said.stdout, "");
}

/// A pipe that whoever opens it waits at for the other side.
fn gate_at(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}
