//! Where things are in a journal file, and whether a header can be believed.

use std::sync::atomic::AtomicU64;

use super::hand_over::HandOverWords;

/// First eight bytes of every journal.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"ABIDEJNL");
/// Grows when a reader of the old layout would go wrong.
pub(super) const FORMAT: u64 = 1;
/// The header has a page for itself.
pub(super) const HEADER_LEN: u64 = 4096;
/// Five 64-bit words, see [`super::entry`].
pub(super) const ENTRY_LEN: u64 = 40;
/// Smallest data ring, in bytes.
pub const MIN_CAPACITY: u64 = 4096;
/// Largest data ring; keeps every sum of offsets far from overflow.
pub(super) const MAX_CAPACITY: u64 = 1 << 40;
/// Longest payload of one entry, in bytes, unless a quarter of the capacity is less.
pub const MAX_CHUNK: u64 = 64 * 1024;
/// Sequence numbers share a word with a 16-bit generation in the reader's cursor.
pub(super) const SEQ_BITS: u32 = 48;
/// Mask of a sequence number.
pub(super) const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;
/// Ring positions are absolute; none gets here in the lifetime of a machine.
pub(super) const MAX_OFFSET: u64 = 1 << 62;

/// One party's words, alone on a cache line so that parties do not slow each other.
#[repr(C, align(64))]
pub(super) struct Line<T>(pub(super) T);

/// Written once, before anybody else sees the file.
#[repr(C)]
pub(super) struct Shape {
    pub(super) magic: AtomicU64,
    pub(super) format: AtomicU64,
    pub(super) capacity: AtomicU64,
    pub(super) index_count: AtomicU64,
    pub(super) worker: [AtomicU64; 2],
}

/// The reader's words that outlive it, written by the session agent (`recorded`, `cursor`) and
/// by the keeper at attachment (`attached`, `cursor`).
#[repr(C)]
pub(super) struct ReaderWords {
    /// Generation of the attached reader, 0 when there is none.
    pub(super) attached: AtomicU64,
    /// Generation (16 bits) and the sequence number that generation has passed (48 bits). One
    /// word, so that a superseded reader cannot move its successor's cursor.
    pub(super) cursor: AtomicU64,
    /// Everything before this sequence number is durably recorded above.
    pub(super) recorded: AtomicU64,
}

/// What is known of a terminal and of the way to it; zeros where there is none. Written by the
/// keeper, except for `input_wanted`.
#[repr(C)]
pub(super) struct TerminalWords {
    /// Its size as of the newest entry, see [`crate::WindowSize`].
    pub(super) size: AtomicU64,
    /// Bytes of input that it has taken.
    pub(super) input_written: AtomicU64,
    /// 0, or one more than the `input_written` at which the sender wants to be woken.
    pub(super) input_wanted: AtomicU64,
}

/// First page of the file.
#[repr(C)]
pub(super) struct Header {
    pub(super) shape: Line<Shape>,
    /// Oldest entry that is still whole. Writer only.
    pub(super) tail: Line<AtomicU64>,
    /// One past the newest entry. Writer only.
    pub(super) head: Line<AtomicU64>,
    pub(super) reader: Line<ReaderWords>,
    /// 1 while the reader wants to be woken.
    pub(super) reader_sleeping: Line<AtomicU64>,
    /// 0, or one more than the cursor at which the writer wants to be woken.
    pub(super) writer_waiting: Line<AtomicU64>,
    pub(super) terminal: Line<TerminalWords>,
    pub(super) hand_over: Line<HandOverWords>,
}

const _: () = assert!(size_of::<Header>() <= HEADER_LEN as usize);

/// Sizes that follow from a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) capacity: u64,
    pub(super) index_count: u64,
}

impl Geometry {
    /// One entry for every 256 bytes: small writes fill the index before the data only when
    /// they average less than that.
    pub(super) fn for_capacity(capacity: u64) -> Option<Self> {
        let index_count = (capacity / 256).next_power_of_two().max(64);
        Self {
            capacity,
            index_count,
        }
        .checked()
    }

    /// `None` unless both sizes are ones that `for_capacity` could have made or a later format
    /// may make: whole pages, a power of two, within bounds.
    pub(super) fn checked(self) -> Option<Self> {
        let capacity_fits = (MIN_CAPACITY..=MAX_CAPACITY).contains(&self.capacity)
            && self.capacity.is_multiple_of(4096);
        let index_fits =
            self.index_count.is_power_of_two() && (16..=1 << 34).contains(&self.index_count);
        (capacity_fits && index_fits).then_some(self)
    }

    pub(super) fn index_start(self) -> u64 {
        HEADER_LEN
    }

    pub(super) fn data_start(self) -> u64 {
        (HEADER_LEN + self.index_count * ENTRY_LEN).next_multiple_of(4096)
    }

    pub(super) fn file_len(self) -> u64 {
        self.data_start() + self.capacity
    }

    pub(super) fn max_chunk(self) -> u64 {
        MAX_CHUNK.min(self.capacity / 4)
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or its size not be read.
    #[error("the journal cannot be opened")]
    Open(#[source] std::io::Error),
    /// The file cannot be mapped.
    #[error("the journal cannot be mapped")]
    Map(#[source] std::io::Error),
    /// The file is shorter than a header, or than its header says.
    #[error("the journal is truncated: {actual} bytes where {expected} are needed")]
    Truncated {
        /// What is there.
        actual: u64,
        /// What is needed.
        expected: u64,
    },
    /// The first bytes are not a journal's.
    #[error("the file is not a journal")]
    NotAJournal,
    /// Written by a version of Abide with another layout.
    #[error("the journal has format {0}, which this version does not read")]
    UnknownFormat(u64),
    /// The header contradicts itself.
    #[error("the journal's header is damaged: {0}")]
    DamagedHeader(&'static str),
}
