//! Reading a journal in place, from any process.

use std::fs::OpenOptions;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

use uuid::Uuid;

use super::entry::{Entry, FIRST, LAST, Tag};
use super::layout::{MAX_OFFSET, OpenError, SEQ_BITS, SEQ_MASK, TerminalWords};
use super::map::Map;

/// Start of what a journal still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earliest {
    /// Sequence number of the oldest entry.
    pub seq: u64,
    /// Output offset at that entry.
    pub output_offset: u64,
}

/// Why something cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What was asked for has left the ring.
    #[error("gone from the journal; entry {} and output byte {} are the earliest", earliest.seq, earliest.output_offset)]
    Expired {
        /// Where reading can go on.
        earliest: Earliest,
    },
    /// The entry is in the ring and its checksum is wrong: somebody else wrote to the file.
    #[error("entry {seq} of the journal is damaged")]
    Damaged {
        /// Which entry. The ones after it may be whole.
        seq: u64,
    },
}

/// One entry, its payload appended to the caller's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Sequence number.
    pub seq: u64,
    /// What the payload is.
    pub tag: Tag,
    /// [`FIRST`] and [`LAST`].
    pub flags: u8,
    /// When it was written: nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Bytes of output before this entry.
    pub output_offset: u64,
    /// Bytes of the payload.
    pub len: u32,
    /// Where in the buffer it is, or as much of its end as was asked for.
    pub range: Range<usize>,
}

impl Record {
    /// The first entry of its frame.
    pub fn is_first(&self) -> bool {
        self.flags & FIRST != 0
    }

    /// The last entry of its frame.
    pub fn is_last(&self) -> bool {
        self.flags & LAST != 0
    }
}

/// A journal as a reader sees it. Several may read at once; one of them, the attached one, has
/// a cursor that the writer waits for.
pub struct JournalReader {
    map: Map,
    worker: Uuid,
    /// Entries that may be believed: everything, or what [`Self::open_after_crash`] verified.
    bounds: Range<u64>,
    attachment: OnceLock<Attachment>,
}

struct Attachment {
    generation: u64,
    wake_writer: OwnedFd,
}

impl JournalReader {
    /// Opens a journal that is being written, or was closed in good order.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(OpenError::Open)?;
        let map = Map::open(&file)?;
        let shape = &map.header().shape.0;
        let [high, low] = [0, 1].map(|word| shape.worker[word].load(Ordering::Relaxed));
        let reader = Self {
            worker: Uuid::from_u64_pair(high, low),
            map,
            bounds: 0..u64::MAX,
            attachment: OnceLock::new(),
        };
        // Head first: the tail only grows, so a tail read later is no further from this head.
        let head = reader.head_seq();
        let tail = reader.tail();
        if head > SEQ_MASK || head.saturating_sub(tail) > reader.map.geometry().index_count {
            return Err(OpenError::DamagedHeader("impossible positions"));
        }
        Ok(reader)
    }

    /// Opens a journal whose writer is dead, perhaps with its machine: reads it through and
    /// believes the first unbroken run of entries whose checksums are right. Pages reach a disk
    /// in any order, so both ends may be torn: old entries already overwritten, new ones missing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_after_crash(path: &Path) -> Result<Self, OpenError> {
        let mut reader = Self::open(path)?;
        let (tail, head) = (reader.tail(), reader.head_seq());
        let mut buf = Vec::new();
        let mut whole = |seq: u64| {
            buf.clear();
            reader.read_entry(seq, &mut buf, |_| u32::MAX).is_ok()
        };
        let start = (tail..head).find(|seq| whole(*seq)).unwrap_or(head);
        let end = (start..head).find(|seq| !whole(*seq)).unwrap_or(head);
        reader.bounds = start..end;
        Ok(reader)
    }

    /// The worker the journal belongs to.
    pub fn worker_id(&self) -> Uuid {
        self.worker
    }

    /// Size of the data ring in bytes.
    pub fn capacity(&self) -> u64 {
        self.map.geometry().capacity
    }

    /// Entries that there is room for: small ones turn the ring before their bytes do.
    pub fn most_entries(&self) -> u64 {
        self.map.geometry().index_count
    }

    /// One past the newest entry.
    pub fn head_seq(&self) -> u64 {
        self.map
            .header()
            .head
            .0
            .load(Ordering::Acquire)
            .min(self.bounds.end)
    }

    fn tail(&self) -> u64 {
        self.map
            .header()
            .tail
            .0
            .load(Ordering::Acquire)
            .max(self.bounds.start)
    }

    pub(super) fn terminal(&self) -> &TerminalWords {
        &self.map.header().terminal.0
    }

    /// Total bytes of output so far: the output offset of the next output byte.
    pub fn output_end(&self) -> u64 {
        loop {
            let head = self.head_seq();
            match head.checked_sub(1).map(|last| self.entry(last)) {
                None => return 0,
                Some(Ok(entry)) => return entry.output_end(),
                // Overwritten since; a ring always keeps its newest entry, so look again, unless
                // the header is nonsense.
                Some(Err(_)) if self.head_seq() == head => return 0,
                Some(Err(_)) => {}
            }
        }
    }

    /// Start of what the journal still has.
    pub fn earliest(&self) -> Earliest {
        loop {
            let seq = self.tail();
            if seq >= self.head_seq() {
                return Earliest {
                    seq,
                    output_offset: self.output_end(),
                };
            }
            if let Ok(entry) = self.entry(seq) {
                return Earliest {
                    seq,
                    output_offset: entry.output_offset,
                };
            }
        }
    }

    pub(super) fn expired(&self) -> ReadError {
        ReadError::Expired {
            earliest: self.earliest(),
        }
    }

    /// Copies an entry out. The error says only that it has left the ring.
    pub(super) fn entry(&self, seq: u64) -> Result<Entry, Gone> {
        let entry = self.map.slot(seq).load();
        self.still_there(seq).map(|()| entry)
    }

    /// To be asked after copying: what was copied is what was written.
    fn still_there(&self, seq: u64) -> Result<(), Gone> {
        // Orders the copy before the look at the tail; pairs with the writer's fence between
        // raising the tail and overwriting.
        fence(Ordering::Acquire);
        if self
            .map
            .header()
            .tail
            .0
            .load(Ordering::Relaxed)
            .max(self.bounds.start)
            > seq
        {
            return Err(Gone);
        }
        Ok(())
    }

    /// Appends the payload of entry `seq`, which is below the head, to `buf`: all of it, or the
    /// last `keep(tag)` bytes. Only what was copied whole is checked for damage.
    pub(super) fn read_entry(
        &self,
        seq: u64,
        buf: &mut Vec<u8>,
        keep: impl FnOnce(Tag) -> u32,
    ) -> Result<Record, ReadError> {
        let start = buf.len();
        let entry = self.entry(seq).map_err(|Gone| self.expired())?;
        let plausible = u64::from(entry.len) <= self.map.geometry().max_chunk()
            && entry.offset < MAX_OFFSET
            && entry.output_offset <= entry.offset;
        let (Some(tag), true) = (Tag::from_u8(entry.tag), plausible) else {
            return Err(ReadError::Damaged { seq });
        };
        let skipped = entry.len.saturating_sub(keep(tag));
        let kept = u64::from(entry.len - skipped);
        self.map
            .copy_out(entry.offset + u64::from(skipped), kept, buf);
        let failure = if self.still_there(seq).is_err() {
            self.expired()
        } else if skipped == 0
            && crc32c::crc32c_append(entry.fields_crc(seq), &buf[start..]) != entry.crc
        {
            ReadError::Damaged { seq }
        } else {
            let Entry {
                len,
                flags,
                time_ns,
                output_offset,
                ..
            } = entry;
            return Ok(Record {
                seq,
                tag,
                flags,
                time_ns,
                output_offset,
                len,
                range: start..buf.len(),
            });
        };
        buf.truncate(start);
        Err(failure)
    }

    /// The entry at `*cursor`, its payload appended to `buf`; moves the cursor past it. `None`
    /// at the head.
    ///
    /// # Errors
    /// [`ReadError`]; the cursor stays. Go on at `earliest.seq`, or one past the damaged entry.
    pub fn next(&self, cursor: &mut u64, buf: &mut Vec<u8>) -> Result<Option<Record>, ReadError> {
        self.next_ending(cursor, buf, |_| u32::MAX)
    }

    /// As [`Self::next`], but appends no more than the last `keep(tag)` bytes of the payload; what
    /// is not copied whole is not checked for damage.
    pub fn next_ending(
        &self,
        cursor: &mut u64,
        buf: &mut Vec<u8>,
        keep: impl FnOnce(Tag) -> u32,
    ) -> Result<Option<Record>, ReadError> {
        if *cursor >= self.head_seq() {
            return Ok(None);
        }
        if *cursor < self.tail() {
            return Err(self.expired());
        }
        let record = self.read_entry(*cursor, buf, keep)?;
        *cursor += 1;
        Ok(Some(record))
    }

    /// Everything before this sequence number is durably recorded above. 0 at first.
    pub fn recorded(&self) -> u64 {
        self.map
            .header()
            .reader
            .0
            .recorded
            .load(Ordering::Acquire)
            .min(self.head_seq())
    }

    /// Remembers that everything before `seq` is recorded, for whoever reads after this process
    /// has died. Never moves back.
    pub fn set_recorded(&self, seq: u64) {
        let seq = seq.min(self.head_seq());
        self.map
            .header()
            .reader
            .0
            .recorded
            .fetch_max(seq, Ordering::AcqRel);
    }

    /// Called once, by the client, when the keeper has attached it.
    pub(crate) fn attach(&self, generation: u64, wake_writer: OwnedFd) {
        // A second attachment does not happen: every connection has a reader of its own.
        let _ = self.attachment.set(Attachment {
            generation,
            wake_writer,
        });
    }

    /// The sequence number that the attached reader, whoever it is, has passed.
    pub fn cursor(&self) -> u64 {
        self.map.header().reader.0.cursor.load(Ordering::Acquire) & SEQ_MASK
    }

    /// Tells the writer that everything before `seq` may be overwritten, and wakes it if it was
    /// waiting for that. Never moves back. Returns `false`, and does nothing, unless this reader
    /// is the attached one.
    pub fn set_cursor(&self, seq: u64) -> bool {
        let Some(attachment) = self.attachment.get() else {
            return false;
        };
        let seq = seq.min(self.head_seq());
        let moved = self.map.header().reader.0.cursor.fetch_update(
            Ordering::AcqRel,
            Ordering::Acquire,
            |word| {
                (word >> SEQ_BITS == attachment.generation)
                    .then_some(attachment.generation << SEQ_BITS | seq.max(word & SEQ_MASK))
            },
        );
        self.notify_writer_if_waiting();
        moved.is_ok()
    }

    /// Wakes the writer if it waits for the cursor to be where it is. [`Self::set_cursor`] does
    /// this already.
    pub fn notify_writer_if_waiting(&self) {
        let Some(attachment) = self.attachment.get() else {
            return;
        };
        let waiting = &self.map.header().writer_waiting.0;
        // Cursor, fence, look at `waiting`; the writer does the opposite (see `wait_for_reader`).
        fence(Ordering::SeqCst);
        let target = waiting.load(Ordering::Relaxed);
        if target != 0 && self.cursor() + 1 >= target && waiting.swap(0, Ordering::AcqRel) != 0 {
            // Fails only when the counter is full: then the keeper is about to wake anyway.
            let _ = rustix::io::write(&attachment.wake_writer, &1u64.to_ne_bytes());
        }
    }

    /// Asks to be woken through the wake descriptor when there is something at `cursor`. `false`
    /// when there is something already; then no wake-up was asked for.
    pub fn prepare_sleep(&self, cursor: u64) -> bool {
        let sleeping = &self.map.header().reader_sleeping.0;
        sleeping.store(1, Ordering::Relaxed);
        // `sleeping`, fence, look at head; the writer does the opposite (see
        // `take_reader_sleeping`).
        fence(Ordering::SeqCst);
        if self.head_seq() > cursor {
            self.cancel_sleep();
            return false;
        }
        true
    }

    /// Takes back [`Self::prepare_sleep`]. The wake descriptor may have been written meanwhile.
    pub fn cancel_sleep(&self) {
        self.map
            .header()
            .reader_sleeping
            .0
            .store(0, Ordering::Relaxed);
    }

    /// Lets go of the memory that the journal occupies in this process; nothing is lost.
    pub fn forget_pages(&self) {
        self.map.forget_pages();
    }
}

impl std::fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalReader")
            .field("worker", &self.worker)
            .field("head_seq", &self.head_seq())
            .finish_non_exhaustive()
    }
}

/// An entry has left the ring.
#[derive(Debug)]
pub(super) struct Gone;
