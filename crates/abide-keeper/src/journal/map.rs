//! The mapped file. Everything that touches its bytes is here, and is bounds-checked here.
#![expect(
    unsafe_code,
    reason = "memory shared with other processes is reached by pointer"
)]

use std::fs::File;
use std::io::IoSliceMut;
use std::sync::atomic::Ordering;

use memmap2::{MmapOptions, MmapRaw};

use super::entry::Slot;
use super::layout::{ENTRY_LEN, FORMAT, Geometry, HEADER_LEN, Header, MAGIC, OpenError};

/// A journal file mapped shared, readable and writable. The file must not be cut shorter while
/// it is mapped: that would be a bus error, and nothing in Abide does it.
pub(super) struct Map {
    raw: MmapRaw,
    geometry: Geometry,
}

impl Map {
    /// Maps a file that `ftruncate` has just made, all zeros, of the geometry's length.
    pub(super) fn new(file: &File, geometry: Geometry) -> std::io::Result<Self> {
        let len = usize::try_from(geometry.file_len()).map_err(std::io::Error::other)?;
        Ok(Self {
            raw: MmapOptions::new().len(len).map_raw(file)?,
            geometry,
        })
    }

    /// Maps a file that claims to be a journal, after checking the claim.
    pub(super) fn open(file: &File) -> Result<Self, OpenError> {
        let actual = file.metadata().map_err(OpenError::Open)?.len();
        if actual < HEADER_LEN {
            return Err(OpenError::Truncated {
                actual,
                expected: HEADER_LEN,
            });
        }
        let smallest = Geometry {
            capacity: 0,
            index_count: 0,
        };
        let page = MmapOptions::new().len(HEADER_LEN as usize).map_raw(file);
        let page = Self {
            raw: page.map_err(OpenError::Map)?,
            geometry: smallest,
        };
        let shape = &page.header().shape.0;
        if shape.magic.load(Ordering::Acquire) != MAGIC {
            return Err(OpenError::NotAJournal);
        }
        let format = shape.format.load(Ordering::Relaxed);
        if format != FORMAT {
            return Err(OpenError::UnknownFormat(format));
        }
        let geometry = Geometry {
            capacity: shape.capacity.load(Ordering::Relaxed),
            index_count: shape.index_count.load(Ordering::Relaxed),
        };
        let geometry = geometry
            .checked()
            .ok_or(OpenError::DamagedHeader("impossible sizes"))?;
        if actual < geometry.file_len() {
            return Err(OpenError::Truncated {
                actual,
                expected: geometry.file_len(),
            });
        }
        Self::new(file, geometry).map_err(OpenError::Map)
    }

    /// For a writer, who touches pages that are holes so far: has the kernel bring in the pages
    /// that are touched and no others. It would take a fault for the beginning of a read and fill
    /// as much with zeros as it reads ahead on that disk, which may be the whole file and take
    /// several milliseconds.
    pub(super) fn bring_in_single_pages(&self) {
        // Advice: without it the journal is as right, and slower to begin.
        let _ = self.raw.advise(memmap2::Advice::Random);
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: every mapping made above is page-aligned and at least HEADER_LEN long, Header
        // fits (asserted in layout.rs) and has only atomics, for which any bits are valid and
        // which other processes may change at any time.
        unsafe { &*self.raw.as_ptr().cast::<Header>() }
    }

    pub(super) fn slot(&self, seq: u64) -> &Slot {
        let index = seq & (self.geometry.index_count - 1);
        let at = (self.geometry.index_start() + index * ENTRY_LEN) as usize;
        // SAFETY: the index is below index_count, so the slot is inside the mapping, whose length
        // follows from the same geometry; 40 divides by 8, so it is aligned; atomics as above.
        unsafe { &*self.raw.as_ptr().add(at).cast::<Slot>() }
    }

    /// The one or two places where `len` bytes at `offset` lie. `len` is cut to the capacity.
    fn spans(&self, offset: u64, len: u64) -> [(*mut u8, usize); 2] {
        let capacity = self.geometry.capacity;
        let len = len.min(capacity);
        let at = offset % capacity;
        let first = len.min(capacity - at);
        let data = self
            .raw
            .as_mut_ptr()
            .wrapping_add(self.geometry.data_start() as usize);
        [
            (data.wrapping_add(at as usize), first as usize),
            (data, (len - first) as usize),
        ]
    }

    /// Appends `len` bytes from `offset` to `buf`. They may be torn by the writer: the caller
    /// looks at the tail afterwards.
    pub(super) fn copy_out(&self, offset: u64, len: u64, buf: &mut Vec<u8>) {
        buf.reserve(len as usize);
        for (at, len) in self.spans(offset, len) {
            // SAFETY: `spans` stays inside the data ring. The writer may change the source
            // meanwhile, which is why this is a raw copy and no slice is ever made of it; what
            // was copied is thrown away unless the tail proves that it was not overwritten.
            unsafe {
                std::ptr::copy_nonoverlapping(at, buf.as_mut_ptr().add(buf.len()), len);
                buf.set_len(buf.len() + len);
            }
        }
    }

    /// Writes `bytes` at `offset`. Writer only, into space that no reader may use.
    pub(super) fn copy_in(&self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (at, len) in self.spans(offset, bytes.len() as u64) {
            let (now, later) = rest.split_at(len);
            // SAFETY: `spans` stays inside the data ring, `now` is ordinary memory elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), at, len) };
            rest = later;
        }
    }

    /// Hands out `len` bytes at `offset` to be read into. Writer only, into space that the tail
    /// has been raised past.
    pub(super) fn with_room<T>(
        &self,
        offset: u64,
        len: u64,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> T,
    ) -> T {
        // SAFETY: `spans` stays inside the data ring and its two parts do not overlap. There is
        // one writer, single-threaded, and readers copy without making references; any bytes are
        // valid u8s.
        let mut rooms = self
            .spans(offset, len)
            .map(|(at, len)| IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(at, len) }));
        fill(&mut rooms)
    }

    /// Continues a checksum over `len` bytes at `offset`. Writer only, of bytes it wrote.
    pub(super) fn crc(&self, crc: u32, offset: u64, len: u64) -> u32 {
        self.spans(offset, len)
            .into_iter()
            .fold(crc, |crc, (at, len)| {
                // SAFETY: inside the data ring; only this process writes there, and not now.
                crc32c::crc32c_append(crc, unsafe { std::slice::from_raw_parts(at, len) })
            })
    }

    /// Forgets the mapping's pages: they stay in the file (and the page cache), but no longer
    /// count as this process's memory until touched again.
    pub(super) fn forget_pages(&self) {
        let start = self.raw.as_mut_ptr().wrapping_add(HEADER_LEN as usize);
        let len = self.raw.len() - HEADER_LEN as usize;
        // SAFETY: the range is inside the mapping, which is shared and file-backed, so dropping
        // its page-table entries loses nothing. Failure changes nothing either.
        let _ =
            unsafe { rustix::mm::madvise(start.cast(), len, rustix::mm::Advice::LinuxDontNeed) };
    }
}
