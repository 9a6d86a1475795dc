//! The way of messages to a program that has a control socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, write};

use crate::journal::JournalReader;
use crate::protocol::Message;

/// Messages that this process writes to the program itself, so that the keeper need not wake up for
/// each: a message is noted in the journal's header and then written. The keeper makes an entry of it
/// before it reads anything that the program says of it.
///
/// Should this process die in between, the keeper writes the message as well: a program must ignore a
/// message that it has just had. The order is that of sending only if everything that was sent to the
/// keeper before has been answered by the program.
#[derive(Debug)]
pub struct HandOver {
    journal: Arc<JournalReader>,
    /// Nonblocking. Keepers before version 4 do not give it.
    program: Option<OwnedFd>,
}

impl HandOver {
    pub(super) fn new(journal: Arc<JournalReader>, program: Option<OwnedFd>) -> Self {
        Self { journal, program }
    }

    /// Notes a message, which [`Self::write`] must follow. `false`, and nothing is noted: it must go
    /// through the keeper, which does not give its socket, or is another one's, or the message is longer
    /// than a page has room for.
    pub fn note(&self, id: [u8; 16], payload: &[u8]) -> bool {
        self.program.is_some()
            && self.journal.is_attached()
            && self.journal.note_hand_over(id, payload)
    }

    /// Writes the payload of the message that was noted last; if the socket does not take it, appends
    /// [`Message::Repeat`] to `out`, and the keeper waits until it does.
    pub fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        let Some(program) = &self.program else { return };
        loop {
            match write(program, payload) {
                // A socket takes as little as can be noted whole or not at all.
                Ok(_) => return,
                Err(Errno::INTR) => {}
                Err(_) => return Message::Repeat.encode(out),
            }
        }
    }

    /// Has the keeper make an entry of what was noted, although the program says nothing yet.
    pub fn have_entered(&self) {
        self.journal.wake_writer();
    }
}
