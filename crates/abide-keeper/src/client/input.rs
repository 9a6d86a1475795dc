//! How much input may be sent.

use std::sync::Arc;

use crate::journal::JournalReader;
use crate::protocol::{INPUT_WINDOW, Message};

/// What may be sent to a worker's terminal: [`INPUT_WINDOW`] bytes beyond those that the terminal
/// has taken.
///
/// A program that does not read its terminal makes the kernel take no more, then the keeper; from
/// there on the input waits with whoever sends it. The keeper itself never waits for it, so signals,
/// sizes and stops are not held up. A client that sends more than it may is let go.
#[derive(Debug)]
pub struct InputCredit {
    journal: Arc<JournalReader>,
    /// Bytes sent by this client and those before.
    sent: u64,
}

impl InputCredit {
    pub(super) fn new(journal: Arc<JournalReader>, sent: u64) -> Self {
        Self { journal, sent }
    }

    /// Appends [`Message::Input`] with the beginning of `input` to `out`, for as much of it as
    /// there is room: returns how much that is. Nothing is appended for nothing.
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let payload = &input[..input.len().min(self.room())];
        if !payload.is_empty() {
            Message::Input { payload }.encode(out);
            self.sent += payload.len() as u64;
        }
        payload.len()
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        INPUT_WINDOW.saturating_sub(usize::try_from(self.unwritten()).unwrap_or(usize::MAX))
    }

    /// Bytes that were sent, by this client or those before, and that the terminal has not taken.
    /// What it has taken the program may still not have read.
    pub fn unwritten(&self) -> u64 {
        self.sent.saturating_sub(self.journal.input_written())
    }

    /// Asks to be woken through the wake descriptor once there is room for half of the window.
    /// `false` when there is already.
    pub fn prepare_wait(&self) -> bool {
        let half = INPUT_WINDOW as u64 / 2;
        self.journal
            .want_input_written(self.sent.saturating_sub(half))
    }
}
