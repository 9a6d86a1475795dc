//! The way of input to a terminal.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, write};

use crate::journal::JournalReader;
use crate::protocol::{INPUT_WINDOW, Message};

/// What is typed goes into the worker's terminal at once, written by this process, as long as nothing
/// that was sent to the keeper before is still on its way there: the order is that of sending, and
/// no other process need wake up for a key. What the terminal does not take goes through the keeper,
/// and everything after it does, too, until the terminal has taken it all: [`INPUT_WINDOW`] bytes
/// beyond those that it has taken may be sent.
///
/// A program that does not read its terminal makes the kernel take no more, then the keeper; from
/// there on the input waits with whoever sends it. The keeper itself never waits for it, so signals,
/// sizes and stops are not held up. A client that sends more than it may is let go.
///
/// While this is there the terminal does not hang up, even if its keeper is gone: whoever has this
/// watches the keeper's end, and drops it then.
#[derive(Debug)]
pub struct TerminalInput {
    journal: Arc<JournalReader>,
    /// Nonblocking. Keepers before version 4 do not give it.
    terminal: Option<OwnedFd>,
    /// Bytes sent to the keeper by this client and those before.
    sent: u64,
    /// The keeper was sent something else since: the next input goes behind that.
    is_behind: AtomicBool,
}

impl TerminalInput {
    pub(super) fn new(journal: Arc<JournalReader>, sent: u64, terminal: Option<OwnedFd>) -> Self {
        Self {
            journal,
            terminal,
            sent,
            is_behind: AtomicBool::new(false),
        }
    }

    /// Writes the beginning of `input` to the terminal, or appends it as [`Message::Input`] to `out`,
    /// which is to be sent before anything else: returns how much of it, for which there is room.
    /// Nothing is appended for nothing.
    pub fn pass(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let written = self.write(input);
        let rest = &input[written..];
        let payload = &rest[..rest.len().min(self.room())];
        if !payload.is_empty() {
            Message::Input { payload }.encode(out);
            self.sent += payload.len() as u64;
            *self.is_behind.get_mut() = false;
        }
        written + payload.len()
    }

    /// Writes what the terminal takes of `input`, unless something before it is still with the keeper.
    fn write(&self, input: &[u8]) -> usize {
        let Some(terminal) = &self.terminal else {
            return 0;
        };
        let is_first = !self.is_behind.load(Ordering::Relaxed) && self.unwritten() == 0;
        // What one who was superseded sends is nothing any more.
        if !is_first || !self.journal.is_attached() {
            return 0;
        }
        loop {
            match write(terminal, input) {
                Ok(len) => return len,
                Err(Errno::INTR) => {}
                // Full, or nobody has it open: the keeper knows how to wait for either.
                Err(_) => return 0,
            }
        }
    }

    /// To be told of every message besides input that is sent to the keeper: the input that follows
    /// goes through the keeper too, so that it stays behind.
    pub fn stays_behind(&self, message: &Message<'_>) {
        if !matches!(message, Message::Input { .. }) {
            self.is_behind.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        INPUT_WINDOW.saturating_sub(usize::try_from(self.unwritten()).unwrap_or(usize::MAX))
    }

    /// Bytes that were sent to the keeper, by this client or those before, and that the terminal has
    /// not taken. What it has taken the program may still not have read.
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
