//! Programs on terminals: what they find, what they are told, how they end.

use abide_keeper::{
    Io, JournalReader, KeeperSpec, Lifecycle, StreamFilter, Terminal, WindowSize, journal_path,
};

use crate::support::{Kept, Told, child, eventually, on_terminal, shell_on_terminal};

fn size(columns: u16, rows: u16) -> WindowSize {
    WindowSize::new(columns, rows)
}

/// Everything that a short program prints.
fn printed(spec: &KeeperSpec) -> String {
    let kept = Kept::launch(spec);
    let journal = JournalReader::open(&journal_path(&kept.dir)).unwrap();
    let (mut cursor, mut buf) = (0, Vec::new());
    eventually("all is said", || {
        while let Some(record) = journal.next(&mut cursor, &mut buf).unwrap() {
            if buf[record.range].ends_with(br#"{"event":"closed"}"#) {
                return true;
            }
        }
        false
    });
    buf.clear();
    journal
        .read_output(0, usize::MAX, &mut buf, StreamFilter::Both)
        .unwrap();
    String::from_utf8(buf).unwrap()
}

#[test]
fn a_program_finds_its_terminal_ready() {
    let mut spec =
        shell_on_terminal("read go; stty size; tty; ps -o tty=,pgid=,sid=,tpgid= -p $$; echo $$");
    let size = WindowSize {
        pixel_width: 1230,
        ..size(123, 45)
    };
    spec.io = Io::Terminal(Terminal { size, login: false });
    let kept = Kept::launch(&spec);
    let mut client = kept.connect();
    assert_eq!(client.journal().window_size(), Some(size));
    let mut told = Told::default();
    told.typing(&mut client, b"\n");
    told.until_closed(&client);
    let text = told.text();
    let text = text.strip_prefix("\r\n").unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    let tty = lines[1].strip_prefix("/dev/").unwrap();
    assert!(tty.starts_with("pts/"), "{text}");
    let pid = lines[3];
    let process: Vec<&str> = lines[2].split_ascii_whitespace().collect();
    assert_eq!(lines[0], "45 123");
    assert_eq!(process, [tty, pid, pid, pid]);
    assert_eq!(pid, kept.record().child.pid.to_string());
}

#[test]
fn a_program_has_its_terminal_and_nothing_else() {
    let text = printed(&on_terminal(child(&["fds"])));
    let names: Vec<&str> = text.split("\r\n").collect();
    let [stdin, stdout, stderr] = names[..] else {
        panic!("{text}");
    };
    let terminal = stdin.strip_prefix("0=").unwrap();
    assert!(terminal.starts_with("/dev/pts/"), "{text}");
    assert_eq!(stdout, format!("1={terminal}"));
    assert_eq!(stderr, format!("2={terminal}"));
}

#[test]
fn a_program_is_told_what_its_terminal_can_do() {
    let spec = on_terminal(child(&["env"]));
    let worker = format!("ABIDE_WORKER={}", spec.worker_id);
    let expected = [
        worker.as_str(),
        "COLORTERM=truecolor",
        "GREETING=hello",
        "LC_CTYPE=C.UTF-8",
        "TERM=xterm-256color",
    ];
    assert_eq!(printed(&spec).split("\r\n").collect::<Vec<_>>(), expected);
}

#[test]
fn a_shell_may_be_a_login_shell() {
    let mut spec = shell_on_terminal("echo $0");
    assert_eq!(printed(&spec), "/bin/sh\r\n");
    let size = size(80, 24);
    spec.io = Io::Terminal(Terminal { size, login: true });
    assert_eq!(printed(&spec), "-sh\r\n");
}

#[test]
fn a_terminal_belongs_to_the_user_that_its_program_runs_as() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut spec = shell_on_terminal("id -u; stat -c %u $(tty); echo mine > $(tty)");
    (spec.uid, spec.gid) = (Some(65534), Some(65534));
    assert_eq!(printed(&spec), "65534\r\n65534\r\nmine\r\n");
}

#[test]
fn the_kernel_edits_characters_not_bytes() {
    let kept = Kept::launch(&shell_on_terminal(
        "echo ready; read -r line; echo \"<$line>\"",
    ));
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready\r\n");
    client.input("aé\x7fb\n".as_bytes()).unwrap();
    told.until_closed(&client);
    assert!(told.text().ends_with("<ab>\r\n"), "{}", told.text());
}

#[test]
fn a_resize_is_seen_by_the_program_and_stands_where_it_happened() {
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait $!; done";
    let kept = Kept::launch(&shell_on_terminal(script));
    let client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready\r\n");
    let sizes = [size(80, 24), size(132, 50), size(3, 2), size(65_535, 1)];
    for pair in sizes.windows(2) {
        client.resize(pair[1]).unwrap();
        told.until_printed(
            &client,
            &format!("{} {}\r\n", pair[1].rows, pair[1].columns),
        );
    }
    // Where each change is, and that whoever begins anywhere begins with the right size.
    let journal = client.journal();
    assert_eq!(journal.window_size(), Some(size(65_535, 1)));
    let (mut cursor, mut buf, mut changes) = (0, Vec::new(), Vec::new());
    while let Some(record) = journal.next(&mut cursor, &mut buf).unwrap() {
        assert_eq!(
            journal.window_size_at(record.seq).unwrap(),
            Some(sizes[changes.len()]),
            "{changes:?}"
        );
        if let Ok(Lifecycle::Resized { before, size }) =
            serde_json::from_slice(&buf[record.range.clone()])
        {
            assert_eq!(before, sizes[changes.len()]);
            changes.push((record.output_offset, size));
        }
    }
    let expected: Vec<(u64, WindowSize)> = [0, 8, 13]
        .into_iter()
        .zip(sizes[1..].iter().copied())
        .map(|(printed, size)| (printed + "ready\r\n".len() as u64, size))
        .collect();
    assert_eq!(changes, expected);
}

/// More than the ring holds, so what was written last is still in the terminal when the size
/// changes; and little enough for the terminal to hold it.
#[test]
fn output_before_a_resize_comes_before_it() {
    const LEN: usize = 18_000;
    let flag = tempfile::tempdir().unwrap();
    let flag = flag.path().join("written");
    let script = format!(
        "stty -opost -echo; echo ready; read go; head -c {LEN} /dev/zero; : > {}; read go; stty size",
        flag.display()
    );
    let mut spec = shell_on_terminal(&script);
    spec.journal_bytes = 16_384;
    let kept = Kept::launch(&spec);
    let mut client = kept.connect();
    let mut told = Told::default();
    told.until_printed(&client, "ready\n");
    client.input(b"\n").unwrap();
    eventually("all is written", || flag.exists());
    client.resize(size(10, 10)).unwrap();
    told.until(&client, |told| !told.resized.is_empty());
    client.input(b"\n").unwrap();
    told.until_closed(&client);
    let expected = "ready\n".to_owned() + &"\0".repeat(LEN);
    assert_eq!(told.resized, [(expected.len() as u64, size(10, 10))]);
    assert_eq!(told.text(), expected + "10 10\n");
}
