//! Printing: characters into cells.

use super::Terminal;
use crate::row::{Content, Glyph};
use crate::width::width;

/// Characters that one REP may print. More than any screen line has; an absurd count must not take time.
const MOST_REPEATED: usize = 4096;

impl Terminal {
    /// Prints a run of printable ASCII.
    pub(crate) fn print_ascii(&mut self, mut text: &[u8]) {
        if self.modes.insert || self.charsets.current().is_some() {
            for byte in text {
                self.print(char::from(*byte));
            }
            return;
        }
        let style = self.pen;
        let cols = self.cols;
        let x = self.grid().x;
        self.grid_mut().row().part_before(x, style);
        loop {
            if self.grid().x >= cols {
                self.overflow();
            }
            let grid = self.grid_mut();
            let x = grid.x;
            let (fitting, rest) = text.split_at(text.len().min(cols - x));
            grid.row().set_ascii(x, fitting, style);
            grid.x = x + fitting.len();
            text = rest;
            if text.is_empty() {
                break;
            }
        }
        let grid = self.grid_mut();
        let x = grid.x;
        grid.row().part_at(x, style);
        self.printed = 1;
    }

    /// Prints one character.
    pub(crate) fn print(&mut self, character: char) {
        let character = match self.charsets.current() {
            Some(set) if character < '\x7f' => set.map(character as u8),
            _ => character,
        };
        let width = if character < '\u{a0}' {
            1
        } else {
            width(character)
        };
        if width == 0 && self.printed > 0 {
            return self.join(character);
        }
        let style = self.pen;
        let cols = self.cols;
        let count = usize::from(width);
        let x = self.grid().x;
        self.grid_mut().row().part_before(x, style);
        if x + count > cols {
            if !self.modes.wrap && width == 2 {
                self.grid_mut().x = cols - 1;
                self.printed = width;
                return;
            }
            self.overflow();
        }
        let insert = self.modes.insert;
        let grid = self.grid_mut();
        let x = grid.x;
        let row = grid.row();
        if insert && count > 0 {
            row.part_at(x, style);
            row.insert(x, count, style);
        }
        row.set(x, Content::char(character, width), style);
        if width == 2 {
            row.set(x + 1, Content::SPACER, style);
        }
        // A mark that has nothing to join takes a cell.
        let end = x + count.max(1);
        row.part_at(end, style);
        grid.x = end.min(cols);
        self.printed = width;
    }

    /// REP: what was printed last, again.
    pub(super) fn repeat(&mut self, count: usize) {
        if self.printed == 0 {
            return;
        }
        let grid = self.grid();
        let col = grid.x.saturating_sub(usize::from(self.printed));
        let row = &grid.rows[grid.y.min(grid.rows.len() - 1)];
        let text = match row.cells().get(col).map(|cell| cell.content.glyph()) {
            Some(Glyph::Char(character)) => character.to_string(),
            Some(Glyph::Cluster(number)) => self.clusters.text(number).to_owned(),
            _ => return,
        };
        for _ in 0..count.min(MOST_REPEATED) {
            text.chars().for_each(|character| self.print(character));
        }
    }

    /// Where the next character goes that has no room in its row.
    fn overflow(&mut self) {
        let style = self.pen;
        let cols = self.cols;
        if !self.modes.wrap {
            let grid = self.grid_mut();
            grid.x = cols - 1;
            grid.row().part_before(cols - 1, style);
            return;
        }
        let rows = self.rows;
        let grid = self.grid_mut();
        let x = grid.x;
        if x < cols {
            grid.row().erase(x, cols, style);
        }
        grid.x = 0;
        grid.y += 1;
        if grid.y == grid.bottom + 1 {
            grid.y -= 1;
            self.scroll(true);
        } else {
            grid.y = grid.y.min(rows - 1);
            grid.row().wrapped = true;
        }
    }

    /// Adds a mark to the character before the cursor.
    fn join(&mut self, mark: char) {
        let x = self.grid().x;
        if x == 0 {
            return;
        }
        let grid = self.grid();
        let cells = grid.rows[grid.y.min(grid.rows.len() - 1)].cells();
        let col = if cells[x - 1].content == Content::SPACER && x > 1 {
            x - 2
        } else {
            x - 1
        };
        let cell = cells[col];
        let content = match cell.content.glyph() {
            // Only a change of the size brings the cursor behind these without a character printed in between.
            // The mark then stands alone, and alone it stays: no bytes could draw two of them in a cell.
            Glyph::None => Some(Content::char(mark, 0)),
            Glyph::Char(_) if cell.content.width() == 0 => None,
            Glyph::Char(base) => {
                let number = self.clusters.join(base.encode_utf8(&mut [0; 4]), mark);
                number.map(|number| cell.content.with_cluster(number))
            }
            Glyph::Cluster(base) => {
                let base = self.clusters.text(base).to_owned();
                let number = self.clusters.join(&base, mark);
                number.map(|number| cell.content.with_cluster(number))
            }
        };
        if let Some(content) = content {
            self.grid_mut().row().set(col, content, cell.style);
            self.collect_clusters();
        }
    }
}
