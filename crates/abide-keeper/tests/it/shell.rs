//! Shells as people use them: jobs, full screens, and what is left when they end.

use std::fs;

use abide_keeper::{KeeperClient, Lifecycle, WindowSize};

use crate::support::{
    Kept, Told, child, eventually, on_terminal, program_on_terminal, shell_on_terminal,
    wait_for_end,
};

/// An interactive shell that waits for the first command.
fn interactive() -> (Kept, KeeperClient, Told) {
    let mut spec = program_on_terminal(&["bash", "--norc", "--noprofile", "-i"]);
    // Without colours, brackets around what is pasted, and such.
    spec.env.push(("TERM".to_owned(), "dumb".to_owned()));
    spec.env.push(("PS1".to_owned(), "next> ".to_owned()));
    (spec.hang_up_grace_ms, spec.terminate_grace_ms) = (500, 3_600_000);
    let kept = Kept::launch(&spec);
    let client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "next> ");
    (kept, client, told)
}

#[test]
fn jobs_are_interrupted_stopped_and_continued() {
    let (_kept, mut client, mut told) = interactive();
    told.typing(&mut client, b"sh -c 'echo begun; exec sleep 1000'\r");
    told.until_printed(&client, "\nbegun\r\n");
    told.typing(&mut client, b"\x03");
    told.until_printed(&client, "^C\r\nnext> ");
    told.typing(&mut client, b"echo code $?\r");
    told.until_printed(&client, "\ncode 130\r\n");

    // The shell names a job that it continues before the job has the terminal.
    let job = b"sh -c 'trap \"echo resumed\" CONT; echo started; while :; do read line; done'\r";
    told.typing(&mut client, job);
    told.until_printed(&client, "\nstarted\r\n");
    told.typing(&mut client, b"\x1a");
    told.until_printed(&client, "Stopped");
    told.typing(&mut client, b"jobs -s | wc -l; fg\r");
    told.until_printed(&client, "\n1\r\nsh -c");
    told.until_printed(&client, "\nresumed\r\n");
    let before = told.output.len();
    told.typing(&mut client, b"\x03");
    told.until(&client, |told| told.text()[before..].contains("next> "));
    told.typing(&mut client, b"echo again $?\r");
    told.until_printed(&client, "\nagain 130\r\n");
    told.typing(&mut client, b"exit 9\r");
    told.until_closed(&client);
    let (_, exit) = told.exited.unwrap();
    assert_eq!((exit.code, exit.requested), (Some(9), false));
}

#[test]
fn a_full_screen_has_the_size_of_its_terminal() {
    let script = "import curses\n\
        def main(screen):\n\
        \twhile True:\n\
        \t\trows, columns = screen.getmaxyx()\n\
        \t\tscreen.addstr(rows - 1, columns - 20, f'<{columns} {rows}>')\n\
        \t\tscreen.refresh()\n\
        \t\tif screen.getch() == ord('q'):\n\
        \t\t\treturn\n\
        curses.wrapper(main)";
    let kept = Kept::launch(&program_on_terminal(&["python3", "-c", script]));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "<80 24>");
    client.resize(WindowSize::new(133, 41)).unwrap();
    // Curses misses a signal that comes just before it reads, until it has read something.
    told.typing(&mut client, b"x");
    told.until_printed(&client, "<133 41>");
    told.typing(&mut client, b"q");
    told.until_closed(&client);
    // It leaves the screen as it found it.
    assert!(told.text().contains("\x1b[?1049h"));
    assert!(told.text().contains("\x1b[?1049l"));
    assert_eq!(told.exited.unwrap().1.code, Some(0));
}

#[test]
fn an_end_is_known_though_the_terminal_is_held_open() {
    let home = tempfile::tempdir().unwrap();
    let fifo = home.path().join("fifo");
    // What it leaves behind reads the fifo, which nobody has opened for writing yet.
    let script = format!(
        "mkfifo {0}; trap '' HUP; cat {0} & read go; head -c 30000 /dev/zero; exit 7",
        fifo.display()
    );
    for _ in 0..20 {
        let _ = fs::remove_file(&fifo);
        let kept = Kept::launch(&shell_on_terminal(&script));
        let mut client = kept.connect();
        let mut told = Told::default();
        told.typing(&mut client, b"\n");
        told.until(&client, |told| told.exited.is_some());
        let (at, exit) = told.exited.clone().unwrap();
        assert_eq!((exit.code, exit.signal), (Some(7), None));
        // The line feed was echoed.
        assert_eq!(told.output, [&b"\r\n"[..], &[0; 30_000]].concat());
        assert_eq!(at, 30_002);
        eventually("the exit is recorded", || {
            abide_keeper::exit_record(&kept.dir).is_some_and(|told| told == exit)
        });
        // What is left goes on to write, and to be journalled, also for who comes later.
        eventually("it is there", || !kept.is_empty());
        let client = kept.connect();
        fs::write(&fifo, "still here\n").unwrap();
        told.until_closed(&client);
        assert_eq!(told.output.len() as u64, at + 12);
        assert!(told.output.ends_with(b"still here\r\n"));
        wait_for_end(&client);
    }
}

#[test]
fn what_a_shell_left_running_is_stopped_with_its_worker() {
    let script = "(trap '' HUP TERM; echo left; exec sleep 1000) & read go; exit 3";
    let kept = Kept::launch(&shell_on_terminal(script));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "left\r\n");
    told.typing(&mut client, b"\n");
    told.until(&client, |told| told.exited.is_some());
    eventually("it is there", || !kept.is_empty());
    client.stop().unwrap();
    told.until_closed(&client);
    wait_for_end(&client);
    assert!(kept.is_empty());
    // The shell had ended by itself.
    let exit = kept.exit();
    assert_eq!((exit.code, exit.requested), (Some(3), false));
}

/// It never stops writing, so "the last byte before the end" must not mean "until it is silent".
#[test]
fn an_end_is_known_though_what_is_left_pours() {
    let kept = Kept::launch(&shell_on_terminal("trap '' HUP; yes & exit 5"));
    let client = kept.connect();
    let mut told = Told::default();
    told.until(&client, |told| told.exited.is_some());
    assert_eq!(told.exited.clone().unwrap().1.code, Some(5));
    let len = told.output.len();
    told.until(&client, |told| told.output.len() > len + 1_000_000);
    client.stop().unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
}

#[test]
fn last_words_on_a_terminal_precede_the_exit() {
    for _ in 0..20 {
        let kept = Kept::launch(&shell_on_terminal("read go; seq 1 5000; kill -9 $$"));
        let mut client = kept.connect();
        let mut told = Told::default();
        told.typing(&mut client, b"\n");
        told.until_closed(&client);
        let lines: String = (1..=5000).map(|number| format!("{number}\r\n")).collect();
        let expected = "\r\n".to_owned() + &lines;
        assert_eq!(told.text(), expected);
        let (at, exit) = told.exited.unwrap();
        assert_eq!(at, expected.len() as u64);
        assert_eq!((exit.code, exit.signal), (None, Some(9)));
        assert!(matches!(
            &told.lifecycle[..],
            [
                Lifecycle::Started { .. },
                Lifecycle::Exited(_),
                Lifecycle::Closed
            ]
        ));
    }
}

#[test]
fn a_stop_ends_those_on_a_terminal_who_ignore_it_and_those_who_got_away() {
    let kept = Kept::launch(&on_terminal(child(&["stubborn"])));
    let client = kept.connect();
    let mut told = Told::default();
    eventually("all three are there", || kept.processes().len() == 3);
    client.stop().unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
    wait_for_end(&client);
    let exit = kept.exit();
    assert_eq!((exit.signal, exit.requested), (Some(9), true));
}

#[test]
fn a_stop_hangs_a_shell_up() {
    let (kept, client, mut told) = interactive();
    client.stop().unwrap();
    told.until_closed(&client);
    wait_for_end(&client);
    // An interactive shell ignores SIGTERM and would have to be killed.
    assert_eq!(kept.exit().signal, Some(libc::SIGHUP));
}

/// A shell may miss the first one, and ignores SIGTERM.
#[test]
fn a_stop_hangs_up_twice_on_a_terminal() {
    let script = "trap 'echo hung up; trap \"exit 6\" HUP' HUP; trap '' TERM; echo ready; \
                  while :; do read line; done";
    let mut spec = shell_on_terminal(script);
    spec.terminate_grace_ms = 3_600_000;
    let kept = Kept::launch(&spec);
    let client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready\r\n");
    client.stop().unwrap();
    told.until_closed(&client);
    assert_eq!(told.text(), "ready\r\nhung up\r\n");
    assert_eq!(told.exited.unwrap().1.code, Some(6));
}

/// Whoever closes all of its terminal may open it again.
#[test]
fn a_terminal_that_nobody_has_open_is_not_lost() {
    let script = "tty=$(tty); exec 0<&- 1>&- 2>&-; \
                  exec 0</dev/tty 1>/dev/tty 2>&1; echo again; read line; echo \"<$line>\"";
    let kept = Kept::launch(&shell_on_terminal(script));
    let mut client = kept.connect();
    let mut told = Told::default();
    // Some of it comes while nobody has it open.
    told.typing(&mut client, b"typed\n");
    told.until_closed(&client);
    assert!(told.text().contains("again\r\n"), "{}", told.text());
    assert!(told.text().ends_with("<typed>\r\n"), "{}", told.text());
    wait_for_end(&client);
}
