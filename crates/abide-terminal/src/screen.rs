//! The screen of one terminal, fed with its output.

use crate::keyframe::{self, Keyframe};
use crate::log::Log;
use crate::parser::{Event, Parser, State};
use crate::replay::ReplayFilter;
use crate::size::Size;
use crate::terminal::Terminal;
use crate::utf8::Utf8;
use crate::{Error, resize, snapshot, text};

/// How many bytes of scrollback are kept, bookkeeping included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrollbackLimit(pub usize);

/// Where the cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Column, from 0.
    pub col: u16,
    /// Row, from 0.
    pub row: u16,
    /// Whether the program shows it.
    pub visible: bool,
}

/// What a terminal's output amounts to: visible cells of both buffers, cursor, modes and the rest of a
/// terminal's state, and the lines that have scrolled off.
#[derive(Clone, Debug)]
pub struct Screen {
    utf8: Utf8,
    parser: Parser,
    terminal: Terminal,
    offset: u64,
}

impl Screen {
    /// An empty screen. The first byte that is fed stands at `offset` of the journal.
    #[must_use]
    pub fn new(size: Size, limit: ScrollbackLimit, offset: u64) -> Self {
        let log = Log::new(limit.0);
        Self {
            utf8: Utf8::default(),
            parser: Parser::default(),
            terminal: Terminal::new(size.cols().into(), size.rows().into(), log),
            offset,
        }
    }

    /// The screen that `keyframe` was taken of. Feeding it what follows the keyframe's offset leads to
    /// what the uninterrupted screen would be.
    ///
    /// # Errors
    /// [`Error::Keyframe`] if the keyframe is damaged or was not made by this code.
    pub fn from_keyframe(keyframe: &Keyframe, limit: ScrollbackLimit) -> Result<Self, Error> {
        keyframe::restore(keyframe, limit)
    }

    /// Takes what the program has written next.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            if self.parser.state() == State::Ground && self.utf8.at_boundary() {
                let run = printable(rest);
                if run > 0 {
                    self.terminal.print_ascii(&rest[..run]);
                    rest = &rest[run..];
                    continue;
                }
            }
            if let Some(code) = self.utf8.push(*byte) {
                self.advance(code);
            }
            rest = &rest[1..];
        }
        self.offset += bytes.len() as u64;
    }

    /// The journal offset of the byte that is to be fed next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> Size {
        Size::of(self.terminal.cols, self.terminal.rows)
    }

    /// Changes the size. Lines of the main buffer that were wrapped are wrapped anew, but for the one with
    /// the cursor, which the program draws again; rows move between screen and scrollback.
    pub fn resize(&mut self, size: Size) {
        resize::resize(&mut self.terminal, size.cols().into(), size.rows().into());
    }

    /// The title that the program has set, unless it is empty.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        Some(self.terminal.title.as_str()).filter(|title| !title.is_empty())
    }

    /// Whether the alternate buffer is shown, as full-screen programs have it.
    #[must_use]
    pub fn is_alternate(&self) -> bool {
        self.terminal.on_alternate
    }

    /// Where the cursor is.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let grid = self.terminal.grid();
        let small = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        Cursor {
            col: small(grid.x.min(self.terminal.cols - 1)),
            row: small(grid.y),
            visible: self.terminal.modes.shows_cursor(),
        }
    }

    /// What gives a terminal of the same size the whole state: a full reset, at most
    /// `max_scrollback_bytes` of scrollback, the visible screen. It contains no queries, no bells and no
    /// clipboard writes.
    ///
    /// What follows in the journal from [`offset`](Self::offset) on may begin within a character or a control
    /// sequence. Send it through [`replay`](Self::replay), or behind [`unfinished`](Self::unfinished).
    #[must_use]
    pub fn snapshot(&self, max_scrollback_bytes: usize) -> Vec<u8> {
        snapshot::whole(&self.terminal, max_scrollback_bytes)
    }

    /// The same without the scrollback.
    #[must_use]
    pub fn visible(&self) -> Vec<u8> {
        snapshot::whole(&self.terminal, 0)
    }

    /// The last lines that have scrolled off, at most `max_bytes` of them, oldest first, with line breaks
    /// between those that did not wrap. Nothing but text, looks and links.
    #[must_use]
    pub fn scrollback(&self, max_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        snapshot::scrollback(&self.terminal, max_bytes, &mut out);
        out
    }

    /// Bytes of scrollback there are, bookkeeping included: no less than [`scrollback`](Self::scrollback) could give.
    #[must_use]
    pub fn scrollback_len(&self) -> usize {
        self.terminal.log.size()
    }

    /// What has come of a character or a control sequence that is not complete, in its shortest form.
    #[must_use]
    pub fn unfinished(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.parser.write_unfinished(&mut out);
        out.extend_from_slice(self.utf8.unfinished());
        out
    }

    /// A filter for what follows [`offset`](Self::offset), to be sent behind a snapshot.
    #[must_use]
    pub fn replay(&self) -> ReplayFilter {
        ReplayFilter::behind(&self.unfinished())
    }

    /// The visible screen as text: a line per row, without blanks at the ends of rows and empty rows at
    /// the end.
    #[must_use]
    pub fn text(&self) -> String {
        text::plain(&self.terminal)
    }

    /// The same with looks and links (SGR and OSC 8), each line beginning and ending with the default.
    #[must_use]
    pub fn ansi(&self) -> String {
        text::ansi(&self.terminal)
    }

    /// Everything, to be stored.
    #[must_use]
    pub fn keyframe(&self) -> Keyframe {
        keyframe::take(self)
    }

    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(crate) fn terminal_mut(&mut self) -> &mut Terminal {
        &mut self.terminal
    }

    pub(crate) fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    fn advance(&mut self, code: u32) {
        if code >= 0xa0
            && self.parser.state() == State::Ground
            && let Some(character) = char::from_u32(code)
        {
            return self.terminal.print(character);
        }
        match self.parser.advance(code) {
            Event::None | Event::DcsStart(_) | Event::Osc { cancelled: true } => {}
            Event::Print(character) => self.terminal.print(character),
            Event::Execute(control) => self.terminal.execute(control),
            Event::Csi(last) => {
                let parser = &self.parser;
                let collected = parser.collected();
                self.terminal.sequence(collected, last, parser.params());
            }
            Event::Escape(last) => self.terminal.escape(self.parser.collected(), last),
            Event::Osc { cancelled: false } => self.terminal.command(self.parser.payload()),
            Event::DcsEnd => self.terminal.printed = 0,
        }
    }
}

/// How many bytes of printable ASCII there are at the start.
fn printable(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !(0x20..0x7f).contains(byte))
        .unwrap_or(bytes.len())
}
