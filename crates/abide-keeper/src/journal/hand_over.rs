//! A message that the session agent writes to the program itself.
//!
//! It is noted in the header first, in full. The keeper makes an entry of it before it reads anything
//! that the program says of it, and need not be woken for that: what the program says wakes it.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::assemble::MESSAGE_ID_LEN;
use super::entry::{FIRST, LAST, Tag};
use super::map::Map;
use super::reader::{JournalReader, Record};
use super::writer::JournalWriter;
use crate::process::boottime_ns;

const WORDS: usize = 256;
/// Longest id and payload, in bytes: a message that is longer goes through the keeper.
pub(crate) const MAX_HANDED_OVER: usize = WORDS * 8;

/// Written by the session agent, except for `taken`.
#[repr(C)]
pub(super) struct HandOverWords {
    /// Messages noted so far; raised when the rest is written.
    given: AtomicU64,
    /// How many of them the keeper has made entries of.
    taken: AtomicU64,
    /// When the last was given, by `CLOCK_BOOTTIME`.
    time_ns: AtomicU64,
    /// Length of its id and payload, in bytes.
    len: AtomicU64,
    bytes: [AtomicU64; WORDS],
}

/// One that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedOver {
    /// When, by `CLOCK_BOOTTIME`.
    pub(crate) time_ns: u64,
    /// Its id and payload.
    pub(crate) bytes: Vec<u8>,
}

impl HandOverWords {
    fn is_taken(&self) -> bool {
        self.given.load(Ordering::Acquire) == self.taken.load(Ordering::Acquire)
    }

    /// The last one.
    fn load(&self) -> HandedOver {
        // The length comes from another process.
        let len = usize::try_from(self.len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let len = len.min(MAX_HANDED_OVER);
        let words = self.bytes.iter().take(len.div_ceil(8));
        let mut bytes: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(len);
        HandedOver {
            time_ns: self.time_ns.load(Ordering::Relaxed),
            bytes,
        }
    }
}

fn words(map: &Map) -> &HandOverWords {
    &map.header().hand_over.0
}

impl JournalReader {
    /// Notes a message. `false`: it is too long, or the keeper has not come to the one before.
    pub(crate) fn note_hand_over(&self, id: [u8; MESSAGE_ID_LEN], payload: &[u8]) -> bool {
        let words = words(self.map());
        if id.len() + payload.len() > MAX_HANDED_OVER || !words.is_taken() {
            return false;
        }
        let (head, payload_words) = words.bytes.split_at(MESSAGE_ID_LEN / 8);
        for (words, bytes) in [(head, &id[..]), (payload_words, payload)] {
            for (word, bytes) in words.iter().zip(bytes.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
            }
        }
        let len = (id.len() + payload.len()) as u64;
        words.len.store(len, Ordering::Relaxed);
        words.time_ns.store(boottime_ns(), Ordering::Relaxed);
        words.given.fetch_add(1, Ordering::Release);
        true
    }

    /// A message that was handed to the program, of which a keeper that is gone made no entry any more: as
    /// the entry that it would have been.
    pub fn left_hand_over(&self) -> Option<(Record, Vec<u8>)> {
        let words = words(self.map());
        if words.is_taken() {
            return None;
        }
        let HandedOver { time_ns, bytes } = words.load();
        let record = Record {
            seq: self.head_seq(),
            tag: Tag::Input,
            flags: FIRST | LAST,
            time_ns,
            output_offset: self.output_end(),
            len: bytes.len() as u32,
            range: 0..bytes.len(),
        };
        Some((record, bytes))
    }
}

impl JournalWriter {
    /// One of which there is no entry yet. To be asked after it was seen how much the program has said
    /// that is to stand before.
    pub(crate) fn take_hand_over(&self) -> Option<HandedOver> {
        // That look comes first on every machine.
        fence(Ordering::SeqCst);
        let words = words(self.map());
        if words.is_taken() {
            return None;
        }
        let taken = words.load();
        let given = words.given.load(Ordering::Acquire);
        words.taken.store(given, Ordering::Release);
        Some(taken)
    }

    /// The last one, if there ever was one.
    pub(crate) fn last_hand_over(&self) -> Option<HandedOver> {
        let words = words(self.map());
        (words.given.load(Ordering::Acquire) > 0).then(|| words.load())
    }
}
