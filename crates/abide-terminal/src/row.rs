//! One row of cells, and what may be done to it without breaking a wide character in two.

use crate::style::{Attributes, Style};

/// What a cell shows. Zero is an empty cell, which is not the same as a blank.
///
/// A wide character has its content in the first of its two cells; the second is [`Content::SPACER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content(u32);

/// One character cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) content: Content,
    pub(crate) style: Style,
}

/// What is behind a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glyph {
    None,
    Char(char),
    /// The number of a cluster.
    Cluster(u32),
}

/// A row of the screen.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    cells: Box<[Cell]>,
    /// From here on every cell is as it was made; what is before may be.
    used: usize,
    /// It goes on where the row above could hold no more.
    pub(crate) wrapped: bool,
}

impl Content {
    const CLUSTER: u32 = 1 << 29;
    const VALUE: u32 = Self::CLUSTER - 1;
    const WIDTH: u32 = 30;
    /// The second cell of a wide character.
    pub(crate) const SPACER: Self = Self(2 << Self::WIDTH);
    const EMPTY: Self = Self(0);

    /// A character that takes `width` cells, 0 to 2.
    pub(crate) fn char(character: char, width: u8) -> Self {
        Self(u32::from(character)).with_width(width)
    }

    /// The cluster `number` in place of this content, as wide as that.
    pub(crate) fn with_cluster(self, number: u32) -> Self {
        Self(Self::CLUSTER | number & Self::VALUE).with_width(self.width())
    }

    pub(crate) fn glyph(self) -> Glyph {
        let value = self.0 & Self::VALUE;
        if self.0 & Self::CLUSTER != 0 {
            Glyph::Cluster(value)
        } else if value == 0 {
            Glyph::None
        } else {
            Glyph::Char(char::from_u32(value).unwrap_or(' '))
        }
    }

    /// The character, if it is printable ASCII.
    pub(crate) fn ascii(self) -> Option<u8> {
        self.is_ascii().then_some(self.low_byte())
    }

    /// Whether it is printable ASCII.
    pub(crate) fn is_ascii(self) -> bool {
        self.0.wrapping_sub(0x20) < 0x5f
    }

    /// What is left of the character in a byte: all of it, if it is ASCII.
    pub(crate) fn low_byte(self) -> u8 {
        self.0 as u8
    }

    /// Cells that it takes: 2 for the first cell of a wide character, 0 for the second and for a mark
    /// that stands alone.
    pub(crate) fn width(self) -> u8 {
        match self.0 >> Self::WIDTH {
            0 => 1,
            1 => 2,
            _ => 0,
        }
    }

    /// Whether nothing is shown: an empty cell, or the second of a wide character.
    pub(crate) fn is_empty(self) -> bool {
        self.0 & (Self::VALUE | Self::CLUSTER) == 0
    }

    fn with_width(self, width: u8) -> Self {
        let code = match width {
            1 => 0,
            2 => 1,
            _ => 2,
        };
        Self(self.0 & (Self::VALUE | Self::CLUSTER) | code << Self::WIDTH)
    }
}

impl Cell {
    /// An empty cell.
    pub(crate) fn empty(style: Style) -> Self {
        Self {
            content: Content::EMPTY,
            style,
        }
    }

    fn is_wide(self) -> bool {
        self.content.width() == 2
    }

    fn is_protected(self) -> bool {
        self.style.attributes.has(Attributes::PROTECTED)
    }
}

impl Row {
    /// An empty row.
    pub(crate) fn new(cols: usize, style: Style) -> Self {
        Self {
            cells: vec![Cell::empty(style); cols].into(),
            used: if style == Style::default() { 0 } else { cols },
            wrapped: false,
        }
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub(crate) fn cols(&self) -> usize {
        self.cells.len()
    }

    /// Where what is to be seen ends: behind it are only empty cells of the default look.
    pub(crate) fn painted(&self) -> usize {
        let used = &self.cells[..self.used];
        used.iter()
            .rposition(|cell| *cell != Cell::default())
            .map_or(0, |last| last + 1)
    }

    /// Where the text ends.
    pub(crate) fn text_end(&self) -> usize {
        let used = &self.cells[..self.used];
        used.iter()
            .rposition(|cell| !cell.content.is_empty())
            .map_or(0, |last| last + usize::from(used[last].content.width()))
    }

    /// Makes it as new.
    pub(crate) fn clear(&mut self, style: Style) {
        let fresh = Cell::empty(style);
        if style == Style::default() {
            self.cells[..self.used].fill(fresh);
            self.used = 0;
        } else {
            self.cells.fill(fresh);
            self.used = self.cells.len();
        }
        self.wrapped = false;
    }

    pub(crate) fn set(&mut self, col: usize, content: Content, style: Style) {
        if let Some(cell) = self.cells.get_mut(col) {
            *cell = Cell { content, style };
            self.used = self.used.max(col + 1);
        }
    }

    /// Sets as many cells from `col` on as there are bytes, all of them printable ASCII.
    pub(crate) fn set_ascii(&mut self, col: usize, text: &[u8], style: Style) {
        let end = col + text.len();
        for (cell, byte) in self.cells[col..end].iter_mut().zip(text) {
            *cell = Cell {
                content: Content(u32::from(*byte)),
                style,
            };
        }
        self.used = self.used.max(end);
    }

    /// Empties the first half of a wide character that is about to lose its second half at `col`.
    pub(crate) fn part_before(&mut self, col: usize, style: Style) {
        if col > 0 && self.cells.get(col - 1).is_some_and(|cell| cell.is_wide()) {
            self.set(col - 1, Content::EMPTY, style);
        }
    }

    /// Empties the second half of a wide character that has lost its first half.
    pub(crate) fn part_at(&mut self, col: usize, style: Style) {
        if self.cells.get(col).map(|cell| cell.content) == Some(Content::SPACER) {
            self.set(col, Content::EMPTY, style);
        }
    }

    /// Empties the cells from `start` to before `end`.
    pub(crate) fn erase(&mut self, start: usize, end: usize, style: Style) {
        let end = end.min(self.cells.len());
        self.part_before(start, style);
        if start >= end {
            return;
        }
        self.part_before(end, style);
        self.part_at(end, style);
        self.cells[start..end].fill(Cell::empty(style));
        if style != Style::default() {
            self.used = self.used.max(end);
        } else if end >= self.used {
            self.used = self.used.min(start);
        }
    }

    /// The same, but for the cells that DECSCA has protected.
    pub(crate) fn erase_unprotected(&mut self, start: usize, end: usize, style: Style) {
        let end = end.min(self.cells.len());
        let unprotected =
            |cells: &[Cell], col: usize| cells.get(col).is_some_and(|cell| !cell.is_protected());
        if start > 0 && unprotected(&self.cells, start - 1) {
            self.part_before(start, style);
        }
        for col in start..end {
            if unprotected(&self.cells, col) {
                self.set(col, Content::EMPTY, style);
            }
        }
        if unprotected(&self.cells, end) && end > start && unprotected(&self.cells, end - 1) {
            self.part_at(end, style);
        }
    }

    /// Pushes the cells from `col` on to the right by `count` empty ones.
    pub(crate) fn insert(&mut self, col: usize, count: usize, style: Style) {
        let cols = self.cells.len();
        let col = col % cols;
        self.part_before(col, style);
        // The second half of a wide character keeps its look.
        self.part_at(col, self.cells[col].style);
        let count = count.min(cols - col);
        self.cells.copy_within(col..cols - count, col + count);
        self.cells[col..col + count].fill(Cell::empty(style));
        self.used = (self.used + count).max(col + count).min(cols);
        // A wide character of which only the first half is left.
        self.part_before(cols, style);
    }

    /// Takes out `count` cells from `col` on; empty ones come in from the right.
    pub(crate) fn delete(&mut self, col: usize, count: usize, style: Style) {
        let cols = self.cells.len();
        let col = col % cols;
        let count = count.min(cols - col);
        self.cells.copy_within(col + count..cols, col);
        self.cells[cols - count..].fill(Cell::empty(style));
        self.part_before(col, style);
        self.part_at(col, style);
        if style != Style::default() {
            self.used = cols;
        }
    }

    /// Cuts it off or lengthens it by empty cells.
    pub(crate) fn resize(&mut self, cols: usize) {
        if cols == self.cells.len() {
            return;
        }
        let mut cells = std::mem::take(&mut self.cells).into_vec();
        cells.resize(cols, Cell::default());
        self.cells = cells.into();
        self.used = self.used.min(cols);
        self.part_before(cols, Style::default());
    }

    /// Fills it with `cell`.
    pub(crate) fn fill(&mut self, content: Content, style: Style) {
        self.cells.fill(Cell { content, style });
        self.used = self.cells.len();
        self.wrapped = false;
    }

    /// Replaces each cell by what `change` makes of it.
    pub(crate) fn map(&mut self, mut change: impl FnMut(Cell) -> Cell) {
        for cell in &mut self.cells[..self.used] {
            *cell = change(*cell);
        }
    }

    /// Puts `cells` at its start.
    pub(crate) fn copy(&mut self, col: usize, cells: &[Cell]) {
        let end = col + cells.len();
        self.cells[col..end].copy_from_slice(cells);
        self.used = self.used.max(end);
    }
}
