//! The way to a terminal: what is typed, and its size.
//!
//! A program may leave its terminal unread for ever. So the keeper writes what the kernel takes,
//! keeps a bounded rest, and goes on with everything else; see [`crate::TerminalInput`] for how the
//! sender learns of it, and when it writes to the terminal itself.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::{Errno, write};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use super::setup::watch;
use super::{Keeper, log, token};
use crate::protocol::INPUT_WINDOW;
use crate::spec::Lifecycle;
use crate::terminal::WindowSize;

/// A buffer that has grown beyond this is given back once it is empty.
const KEEP: usize = 4096;

/// See the module.
pub(super) struct Terminal {
    fd: OwnedFd,
    queue: VecDeque<u8>,
    /// Bytes of input that clients ever sent.
    taken: u64,
    room: Room,
}

/// Whether the kernel takes more input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Some,
    /// An event will tell when it does.
    Awaited,
    /// Nobody has the terminal open, and the kernel says so. Whoever opens it again will write
    /// something.
    Nobody,
}

impl Terminal {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            queue: VecDeque::new(),
            taken: 0,
            room: Room::Some,
        }
    }

    /// To be written to by a client, too.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of input that clients ever sent.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes of them that the terminal has taken.
    fn written(&self) -> u64 {
        self.taken - self.queue.len() as u64
    }

    /// Queues input. `false`: the sender was not allowed so much.
    pub(super) fn push(&mut self, input: &[u8]) -> bool {
        if input.len() > INPUT_WINDOW - self.queue.len() {
            return false;
        }
        self.queue.extend(input);
        self.taken += input.len() as u64;
        true
    }

    /// Writes what the terminal takes. `true` when it took something.
    pub(super) fn write(&mut self, epoll: &OwnedFd) -> bool {
        let before = self.queue.len();
        while self.room == Room::Some && !self.queue.is_empty() {
            match write(&self.fd, self.queue.as_slices().0) {
                Err(Errno::INTR) => {}
                // Reported at once should there be room meanwhile.
                Ok(0) | Err(Errno::AGAIN) => {
                    if watch(epoll, &self.fd, token::TERMINAL_ROOM, EventFlags::OUT).is_ok() {
                        self.room = Room::Awaited;
                    }
                    break;
                }
                Ok(len) => drop(self.queue.drain(..len)),
                Err(_) => self.room = Room::Nobody,
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > KEEP {
            self.queue = VecDeque::new();
        }
        self.queue.len() < before
    }

    /// There is room, or the last who had it open has closed it. The kernel does not refuse input
    /// then, it only takes no more until somebody opens it again and reads.
    pub(super) fn notice_room(&mut self, flags: EventFlags, epoll: &OwnedFd) {
        if flags.contains(EventFlags::OUT) {
            let _ = epoll::delete(epoll, &self.fd);
            self.room = Room::Some;
        }
    }

    /// Something was written to it, or the last who had it open has closed it.
    pub(super) fn notice_output(&mut self) {
        if self.room == Room::Nobody {
            self.room = Room::Some;
        }
    }

    /// Gives it another size, of which the kernel tells its foreground programs.
    pub(super) fn resize(&self, size: WindowSize) -> Lifecycle {
        let before = tcgetwinsize(&self.fd).map_or(size, WindowSize::from);
        if let Err(errno) = tcsetwinsize(&self.fd, size.into()) {
            log(&format!("cannot give the terminal another size: {errno}"));
        }
        Lifecycle::Resized { before, size }
    }
}

impl Keeper {
    /// Writes input to the terminal as far as it takes it, and wakes a sender who waits for that.
    pub(super) fn write_terminal(&mut self) {
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        if terminal.write(&self.epoll)
            && self.journal.set_input_written(terminal.written())
            && let Some(client) = &self.clients.active
        {
            client.wake();
        }
    }
}
