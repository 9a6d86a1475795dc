//! Reading output by output offset.

use super::reader::{JournalReader, ReadError};
use super::{Record, Tag};

/// Which streams of the output are wanted. Offsets always count both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamFilter {
    /// All output in the order it was read: standard output and standard error, or a terminal's.
    #[default]
    Both,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

impl StreamFilter {
    fn wants(self, tag: Tag) -> bool {
        match self {
            Self::Both => tag.is_output(),
            Self::Stdout => tag == Tag::Stdout,
            Self::Stderr => tag == Tag::Stderr,
        }
    }
}

/// What [`JournalReader::read_output`] appended to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputChunk {
    /// Output offset to ask for next.
    pub next: u64,
    /// Output offset of the end of the journal when it was read.
    pub end: u64,
    /// Bytes appended; with a filter, fewer than were passed.
    pub len: usize,
}

impl JournalReader {
    /// Appends output from the output offset `from` on to `buf`, at most `max` bytes. At the
    /// end, and beyond it, nothing is appended and `next` is `from`.
    ///
    /// # Errors
    /// [`ReadError::Expired`] when the byte at `from` has left the ring; what was appended
    /// before an error stays and must be thrown away.
    pub fn read_output(
        &self,
        from: u64,
        max: usize,
        buf: &mut Vec<u8>,
        filter: StreamFilter,
    ) -> Result<OutputChunk, ReadError> {
        let start = buf.len();
        let end = self.output_end();
        let mut next = from;
        if from >= end {
            return Ok(OutputChunk { next, end, len: 0 });
        }
        let mut seq = self.seq_at_output_offset(from)?;
        while next < end && buf.len() - start < max && seq < self.head_seq() {
            let before = buf.len();
            let Record {
                tag,
                output_offset,
                range,
                ..
            } = self.read_entry(seq, buf, |_| u32::MAX)?;
            seq += 1;
            if !tag.is_output() {
                buf.truncate(before);
                continue;
            }
            let skip = next.saturating_sub(output_offset).min(range.len() as u64) as usize;
            if filter.wants(tag) {
                buf.drain(before..before + skip);
                buf.truncate(start + max.min(buf.len() - start));
                next += (buf.len() - before) as u64;
            } else {
                buf.truncate(before);
                next += (range.len() - skip) as u64;
            }
        }
        Ok(OutputChunk {
            next,
            end,
            len: buf.len() - start,
        })
    }

    /// Sequence number of the entry that holds the output byte at `offset`; the head for an
    /// offset at or beyond the end.
    ///
    /// # Errors
    /// [`ReadError::Expired`] when that byte has left the ring.
    pub fn seq_at_output_offset(&self, offset: u64) -> Result<u64, ReadError> {
        'again: loop {
            let earliest = self.earliest();
            if offset >= self.output_end() {
                return Ok(self.head_seq());
            }
            if offset < earliest.output_offset {
                return Err(ReadError::Expired { earliest });
            }
            // Invariant: the entry at `low` starts at or before the offset, the one at `high`
            // (or the head) after it. The last entry that starts at or before the offset is the
            // output entry that holds it.
            let (mut low, mut high) = (earliest.seq, self.head_seq());
            while high.saturating_sub(low) > 1 {
                let middle = low + (high - low) / 2;
                match self.entry(middle) {
                    Ok(entry) if entry.output_offset <= offset => low = middle,
                    Ok(_) => high = middle,
                    // The tail has passed the middle of the ring meanwhile.
                    Err(_) => continue 'again,
                }
            }
            return Ok(low);
        }
    }
}
