//! The journal against a model, with its reader in another process; damaged files.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abide_keeper::{
    FIRST, JournalReader, JournalWriter, LAST, OpenError, ReadError, StreamFilter, Tag,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::harness;

type Entry = (Tag, u8, Vec<u8>);

fn create(capacity: u64) -> (tempfile::TempDir, PathBuf, JournalWriter) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("journal");
    let writer = JournalWriter::create(&path, Uuid::from_u128(7), capacity).unwrap();
    (home, path, writer)
}

fn entry(max: usize) -> impl Strategy<Value = Entry> {
    let tag = prop_oneof![
        4 => Just(Tag::Stdout), 2 => Just(Tag::Stderr), 1 => Just(Tag::Control),
        1 => Just(Tag::Input), 1 => Just(Tag::Lifecycle), 1 => Just(Tag::Terminal),
    ];
    let len = prop_oneof![3 => 0..40usize, 2 => 0..max];
    (tag, 0..4u8, len, any::<u8>()).prop_map(|(tag, flags, len, seed)| {
        (
            tag,
            flags,
            (0..len)
                .map(|at| (at as u8).wrapping_mul(31) ^ seed)
                .collect(),
        )
    })
}

/// What the observer says it saw must be what was written, or a gap where it says so.
fn check_observation(seen: &[u8], entries: &[Entry], output: &[u8]) -> Result<(), TestCaseError> {
    let mut rest = seen;
    let mut bytes = |len: usize| {
        let (head, tail) = rest.split_at(len);
        rest = tail;
        head
    };
    let (mut expected, mut ended) = (0, false);
    while !ended {
        let kind = bytes(1)[0];
        let mut word = || u64::from_le_bytes(bytes(8).try_into().unwrap());
        match kind {
            b'R' => {
                let [seq, tag, flags, output_offset, len] = std::array::from_fn(|_| word());
                prop_assert_eq!(seq, expected);
                expected += 1;
                let payload = bytes(len as usize);
                let Some((model_tag, model_flags, model)) = entries.get(seq as usize) else {
                    prop_assert_eq!(payload, b"end");
                    ended = true;
                    continue;
                };
                prop_assert_eq!(tag, *model_tag as u64);
                prop_assert_eq!(flags, u64::from(*model_flags));
                prop_assert_eq!(payload, &model[..]);
                let before = entries[..seq as usize]
                    .iter()
                    .filter(|entry| entry.0.is_output());
                prop_assert_eq!(
                    output_offset,
                    before.map(|entry| entry.2.len() as u64).sum::<u64>()
                );
            }
            b'X' => {
                let [from, earliest, _] = std::array::from_fn(|_| word());
                prop_assert_eq!(from, expected);
                prop_assert!(earliest > from);
                expected = earliest;
            }
            b'O' => {
                let [from, next, len] = std::array::from_fn(|_| word());
                prop_assert_eq!(next, from + len);
                prop_assert_eq!(bytes(len as usize), &output[from as usize..next as usize]);
            }
            other => prop_assert!(false, "the observer said {}", other),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// A ring of every size down to one page, wrapped many times over.
    #[test]
    fn another_process_sees_what_was_written_or_that_it_is_gone(
        pages in 1u64..40,
        entries in proptest::collection::vec(entry(3000), 1..1500),
    ) {
        let (_home, path, mut writer) = create(pages * 4096);
        let limit = writer.max_chunk() as usize;
        let entries: Vec<Entry> = entries
            .into_iter()
            .map(|(tag, flags, bytes)| (tag, flags, bytes[..bytes.len().min(limit)].to_vec()))
            .collect();
        let mut observer = Command::new(harness())
            .arg("observe")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = observer.stdout.take().unwrap();
        let listener = std::thread::spawn(move || {
            let mut seen = Vec::new();
            pipe.read_to_end(&mut seen).map(|_| seen)
        });
        for (tag, flags, bytes) in &entries {
            assert!(writer.append(*tag, *flags, bytes));
        }
        assert!(writer.append(Tag::Lifecycle, FIRST | LAST, b"end"));
        let ended = observer.wait();
        let seen = listener.join().unwrap().unwrap();
        prop_assert!(ended.unwrap().success());
        let output: Vec<u8> =
            entries.iter().filter(|entry| entry.0.is_output()).flat_map(|entry| entry.2.clone()).collect();
        check_observation(&seen, &entries, &output)?;
    }

    /// Every output offset, asked for in a ring at rest.
    #[test]
    fn output_is_read_by_offset(
        entries in proptest::collection::vec(entry(600), 1..200),
        questions in proptest::collection::vec((0.0..1.1f64, 0usize..5000), 20),
    ) {
        let (_home, path, mut writer) = create(16 * 4096);
        for (tag, flags, bytes) in &entries {
            prop_assert!(writer.append(*tag, *flags, bytes));
        }
        let reader = JournalReader::open(&path).unwrap();
        for filter in [StreamFilter::Both, StreamFilter::Stdout, StreamFilter::Stderr] {
            // Every byte with its stream.
            let model: Vec<(Tag, u8)> = entries
                .iter()
                .filter(|entry| entry.0.is_output())
                .flat_map(|entry| entry.2.iter().map(|byte| (entry.0, *byte)))
                .collect();
            let wanted = |tag: Tag| match filter {
                StreamFilter::Both => true,
                StreamFilter::Stdout => tag == Tag::Stdout,
                StreamFilter::Stderr => tag == Tag::Stderr,
            };
            let end = model.len() as u64;
            let earliest = reader.earliest();
            for (place, max) in &questions {
                let from = (end as f64 * place) as u64;
                let mut buf = b"before".to_vec();
                let chunk = match reader.read_output(from, *max, &mut buf, filter) {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        prop_assert_eq!(error, ReadError::Expired { earliest });
                        prop_assert!(from < earliest.output_offset);
                        continue;
                    }
                };
                prop_assert_eq!(chunk.end, end);
                prop_assert_eq!(chunk.len, buf.len() - 6);
                prop_assert!(chunk.len <= *max);
                if from >= end {
                    prop_assert_eq!(chunk.next, from);
                    continue;
                }
                let expected: Vec<u8> = model[from as usize..chunk.next as usize]
                    .iter()
                    .filter(|(tag, _)| wanted(*tag))
                    .map(|(_, byte)| *byte)
                    .collect();
                prop_assert_eq!(&buf[6..], &expected[..]);
                prop_assert!(chunk.len == *max || chunk.next == end);
            }
        }
    }

    /// Whatever the header says: an error, or reading that ends, and no wrong byte.
    #[test]
    fn a_damaged_header_is_an_error(
        damage in proptest::collection::vec((0u64..640, any::<u8>()), 1..40),
        words in proptest::collection::vec((0u64..80, any::<u64>()), 0..4),
        cut in proptest::option::of(0u64..200_000),
    ) {
        let (_home, path, mut writer) = create(8 * 4096);
        for number in 0..100u8 {
            prop_assert!(writer.append(Tag::Stdout, FIRST | LAST, &[number; 700]));
        }
        drop(writer);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in damage {
            file.write_all_at(&[byte], at).unwrap();
        }
        for (at, word) in words {
            file.write_all_at(&word.to_le_bytes(), at * 8).unwrap();
        }
        if let Some(cut) = cut {
            file.set_len(cut).unwrap();
        }
        for open in [JournalReader::open, JournalReader::open_after_crash] {
            let Ok(reader) = open(&path) else { continue };
            exercise(&reader, |seq, bytes| bytes == [seq as u8; 700])?;
        }
    }

    /// A machine dies: any pages may be older than the header says.
    #[test]
    fn a_torn_journal_is_cut_where_it_is_torn(
        torn in proptest::collection::vec((0u64..100_000, 1usize..5000), 1..5),
    ) {
        let (_home, path, mut writer) = create(16 * 4096);
        for number in 0..200u8 {
            prop_assert!(writer.append(Tag::Stdout, FIRST | LAST, &[number; 700]));
        }
        drop(writer);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for (at, size) in torn {
            let at = 4096 + at % (len - 4096);
            file.write_all_at(&vec![0xa5; size.min((len - at) as usize)], at).unwrap();
        }
        let reader = JournalReader::open_after_crash(&path).unwrap();
        let (earliest, head) = (reader.earliest().seq, reader.head_seq());
        let mut seen = 0;
        exercise(&reader, |seq, bytes| {
            seen += 1;
            bytes == [seq as u8; 700]
        })?;
        prop_assert_eq!(seen, head - earliest);
    }
}

/// Reads everything there is in every way; each payload must pass.
fn exercise(
    reader: &JournalReader,
    mut right: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), TestCaseError> {
    let mut cursor = reader.earliest().seq;
    let mut buf = Vec::new();
    for _ in 0..300 {
        buf.clear();
        match reader.next(&mut cursor, &mut buf) {
            Ok(None) => break,
            Ok(Some(record)) => prop_assert!(right(record.seq, &buf)),
            Err(ReadError::Damaged { .. }) => cursor += 1,
            Err(ReadError::Expired { earliest }) => cursor = cursor.max(earliest.seq) + 1,
        }
    }
    for from in [0, 1, 70_000, u64::MAX - 1, u64::MAX] {
        let _ = reader.read_output(from, 10_000, &mut buf, StreamFilter::Both);
    }
    let _ = (reader.output_end(), reader.recorded(), reader.cursor());
    Ok(())
}

fn expect_error(path: &Path) -> OpenError {
    JournalReader::open(path).unwrap_err()
}

#[test]
fn what_is_no_journal_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("journal");
    assert!(matches!(expect_error(&path), OpenError::Open(_)));
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(
        expect_error(&path),
        OpenError::Truncated {
            actual: 5,
            expected: 4096
        }
    ));
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    assert!(matches!(expect_error(&path), OpenError::NotAJournal));

    let (_home, path, writer) = create(4096);
    drop(writer);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&9u64.to_le_bytes(), 8).unwrap();
    assert!(matches!(expect_error(&path), OpenError::UnknownFormat(9)));
    file.write_all_at(&1u64.to_le_bytes(), 8).unwrap();
    file.write_all_at(&4097u64.to_le_bytes(), 16).unwrap();
    assert!(matches!(expect_error(&path), OpenError::DamagedHeader(_)));
    file.write_all_at(&8192u64.to_le_bytes(), 16).unwrap();
    assert!(matches!(expect_error(&path), OpenError::Truncated { .. }));
}

#[test]
fn a_journal_is_never_written_over() {
    let (_home, path, writer) = create(4096);
    assert!(JournalWriter::create(&path, Uuid::nil(), 4096).is_err());
    drop(writer);
    for capacity in [0, 4095, 5000, 1 << 41] {
        let path = path.with_extension("other");
        assert!(
            JournalWriter::create(&path, Uuid::nil(), capacity).is_err(),
            "{capacity}"
        );
    }
}

#[test]
fn a_journal_takes_the_disk_space_of_what_is_in_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let (_home, path, mut writer) = create(256 * 1024 * 1024);
    assert!(writer.append(Tag::Stdout, FIRST | LAST, b"hello"));
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.len() > 256 * 1024 * 1024);
    assert!(
        metadata.blocks() * 512 <= 1024 * 1024,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_empty_journal_has_a_beginning_and_an_end() {
    let (_home, path, writer) = create(4096);
    let reader = JournalReader::open_after_crash(&path).unwrap();
    assert_eq!(reader.worker_id(), Uuid::from_u128(7));
    assert_eq!(
        (
            reader.head_seq(),
            reader.output_end(),
            reader.earliest().seq
        ),
        (0, 0, 0)
    );
    assert_eq!(reader.next(&mut 0, &mut Vec::new()), Ok(None));
    assert_eq!(writer.head_seq(), 0);
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&reader);
}

#[test]
fn recorded_never_moves_back_and_stays() {
    let (_home, path, mut writer) = create(4096);
    for _ in 0..10 {
        writer.append(Tag::Control, FIRST | LAST, b"x");
    }
    let reader = JournalReader::open(&path).unwrap();
    reader.set_recorded(7);
    reader.set_recorded(3);
    assert_eq!(JournalReader::open(&path).unwrap().recorded(), 7);
    reader.set_recorded(99);
    assert_eq!(reader.recorded(), 10, "not beyond the head");
}
