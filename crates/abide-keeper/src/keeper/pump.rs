//! Bytes on their way: from the program and from the client, into the journal, to the program.

use rustix::io::{Errno, ioctl_fionread, readv};
use rustix::process::Signal;

use super::appends::{Append, Then};
use super::inbox::{Fill, TooLong};
use super::output::{Output, unread};
use super::{Blocked, DISK_RETRY_NS, Keeper, Phase, json, log};
use crate::journal::{FIRST, LAST, MESSAGE_ID_LEN, Space, Tag};
use crate::process::{boottime_ns, signal};
use crate::protocol::{Message, SignalScope};
use crate::spec::Lifecycle;

/// Flags of a frame that is one entry.
pub(super) const WHOLE: u8 = FIRST | LAST;
/// Reads from one socket in one round, so that others get their turn.
const READS: usize = 32;
/// Nothing more is taken from the client while so much waits to be delivered.
const DELIVERY_LIMIT: usize = 128 * 1024 * 1024;
/// Message ids remembered.
const IDS: usize = 1024;

/// The ids of the last messages, each delivered once.
#[derive(Default)]
pub(super) struct DeliveredIds {
    ids: Vec<u128>,
    next: usize,
}

impl DeliveredIds {
    /// `false` for an id that is among the last.
    fn insert(&mut self, id: [u8; 16]) -> bool {
        let id = u128::from_ne_bytes(id);
        if self.ids.contains(&id) {
            return false;
        }
        if self.ids.len() < IDS {
            self.ids.push(id);
        } else {
            self.ids[self.next] = id;
            self.next = (self.next + 1) % IDS;
        }
        true
    }
}

/// What came of reading an output.
enum Read {
    Bytes(u64),
    Drained,
    Blocked,
}

impl Keeper {
    /// Does what can be done now, a bounded amount of it. `true` when more can be done.
    pub(super) fn round(&mut self) -> bool {
        let mut more = self.read_client();
        self.append_waiting();
        if self.blocked == Blocked::No {
            more |= self.read_control();
            for at in 0..self.outputs.len() {
                // Frames that came in go first, with the output that was there before them.
                more |= self.read_ready(at);
            }
        }
        self.write_control();
        if self.blocked == Blocked::No && self.appends.is_empty() {
            more |= self.advance();
        }
        more
    }

    /// Reads an output that is ready until it is empty, a bounded number of times. `true` when
    /// there may be more.
    fn read_ready(&mut self, at: usize) -> bool {
        for reads in 0..READS {
            // Frames that came in go first, with the output that was there before them.
            if self.blocked != Blocked::No || !self.appends.is_empty() || !self.outputs[at].ready {
                return false;
            }
            match self.read_output(at, u64::MAX) {
                Read::Bytes(_) => {}
                Read::Blocked => return false,
                Read::Drained => {
                    if reads > 0 {
                        self.outputs[at].emptied(&self.epoll, boottime_ns());
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Room for one entry of `want` bytes or less; `None`, and blocked, when there is none.
    fn room(&mut self, want: u64) -> Option<u64> {
        loop {
            match self.journal.space(want) {
                Space::Bytes(room) => return Some(room),
                Space::Reader => {
                    if self.journal.wait_for_reader(want) {
                        self.blocked = Blocked::Reader;
                        return None;
                    }
                }
                Space::Disk => {
                    self.blocked = Blocked::Disk(boottime_ns() + DISK_RETRY_NS);
                    return None;
                }
            }
        }
    }

    /// Reads from one output, at most one entry and at most `limit` bytes, into the ring.
    fn read_output(&mut self, at: usize, limit: u64) -> Read {
        let Some(fd) = &self.outputs[at].fd else {
            self.outputs[at].ready = false;
            return Read::Drained;
        };
        // The tail is raised by what is there to be read, not by what might have been. A limit
        // is what was seen to be there.
        let waiting = match limit {
            u64::MAX => ioctl_fionread(fd).unwrap_or_default(),
            limit => limit,
        };
        if waiting == 0 {
            self.outputs[at].ready = false;
            if self.outputs[at].hung_up {
                self.outputs[at].fd = None;
            }
            return Read::Drained;
        }
        let Some(room) = self.room(waiting) else {
            return Read::Blocked;
        };
        let Output { tag, fd, ready, .. } = &mut self.outputs[at];
        let Some(open) = fd else { return Read::Drained };
        loop {
            return match self
                .journal
                .append_with(*tag, WHOLE, room, |rooms| readv(&*open, rooms))
            {
                Err(Errno::INTR) => continue,
                Ok(0) => {
                    *fd = None;
                    Read::Drained
                }
                Ok(len) => Read::Bytes(len as u64),
                Err(errno) => {
                    *ready = false;
                    if errno != Errno::AGAIN {
                        *fd = None;
                    }
                    Read::Drained
                }
            };
        }
    }

    /// Appends the frames that wait, each after the output that was written before it.
    fn append_waiting(&mut self) {
        while self.blocked == Blocked::No
            && let Some(mut append) = self.appends.take()
        {
            if self.append(&mut append) {
                self.finish(append);
            } else {
                self.appends.put_back(append);
            }
        }
    }

    /// `false` when blocked before the end.
    fn append(&mut self, append: &mut Append) -> bool {
        if append.then == Then::Interrupt {
            return true;
        }
        for at in 0..append.drain.len() {
            while append.drain[at] > 0 {
                match self.read_output(at, append.drain[at]) {
                    Read::Bytes(len) => append.drain[at] -= len,
                    Read::Drained => append.drain[at] = 0,
                    Read::Blocked => return false,
                }
            }
        }
        loop {
            let rest = &append.bytes[append.done..];
            let Some(room) = self.room(rest.len() as u64) else {
                return false;
            };
            let part = &rest[..rest.len().min(room as usize)];
            let last = part.len() == rest.len();
            let flags = if append.done == 0 { FIRST } else { 0 } | if last { LAST } else { 0 };
            self.journal.append(append.tag, flags, part);
            append.done += part.len();
            // The client knows what it sent; what the program makes of it will wake it.
            if append.tag == Tag::Input && self.offered + 1 == self.journal.head_seq() {
                self.offered += 1;
            }
            if last {
                return true;
            }
        }
    }

    fn finish(&mut self, append: Append) {
        match append.then {
            Then::Nothing => self.appends.recycle(append.bytes),
            Then::Deliver => {
                self.control.push(append.bytes, MESSAGE_ID_LEN, false);
                self.write_control();
            }
            Then::Interrupt => {
                self.control.push(append.bytes, 0, true);
                self.write_control();
            }
        }
    }

    /// Takes frames from the program. `true` when there may be more.
    fn read_control(&mut self) -> bool {
        for _ in 0..READS {
            // A frame in hand comes before anything else is read.
            if !self.take_control_frames() || !self.control.is_readable() {
                return false;
            }
            match self.control.fill() {
                Fill::Data { len, .. } => {
                    if let Phase::Leaving { control, .. } = &mut self.phase {
                        *control = control.saturating_sub(len as u64);
                    }
                }
                Fill::Empty => {}
                Fill::End => {
                    if self.control.inbox.is_partial() {
                        self.end_control("the program's control stream ended within a frame");
                    }
                    self.control.reading = false;
                }
            }
        }
        self.take_control_frames()
    }

    /// `false` when blocked.
    fn take_control_frames(&mut self) -> bool {
        // One look is enough for all frames in hand: what was written before any of them was
        // there before they were read.
        let mut drained = false;
        while self.control.reading {
            match self.control.inbox.next_frame() {
                Ok(Some(frame)) => {
                    let drain = if drained {
                        [0; 2]
                    } else {
                        unread(&self.outputs)
                    };
                    drained = true;
                    self.appends
                        .push(Tag::Control, &[frame], drain, Then::Nothing);
                }
                Ok(None) => break,
                Err(TooLong) => {
                    self.end_control("the program's control stream has a frame beyond the limit");
                    break;
                }
            }
            self.append_waiting();
            if self.blocked != Blocked::No {
                return false;
            }
        }
        true
    }

    fn end_control(&mut self, reason: &str) {
        self.control.reading = false;
        let ended = Lifecycle::ControlEnded {
            reason: reason.to_owned(),
        };
        self.appends
            .push(Tag::Lifecycle, &[&json(&ended)], [0; 2], Then::Nothing);
        self.append_waiting();
    }

    /// Writes messages to the program as far as it takes them.
    fn write_control(&mut self) {
        while let Some(written) = self.control.write_next(&self.epoll) {
            if written.interrupts {
                self.tree.signal(Signal::INT, SignalScope::Group);
            }
            self.appends.recycle(written.bytes);
        }
    }

    /// Takes messages from the client. `true` when there may be more. Also while blocked: an
    /// interrupt must get through when output does not.
    fn read_client(&mut self) -> bool {
        for _ in 0..READS {
            if self.appends.bytes() + self.control.outgoing_bytes() > DELIVERY_LIMIT {
                return false;
            }
            let Some(client) = &mut self.clients.active else {
                return false;
            };
            match client.inbox.next_frame() {
                Ok(Some(frame)) => {
                    let Some(message) = Message::decode(frame) else {
                        return self.drop_client("a client sent what is no message");
                    };
                    match message {
                        Message::Deliver { id, payload } => {
                            if matches!(self.phase, Phase::Running) && self.delivered.insert(id) {
                                let parts: [&[u8]; 2] = [&id, payload];
                                self.appends.push(Tag::Input, &parts, [0; 2], Then::Deliver);
                                // Now, so that a signal sent after a message comes after it.
                                self.append_waiting();
                            }
                        }
                        Message::Interrupt { payload } => {
                            if self.appends.hold_messages() {
                                self.appends
                                    .push(Tag::Input, &[payload], [0; 2], Then::Interrupt);
                            } else {
                                self.control.push(payload.to_vec(), 0, true);
                                self.write_control();
                            }
                        }
                        Message::Signal {
                            signal: number,
                            scope,
                        } => {
                            if let Some(signal) = signal(number) {
                                self.tree.signal(signal, scope);
                            }
                        }
                        Message::Stop => self.tree.stop(),
                        Message::Kill => self.tree.kill(),
                    }
                    continue;
                }
                Ok(None) => {}
                Err(TooLong) => {
                    return self.drop_client("a client sent a message beyond the limit");
                }
            }
            if !client.ready {
                return false;
            }
            match client.fill() {
                Fill::Data { .. } | Fill::Empty => {}
                Fill::End => return self.drop_client(""),
            }
        }
        true
    }

    /// Takes what the client has sent by now, within bounds.
    pub(super) fn finish_client(&mut self) {
        if let Some(client) = &mut self.clients.active {
            client.ready = true;
        }
        for _ in 0..READS {
            if !self.read_client() {
                break;
            }
        }
    }

    /// Lets the client go; always `false`, there is nothing more to read from it.
    fn drop_client(&mut self, reason: &str) -> bool {
        if !reason.is_empty() {
            log(reason);
        }
        self.clients.detach(&self.epoll, &self.journal);
        self.unblock_reader();
        false
    }
}
