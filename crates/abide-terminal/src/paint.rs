//! Writes rows as the bytes that draw them, and sees to it that rows that go on in the next one do so in
//! the terminal that reads the bytes.
//!
//! A row begins and ends with the default pen. Cells that are empty are passed over, or erased where
//! they have a background. A row goes on when a character is printed behind its last column: so nothing is
//! written between the two, and where the last cell of the first or the first of the second is empty,
//! something is printed in the second row and erased again.

use crate::clusters::Clusters;
use crate::links::Links;
use crate::row::{Cell, Content, Glyph, Row};
use crate::style::{Pen, Style, decimal};

/// What cells refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Painter<'a> {
    pub(crate) clusters: &'a Clusters,
    pub(crate) links: &'a Links,
}

/// How a row ends, which decides how the next one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// There is something in the last cell; the cursor waits behind it.
    Full,
    /// The last cell alone is empty, as a wide character leaves it that had no room; the cursor is at it.
    Short(Style),
    /// Several are empty.
    Empty(Style),
}

/// What there was in a row to draw.
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    /// It took more than printing one character behind the other.
    moves: bool,
    /// There are empty cells with looks that erasing cannot give.
    has_styled_empties: bool,
}

impl Tail {
    pub(crate) fn of(row: &Row) -> Self {
        let cells = row.cells();
        let count = cells.len();
        let last = cells[count - 1];
        // Nobody can follow the link of an empty cell.
        let style = Style {
            link: 0,
            ..last.style
        };
        let occupied = |col: usize| {
            let content = cells[col].content;
            !content.is_empty() || content == Content::SPACER
        };
        if occupied(count - 1) {
            Self::Full
        } else if occupied(count - 2) {
            Self::Short(style)
        } else {
            Self::Empty(style)
        }
    }

    /// Whether printing the first character of `next` makes the row go on by itself. Not if it has a background,
    /// which would fill the whole of a row that scrolls in.
    fn flows_into(self, next: &Row) -> bool {
        let first = next.cells()[0];
        let plain = first.style.erased() == Style::default();
        match self {
            _ if !plain => false,
            Self::Full => !first.content.is_empty() && first.content.width() > 0,
            Self::Short(style) => {
                let link = first.style.link;
                first.content.width() == 2 && first.style == Style { link, ..style }
            }
            Self::Empty(_) => false,
        }
    }
}

impl Painter<'_> {
    /// Draws `row` from its first column on. `next` is the row below, if there is one. Returns whether it took more
    /// than printing one character behind the other.
    pub(crate) fn row(self, row: &Row, next: Option<&Row>, out: &mut Vec<u8>) -> bool {
        let mut pen = Pen::default();
        let Drawn {
            mut moves,
            has_styled_empties,
        } = self.cells(row, &mut pen, out);
        if has_styled_empties {
            let next = next.filter(|next| next.wrapped);
            self.styled_empties(row, next, &mut pen, out);
            moves = true;
        }
        pen.take(Style::default(), self.links, out);
        moves
    }

    /// Prints cells one behind the other, blanks for empty ones.
    pub(crate) fn flowing(self, cells: &[Cell], out: &mut Vec<u8>) {
        let mut pen = Pen::default();
        for cell in cells.iter().filter(|cell| cell.content != Content::SPACER) {
            if self.cell(*cell, &mut pen, out) == 0 {
                pen.take(cell.style.erased(), self.links, out);
                out.push(b' ');
            }
        }
        pen.take(Style::default(), self.links, out);
    }

    /// Moves on from a row that ended with `tail` to `next`, which is wrapped.
    pub(crate) fn join(self, tail: Tail, next: &Row, out: &mut Vec<u8>) {
        if tail.flows_into(next) {
            return;
        }
        match tail {
            // A blank makes it go on, and is erased again.
            Tail::Full => out.extend_from_slice(b" \r\x1b[X"),
            // A wide character has no room in the last cell: it leaves it empty, with the look of the pen.
            Tail::Short(style) | Tail::Empty(style) => {
                let mut pen = Pen::default();
                command(out, next.cols(), b'G');
                pen.take(style, self.links, out);
                out.extend_from_slice("\u{3000}".as_bytes());
                pen.take(Style::default(), self.links, out);
                out.push(b'\r');
                command(out, next.cols(), b'X');
            }
        }
    }

    /// Prints what is in one cell. Returns how many columns the cursor moves; 0 for an empty cell.
    pub(crate) fn cell(self, cell: Cell, pen: &mut Pen, out: &mut Vec<u8>) -> usize {
        if cell.content.is_empty() {
            return 0;
        }
        pen.take(cell.style, self.links, out);
        let width = usize::from(cell.content.width());
        if width == 0 {
            // A mark that stands alone must not join what was printed before; NUL keeps them apart.
            out.push(0);
        }
        self.glyph(cell.content, out);
        width.max(1)
    }

    /// Writes the text of a content; nothing for an empty one.
    pub(crate) fn glyph(self, content: Content, out: &mut Vec<u8>) {
        match content.glyph() {
            Glyph::None => {}
            Glyph::Char(character) if character.is_ascii() => out.push(character as u8),
            Glyph::Char(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Glyph::Cluster(number) => out.extend_from_slice(self.clusters.text(number).as_bytes()),
        }
    }

    fn cells(self, row: &Row, pen: &mut Pen, out: &mut Vec<u8>) -> Drawn {
        let cells = &row.cells()[..row.painted()];
        let mut drawn = Drawn::default();
        let mut passed = 0;
        let mut col = 0;
        while let Some(cell) = cells.get(col) {
            if cell.content.is_empty() {
                let style = cell.style.erased();
                let run = cells[col..]
                    .iter()
                    .take_while(|cell| cell.content.is_empty() && cell.style.erased() == style)
                    .inspect(|cell| drawn.has_styled_empties |= is_styled_empty(**cell))
                    .count();
                if style != Style::default() {
                    pass(&mut passed, out);
                    pen.take(style, self.links, out);
                    command(out, run, b'X');
                }
                passed += run;
                col += run;
                drawn.moves = true;
            } else {
                pass(&mut passed, out);
                pen.take(cell.style, self.links, out);
                // Most of what is printed.
                let run = cells[col..]
                    .iter()
                    .take_while(|other| other.content.is_ascii() && other.style == cell.style)
                    .count();
                if run == 0 {
                    col += self.cell(*cell, pen, out);
                } else {
                    let run = &cells[col..col + run];
                    out.extend(run.iter().map(|cell| cell.content.low_byte()));
                    col += run.len();
                }
            }
        }
        drawn
    }

    /// Gives empty cells the looks that erasing cannot: a wide character is printed there and half of it
    /// printed over, which leaves the other half empty with the look of the pen.
    fn styled_empties(self, row: &Row, next: Option<&Row>, pen: &mut Pen, out: &mut Vec<u8>) {
        let cells = row.cells();
        let tail = Tail::of(row);
        // Going on in the next row gives the last cell its look.
        let end = cells.len() - usize::from(next.is_some() && tail != Tail::Full);
        // Each takes a neighbour along, which is drawn again: the one to the right, but where the row ends.
        let run = cells
            .iter()
            .rev()
            .take_while(|cell| is_styled_empty(**cell))
            .count();
        let from_left = (cells.len() - run).max(1)..end;
        for col in from_left.clone().rev() {
            self.styled_empty(cells, col, col - 1, pen, out);
        }
        for col in (0..from_left.start.min(end)).filter(|col| is_styled_empty(cells[*col])) {
            self.styled_empty(cells, col, col + 1, pen, out);
        }
        match tail {
            Tail::Full => {
                let wide = cells[cells.len() - 1].content == Content::SPACER;
                let last = cells.len() - if wide { 2 } else { 1 };
                command(out, last + 1, b'G');
                self.cell(cells[last], pen, out);
            }
            Tail::Short(_) | Tail::Empty(_) => command(out, cells.len(), b'G'),
        }
    }

    /// The cell at `col`, with the one at `beside`.
    fn styled_empty(
        self,
        cells: &[Cell],
        col: usize,
        beside: usize,
        pen: &mut Pen,
        out: &mut Vec<u8>,
    ) {
        command(out, col.min(beside) + 1, b'G');
        out.extend_from_slice("\u{3000}".as_bytes());
        command(out, beside + 1, b'G');
        pen.take(cells[col].style, self.links, out);
        out.push(b' ');
        let again = if cells[beside].content == Content::SPACER && beside > 0 {
            beside - 1
        } else {
            beside
        };
        command(out, again + 1, b'G');
        if self.cell(cells[again], pen, out) == 0 {
            pen.take(cells[again].style.erased(), self.links, out);
            out.extend_from_slice(b"\x1b[X");
        }
    }
}

/// Writes `CSI count last`.
pub(crate) fn command(out: &mut Vec<u8>, count: usize, last: u8) {
    out.extend_from_slice(b"\x1b[");
    decimal(out, u32::try_from(count).unwrap_or(u32::MAX));
    out.push(last);
}

fn pass(passed: &mut usize, out: &mut Vec<u8>) {
    if *passed > 0 {
        command(out, *passed, b'C');
        *passed = 0;
    }
}

fn is_styled_empty(cell: Cell) -> bool {
    cell.content == Content::default() && !cell.style.is_erased()
}
