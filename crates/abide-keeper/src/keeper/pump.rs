//! Bytes on their way: from the program, into the journal, to the program.

use rustix::io::{Errno, ioctl_fionread, readv};
use rustix::process::Signal;

use super::appends::{Append, Then};
use super::inbox::{Fill, TooLong};
use super::output::{Output, TERMINAL_READ, unread};
use super::{Blocked, DISK_RETRY_NS, Keeper, Phase, json};
use crate::journal::{FIRST, LAST, MESSAGE_ID_LEN, Space, Tag};
use crate::process::boottime_ns;
use crate::protocol::SignalScope;
use crate::spec::Lifecycle;

/// Flags of a frame that is one entry.
pub(super) const WHOLE: u8 = FIRST | LAST;
/// Reads from one source in one round, so that others get their turn.
pub(super) const READS: usize = 32;

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
        self.take_hand_over();
        self.append_waiting();
        if self.blocked == Blocked::No {
            more |= self.read_control();
            for at in 0..self.outputs.len() {
                // Frames that came in go first, with the output that was there before them.
                more |= self.read_ready(at);
            }
        }
        self.write_control();
        self.write_terminal();
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
                // Somebody may sit before a terminal: what comes after silence is told of before
                // there is a look whether there is more.
                Read::Bytes(_) if reads == 0 && self.terminal.is_some() => self.offer_wake(),
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
            _ if self.outputs[at].tag == Tag::Terminal => limit.min(TERMINAL_READ),
            u64::MAX => ioctl_fionread(fd).unwrap_or_default(),
            limit => limit,
        };
        // What is handed over after this look has nothing to do with what was there before it.
        if limit == u64::MAX && self.take_hand_over() {
            self.append_waiting();
            if self.blocked != Blocked::No {
                return Read::Blocked;
            }
        }
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
                    // A terminal that nobody has open can be opened again.
                    if errno != Errno::AGAIN && *tag != Tag::Terminal {
                        *fd = None;
                    }
                    Read::Drained
                }
            };
        }
    }

    /// Appends the frames that wait, each after the output that was written before it.
    pub(super) fn append_waiting(&mut self) {
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
        if let (Then::Resize(size), Some(terminal)) = (append.then, &self.terminal)
            && append.bytes.is_empty()
        {
            append.bytes = json(&terminal.resize(size));
        }
        loop {
            let rest = &append.bytes[append.done..];
            let Some(room) = self.room(rest.len() as u64) else {
                return false;
            };
            let part = &rest[..rest.len().min(room as usize)];
            let last = part.len() == rest.len();
            let flags = if append.done == 0 { FIRST } else { 0 } | if last { LAST } else { 0 };
            let time_ns = append.time_ns.unwrap_or_else(boottime_ns);
            self.journal.append_at(append.tag, flags, part, time_ns);
            append.done += part.len();
            // The client knows what it sent; what the program makes of it will wake it. What it handed
            // over itself is entered for the sake of what follows, or because it asked for that.
            let is_handed_over = append.time_ns.is_some();
            if append.tag == Tag::Input
                && !is_handed_over
                && self.offered + 1 == self.journal.head_seq()
            {
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
            Then::Resize(size) => self.journal.set_window_size(size),
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
        if !self.control.inbox.is_partial() {
            return true;
        }
        // One look is enough for all frames in hand: what was written before any of them was
        // there before they were read.
        let mut drain = unread(&self.outputs);
        self.take_hand_over();
        while self.control.reading {
            match self.control.inbox.next_frame() {
                Ok(Some(frame)) => {
                    self.is_unanswered = false;
                    self.appends
                        .push(Tag::Control, &[frame], drain, Then::Nothing);
                    drain = [0; 2];
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
    pub(super) fn write_control(&mut self) {
        while let Some(written) = self.control.write_next(&self.epoll) {
            if written.interrupts {
                self.tree.signal(Signal::INT, SignalScope::Group);
            }
            self.appends.recycle(written.bytes);
        }
    }
}
