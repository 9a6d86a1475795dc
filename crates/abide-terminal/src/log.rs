//! The scrollback: lines that have left the screen, as the bytes that draw them. They never change again,
//! so that they cost their bytes and nothing else, and are sent as they lie there.

use std::collections::VecDeque;

use crate::paint::{Painter, Tail};
use crate::row::Row;

/// Lines are dropped by the block. Small against what a scrollback holds, large against a line.
const BLOCK: usize = 64 * 1024;
/// Room that is left in a block, so that an ordinary line does not make it grow.
const SLACK: usize = 4 * 1024;
/// Bytes of bookkeeping for a line.
const LINE: usize = size_of::<Line>();

/// The lines, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    blocks: VecDeque<Block>,
    /// Bytes in all blocks, bookkeeping included.
    size: usize,
    limit: usize,
    /// How the last line ended, which matters when the next one goes on from it.
    tail: Option<Tail>,
}

/// A run of lines.
#[derive(Clone, Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where it ends in the bytes of its block.
    end: u32,
    /// How many of its bytes come before its first column, to go on from the line before.
    prefix: u16,
    /// How wide the screen was, and in the top bits what [`Stored`] has as flags. A screen has at most 4,096
    /// columns.
    cols: u16,
}

const WRAPPED: u16 = 1 << 15;
const MOVES: u16 = 1 << 14;
const OPEN: u16 = 1 << 13;

/// A line as it lies in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    /// What goes on from the line before; empty unless it is wrapped.
    pub(crate) prefix: &'a [u8],
    /// What draws it.
    pub(crate) bytes: &'a [u8],
    /// Columns that the screen had.
    pub(crate) cols: u16,
    pub(crate) flags: Flags,
}

/// What is to be known of a line without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    fn new(wrapped: bool, moves: bool, open: bool) -> Self {
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        Self(flag(wrapped, WRAPPED) | flag(moves, MOVES) | flag(open, OPEN))
    }

    /// It goes on from the line before.
    pub(crate) fn wrapped(self) -> bool {
        self.0 & WRAPPED != 0
    }

    /// It draws the same on a screen of any width: nothing in it moves the cursor.
    pub(crate) fn flows(self) -> bool {
        self.0 & MOVES == 0
    }

    /// It does not reach the last column, or the last but one before a wide character.
    pub(crate) fn open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// As a byte, to be stored.
    pub(crate) fn to_byte(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// What [`to_byte`](Self::to_byte) gave.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let flags = u16::from_be_bytes([byte, 0]);
        (flags & !(WRAPPED | MOVES | OPEN) == 0).then_some(Self(flags))
    }
}

/// A line that was taken out of the log.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wrapped: bool,
    pub(crate) cols: u16,
}

impl Log {
    /// A log of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            size: 0,
            limit,
            tail: None,
        }
    }

    /// Bytes in it, bookkeeping included.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Appends `row`; `next` is the row below it.
    pub(crate) fn push(&mut self, row: &Row, next: Option<&Row>, painter: Painter<'_>) {
        let end = Tail::of(row);
        let tail = self.tail.replace(end);
        let block = self.block();
        let start = block.bytes.len();
        if let Some(tail) = tail.filter(|_| row.wrapped) {
            painter.join(tail, row, &mut block.bytes);
        }
        let prefix = u16::try_from(block.bytes.len() - start).unwrap_or(0);
        let moves = painter.row(row, next, &mut block.bytes);
        let open = matches!(end, Tail::Empty(_));
        let cols = u16::try_from(row.cols()).unwrap_or(0);
        block.end_line(prefix, cols, Flags::new(row.wrapped, moves, open));
        self.size += block.bytes.len() - start + LINE;
        self.trim();
    }

    /// Appends a line that was in a log before.
    pub(crate) fn push_stored(&mut self, line: Stored<'_>) {
        let block = self.block();
        block.bytes.extend_from_slice(line.prefix);
        block.bytes.extend_from_slice(line.bytes);
        let prefix = u16::try_from(line.prefix.len()).unwrap_or(0);
        block.end_line(prefix, line.cols, line.flags);
        self.size += line.prefix.len() + line.bytes.len() + LINE;
        self.trim();
    }

    /// Says how the last line ended, which is not stored with it.
    pub(crate) fn set_tail(&mut self, tail: Option<Tail>) {
        self.tail = tail;
    }

    /// How the last line ended.
    pub(crate) fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Forgets all lines.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// The last lines that together take at most `most` bytes, oldest first.
    pub(crate) fn last(&self, most: usize) -> impl Iterator<Item = Stored<'_>> {
        let mut taken = 0;
        let mut skipped = 0;
        'count: for (index, block) in self.blocks.iter().enumerate().rev() {
            if taken + block.bytes.len() + 2 * block.lines.len() <= most {
                taken += block.bytes.len() + 2 * block.lines.len();
                continue;
            }
            for line in (0..block.lines.len()).rev() {
                // With the line break between the two.
                taken += block.line(line).1.len() + 2;
                if taken > most {
                    skipped = self
                        .blocks
                        .range(..index)
                        .map(|block| block.lines.len())
                        .sum();
                    skipped += line + 1;
                    break 'count;
                }
            }
        }
        let mut blocks = self.blocks.iter();
        let mut first = 0;
        let mut rest = skipped;
        for block in &self.blocks {
            if rest < block.lines.len() {
                break;
            }
            rest -= block.lines.len();
            first += 1;
        }
        if first > 0 {
            blocks.nth(first - 1);
        }
        blocks
            .flat_map(|block| (0..block.lines.len()).map(|line| block.stored(line)))
            .skip(rest)
    }

    /// Takes the last lines out, at least `count` as long as there are, and as many more as it takes to
    /// begin with one that is not wrapped, but no more than `most`. Oldest first.
    pub(crate) fn take_last(&mut self, count: usize, most: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while let Some(block) = self.blocks.back_mut() {
            let Some(last) = block.lines.len().checked_sub(1) else {
                self.blocks.pop_back();
                continue;
            };
            let line = block.stored(last);
            let length = line.prefix.len() + line.bytes.len();
            let wrapped = line.flags.wrapped();
            taken.push(Taken {
                bytes: line.bytes.to_vec(),
                wrapped,
                cols: line.cols,
            });
            block.bytes.truncate(block.bytes.len() - length);
            block.lines.pop();
            self.size -= length + LINE;
            if taken.len() >= count && !wrapped || taken.len() >= most {
                break;
            }
        }
        while self
            .blocks
            .back()
            .is_some_and(|block| block.lines.is_empty())
        {
            self.blocks.pop_back();
        }
        self.tail = None;
        taken.reverse();
        taken
    }

    fn block(&mut self) -> &mut Block {
        let size = BLOCK.min(self.limit / 4 + SLACK + 1);
        let full = self
            .blocks
            .back()
            .is_none_or(|block| block.bytes.len() + SLACK > size);
        if full {
            // The first grows with its content: most terminals never fill it.
            let bytes = if self.blocks.is_empty() { 0 } else { size };
            self.blocks.push_back(Block {
                bytes: Vec::with_capacity(bytes),
                lines: Vec::new(),
            });
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    fn trim(&mut self) {
        while self.size > self.limit
            && let Some(block) = self.blocks.pop_front()
        {
            self.size -= block.bytes.len() + block.lines.len() * LINE;
        }
    }
}

impl Block {
    fn end_line(&mut self, prefix: u16, cols: u16, flags: Flags) {
        // A line is bounded by the widest screen, a block by the longest line.
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let cols = cols | flags.0;
        self.lines.push(Line { end, prefix, cols });
    }

    fn line(&self, index: usize) -> (Line, &[u8]) {
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.lines[before].end as usize);
        let line = self.lines[index];
        (line, &self.bytes[start..line.end as usize])
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        let (line, bytes) = self.line(index);
        let (prefix, bytes) = bytes.split_at(usize::from(line.prefix));
        Stored {
            prefix,
            bytes,
            cols: line.cols & !(WRAPPED | MOVES | OPEN),
            flags: Flags(line.cols & (WRAPPED | MOVES | OPEN)),
        }
    }
}
