//! What is typed arrives, whole and in order, and holds nobody up.

use std::fs;
use std::process::Command;

use abide_keeper::{INPUT_WINDOW, PROTOCOL_VERSION, WindowSize};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Kept, Told, child, eventually, pattern, program_on_terminal, shell_on_terminal,
};

fn paste(len: u64) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

#[test]
fn a_large_paste_arrives_whole() {
    const LEN: u64 = 1024 * 1024;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pasted");
    let script = format!(
        "stty raw -echo; echo ready; head -c {LEN} > {}; echo done",
        file.display()
    );
    let kept = Kept::launch(&shell_on_terminal(&script));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    told.typing(&mut client, &paste(LEN));
    told.until_closed(&client);
    assert!(fs::read(&file).unwrap() == paste(LEN));
    assert_eq!(client.terminal_input().unwritten(), 0);
    assert_eq!(client.terminal_input().room(), INPUT_WINDOW);
}

#[test]
fn lines_arrive_whole_through_the_kernels_editor() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pasted");
    let script = format!("stty -echo; echo ready; cat > {}", file.display());
    let kept = Kept::launch(&shell_on_terminal(&script));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    let lines: String = (0..20_000u32)
        .map(|number| format!("{number} {}\n", "y".repeat(number as usize * 37 % 100)))
        .collect();
    assert!(lines.len() > 1024 * 1024);
    told.typing(&mut client, lines.as_bytes());
    told.typing(&mut client, b"\x04");
    told.until_closed(&client);
    assert!(fs::read(&file).unwrap() == lines.as_bytes());
}

/// A program that does not read, until it is told to through another way.
struct Deaf {
    kept: Kept,
    home: tempfile::TempDir,
}

impl Deaf {
    fn new(len: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let fifo = home.path().join("fifo");
        let file = home.path().join("heard");
        let script = format!(
            "stty raw -echo; mkfifo {0}; echo ready; cat {0}; stty size; head -c {len} > {1}; \
             echo done",
            fifo.display(),
            file.display()
        );
        let kept = Kept::launch(&shell_on_terminal(&script));
        Self { kept, home }
    }

    /// Has it print something; with the last of it, it begins to read.
    fn fifo(&self) -> fs::File {
        let path = self.home.path().join("fifo");
        fs::OpenOptions::new().write(true).open(path).unwrap()
    }

    fn heard(&self) -> Vec<u8> {
        fs::read(self.home.path().join("heard")).unwrap()
    }
}

#[test]
fn a_program_that_does_not_read_holds_up_nobody_but_who_types() {
    use std::io::Write as _;
    const LEN: u64 = 4 * 1024 * 1024;
    let deaf = Deaf::new(LEN);
    let mut client = deaf.kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    // It is offered all of it, and takes what there is room for.
    let paste = paste(LEN);
    let mut sent = 0;
    loop {
        let len = client.input(&paste[sent..]).unwrap();
        sent += len;
        if len == 0 && client.terminal_input().unwritten() == INPUT_WINDOW as u64 {
            break;
        }
    }
    assert_eq!(client.terminal_input().room(), 0);
    assert!(sent < INPUT_WINDOW + 64 * 1024, "{sent}");
    assert!(client.terminal_input().prepare_wait());
    // Meanwhile it writes, and its terminal is resized.
    let mut fifo = deaf.fifo();
    fifo.write_all(b"still here").unwrap();
    told.until_printed(&client, "still here");
    client.resize(WindowSize::new(91, 19)).unwrap();
    told.until(&client, |told| told.resized.len() == 1);
    // Now it reads: nothing was lost.
    drop(fifo);
    told.until_printed(&client, "19 91");
    told.typing(&mut client, &paste[sent..]);
    told.until_closed(&client);
    assert!(deaf.heard() == paste);
}

#[test]
fn a_program_that_does_not_read_can_be_stopped() {
    let deaf = Deaf::new(1);
    let mut client = deaf.kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    let paste = paste(INPUT_WINDOW as u64 * 2);
    let mut sent = 0;
    while client.terminal_input().unwritten() < INPUT_WINDOW as u64 {
        sent += client.input(&paste[sent..]).unwrap();
    }
    client.stop().unwrap();
    told.until_closed(&client);
    assert!(deaf.kept.is_empty());
}

/// Processor time of a process so far, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_ascii_whitespace();
    let times = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    times.sum()
}

/// Neither while the program does not read nor when nobody has the terminal open any more.
#[test]
fn input_that_nobody_takes_costs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let fifo = home.path().join("fifo");
    let script = format!(
        "stty raw -echo; mkfifo {0}; trap '' HUP; sleep 1000 < /dev/null > /dev/null 2>&1 & \
         echo ready; cat {0}; exit 4",
        fifo.display(),
    );
    let kept = Kept::launch(&shell_on_terminal(&script));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    let paste = paste(INPUT_WINDOW as u64 * 2);
    let mut sent = 0;
    while client.terminal_input().unwritten() < INPUT_WINDOW as u64 {
        sent += client.input(&paste[sent..]).unwrap();
    }
    let keeper = client.identity().keeper.pid;
    // While others are at work for a while.
    let used = || {
        let (before, script) = (ticks(keeper), "seq 1 3000000 | cksum");
        let worked = Command::new("sh").args(["-c", script]).output().unwrap();
        assert!(worked.status.success());
        ticks(keeper) - before
    };
    assert!(used() < 3);
    fs::write(&fifo, "").unwrap();
    told.until(&client, |told| told.exited.is_some());
    assert!(used() < 3);
    assert!(client.terminal_input().unwritten() > 0);
}

#[test]
fn what_was_typed_survives_whoever_typed_it() {
    const LEN: u64 = 600_000;
    let deaf = Deaf::new(LEN);
    let mut client = deaf.kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    let paste = paste(LEN);
    let mut sent = 0;
    // Each types as much as there is room for, and is superseded.
    for share in [10, 100_000, 0, 150_000] {
        sent += client.input(&paste[sent..sent + share]).unwrap();
        client = deaf.kept.connect();
        // What has not reached the terminal counts for the next one too.
        assert!(client.terminal_input().unwritten() + 64 * 1024 >= sent as u64);
        assert!(client.terminal_input().unwritten() <= sent as u64);
    }
    assert_eq!(sent, 250_010);
    drop(deaf.fifo());
    told.typing(&mut client, &paste[sent..]);
    told.until_closed(&client);
    assert!(deaf.heard() == paste);
}

#[test]
fn who_sends_what_they_may_not_is_let_go_and_the_program_goes_on() {
    use abide_keeper::Message;
    use std::io::Read as _;
    let is_let_go = |kept: &Kept, message: Message<'_>| {
        let client = kept.connect();
        client.send(message).unwrap();
        let parts = client.into_parts();
        parts.stream.set_nonblocking(false).unwrap();
        assert_eq!((&parts.stream).read(&mut [0; 8]).unwrap_or(0), 0);
    };
    let kept = Kept::launch(&program_on_terminal(&["cat"]));
    let payload = &vec![b'.'; INPUT_WINDOW + 1];
    is_let_go(&kept, Message::Input { payload });
    is_let_go(
        &kept,
        Message::Deliver {
            id: [1; 16],
            payload: b"x",
        },
    );
    is_let_go(&kept, Message::Interrupt { payload: b"x" });
    let mut client = kept.connect();
    client.input(b"echo\n").unwrap();
    Told::default().until_printed(&client, "echo\r\necho\r\n");

    let kept = Kept::launch(&child(&["echo"]));
    is_let_go(&kept, Message::Input { payload: b"x" });
    is_let_go(&kept, Message::Resize(WindowSize::new(1, 1)));
    let client = kept.connect();
    client.deliver([1; 16], &[1, 0, 0, 0, 7]).unwrap();
    Told::default().until(&client, |told| told.frames.len() == 1);
    assert_eq!(client.journal().window_size(), None);
    eventually("nothing of it arrived", || {
        client.terminal_input().unwritten() == 0
    });
}

/// A program that writes down what it hears, as it comes.
struct Scribe {
    kept: Kept,
    home: tempfile::TempDir,
    told: Told,
}

impl Scribe {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("heard");
        let script = format!("stty raw -echo; echo ready; exec cat > {}", file.display());
        let kept = Kept::launch(&shell_on_terminal(&script));
        let mut told = Told::default();
        told.until_printed(&kept.connect(), "ready");
        Self { kept, home, told }
    }

    fn hears(&self, expected: &[u8]) {
        let file = self.home.path().join("heard");
        eventually("it hears that", || {
            fs::read(&file).is_ok_and(|heard| heard == expected)
        });
    }

    fn signal_keeper(&self, signal: Signal) {
        let keeper = self.kept.record().keeper.pid;
        kill_process(Pid::from_raw(keeper).unwrap(), signal).unwrap();
    }
}

#[test]
fn what_is_typed_reaches_the_terminal_while_its_keeper_sleeps() {
    let scribe = Scribe::new();
    let mut client = scribe.kept.connect();
    scribe.signal_keeper(Signal::STOP);
    assert_eq!(client.input(b"one").unwrap(), 3);
    scribe.hears(b"one");
    assert_eq!(client.terminal_input().unwritten(), 0);
    // What follows something else waits for it, and what follows that too.
    client.resize(WindowSize::new(90, 30)).unwrap();
    assert_eq!(client.input(b" two").unwrap(), 4);
    assert_eq!(client.input(b" three").unwrap(), 6);
    assert_eq!(client.terminal_input().unwritten(), 10);
    scribe.hears(b"one");
    scribe.signal_keeper(Signal::CONT);
    scribe.hears(b"one two three");
    eventually("the keeper says so", || {
        client.terminal_input().unwritten() == 0
    });
    scribe.signal_keeper(Signal::STOP);
    assert_eq!(client.input(b" four").unwrap(), 5);
    scribe.hears(b"one two three four");
    scribe.signal_keeper(Signal::CONT);
}

#[test]
fn small_and_large_pieces_arrive_in_order_whichever_way_they_go() {
    let mut scribe = Scribe::new();
    let mut client = scribe.kept.connect();
    let (mut sent, mut direct, mut through_keeper) = (Vec::new(), 0, 0);
    for number in 0..3000u64 {
        let len = match number % 50 {
            0 => 150_000,
            1 => 5000,
            _ => 1 + number % 7,
        };
        let start = sent.len() as u64;
        let piece: Vec<u8> = (start..start + len).map(pattern).collect();
        sent.extend_from_slice(&piece);
        scribe.told.typing(&mut client, &piece);
        match client.terminal_input().unwritten() {
            0 => direct += 1,
            _ => through_keeper += 1,
        }
    }
    assert!(
        direct > 0 && through_keeper > 0,
        "{direct} {through_keeper}"
    );
    scribe.hears(&sent);
}

#[test]
fn what_is_typed_behind_a_change_of_size_finds_it_changed() {
    let script = "stty -echo; echo ready; while read line; do stty size; done";
    let kept = Kept::launch(&shell_on_terminal(script));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    for columns in 100..150 {
        client.resize(WindowSize::new(columns, 31)).unwrap();
        client.input(b"\n").unwrap();
        told.until_printed(&client, &format!("31 {columns}\r\n"));
    }
}

#[test]
fn who_was_superseded_types_nothing_any_more() {
    let scribe = Scribe::new();
    let mut old = scribe.kept.connect();
    old.input(b"old").unwrap();
    let mut new = scribe.kept.connect();
    // Refused by the socket, or not.
    let _ = old.input(b" and gone");
    new.input(b" new").unwrap();
    scribe.hears(b"old new");
}

#[test]
fn a_keeper_that_gives_no_terminal_is_typed_through() {
    let scribe = Scribe::new();
    let file = scribe.kept.dir.join("keeper.json");
    let text = fs::read_to_string(&file).unwrap();
    let ours = format!("\"protocol\":{PROTOCOL_VERSION}");
    assert!(text.contains(&ours));
    fs::write(&file, text.replace(&ours, "\"protocol\":3")).unwrap();
    let mut client = scribe.kept.connect();
    scribe.signal_keeper(Signal::STOP);
    client.input(b"typed").unwrap();
    assert_eq!(client.terminal_input().unwritten(), 5);
    scribe.signal_keeper(Signal::CONT);
    scribe.hears(b"typed");
}

/// Somebody who survives its keeper, its shell and the hang-up finds the terminal closed.
#[test]
fn a_terminal_closes_with_the_client_of_a_dead_keeper() {
    let home = tempfile::tempdir().unwrap();
    let closed = home.path().join("closed");
    let script = format!(
        "trap '' HUP; (echo ready; while read line; do :; done; echo closed > {}) < /dev/tty & wait",
        closed.display()
    );
    let kept = Kept::launch(&shell_on_terminal(&format!("set -m; {script}")));
    let client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready");
    let keeper = kept.record().keeper.pid;
    kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    crate::support::wait_for_end(&client);
    drop(client);
    eventually("it is closed", || closed.exists());
}

#[test]
fn no_program_of_the_client_has_the_terminal() {
    let scribe = Scribe::new();
    let _client = scribe.kept.connect();
    let open = |pid: &str| {
        let listed = Command::new("ls")
            .args(["-l", &format!("/proc/{pid}/fd")])
            .output()
            .unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let own = open(&std::process::id().to_string());
    assert!(own.contains("ptmx"), "{own}");
    let of_a_program = open("self");
    assert!(!of_a_program.contains("ptmx"), "{of_a_program}");
}
