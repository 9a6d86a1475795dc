//! What waits to be appended to the journal.

use std::collections::VecDeque;

use crate::journal::{HandedOver, Tag};
use crate::terminal::WindowSize;

/// Buffers kept for the next frames, so that the steady state does not allocate.
const SPARE: usize = 2;
/// Longest buffer worth keeping.
const SPARE_CAPACITY: usize = 64 * 1024;

/// What to do once a frame is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Write what follows the message id to the program.
    Deliver,
    /// Write all of it to the program and send SIGINT. It is not for the journal, and waits here
    /// only so as not to overtake a message.
    Interrupt,
    /// Give the terminal this size once the output before is in the journal. The frame is made of
    /// what comes of it.
    Resize(WindowSize),
}

/// A frame on its way into the journal.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) tag: Tag,
    pub(super) bytes: Vec<u8>,
    /// So much of it is in the journal.
    pub(super) done: usize,
    /// So much of stdout and stderr must go in before it.
    pub(super) drain: [u64; 2],
    pub(super) then: Then,
    /// When it happened, if not now.
    pub(super) time_ns: Option<u64>,
}

/// Frames on their way into the journal, first come first served. While there are any, nothing
/// else is read from the program: that is what keeps the order.
#[derive(Debug, Default)]
pub(super) struct Appends {
    queue: VecDeque<Append>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Appends {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Something for the program waits.
    pub(super) fn hold_messages(&self) -> bool {
        self.queue.iter().any(|append| append.then != Then::Nothing)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a frame made of `parts`.
    pub(super) fn push(&mut self, tag: Tag, parts: &[&[u8]], drain: [u64; 2], then: Then) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.bytes += bytes.len();
        self.queue.push_back(Append {
            tag,
            bytes,
            done: 0,
            drain,
            then,
            time_ns: None,
        });
    }

    /// Queues a message that was written to the program already.
    pub(super) fn push_handed_over(&mut self, handed: HandedOver) {
        self.bytes += handed.bytes.len();
        self.queue.push_back(Append {
            tag: Tag::Input,
            bytes: handed.bytes,
            done: 0,
            drain: [0; 2],
            then: Then::Nothing,
            time_ns: Some(handed.time_ns),
        });
    }

    pub(super) fn take(&mut self) -> Option<Append> {
        let append = self.queue.pop_front()?;
        self.bytes -= append.bytes.len();
        Some(append)
    }

    /// Puts back what [`Self::take`] gave and could not be finished.
    pub(super) fn put_back(&mut self, append: Append) {
        self.bytes += append.bytes.len();
        self.queue.push_front(append);
    }

    /// Takes a buffer that is no longer needed.
    pub(super) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE && bytes.capacity() <= SPARE_CAPACITY {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}
