//! One of the program's outputs, and when to look at it.
//!
//! A program that writes line by line wakes the keeper for every line, which costs both of them
//! more than the writing. So an output that has become empty often and quickly in a row is left
//! alone for a moment: its pipe fills meanwhile, and one read takes what many wrote. What the
//! program says on its control socket ends the rest, so a step never waits for it.
//!
//! A terminal is never left alone: it holds a hundredth of what a pipe does, and somebody waits for
//! the echo of every key.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::ioctl_fionread;

use crate::journal::Tag;

/// An output that is empty again within this after it was empty before is in a hurry.
const HURRY_NS: u64 = 2_000_000;
/// So often in a row before it is left alone: a prompt, an answer or a progress bar never is.
const HURRIES: u32 = 16;
/// For how long. A pipe holds 1 MiB, so the program runs on up to about 1 GB/s.
const REST_NS: u64 = 1_000_000;

/// Bytes read from a terminal at a time: what its line discipline holds. With room for more, the
/// kernel copies what comes meanwhile piece by piece, at half the speed.
pub(super) const TERMINAL_READ: u64 = 4096;
/// More than is ever on its way through a terminal, which the kernel does not tell.
const TERMINAL_HOLDS: u64 = 64 * 1024;

/// See the module.
pub(super) struct Output {
    pub(super) tag: Tag,
    pub(super) fd: Option<OwnedFd>,
    pub(super) ready: bool,
    pub(super) hung_up: bool,
    token: u64,
    emptied_at: u64,
    hurries: u32,
    resting_until: Option<u64>,
}

impl Output {
    pub(super) fn new(token: u64, output: Option<(Tag, OwnedFd)>) -> Self {
        let (tag, fd) = output.map_or((Tag::Stdout, None), |(tag, fd)| (tag, Some(fd)));
        Self {
            tag,
            fd,
            ready: false,
            hung_up: false,
            token,
            emptied_at: 0,
            hurries: 0,
            resting_until: None,
        }
    }

    pub(super) fn notice(&mut self, flags: EventFlags) {
        self.ready = true;
        self.hung_up |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
    }

    /// It was read until it was empty, and something had been there.
    pub(super) fn emptied(&mut self, epoll: &OwnedFd, now: u64) {
        if self.tag == Tag::Terminal {
            return;
        }
        let hurry = now.saturating_sub(self.emptied_at) < HURRY_NS;
        self.hurries = if hurry { self.hurries + 1 } else { 0 };
        self.emptied_at = now;
        // Without input flags the end of the pipe is still reported.
        if self.hurries >= HURRIES && self.set_events(epoll, EventFlags::empty()) {
            self.resting_until = Some(now + REST_NS);
        }
    }

    /// When the rest is over.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.resting_until
    }

    /// Looks at it again if its rest is over.
    pub(super) fn tick(&mut self, epoll: &OwnedFd, now: u64) {
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
            self.set_events(epoll, EventFlags::IN | EventFlags::RDHUP);
            self.ready = true;
        }
    }

    fn set_events(&self, epoll: &OwnedFd, flags: EventFlags) -> bool {
        let Some(fd) = &self.fd else { return false };
        let data = epoll::EventData::new_u64(self.token);
        epoll::modify(epoll.as_fd(), fd, data, flags | EventFlags::ET).is_ok()
    }
}

/// Bytes in the output pipes at this moment; of a terminal, how many there may be at most. A read
/// that finds a terminal empty has waited for what was on its way.
pub(super) fn unread(outputs: &[Output; 2]) -> [u64; 2] {
    [0, 1].map(|at: usize| match &outputs[at] {
        Output { fd: None, .. } => 0,
        Output {
            tag: Tag::Terminal, ..
        } => TERMINAL_HOLDS,
        Output { fd: Some(fd), .. } => ioctl_fionread(fd).unwrap_or_default(),
    })
}
