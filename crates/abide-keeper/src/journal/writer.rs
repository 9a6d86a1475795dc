//! The keeper's side of the journal.

use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use uuid::Uuid;

use super::entry::{Entry, Tag};
use super::layout::{FORMAT, Geometry, MAGIC, SEQ_BITS, SEQ_MASK, TerminalWords};
use super::map::Map;
use crate::process::boottime_ns;

/// Disk blocks are claimed this far at a time, in bytes: a write into a hole of a full disk
/// would be a bus error, `fallocate` is an error that can be waited out.
const CLAIM: u64 = 256 * 1024;

/// Why a journal cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The capacity is not a multiple of 4096 from [`super::MIN_CAPACITY`] to a tebibyte.
    #[error("a journal cannot have a capacity of {0} bytes")]
    Capacity(u64),
    /// The file cannot be created; it may exist already.
    #[error("the journal cannot be created")]
    Create(#[source] std::io::Error),
    /// There is no room for even its first pages, or they cannot be mapped.
    #[error("the journal cannot be set up")]
    SetUp(#[source] std::io::Error),
}

/// What can be appended now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// So many bytes, never more than one chunk.
    Bytes(u64),
    /// Nothing until the attached reader has moved on.
    Reader,
    /// Nothing until the disk has room.
    Disk,
}

/// Appends to a journal. There is one per journal, in one thread.
pub struct JournalWriter {
    map: Map,
    file: File,
    geometry: Geometry,
    tail_seq: u64,
    head_seq: u64,
    head_offset: u64,
    output_total: u64,
    /// Claimed bytes of the data ring and of the index ring.
    claimed: [u64; 2],
}

impl JournalWriter {
    /// Creates the file, mode 0600, sparse.
    ///
    /// # Errors
    /// See [`CreateError`]; an existing file is never touched.
    pub fn create(path: &Path, worker: Uuid, capacity: u64) -> Result<Self, CreateError> {
        let geometry = Geometry::for_capacity(capacity).ok_or(CreateError::Capacity(capacity))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(CreateError::Create)?;
        file.set_len(geometry.file_len())
            .map_err(CreateError::SetUp)?;
        claim(&file, 0, super::layout::HEADER_LEN).map_err(|e| CreateError::SetUp(e.into()))?;
        let map = Map::new(&file, geometry).map_err(CreateError::SetUp)?;
        map.bring_in_single_pages();
        let shape = &map.header().shape.0;
        let (high, low) = worker.as_u64_pair();
        shape.format.store(FORMAT, Ordering::Relaxed);
        shape.capacity.store(geometry.capacity, Ordering::Relaxed);
        shape
            .index_count
            .store(geometry.index_count, Ordering::Relaxed);
        shape.worker[0].store(high, Ordering::Relaxed);
        shape.worker[1].store(low, Ordering::Relaxed);
        shape.magic.store(MAGIC, Ordering::Release);
        Ok(Self {
            map,
            file,
            geometry,
            tail_seq: 0,
            head_seq: 0,
            head_offset: 0,
            output_total: 0,
            claimed: [0; 2],
        })
    }

    /// Longest payload of one entry, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.geometry.max_chunk()
    }

    /// Sequence number of the next entry.
    pub fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Bytes of payload ever appended.
    pub fn head_offset(&self) -> u64 {
        self.head_offset
    }

    /// Size of the data ring in bytes.
    pub fn capacity(&self) -> u64 {
        self.geometry.capacity
    }

    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    pub(super) fn terminal(&self) -> &TerminalWords {
        &self.map.header().terminal.0
    }

    /// Oldest entry that must not be overwritten: the attached reader's cursor, or the head when
    /// nobody is attached. The word comes from another process, so it is clamped.
    fn floor(&self) -> u64 {
        let reader = &self.map.header().reader.0;
        if reader.attached.load(Ordering::Acquire) == 0 {
            return self.head_seq;
        }
        (reader.cursor.load(Ordering::Acquire) & SEQ_MASK).clamp(self.tail_seq, self.head_seq)
    }

    /// How much of `want` bytes can be appended as one entry now. Less than `want` is given
    /// only where the rest would not be a dribble.
    pub(crate) fn space(&mut self, want: u64) -> Space {
        let want = want.min(self.max_chunk());
        let floor = self.floor();
        let base = if floor == self.head_seq {
            self.head_offset
        } else {
            self.map.slot(floor).load().offset
        };
        let used = self.head_offset.saturating_sub(base);
        let free = self.geometry.capacity.saturating_sub(used);
        if self.head_seq - floor >= self.geometry.index_count || free < want.min(4096) {
            return Space::Reader;
        }
        let granted = want.min(free);
        if self.claim_ahead(granted) {
            Space::Bytes(granted)
        } else {
            Space::Disk
        }
    }

    /// Claims disk blocks up to the end of the next entry; only on the ring's first lap.
    fn claim_ahead(&mut self, len: u64) -> bool {
        let needs = [
            (
                self.geometry.data_start(),
                self.head_offset + len,
                self.geometry.capacity,
            ),
            (
                self.geometry.index_start(),
                (self.head_seq + 1) * super::layout::ENTRY_LEN,
                self.geometry.index_count * super::layout::ENTRY_LEN,
            ),
        ];
        for (claimed, (start, end, limit)) in self.claimed.iter_mut().zip(needs) {
            let end = end.min(limit);
            if end > *claimed {
                let target = end.next_multiple_of(CLAIM).min(limit);
                if claim(&self.file, start + *claimed, target - *claimed).is_err() {
                    return false;
                }
                *claimed = target;
            }
        }
        true
    }

    /// Makes room for one entry of `len` bytes by raising the tail.
    fn evict(&mut self, len: u64) {
        let end = self.head_offset + len;
        let mut tail = self.tail_seq;
        while tail < self.head_seq
            && (end - self.map.slot(tail).load().offset > self.geometry.capacity
                || self.head_seq - tail >= self.geometry.index_count)
        {
            tail += 1;
        }
        if tail != self.tail_seq {
            self.tail_seq = tail;
            self.map.header().tail.0.store(tail, Ordering::Release);
            // The tail must be seen raised before any byte of the old entries is seen changed; a
            // release store alone does not order the stores after it. Pairs with the acquire
            // fence of readers between copying and looking at the tail.
            fence(Ordering::SeqCst);
        }
    }

    /// Publishes `len` bytes that lie at the head.
    fn commit(&mut self, tag: Tag, flags: u8, len: u64, time_ns: u64) {
        let mut entry = Entry {
            offset: self.head_offset,
            output_offset: self.output_total,
            time_ns,
            len: len as u32,
            crc: 0,
            tag: tag as u8,
            flags,
        };
        entry.crc = self
            .map
            .crc(entry.fields_crc(self.head_seq), entry.offset, len);
        self.map.slot(self.head_seq).store(&entry);
        self.head_offset = entry.end();
        self.output_total = entry.output_end();
        self.head_seq += 1;
        self.map
            .header()
            .head
            .0
            .store(self.head_seq, Ordering::Release);
    }

    /// Appends one entry without asking whether the reader has room for it; `bytes` beyond
    /// [`Self::max_chunk`] are cut off. Use for tests and for rings without an attached reader;
    /// the keeper asks for space first. Returns `false` when the disk is full.
    pub fn append(&mut self, tag: Tag, flags: u8, bytes: &[u8]) -> bool {
        self.append_at(tag, flags, bytes, boottime_ns())
    }

    /// As [`Self::append`], for what happened at another time than now.
    pub(crate) fn append_at(&mut self, tag: Tag, flags: u8, bytes: &[u8], time_ns: u64) -> bool {
        let bytes = &bytes[..bytes.len().min(self.max_chunk() as usize)];
        if !self.claim_ahead(bytes.len() as u64) {
            return false;
        }
        self.evict(bytes.len() as u64);
        self.map.copy_in(self.head_offset, bytes);
        self.commit(tag, flags, bytes.len() as u64, time_ns);
        true
    }

    /// Appends what `fill` reads into the ring itself: it gets room for `len` bytes (from
    /// [`Self::space`]) and says how many it used. Nothing is appended for zero.
    pub(crate) fn append_with(
        &mut self,
        tag: Tag,
        flags: u8,
        len: u64,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        self.evict(len);
        let filled = self
            .map
            .with_room(self.head_offset, len, fill)?
            .min(len as usize);
        if filled > 0 {
            self.commit(tag, flags, filled as u64, boottime_ns());
        }
        Ok(filled)
    }

    /// Attaches a reader that has passed everything before `resume`; returns its generation.
    pub fn attach(&self, resume: u64) -> u64 {
        let header = self.map.header();
        let reader = &header.reader.0;
        let last = reader.cursor.load(Ordering::Relaxed) >> SEQ_BITS;
        let generation = if last >= 0xffff { 1 } else { last + 1 };
        let resume = resume.clamp(self.tail_seq, self.head_seq);
        header.reader_sleeping.0.store(0, Ordering::Relaxed);
        self.terminal().input_wanted.store(0, Ordering::Relaxed);
        reader
            .cursor
            .store(generation << SEQ_BITS | resume, Ordering::Release);
        reader.attached.store(generation, Ordering::Release);
        generation
    }

    /// Nobody is attached: the ring turns freely.
    pub fn detach(&self) {
        self.map
            .header()
            .reader
            .0
            .attached
            .store(0, Ordering::Release);
        self.stop_waiting();
    }

    /// Whether the reader must be woken; takes the request. Call after publishing.
    pub fn take_reader_sleeping(&self) -> bool {
        let sleeping = &self.map.header().reader_sleeping.0;
        // Writer: head, fence, look at `sleeping`. Reader: `sleeping`, fence, look at head. The
        // two full fences cannot both be passed before the other side's store is visible, so
        // either the writer sees the request or the reader sees the entry.
        fence(Ordering::SeqCst);
        sleeping.load(Ordering::Relaxed) != 0 && sleeping.swap(0, Ordering::AcqRel) != 0
    }

    /// Asks the reader to wake the writer once there is room. Returns `false` when there is
    /// room for `want` bytes by now and no wake-up will come.
    pub(crate) fn wait_for_reader(&mut self, want: u64) -> bool {
        let target = self.half_read(self.floor());
        self.map
            .header()
            .writer_waiting
            .0
            .store(target + 1, Ordering::Relaxed);
        // The same protocol as for the reader's sleep, with the roles exchanged.
        fence(Ordering::SeqCst);
        if self.space(want) == Space::Reader && self.floor() < target {
            return true;
        }
        self.stop_waiting();
        false
    }

    /// How far a reader that stands at `floor` must come to wake the writer: past half of the entries that
    /// are unread, or past half of their bytes, whichever is less. A wake-up for every record read would cost more
    /// than reading. Neither alone would do: a reader may stay behind for good with a part of a full ring, as who
    /// stores what it has come to does, and few large entries may be before many small ones.
    fn half_read(&self, floor: u64) -> u64 {
        let unread = self.head_seq - floor;
        let offset = |seq: u64| {
            if seq < self.head_seq {
                self.map.slot(seq).load().offset
            } else {
                self.head_offset
            }
        };
        let half = offset(floor) + (self.head_offset - offset(floor)) / 2;
        // Never beyond the head, so a reader that has caught up has always woken the writer.
        let (mut low, mut high) = (floor, floor + unread.div_ceil(2));
        while low + 1 < high {
            let middle = low.midpoint(high);
            if offset(middle) < half {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Takes back [`Self::wait_for_reader`].
    pub(crate) fn stop_waiting(&self) {
        self.map
            .header()
            .writer_waiting
            .0
            .store(0, Ordering::Relaxed);
    }

    /// Lets go of the memory that the rings occupy in this process; nothing is lost.
    pub(crate) fn forget_pages(&self) {
        self.map.forget_pages();
    }
}

/// Allocates blocks; file systems that cannot are taken at their word.
fn claim(file: &File, start: u64, len: u64) -> rustix::io::Result<()> {
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, start, len) {
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
            Err(errno) => Err(errno),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{FIRST, LAST};

    /// Who stores what it has come to stays behind by up to a quarter of the ring's bytes, and by up to a quarter of
    /// its entries. That is enough, however large the entries are.
    #[test]
    fn a_reader_that_stays_a_quarter_behind_wakes_the_writer() {
        const RING: u64 = 64 * 1024;
        for (large, small) in [(13, 150), (150, 13)] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("journal");
            let mut writer = JournalWriter::create(&path, Uuid::nil(), RING).unwrap();
            // In either order.
            let sizes = if large < small {
                [4096, 64]
            } else {
                [64, 4096]
            };
            for (count, size) in [(large, sizes[0]), (small, sizes[1])] {
                for _ in 0..count {
                    assert!(writer.append(Tag::Terminal, FIRST | LAST, &vec![b'x'; size]));
                }
            }
            let target = writer.half_read(0);
            let behind = writer.head_offset - writer.map.slot(target).load().offset;
            assert!(behind >= RING / 4, "{behind} bytes");
            assert!(writer.head_seq - target >= writer.head_seq / 4, "{target}");
        }
    }
}
