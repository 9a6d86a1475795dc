//! Launchers die and others take over; directories lie.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use abide_keeper::{
    ConnectError, KeeperClient, KeeperRecord, Lifecycle, OLDEST_PROTOCOL, PROTOCOL_VERSION,
    ProcessStamp, Tag,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Kept, Told, child, eventually, harness, pattern, program_on_terminal, wait_for_end,
};

/// What a reader that was killed had read: whole pieces by sequence number.
fn pieces(mut said: &[u8]) -> Vec<(u64, u8, Vec<u8>)> {
    let mut pieces = Vec::new();
    while let Some((head, rest)) = said.split_first_chunk::<13>() {
        let seq = u64::from_le_bytes(head[..8].try_into().unwrap());
        let len = u32::from_le_bytes(head[9..].try_into().unwrap()) as usize;
        let Some((payload, rest)) = rest.split_at_checked(len) else {
            break;
        };
        pieces.push((seq, head[8], payload.to_vec()));
        said = rest;
    }
    pieces
}

fn session(kept: &Kept, spec: Option<&abide_keeper::KeeperSpec>) -> Child {
    let mut child = Command::new(harness())
        .arg("launch")
        .arg(&kept.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = spec
        .map(|spec| serde_json::to_vec(spec).unwrap())
        .unwrap_or_default();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    child
}

/// All output of a program that is launched, read and recorded by one reader after the other, each
/// killed somewhere. The ring must hold it all: what flows while nobody is attached is not to be
/// lost here.
fn read_by_many_who_are_killed(spec: &abide_keeper::KeeperSpec, total: u64) -> Vec<u8> {
    let kept = Kept::place(spec);
    let (mut seen, mut output) = (0, Vec::new());
    for round in 0..40 {
        let mut session = session(&kept, (round == 0).then_some(spec));
        let mut pipe = session.stdout.take().unwrap();
        // Kills it wherever it happens to be after so many bytes; what it had said by then counts.
        let mut said = Vec::new();
        let beginning = 300_000 + round * 7_001;
        (&mut pipe).take(beginning).read_to_end(&mut said).unwrap();
        session.kill().unwrap();
        pipe.read_to_end(&mut said).unwrap();
        session.wait().unwrap();
        for (seq, tag, payload) in pieces(&said) {
            assert!(seq <= seen, "entry {seq} after {seen}: lost");
            if seq == seen {
                seen += 1;
                if [Tag::Stdout as u8, Tag::Terminal as u8].contains(&tag) {
                    output.extend_from_slice(&payload);
                }
            }
        }
    }
    // The last one reads the rest in this process.
    let journal = abide_keeper::JournalReader::open(&kept.dir.join("journal")).unwrap();
    let recorded = journal.recorded();
    assert!(
        recorded > 0 && recorded <= seen,
        "what it had recorded, it had said"
    );
    if let Ok(client) = KeeperClient::connect(&kept.dir) {
        eventually("it is over", || {
            client.journal().set_cursor(client.journal().head_seq());
            client.has_ended()
        });
    }
    let mut cursor = seen;
    loop {
        let mut buf = Vec::new();
        let Some(record) = journal.next(&mut cursor, &mut buf).unwrap() else {
            break;
        };
        if record.tag.is_output() {
            assert_eq!(record.output_offset, output.len() as u64);
            output.extend_from_slice(&buf);
        }
    }
    assert_eq!(output.len() as u64, total);
    output
}

#[test]
fn killed_readers_lose_and_double_no_byte() {
    const TOTAL: u64 = 20_000_000;
    let mut spec = child(&["flood", &TOTAL.to_string()]);
    spec.journal_bytes = 32 * 1024 * 1024;
    let output = read_by_many_who_are_killed(&spec, TOTAL);
    assert!((0..TOTAL).map(pattern).eq(output));
}

#[test]
fn killed_readers_lose_and_double_no_byte_of_a_terminal() {
    let lines: String = (1..=2_000_000).map(|line| format!("{line}\r\n")).collect();
    let mut spec = program_on_terminal(&["seq", "1", "2000000"]);
    spec.journal_bytes = 32 * 1024 * 1024;
    let output = read_by_many_who_are_killed(&spec, lines.len() as u64);
    assert!(output == lines.as_bytes());
}

#[test]
fn a_reader_resumes_where_it_had_recorded() {
    let kept = Kept::launch(&child(&["echo"]));
    let client = kept.connect();
    let framed = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
    let mut told = Told::default();
    for number in 0..10u8 {
        client.deliver([number; 16], &framed(&[number])).unwrap();
        told.until(&client, |told| told.frames.len() == usize::from(number) + 1);
    }
    client.journal().set_recorded(told.cursor);
    // The next one finishes while nobody is there.
    client.deliver([10; 16], &framed(&[10])).unwrap();
    drop(client);
    let client = kept.connect();
    assert_eq!(client.journal().recorded(), told.cursor);
    assert_eq!(client.journal().cursor(), told.cursor);
    let mut rest = Told::default();
    rest.cursor = client.journal().recorded();
    rest.until(&client, |told| told.frames.len() == 1);
    assert_eq!(rest.frames[0].1, [10]);
    // And the program is the same one.
    client.deliver([11; 16], &framed(&[11])).unwrap();
    rest.until(&client, |told| told.frames.len() == 2);
}

#[test]
fn a_new_client_supersedes_the_old_one() {
    let kept = Kept::launch(&child(&["echo"]));
    let old = kept.connect();
    let old_journal = old.journal().clone();
    let new = kept.connect();
    // The old one learns of it by the end of its stream, and its cursor means nothing.
    let parts = old.into_parts();
    parts.stream.set_nonblocking(false).unwrap();
    assert_eq!((&parts.stream).read(&mut [0; 8]).unwrap(), 0);
    new.deliver([1; 16], &[1, 0, 0, 0, 7]).unwrap();
    let mut told = Told::default();
    told.until(&new, |told| told.frames.len() == 1);
    let before = new.journal().cursor();
    assert!(!old_journal.set_cursor(before + 1000));
    assert_eq!(new.journal().cursor(), before);
    assert!(new.journal().set_cursor(told.cursor));
}

#[test]
fn an_unknown_version_is_refused_and_says_which_one_is_known() {
    let kept = Kept::launch(&child(&["pause"]));
    let dir = std::fs::File::open(&kept.dir).unwrap();
    let path = format!(
        "/proc/self/fd/{}/control.sock",
        std::os::fd::AsRawFd::as_raw_fd(&dir)
    );
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"ABKP\xff\0\0\0").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..4], *b"ABKP");
    assert_eq!(answer[4..8], PROTOCOL_VERSION.to_le_bytes());
    assert_eq!(answer[8..], 1u32.to_le_bytes());
    // Neither that nor nonsense, nor silence, keeps others out.
    std::os::unix::net::UnixStream::connect(&path)
        .unwrap()
        .write_all(&[0; 40])
        .unwrap();
    let silent: Vec<_> = (0..20)
        .map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap())
        .collect();
    let client = kept.connect();
    drop(silent);

    // The other way round: a keeper of another version.
    let file = kept.dir.join("keeper.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let ours = format!("\"protocol\":{PROTOCOL_VERSION}");
    std::fs::write(&file, text.replace(&ours, "\"protocol\":99")).unwrap();
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::VersionMismatch {
            ours: PROTOCOL_VERSION,
            theirs: 99
        })
    ));
    std::fs::write(&file, text).unwrap();
    drop(client);
}

/// A keeper of the oldest version has no terminal, and says the rest as it always did.
#[test]
fn an_older_version_is_spoken_both_ways() {
    let kept = Kept::launch(&child(&["echo"]));
    // A client of that version is answered in it.
    let dir = std::fs::File::open(&kept.dir).unwrap();
    let path = format!(
        "/proc/self/fd/{}/control.sock",
        std::os::fd::AsRawFd::as_raw_fd(&dir)
    );
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut hello = [0; 32];
    hello[..8].copy_from_slice(b"ABKP\x02\0\0\0");
    hello[8..24].copy_from_slice(&[7; 16]);
    stream.write_all(&hello).unwrap();
    let mut welcome = [0; 116];
    stream.read_exact(&mut welcome).unwrap();
    assert_eq!(welcome[..12], *b"ABKP\x02\0\0\0\0\0\0\0");
    assert_eq!(welcome[76..92], [7; 16]);
    assert_eq!(welcome[108..], [0; 8]);
    // Deliver, with an id, a length and the payload.
    let deliver = [&[22, 0, 0, 0, 1][..], &[1; 16], &[1, 0, 0, 0, 7]].concat();
    stream.write_all(&deliver).unwrap();

    // A keeper of that version is adopted.
    let file = kept.dir.join("keeper.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let ours = format!("\"protocol\":{PROTOCOL_VERSION}");
    let oldest = format!("\"protocol\":{OLDEST_PROTOCOL}");
    std::fs::write(&file, text.replace(&ours, &oldest)).unwrap();
    let client = kept.connect();
    assert_eq!(client.identity().protocol, OLDEST_PROTOCOL);
    client.deliver([2; 16], &[1, 0, 0, 0, 8]).unwrap();
    let mut told = Told::default();
    told.until(&client, |told| told.frames.len() == 2);
    assert_eq!(told.frames, [(0, vec![7]), (0, vec![8])]);
}

#[test]
fn a_client_that_talks_nonsense_is_dropped_and_the_program_goes_on() {
    let kept = Kept::launch(&child(&["echo"]));
    for nonsense in [&[0xff; 64][..], &[1, 0, 0, 0, 99], &[0, 0, 0, 0]] {
        let client = kept.connect();
        let parts = client.into_parts();
        (&parts.stream).write_all(nonsense).unwrap();
        parts.stream.set_nonblocking(false).unwrap();
        assert_eq!((&parts.stream).read(&mut [0; 8]).unwrap_or(0), 0);
    }
    let client = kept.connect();
    client.deliver([1; 16], &[1, 0, 0, 0, 7]).unwrap();
    Told::default().until(&client, |told| told.frames.len() == 1);
}

#[test]
fn a_stale_directory_is_known_as_such() {
    let kept = Kept::launch(&child(&["exit", "7"]));
    eventually("the keeper is gone", || {
        match KeeperClient::connect(&kept.dir) {
            Err(ConnectError::NotRunning { exit }) => exit.is_some_and(|exit| exit.code == Some(7)),
            Err(ConnectError::ForeignProcess { .. } | ConnectError::Handshake(_)) => false,
            Ok(client) => {
                wait_for_end(&client);
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    });
    // What it left is readable, to the last word.
    let journal = abide_keeper::JournalReader::open_after_crash(&kept.dir.join("journal")).unwrap();
    let (mut cursor, mut buf) = (journal.head_seq() - 1, Vec::new());
    journal.next(&mut cursor, &mut buf).unwrap().unwrap();
    assert_eq!(
        serde_json::from_slice::<Lifecycle>(&buf).unwrap(),
        Lifecycle::Closed
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        KeeperClient::connect(empty.path()),
        Err(ConnectError::NotRunning { exit: None })
    ));
}

/// A directory that names another process, as one does after the pid was used again.
fn lie(kept: &Kept, change: impl FnOnce(&mut KeeperRecord)) {
    let mut record = kept.record();
    change(&mut record);
    std::fs::write(
        kept.dir.join("keeper.json"),
        serde_json::to_vec(&record).unwrap(),
    )
    .unwrap();
}

#[test]
fn a_foreign_process_is_left_alone() {
    let kept = Kept::launch(&child(&["exit", "0"]));
    eventually("the keeper is gone", || {
        KeeperClient::connect(&kept.dir).is_err()
    });
    let mut bystander = Bystander(
        Command::new(harness())
            .args(["child", "pause"])
            .spawn()
            .unwrap(),
    );
    let pid = bystander.0.id() as i32;

    // Start times count in hundredths of a second: this one would be the keeper's too if both
    // started within one.
    let stamp = ProcessStamp::of(pid).unwrap();
    lie(&kept, |record| {
        record.keeper = ProcessStamp {
            start_time: stamp.start_time - 1,
            ..stamp
        }
    });
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::ForeignProcess { pid: foreign, .. }) if foreign == pid
    ));
    // Even with the right start time: there is nobody at the socket.
    lie(&kept, |record| record.keeper = stamp);
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::NotRunning { .. })
    ));
    // And with somebody else at the socket.
    let dir = std::fs::File::open(&kept.dir).unwrap();
    let _ = std::fs::remove_file(kept.dir.join("control.sock"));
    let path = format!(
        "/proc/self/fd/{}/control.sock",
        std::os::fd::AsRawFd::as_raw_fd(&dir)
    );
    let _impostor = UnixListener::bind(path).unwrap();
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::ForeignProcess { pid: foreign, .. }) if foreign == std::process::id() as i32
    ));
    // Another boot: not even looked at.
    lie(&kept, |record| record.boot_id = "another".to_owned());
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::NotRunning { .. })
    ));

    assert_eq!(abide_keeper::kill_leftovers(kept.worker_id), 0);
    assert_eq!(bystander.0.try_wait().unwrap(), None, "it was signalled");
}

struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_nonce_is_another_keeper() {
    let kept = Kept::launch(&child(&["pause"]));
    let text = std::fs::read(kept.dir.join("keeper.json")).unwrap();
    lie(&kept, |record| record.nonce = uuid::Uuid::new_v4());
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::ForeignProcess { .. })
    ));
    std::fs::write(kept.dir.join("keeper.json"), text).unwrap();
    kept.connect();
}

#[test]
fn a_keeper_is_nobodys_child() {
    let kept = Kept::launch(&child(&["pause"]));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", kept.record().keeper.pid)).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_ascii_whitespace()
        .collect();
    assert_ne!(fields[1], std::process::id().to_string(), "its parent");
    let pid = kept.record().keeper.pid;
    assert_eq!(fields[3], pid.to_string(), "its session");
    // And a hang-up of the terminal it was launched from is nothing to it.
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    kept.connect();
}
