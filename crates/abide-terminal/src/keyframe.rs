//! A screen as bytes that outlast the process.
//!
//! ```text
//! magic and version      8   b"ABIDEKF" 1
//! journal offset         8   little endian, like all numbers
//! columns, rows          2 + 2
//! flags                  4   bit 0: the first visible row is wrapped
//! length of the screen   4   then that many bytes: what draws it, see `snapshot`
//! length of the rest     4   then that many bytes: the unfinished sequence or character
//! length of a look       4   then that many bytes: SGR of the last cell of the log, if it is empty
//! lines in the log       4   then for each: its length 4, of which in front 2, columns 2, flags 1, bytes
//! CRC-32C of the above   4
//! ```
//!
//! The screen is kept as the bytes that draw it, so that there is one way of writing the state down and not
//! two. What is read is checked: a keyframe that was damaged, or made up, is an error.

use crate::log::{Flags, Stored};
use crate::paint::Tail;
use crate::parser::{Event, Parser, State};
use crate::screen::{Screen, ScrollbackLimit};
use crate::size::Size;
use crate::style::Pen;
use crate::utf8::Utf8;
use crate::{Error, snapshot};

const MAGIC: [u8; 8] = *b"ABIDEKF\x01";
const FIRST_ROW_WRAPPED: u32 = 1;
/// No journal gets there in the lifetime of a machine; from here on a screen can be fed without a sum that
/// overflows.
const MAX_OFFSET: u64 = 1 << 62;
/// The intermediate of DECSCA.
const QUOTE: u32 = b'"' as u32;

/// A stored screen, checked to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyframe {
    bytes: Vec<u8>,
    offset: u64,
}

impl Keyframe {
    /// Takes what [`as_bytes`](Self::as_bytes) gave.
    ///
    /// # Errors
    /// [`Error::Keyframe`] if it is damaged or of another version.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(Error::Keyframe {
            what: "it is too short",
        })?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
            return Err(Error::Keyframe {
                what: "its checksum is wrong",
            });
        }
        let offset = Parts::of(content)?.offset;
        Ok(Self { bytes, offset })
    }

    /// What is to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The journal offset that it stands for: of the first byte that is not part of it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// Stores a screen.
pub(crate) fn take(screen: &Screen) -> Keyframe {
    let terminal = screen.terminal();
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&screen.offset().to_le_bytes());
    out.extend_from_slice(&screen.size().cols().to_le_bytes());
    out.extend_from_slice(&screen.size().rows().to_le_bytes());
    let wrapped = terminal.main.rows[0].wrapped;
    out.extend_from_slice(&(u32::from(wrapped) * FIRST_ROW_WRAPPED).to_le_bytes());
    write_long(&snapshot::whole(terminal, 0), &mut out);
    write_long(&screen.unfinished(), &mut out);
    let mut look = Vec::new();
    if let Some(Tail::Short(style) | Tail::Empty(style)) = terminal.log.tail() {
        Pen::default().take(style, &terminal.links, &mut look);
    }
    write_long(&look, &mut out);
    let count = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut lines = 0_u32;
    for line in terminal.log.last(usize::MAX) {
        let length = line.prefix.len() + line.bytes.len();
        out.extend_from_slice(&length_of(length).to_le_bytes());
        let prefix = u16::try_from(line.prefix.len()).unwrap_or(0);
        out.extend_from_slice(&prefix.to_le_bytes());
        out.extend_from_slice(&line.cols.to_le_bytes());
        out.push(line.flags.to_byte());
        out.extend_from_slice(line.prefix);
        out.extend_from_slice(line.bytes);
        lines += 1;
    }
    out[count..count + 4].copy_from_slice(&lines.to_le_bytes());
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Keyframe {
        bytes: out,
        offset: screen.offset(),
    }
}

/// Makes a screen of what was stored.
pub(crate) fn restore(keyframe: &Keyframe, limit: ScrollbackLimit) -> Result<Screen, Error> {
    let content = &keyframe.bytes[..keyframe.bytes.len() - 4];
    let parts = Parts::of(content)?;
    let mut screen = Screen::new(parts.size, limit, 0);
    screen.feed(parts.screen);
    screen.feed(parts.unfinished);
    screen.set_offset(parts.offset);
    let terminal = screen.terminal_mut();
    // The bytes that draw a screen begin with a reset, so that nothing of another can be there; what scrolled
    // off while they were read was not on a screen that somebody took a keyframe of.
    terminal.log.clear();
    terminal.main.rows[0].wrapped = parts.first_row_wrapped;
    let mut rest = parts.lines;
    let mut last = None;
    for _ in 0..parts.line_count {
        let line = rest.line()?;
        terminal.log.push_stored(line);
        last = Some(line);
    }
    rest.end()?;
    // How the last line ended shows when it is drawn, but for the look of an empty last cell.
    let tail = last.map(|line| Tail::of(&terminal.draw(line.bytes, line.cols)));
    let mut pen = Screen::new(Size::of(2, 1), ScrollbackLimit(0), 0);
    pen.feed(parts.tail);
    let style = pen.terminal().pen;
    screen
        .terminal_mut()
        .log
        .set_tail(tail.map(|tail| match tail {
            Tail::Full => Tail::Full,
            Tail::Short(_) => Tail::Short(style),
            Tail::Empty(_) => Tail::Empty(style),
        }));
    Ok(screen)
}

/// A keyframe, taken apart.
struct Parts<'a> {
    offset: u64,
    size: Size,
    first_row_wrapped: bool,
    screen: &'a [u8],
    unfinished: &'a [u8],
    tail: &'a [u8],
    line_count: u32,
    lines: Reader<'a>,
}

impl<'a> Parts<'a> {
    fn of(content: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader(content);
        if reader.array()? != MAGIC {
            return Err(Error::Keyframe {
                what: "it is of another version, or none",
            });
        }
        let offset = u64::from_le_bytes(reader.array()?);
        if offset > MAX_OFFSET {
            return Err(Error::Keyframe {
                what: "its offset is beyond that of any journal",
            });
        }
        let cols = u16::from_le_bytes(reader.array()?);
        let rows = u16::from_le_bytes(reader.array()?);
        let flags = u32::from_le_bytes(reader.array()?);
        Ok(Self {
            offset,
            size: Size::new(cols, rows)?,
            first_row_wrapped: flags & FIRST_ROW_WRAPPED != 0,
            screen: reader.long()?,
            unfinished: reader.long()?,
            tail: reader.long()?,
            line_count: u32::from_le_bytes(reader.array()?),
            lines: reader,
        })
    }
}

/// What is still to be read.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Keyframe {
            what: "it ends too early",
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn long(&mut self) -> Result<&'a [u8], Error> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    fn line(&mut self) -> Result<Stored<'a>, Error> {
        let length = u32::from_le_bytes(self.array()?);
        let prefix = u16::from_le_bytes(self.array()?);
        let cols = u16::from_le_bytes(self.array()?);
        let [flags] = self.array()?;
        let bytes = self.take(length as usize)?;
        let malformed = Error::Keyframe {
            what: "a line is malformed",
        };
        let Some((prefix, bytes)) = bytes.split_at_checked(prefix.into()) else {
            return Err(malformed);
        };
        let flags = Flags::from_byte(flags).filter(|_| Size::new(cols, 1).is_ok());
        let Some(flags) = flags.filter(|_| is_line(prefix) && is_line(bytes)) else {
            return Err(malformed);
        };
        Ok(Stored {
            prefix,
            bytes,
            cols,
            flags,
        })
    }

    fn end(self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Keyframe {
                what: "something follows its end",
            })
        }
    }
}

/// Whether `bytes` are what a line of the log consists of: text, looks, links and small movements.
fn is_line(bytes: &[u8]) -> bool {
    let mut parser = Parser::default();
    let mut utf8 = Utf8::default();
    let harmless = bytes.iter().all(|byte| {
        let Some(code) = utf8.push(*byte) else {
            return true;
        };
        match parser.advance(code) {
            Event::None | Event::Print(_) | Event::Execute(0 | b'\r') | Event::Escape(b'\\') => {
                true
            }
            Event::Csi(last) => match parser.collected() {
                0 => b"mCXGAB".contains(&last),
                QUOTE => last == b'q',
                _ => false,
            },
            Event::Osc { cancelled } => !cancelled && parser.payload().starts_with("8;"),
            Event::Execute(_) | Event::Escape(_) | Event::DcsStart(_) | Event::DcsEnd => false,
        }
    });
    harmless && parser.state() == State::Ground && utf8.at_boundary()
}

fn write_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&length_of(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Screens and lines are bounded by the size of a screen, far below 4 GiB.
fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
