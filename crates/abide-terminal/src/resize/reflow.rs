//! Wraps lines anew after the number of columns has changed.

use super::Lines;
use crate::row::{Cell, Content, Row};
use crate::style::Style;

impl Lines {
    /// Lines that had to be wrapped at `old` columns, or have to be at `new`, are cut into rows again. The one
    /// with the cursor is left alone.
    pub(super) fn reflow(&mut self, old: usize, new: usize, screen_rows: usize) {
        let wider = new > old;
        let cursor = self.base + self.y;
        let mut rows = std::mem::take(&mut self.rows);
        let mut groups = Vec::new();
        let mut start = 0;
        for end in 1..=rows.len() {
            if rows.get(end).is_none_or(|row| !row.wrapped) {
                groups.push(start..end);
                start = end;
            }
        }
        // The counts are taken group by group: downwards when lines get longer, upwards when they get
        // shorter, as the place of the screen depends on it.
        let mut changed: Vec<(std::ops::Range<usize>, Vec<Row>)> = Vec::new();
        for group in groups {
            let lines = &rows[group.clone()];
            let single = lines.len() == 1;
            let fits = single && lines[0].text_end() <= new;
            if group.contains(&cursor) || single && wider || fits {
                continue;
            }
            let anew = cut(lines, Some(old), new);
            changed.push((group, anew));
        }
        if wider {
            let removed = changed
                .iter()
                .map(|(group, anew)| group.len().saturating_sub(anew.len()))
                .sum();
            replace(&mut rows, changed);
            self.rows = rows;
            self.close_up(new, screen_rows, removed);
        } else {
            let mut popped = 0;
            let mut total = rows.len();
            for (group, anew) in changed.iter().rev() {
                let added = anew.len().saturating_sub(group.len());
                total += added;
                let taken_off = self.make_room(added, screen_rows, total);
                total -= taken_off;
                popped += taken_off;
            }
            replace(&mut rows, changed);
            rows.truncate(rows.len() - popped.min(rows.len()));
            self.rows = rows;
        }
        for row in &mut self.rows {
            row.resize(new);
        }
    }

    /// After rows have gone, the screen takes rows from above, or else ends with empty ones.
    fn close_up(&mut self, cols: usize, screen_rows: usize, removed: usize) {
        for _ in 0..removed {
            if self.base > 0 {
                self.base -= 1;
            } else {
                self.y = self.y.saturating_sub(1);
                self.saved -= 1;
                if self.rows.len() < screen_rows {
                    self.rows.push(Row::new(cols, Style::default()));
                }
            }
        }
    }

    /// Before rows are added, the screen gives rows away below the cursor as long as nothing is above, else
    /// above. There will be `total` rows. Returns how many are to be taken off the end.
    fn make_room(&mut self, added: usize, screen_rows: usize, total: usize) -> usize {
        let mut popped = 0;
        for _ in 0..added {
            if self.base == 0 && self.y < screen_rows - 1 {
                self.y += 1;
                popped += 1;
            } else if self.base == 0 || self.base + screen_rows < total {
                self.base += 1;
            }
        }
        popped
    }
}

/// The cells of a line that was wrapped into `rows`, up to the end of its text. It was wrapped at `width` columns
/// if they have been lengthened since.
pub(crate) fn cells_of(rows: &[Row], width: Option<usize>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cols = width.unwrap_or(row.cols());
        let end = match rows.get(index + 1) {
            None => row.text_end(),
            Some(next) => {
                let last = row.cells()[cols - 1].content;
                // A wide character had no room there.
                let left_free = last == Content::default() && next.cells()[0].content.width() == 2;
                if left_free { cols - 1 } else { cols }
            }
        };
        cells.extend_from_slice(&row.cells()[..end]);
    }
    cells
}

/// Cuts a line that was wrapped into `lines`, at `width` columns, into rows of `new` columns.
pub(super) fn cut(lines: &[Row], width: Option<usize>, new: usize) -> Vec<Row> {
    let cells = cells_of(lines, width);
    let mut rows = Vec::new();
    let mut rest = &cells[..];
    while !rest.is_empty() || rows.is_empty() {
        let mut end = rest.len().min(new);
        if end == new && rest.len() > new && rest[end - 1].content.width() == 2 {
            end -= 1;
        }
        let (taken, left) = rest.split_at(end);
        let mut row = Row::new(new, Style::default());
        row.copy(0, taken);
        row.wrapped = !rows.is_empty() || lines[0].wrapped;
        rows.push(row);
        rest = left;
    }
    rows
}

fn replace(rows: &mut Vec<Row>, changed: Vec<(std::ops::Range<usize>, Vec<Row>)>) {
    for (group, anew) in changed.into_iter().rev() {
        rows.splice(group, anew);
    }
}
