//! Changes the size of a terminal as xterm.js does: first the number of rows, then the number of columns,
//! with wrapped lines wrapped anew.
//!
//! Lines that have scrolled off lie in the log as bytes and stay as they are; only as many of the last of
//! them as may come back onto the screen are made into cells again, at the old width, and what does not
//! come back is written again at the new one. The rest of the scrollback is wrapped by whoever shows it, who
//! gets lines that run on for as long as the program meant them to.

pub(crate) mod reflow;

use crate::grid::Grid;
use crate::row::Row;
use crate::style::Style;
use crate::terminal::Terminal;

/// Rows that are made into cells again at most, so that a line without an end does not take the memory
/// that the log saves.
const MOST_RECALLED: usize = 4096;

/// The rows of a buffer, those above the screen first.
pub(super) struct Lines {
    rows: Vec<Row>,
    /// How many of them are above the screen.
    base: usize,
    x: usize,
    /// The cursor's row on the screen.
    y: usize,
    /// The saved cursor's, which stays with its row when rows come or go above it.
    saved: isize,
}

/// Changes the size of both buffers.
pub(crate) fn resize(terminal: &mut Terminal, cols: usize, rows: usize) {
    let (old_cols, old_rows) = (terminal.cols, terminal.rows);
    if (cols, rows) == (old_cols, old_rows) {
        return;
    }
    let wider = cols.max(old_cols).div_ceil(cols.min(old_cols));
    let mut above = recall(terminal, (rows + old_rows) * wider);
    let mut lines = Lines {
        base: above.len(),
        x: terminal.main.x,
        y: terminal.main.y,
        saved: terminal.main.saved.y,
        rows: {
            above.append(&mut terminal.main.rows);
            above
        },
    };
    lines.change_rows(cols, old_rows, rows);
    if cols != old_cols {
        lines.reflow(old_cols, cols, rows);
    }
    let screen = lines.rows.split_off(lines.base.min(lines.rows.len()));
    put_back(terminal, &lines.rows, screen.first());
    settle(&mut terminal.main, screen, cols, rows);
    terminal.main.x = lines.x;
    terminal.main.y = lines.y;
    terminal.main.saved.y = lines.saved;

    if terminal.on_alternate {
        let mut lines = Lines {
            base: 0,
            x: terminal.alternate.x,
            y: terminal.alternate.y,
            saved: terminal.alternate.saved.y,
            rows: std::mem::take(&mut terminal.alternate.rows),
        };
        lines.change_rows(cols, old_rows, rows);
        let screen = lines.rows.split_off(lines.base);
        settle(&mut terminal.alternate, screen, cols, rows);
        terminal.alternate.x = lines.x;
        terminal.alternate.y = lines.y;
    }
    terminal.cols = cols;
    terminal.rows = rows;
}

/// What both buffers have in common.
fn settle(grid: &mut Grid, mut screen: Vec<Row>, cols: usize, rows: usize) {
    screen.truncate(rows);
    screen.resize_with(rows, || Row::new(cols, Style::default()));
    screen.iter_mut().for_each(|row| row.resize(cols));
    grid.rows = screen;
    grid.top = 0;
    grid.bottom = rows - 1;
    grid.saved.x = grid.saved.x.min(cols - 1);
    grid.lengthen_tabs(cols);
}

impl Lines {
    fn change_rows(&mut self, cols: usize, old: usize, new: usize) {
        if self.rows.first().is_some_and(|row| row.cols() < cols) {
            self.rows.iter_mut().for_each(|row| row.resize(cols));
        }
        let mut moved = 0;
        for _ in old..new {
            if self.rows.len() >= new + self.base {
                break;
            }
            if self.base > 0 && self.rows.len() <= self.base + self.y + moved + 1 {
                // Nothing is below the cursor: a line comes back from above.
                self.base -= 1;
                self.saved += 1;
                moved += 1;
            } else {
                self.rows.push(Row::new(cols, Style::default()));
            }
        }
        for _ in new..old {
            if self.rows.len() <= new + self.base {
                break;
            }
            if self.rows.len() > self.base + self.y + 1 {
                self.rows.pop();
            } else {
                self.base += 1;
                self.saved -= 1;
            }
        }
        self.x = self.x.min(cols - 1);
        self.y = self.y.min(new - 1) + moved;
    }
}

/// Takes at least `count` rows out of the log, as long as there are, and makes them into cells at the present
/// width.
fn recall(terminal: &mut Terminal, count: usize) -> Vec<Row> {
    let lines = terminal
        .log
        .take_last(count.min(MOST_RECALLED), MOST_RECALLED);
    let mut rows = Vec::new();
    let mut line = Vec::new();
    for (index, part) in lines.iter().enumerate() {
        let mut row = terminal.draw(&part.bytes, part.cols);
        row.wrapped = part.wrapped;
        line.push(row);
        if lines.get(index + 1).is_none_or(|next| !next.wrapped) {
            let whole = std::mem::take(&mut line);
            if whole.iter().all(|row| row.cols() == terminal.cols) {
                rows.extend(whole);
            } else {
                rows.extend(reflow::cut(&whole, None, terminal.cols));
            }
        }
    }
    rows
}

/// Writes rows into the log; `next` is the row below the last of them.
fn put_back(terminal: &mut Terminal, rows: &[Row], next: Option<&Row>) {
    let painter = crate::paint::Painter {
        clusters: &terminal.clusters,
        links: &terminal.links,
    };
    for (index, row) in rows.iter().enumerate() {
        terminal
            .log
            .push(row, rows.get(index + 1).or(next), painter);
    }
}
