//! Frames with a length prefix, read from a nonblocking socket.

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::protocol::MAX_FRAME;

/// Read at a time when no longer frame is known to be coming.
const ORDINARY_READ: usize = 4096;
/// Read at a time of a long frame.
const LONG_READ: usize = 1024 * 1024;
/// A buffer that has grown beyond this is given back once it is empty.
const KEEP: usize = 256 * 1024;

/// What [`Inbox::fill`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    Data {
        len: usize,
        /// There was room for more, so the socket has been read until it was empty.
        drained: bool,
    },
    Empty,
    /// The other side is gone, in good order or not.
    End,
}

/// The next frame is longer than [`MAX_FRAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes read and not yet taken as frames.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buf: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Reads once.
    pub(super) fn fill(&mut self, fd: impl AsFd) -> Fill {
        if self.taken == self.buf.len() {
            self.buf.clear();
            self.taken = 0;
            if self.buf.capacity() > KEEP {
                self.buf = Vec::new();
            }
        } else if self.taken > 0 && self.taken >= self.buf.len() / 2 {
            self.buf.drain(..self.taken);
            self.taken = 0;
        }
        let missing = self
            .length()
            .map_or(0, |len| (len + 4).saturating_sub(self.held()));
        self.buf.reserve(missing.clamp(ORDINARY_READ, LONG_READ));
        let room = self.buf.capacity() - self.buf.len();
        loop {
            return match rustix::io::read(&fd, spare_capacity(&mut self.buf)) {
                Ok(0) => Fill::End,
                Ok(len) => Fill::Data {
                    len,
                    drained: len < room,
                },
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Fill::Empty,
                Err(_) => Fill::End,
            };
        }
    }

    fn held(&self) -> usize {
        self.buf.len() - self.taken
    }

    /// Length of the next frame, if its prefix is here.
    fn length(&self) -> Option<usize> {
        let prefix = self.buf.get(self.taken..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*prefix)).ok()
    }

    /// Takes the next whole frame, without its prefix.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let Some(len) = self.length() else {
            return Ok(None);
        };
        if len > MAX_FRAME {
            return Err(TooLong);
        }
        if self.held() < len + 4 {
            return Ok(None);
        }
        let start = self.taken + 4;
        self.taken = start + len;
        Ok(Some(&self.buf[start..start + len]))
    }

    /// Part of a frame is here.
    pub(super) fn is_partial(&self) -> bool {
        self.held() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_came_in() {
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut inbox = Inbox::default();
        assert_eq!(inbox.fill(&receiver), Fill::Empty);
        let mut wire = Vec::new();
        let frames = [&b"one"[..], b"", &[7; 9000], b"last"];
        for frame in frames {
            wire.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            wire.extend_from_slice(frame);
        }
        let mut seen = Vec::new();
        for piece in wire.chunks(5) {
            sender.write_all(piece).unwrap();
            let len = piece.len();
            assert_eq!(inbox.fill(&receiver), Fill::Data { len, drained: true });
            while let Some(frame) = inbox.next_frame().unwrap() {
                seen.push(frame.to_vec());
            }
        }
        assert_eq!(seen, frames);
        assert!(!inbox.is_partial());
        sender.write_all(&vec![0; 20_000]).unwrap();
        assert!(matches!(
            inbox.fill(&receiver),
            Fill::Data { drained: false, .. }
        ));
        while inbox.fill(&receiver) != Fill::Empty {
            while inbox.next_frame().unwrap().is_some() {}
        }
        assert!(!inbox.is_partial());
        sender.write_all(&[0xff; 4]).unwrap();
        inbox.fill(&receiver);
        assert_eq!(inbox.next_frame(), Err(TooLong));
        drop(sender);
        assert_eq!(inbox.fill(&receiver), Fill::End);
    }
}
