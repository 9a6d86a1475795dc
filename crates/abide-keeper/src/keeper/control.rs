//! The keeper's end of the program's control socket.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::{Errno, ioctl_fionread, write};

use super::inbox::{Fill, Inbox};
use super::token;

/// What is always watched. That the socket takes more is watched only while something waits for
/// it: the program would wake the keeper with every message that it takes.
const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// See the module.
pub(super) struct Control {
    /// A program on a terminal has none: nothing comes, and nobody may send anything.
    fd: Option<OwnedFd>,
    pub(super) reading: bool,
    readable: bool,
    /// The other side has closed, or is gone: no event will tell when it has been read empty.
    hung_up: bool,
    pub(super) inbox: Inbox,
    outgoing: VecDeque<Outgoing>,
    outgoing_bytes: usize,
    writable: bool,
}

/// A message on its way to the program.
struct Outgoing {
    bytes: Vec<u8>,
    /// So far it is written, or need not be.
    at: usize,
    /// SIGINT follows it.
    interrupts: bool,
}

/// A message has been written, as far as anybody takes it.
pub(super) struct Written {
    /// Its buffer, to be used again.
    pub(super) bytes: Vec<u8>,
    /// Now send SIGINT.
    pub(super) interrupts: bool,
}

impl Control {
    /// Starts watching `fd`.
    pub(super) fn new(fd: Option<OwnedFd>, epoll: &OwnedFd) -> rustix::io::Result<Self> {
        if let Some(fd) = &fd {
            let data = epoll::EventData::new_u64(token::CONTROL);
            epoll::add(epoll.as_fd(), fd, data, WATCHED)?;
        }
        Ok(Self {
            reading: fd.is_some(),
            fd,
            readable: false,
            hung_up: false,
            inbox: Inbox::default(),
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            writable: true,
        })
    }

    pub(super) fn notice(&mut self, flags: EventFlags, epoll: &OwnedFd) {
        let gone = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.hung_up |= gone;
        self.readable |= gone || flags.contains(EventFlags::IN);
        if !self.writable && flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.writable = true;
            let _ = self.watch(epoll, WATCHED);
        }
    }

    fn watch(&self, epoll: &OwnedFd, flags: EventFlags) -> rustix::io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let data = epoll::EventData::new_u64(token::CONTROL);
        epoll::modify(epoll.as_fd(), fd, data, flags)
    }

    /// To be written to by a client, too.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(OwnedFd::as_fd)
    }

    pub(super) fn is_readable(&self) -> bool {
        self.reading && self.readable
    }

    /// Bytes to be read at this moment; marks the socket, whose event may not have come yet.
    pub(super) fn waiting(&mut self) -> u64 {
        let Some(fd) = &self.fd else { return 0 };
        self.readable = true;
        // From here on every read counts until there is nothing.
        self.hung_up = true;
        ioctl_fionread(fd).unwrap_or_default()
    }

    /// Reads once into the inbox.
    ///
    /// A read that leaves room has emptied the socket; what comes next is an event of its own.
    /// So is the end, unless it came together with what was just read. (Descriptors sent along
    /// would end a read early. Nobody sends any, and whoever did would wait for his own next
    /// message only.)
    pub(super) fn fill(&mut self) -> Fill {
        let Some(fd) = &self.fd else {
            return Fill::End;
        };
        let fill = self.inbox.fill(fd);
        if let Fill::Data { drained: true, .. } | Fill::Empty = fill {
            self.readable = self.hung_up && fill != Fill::Empty;
        }
        fill
    }

    /// Queues `bytes` from `at` on.
    pub(super) fn push(&mut self, bytes: Vec<u8>, at: usize, interrupts: bool) {
        self.outgoing_bytes += bytes.len();
        self.outgoing.push_back(Outgoing {
            bytes,
            at,
            interrupts,
        });
    }

    /// Bytes of the messages that are not written yet.
    pub(super) fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    /// Writes as far as the program takes it, at most to the end of a message. `None` when nothing
    /// is left to be written, or the socket is full.
    pub(super) fn write_next(&mut self, epoll: &OwnedFd) -> Option<Written> {
        let fd = self.fd.as_ref()?;
        while self.writable {
            let first = self.outgoing.front_mut()?;
            if first.at >= first.bytes.len() {
                let Outgoing {
                    bytes, interrupts, ..
                } = self.outgoing.pop_front()?;
                self.outgoing_bytes -= bytes.len();
                return Some(Written { bytes, interrupts });
            }
            match write(fd, &first.bytes[first.at..]) {
                Ok(len) => first.at += len,
                Err(Errno::INTR) => {}
                // Reported at once should it have become writable meanwhile.
                Err(Errno::AGAIN) => {
                    self.writable = self.watch(epoll, WATCHED | EventFlags::OUT).is_err();
                    return None;
                }
                // It has closed its control descriptor, or is gone: nobody to tell.
                Err(_) => first.at = first.bytes.len(),
            }
        }
        None
    }
}
