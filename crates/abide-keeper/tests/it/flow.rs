//! Who slows whom.

use std::os::unix::fs::FileExt as _;

use abide_keeper::{Earliest, KeeperClient, ReadError, StreamFilter};

use crate::support::{
    Kept, Told, child, eventually, gated, pattern, shell_on_terminal, wait_for_end,
};

#[test]
fn a_slow_reader_loses_nothing() {
    const TOTAL: u64 = 50_000_000;
    let mut spec = gated(&["flood", &TOTAL.to_string()]);
    spec.journal_bytes = 256 * 1024;
    let kept = Kept::launch(&spec);
    let client = kept.begin();
    let journal = client.journal();
    let (mut cursor, mut at, mut buf) = (0, 0u64, Vec::new());
    while at < TOTAL {
        buf.clear();
        match journal.next(&mut cursor, &mut buf).unwrap() {
            Some(record) if record.tag.is_output() => {
                assert_eq!(record.output_offset, at);
                assert!(
                    buf.iter()
                        .enumerate()
                        .all(|(offset, byte)| *byte == pattern(at + offset as u64))
                );
                at += buf.len() as u64;
                // Slow: lets the cursor lag, so that the keeper runs into it again and again.
                if cursor % 3 == 0 {
                    journal.set_cursor(cursor);
                }
            }
            Some(_) => {}
            None => {
                journal.set_cursor(cursor);
                client.wait(cursor).unwrap();
            }
        }
    }
    assert_eq!(at, TOTAL);
}

/// The same on a terminal, whose program waits in the kernel.
#[test]
fn a_slow_reader_of_a_terminal_loses_nothing() {
    const LINES: u64 = 300_000;
    let script = format!("read go; seq 1 {LINES}");
    let mut spec = shell_on_terminal(&script);
    spec.journal_bytes = 64 * 1024;
    let kept = Kept::launch(&spec);
    let mut client = kept.connect();
    client.input(b"\n").unwrap();
    let journal = client.journal();
    let (mut cursor, mut output, mut ended) = (0, Vec::new(), false);
    while !ended {
        let start = output.len();
        match journal.next(&mut cursor, &mut output).unwrap() {
            Some(record) if record.tag.is_output() => {
                assert_eq!(record.output_offset, start as u64);
                if cursor % 3 == 0 {
                    journal.set_cursor(cursor);
                }
            }
            Some(_) => {
                ended = output[start..].ends_with(br#"{"event":"closed"}"#);
                output.truncate(start);
            }
            None => {
                journal.set_cursor(cursor);
                client.wait(cursor).unwrap();
            }
        }
    }
    let lines: String = (1..=LINES).map(|line| format!("{line}\r\n")).collect();
    assert!(output == ["\r\n", &lines].concat().as_bytes());
}

/// The keeper waits, and messages to the program, signals and stops get through nevertheless.
#[test]
fn a_reader_that_stands_still_holds_the_program_up_but_not_the_keeper() {
    let mut spec = gated(&["flood", "100000000"]);
    spec.journal_bytes = 128 * 1024;
    let kept = Kept::launch(&spec);
    let client = kept.begin();
    let journal = client.journal();
    // It writes as far as the ring goes, and no further.
    let header = std::fs::File::open(kept.dir.join("journal")).unwrap();
    eventually("the keeper waits for the reader", || {
        let mut word = [0; 8];
        header.read_exact_at(&mut word, 320).unwrap();
        word != [0; 8]
    });
    assert!(journal.output_end() + 8192 > spec.journal_bytes);
    assert!(journal.output_end() <= spec.journal_bytes);
    assert_eq!(
        journal.earliest(),
        Earliest {
            seq: 0,
            output_offset: 0
        }
    );
    client.interrupt(b"stop").unwrap();
    eventually("the program is gone", || kept.processes().is_empty());
    // The keeper stays until what the program had written is in the journal.
    assert!(!client.has_ended());
    let told = Told::all(&client);
    assert!(
        told.stdout
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == pattern(at as u64))
    );
    wait_for_end(&client);
    assert_eq!(kept.exit().signal, Some(2));
}

#[test]
fn nobody_attached_nobody_waited_for() {
    const TOTAL: u64 = 50_000_000;
    let mut spec = child(&["flood", &TOTAL.to_string()]);
    spec.journal_bytes = 1024 * 1024;
    let kept = Kept::launch(&spec);
    // Never attached at all.
    eventually("the keeper is gone", || kept.dir.join("exit.json").exists());
    let journal = abide_keeper::JournalReader::open(&kept.dir.join("journal")).unwrap();
    eventually("all is in", || journal.output_end() == TOTAL);
    let earliest = journal.earliest();
    assert!(earliest.output_offset > TOTAL - spec.journal_bytes - 1);
    assert!(earliest.output_offset < TOTAL - spec.journal_bytes / 2);
    // The gap is known, to the byte.
    assert_eq!(
        journal.next(&mut 0, &mut Vec::new()),
        Err(ReadError::Expired { earliest })
    );
    let mut buf = Vec::new();
    let before = earliest.output_offset - 1;
    assert_eq!(
        journal.read_output(before, 10, &mut buf, StreamFilter::Both),
        Err(ReadError::Expired { earliest })
    );
    let chunk = journal
        .read_output(
            earliest.output_offset,
            usize::MAX,
            &mut buf,
            StreamFilter::Both,
        )
        .unwrap();
    assert_eq!(
        (chunk.next, chunk.len as u64),
        (TOTAL, TOTAL - earliest.output_offset)
    );
    assert!(
        buf.iter()
            .enumerate()
            .all(|(at, byte)| *byte == pattern(earliest.output_offset + at as u64))
    );
}

#[test]
fn a_reader_that_leaves_lets_the_program_go_on() {
    const TOTAL: u64 = 10_000_000;
    let mut spec = gated(&["flood", &TOTAL.to_string()]);
    spec.journal_bytes = 128 * 1024;
    let kept = Kept::launch(&spec);
    let client = kept.begin();
    let journal = client.journal().clone();
    eventually("the ring is full", || journal.output_end() > 64 * 1024);
    drop(client);
    eventually("all is in", || journal.output_end() == TOTAL);
    // One that comes when everything is over finds the directory stale.
    eventually("the keeper is gone", || {
        KeeperClient::connect(&kept.dir).is_err()
    });
}
