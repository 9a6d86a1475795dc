//! One of the two buffers of a terminal: rows, cursor, scroll region, tab stops, saved cursor.

use crate::charset::Charset;
use crate::row::Row;
use crate::style::Style;

/// Columns between the tab stops of a new terminal.
const TAB: usize = 8;

/// The main or the alternate buffer.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    /// From top to bottom; none while the alternate buffer is not in use.
    pub(crate) rows: Vec<Row>,
    /// The cursor's column; equal to the number of columns after something was printed in the last one.
    pub(crate) x: usize,
    /// The cursor's row.
    pub(crate) y: usize,
    /// First row of the scroll region.
    pub(crate) top: usize,
    /// Last row of the scroll region.
    pub(crate) bottom: usize,
    /// Where tabs stop, by column. May be longer than a row: stops come back when a window grows again.
    pub(crate) tabs: Vec<bool>,
    pub(crate) saved: Saved,
}

/// What DECSC saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) x: usize,
    /// Goes up with its row when the main buffer scrolls, as in xterm.js, and then counts as the first row.
    pub(crate) y: isize,
    pub(crate) style: Style,
    pub(crate) charset: Option<Charset>,
}

impl Saved {
    /// Whether nothing was saved, or nothing that would be another thing.
    pub(crate) fn is_default(self) -> bool {
        let top = Self {
            y: self.y.max(0),
            ..self
        };
        top == Self::default()
    }
}

impl Grid {
    /// An empty buffer.
    pub(crate) fn new(cols: usize, rows: usize) -> Self {
        Self {
            rows: vec![Row::new(cols, Style::default()); rows],
            x: 0,
            y: 0,
            top: 0,
            bottom: rows - 1,
            tabs: default_tabs(cols),
            saved: Saved::default(),
        }
    }

    /// The cursor's row.
    pub(crate) fn row(&mut self) -> &mut Row {
        let y = self.y.min(self.rows.len() - 1);
        &mut self.rows[y]
    }

    /// Keeps the cursor on the screen, or with origin mode within the scroll region.
    pub(crate) fn restrict(&mut self, rightmost: usize, origin: bool) {
        self.x = self.x.min(rightmost);
        self.y = if origin {
            self.y.clamp(self.top, self.bottom)
        } else {
            self.y.min(self.rows.len() - 1)
        };
    }

    /// Moves the region's rows up by one; the uppermost comes in again, empty, at its bottom.
    pub(crate) fn scroll_up(&mut self, style: Style) {
        self.rows[self.top..=self.bottom].rotate_left(1);
        self.rows[self.bottom].clear(style);
    }

    /// Moves the rows from `first` to the region's bottom down by `count`, empty ones come in.
    pub(crate) fn insert_rows(&mut self, first: usize, count: usize, style: Style) {
        let rows = &mut self.rows[first..=self.bottom];
        let count = count.min(rows.len());
        rows.rotate_right(count);
        rows[..count].iter_mut().for_each(|row| row.clear(style));
    }

    /// Takes out `count` rows from `first` on; empty ones come in at the region's bottom.
    pub(crate) fn delete_rows(&mut self, first: usize, count: usize, style: Style) {
        let rows = &mut self.rows[first..=self.bottom];
        let count = count.min(rows.len());
        rows.rotate_left(count);
        let kept = rows.len() - count;
        rows[kept..].iter_mut().for_each(|row| row.clear(style));
    }

    /// The tab stop right of column `x`, or the last column.
    pub(crate) fn next_tab(&self, x: usize, cols: usize) -> usize {
        (x + 1..cols)
            .find(|col| self.tabs.get(*col) == Some(&true))
            .unwrap_or(cols - 1)
    }

    /// The tab stop left of column `x`, or the first column.
    pub(crate) fn previous_tab(&self, x: usize) -> usize {
        (1..x)
            .rev()
            .find(|col| self.tabs.get(*col) == Some(&true))
            .unwrap_or(0)
    }

    /// Sets or clears a stop.
    pub(crate) fn set_tab(&mut self, col: usize, stop: bool) {
        if col >= self.tabs.len() {
            self.tabs.resize(col + 1, false);
        }
        self.tabs[col] = stop;
    }

    /// Adds stops for columns that are new.
    pub(crate) fn lengthen_tabs(&mut self, cols: usize) {
        let last = if self.tabs.get(cols) == Some(&true) {
            cols
        } else {
            self.previous_tab(cols)
        };
        for col in (last..cols).step_by(TAB) {
            self.set_tab(col, true);
        }
    }

    /// Whether the stops are those of a new terminal.
    pub(crate) fn has_default_tabs(&self, cols: usize) -> bool {
        self.tabs.iter().copied().take(cols).eq(default_tabs(cols))
    }
}

fn default_tabs(cols: usize) -> Vec<bool> {
    (0..cols).map(|col| col % TAB == 0).collect()
}
