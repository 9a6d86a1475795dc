//! Frames put together from entries.

use super::reader::Record;

/// Bytes of the id that precedes the payload of an [`super::Tag::Input`] frame.
pub const MESSAGE_ID_LEN: usize = 16;

/// Puts frames of one tag together from their entries. A frame whose beginning has left the
/// ring is skipped.
#[derive(Debug, Default)]
pub struct FrameAssembler {
    frame: Vec<u8>,
    /// Sequence number of the frame's first entry, and of the entry that must come next.
    open: Option<(u64, u64)>,
}

impl FrameAssembler {
    /// Takes the next entry (`buf` is the buffer the record points into); returns the sequence
    /// number of the frame's first entry and the frame when the entry completes one.
    pub fn push<'a>(&'a mut self, record: &Record, buf: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let payload = buf.get(record.range.clone())?;
        if record.is_first() && record.is_last() {
            self.open = None;
            return Some((record.seq, payload));
        }
        if record.is_first() {
            self.frame.clear();
            self.open = Some((record.seq, record.seq));
        }
        let (first, expected) = self.open?;
        // Entries of a frame are consecutive; anything else means that some were lost.
        if expected != record.seq {
            self.open = None;
            return None;
        }
        self.frame.extend_from_slice(payload);
        self.open = (!record.is_last()).then_some((first, record.seq + 1));
        record.is_last().then_some((first, &self.frame))
    }
}

/// The id and the payload of an [`super::Tag::Input`] frame.
pub fn split_input(frame: &[u8]) -> Option<([u8; MESSAGE_ID_LEN], &[u8])> {
    let (id, payload) = frame.split_first_chunk::<MESSAGE_ID_LEN>()?;
    Some((*id, payload))
}
