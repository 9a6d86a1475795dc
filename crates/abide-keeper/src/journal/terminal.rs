//! What a journal knows of a terminal besides its output: its size wherever a reader begins, and
//! how much of the input has arrived.

use std::sync::atomic::{Ordering, fence};

use super::entry::Tag;
use super::reader::{JournalReader, ReadError};
use super::writer::JournalWriter;
use crate::spec::Lifecycle;
use crate::terminal::WindowSize;

impl JournalReader {
    /// The terminal's size as of the newest entry; `None` for a worker without one.
    pub fn window_size(&self) -> Option<WindowSize> {
        let word = self.terminal().size.load(Ordering::Acquire);
        (word != 0).then(|| WindowSize::from_bytes(word.to_le_bytes()))
    }

    /// The size that the terminal had when the entry `seq` was written: with it a reader begins
    /// there, and changes it at every [`Lifecycle::Resized`] that it comes to. `None` for a worker
    /// without a terminal.
    ///
    /// Looks at the entries from `seq` to the next change of size, or the newest.
    ///
    /// # Errors
    /// [`ReadError::Expired`] when that entry has left the ring.
    pub fn window_size_at(&self, seq: u64) -> Result<Option<WindowSize>, ReadError> {
        // The header is read before the entries and set after them, so a change that it does not
        // tell is among the entries, or is the newest of all, right before `seq`.
        let newest = self.window_size();
        let mut buf = Vec::new();
        if let Some(before) = seq.checked_sub(1)
            && let Ok(Some((_, size))) = self.change_of_size(before, &mut buf)
        {
            return Ok(Some(size));
        }
        for seq in seq..self.head_seq() {
            match self.change_of_size(seq, &mut buf) {
                Ok(Some((before, _))) => return Ok(Some(before)),
                Ok(None) | Err(ReadError::Damaged { .. }) => {}
                Err(expired @ ReadError::Expired { .. }) => return Err(expired),
            }
        }
        Ok(newest)
    }

    /// The sizes before and after, if the entry `seq` is a change of size.
    fn change_of_size(
        &self,
        seq: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Option<(WindowSize, WindowSize)>, ReadError> {
        buf.clear();
        let keep = |tag| if tag == Tag::Lifecycle { u32::MAX } else { 0 };
        let record = self.read_entry(seq, buf, keep)?;
        if record.tag != Tag::Lifecycle {
            return Ok(None);
        }
        Ok(match serde_json::from_slice(buf) {
            Ok(Lifecycle::Resized { before, size }) => Some((before, size)),
            _ => None,
        })
    }

    /// Bytes of input that the terminal has taken.
    pub(crate) fn input_written(&self) -> u64 {
        self.terminal().input_written.load(Ordering::Acquire)
    }

    /// Asks to be woken through the wake descriptor once the terminal has taken `wanted` bytes.
    /// `false` when it has already; a wake-up may come all the same.
    pub(crate) fn want_input_written(&self, wanted: u64) -> bool {
        let word = &self.terminal().input_wanted;
        word.store(wanted + 1, Ordering::Relaxed);
        // As with `prepare_sleep`: the wish, fence, look; the writer does the opposite.
        fence(Ordering::SeqCst);
        self.input_written() < wanted
    }
}

impl JournalWriter {
    /// Call when the change of size is in the journal.
    pub(crate) fn set_window_size(&self, size: WindowSize) {
        let word = u64::from_le_bytes(size.to_bytes());
        self.terminal().size.store(word, Ordering::Release);
    }

    /// The terminal has taken so many bytes of input by now. Whether the sender must be woken;
    /// takes the request.
    pub(crate) fn set_input_written(&self, written: u64) -> bool {
        let words = self.terminal();
        words.input_written.store(written, Ordering::Release);
        fence(Ordering::SeqCst);
        let wanted = words.input_wanted.load(Ordering::Relaxed);
        wanted != 0 && written + 1 >= wanted && words.input_wanted.swap(0, Ordering::AcqRel) != 0
    }
}
