//! A journal file that was damaged in any way: reading it ends, and panics nowhere.
//!
//! The input is a list of changes, four bytes each: where (three bytes, modulo the file's length)
//! and the new byte. An input of odd length also cuts the file off where its last byte says.

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use abide_keeper::{
    FIRST, JournalReader, JournalWriter, LAST, MIN_CAPACITY, ReadError, StreamFilter, Tag,
};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

/// More than a ring of this size can hold.
const ENTRIES: usize = 4096;

/// A sound journal that has wrapped, and a place for the damaged one.
static SOUND: LazyLock<(tempfile::TempDir, PathBuf, Vec<u8>)> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("sound");
    let mut writer =
        JournalWriter::create(&path, Uuid::from_u128(7), MIN_CAPACITY).expect("a journal");
    let tags = [Tag::Stdout, Tag::Stderr, Tag::Control, Tag::Input];
    for (n, tag) in tags.iter().cycle().take(64).enumerate() {
        assert!(writer.append(*tag, FIRST | LAST, &[n as u8; 200]));
    }
    let bytes = std::fs::read(&path).expect("what was written");
    let damaged = home.path().join("damaged");
    (home, damaged, bytes)
});

fuzz_target!(|input: &[u8]| {
    let (_home, path, sound) = &*SOUND;
    let mut bytes = sound.clone();
    let (changes, rest) = input.as_chunks::<4>();
    for [high, middle, low, byte] in changes {
        let at = u32::from_be_bytes([0, *high, *middle, *low]) as usize % bytes.len();
        bytes[at] = *byte;
    }
    if let Some(&cut) = rest.last() {
        bytes.truncate(bytes.len() * usize::from(cut) / 255);
    }
    let file = File::create(path).expect("a file");
    file.write_all_at(&bytes, 0).expect("room");
    drop(file);
    for open in [JournalReader::open, JournalReader::open_after_crash] {
        if let Ok(journal) = open(path) {
            read(&journal);
        }
    }
});

fn read(journal: &JournalReader) {
    let mut buffer = Vec::new();
    let mut at = journal.earliest().seq;
    for n in 0.. {
        assert!(n < ENTRIES, "reading does not end");
        buffer.clear();
        match journal.next(&mut at, &mut buffer) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(ReadError::Expired { earliest }) if earliest.seq > at => at = earliest.seq,
            Err(_) => break,
        }
    }
    let mut from = journal.earliest().output_offset;
    for n in 0.. {
        assert!(n < ENTRIES, "reading output does not end");
        buffer.clear();
        match journal.read_output(from, 1024, &mut buffer, StreamFilter::Both) {
            Ok(chunk) if chunk.next > from => from = chunk.next,
            _ => break,
        }
    }
    for offset in [0, 1, journal.output_end(), u64::MAX] {
        let _ = journal.seq_at_output_offset(offset);
    }
}
