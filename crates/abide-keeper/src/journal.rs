//! The journal: what a worker said and was told, on disk, as a bounded ring addressed by
//! absolute offset.
//!
//! ```text
//! page 0   header: shape of the file, then one cache line per party that writes
//! index    fixed-size entries, addressed by sequence number modulo their count
//! data     payload bytes only, addressed by absolute offset modulo the capacity
//! ```
//!
//! One process writes ([`JournalWriter`]), others read the same pages in place
//! ([`JournalReader`]). The writer raises the tail before it overwrites and raises the head
//! after it has written; a reader copies out and then looks at the tail again. So a reader gets
//! the bytes that were written, or [`ReadError::Expired`], and never anything else.

mod assemble;
mod entry;
mod hand_over;
mod layout;
mod map;
mod output;
mod reader;
mod terminal;
mod writer;

pub use assemble::{FrameAssembler, MESSAGE_ID_LEN, split_input};
pub use entry::{FIRST, LAST, Tag};
pub(crate) use hand_over::HandedOver;
pub use layout::{MAX_CHUNK, MIN_CAPACITY, OpenError};
pub use output::{OutputChunk, StreamFilter};
pub use reader::{Earliest, JournalReader, ReadError, Record};
pub(crate) use writer::Space;
pub use writer::{CreateError, JournalWriter};
