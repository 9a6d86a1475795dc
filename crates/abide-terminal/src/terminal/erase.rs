//! Erasing, inserting and deleting.

use super::Terminal;

impl Terminal {
    /// ED, and with `selective` DECSED.
    pub(super) fn erase_in_display(&mut self, part: i32, selective: bool) {
        self.restrict(self.cols);
        let cols = self.cols;
        let (x, y) = (self.grid().x, self.grid().y);
        let last = self.rows - 1;
        match part {
            0 => {
                self.erase_in_row(y, x, cols, x == 0, selective);
                for y in y + 1..=last {
                    self.erase_in_row(y, 0, cols, true, selective);
                }
            }
            1 => {
                self.erase_in_row(y, 0, x + 1, true, selective);
                if x + 1 >= cols && y < last {
                    self.grid_mut().rows[y + 1].wrapped = false;
                }
                for y in 0..y {
                    self.erase_in_row(y, 0, cols, true, selective);
                }
            }
            2 => {
                for y in 0..=last {
                    self.erase_in_row(y, 0, cols, true, selective);
                }
            }
            3 if !self.on_alternate => self.log.clear(),
            _ => {}
        }
    }

    /// EL, and with `selective` DECSEL.
    pub(super) fn erase_in_line(&mut self, part: i32, selective: bool) {
        self.restrict(self.cols);
        let cols = self.cols;
        let (x, y) = (self.grid().x, self.grid().y);
        match part {
            0 => self.erase_in_row(y, x, cols, x == 0, selective),
            1 => self.erase_in_row(y, 0, x + 1, false, selective),
            2 => self.erase_in_row(y, 0, cols, true, selective),
            _ => {}
        }
    }

    /// ECH.
    pub(super) fn erase_chars(&mut self, count: usize) {
        self.restrict(self.cols - 1);
        let (x, y) = (self.grid().x, self.grid().y);
        self.erase_in_row(y, x, x.saturating_add(count), false, false);
    }

    /// ICH.
    pub(super) fn insert_chars(&mut self, count: usize) {
        self.restrict(self.cols - 1);
        let style = self.pen.erased();
        let grid = self.grid_mut();
        let x = grid.x;
        grid.row().insert(x, count, style);
    }

    /// DCH.
    pub(super) fn delete_chars(&mut self, count: usize) {
        self.restrict(self.cols - 1);
        let style = self.pen.erased();
        let grid = self.grid_mut();
        let x = grid.x;
        grid.row().delete(x, count, style);
    }

    /// IL with `insert`, DL without.
    pub(super) fn change_lines(&mut self, count: usize, insert: bool) {
        self.restrict(self.cols - 1);
        let style = self.pen.erased();
        let grid = self.grid_mut();
        if !(grid.top..=grid.bottom).contains(&grid.y) {
            return;
        }
        let y = grid.y;
        if insert {
            grid.insert_rows(y, count, style);
        } else {
            grid.delete_rows(y, count, style);
        }
        grid.x = 0;
    }

    /// In every row of the scroll region inserts (or deletes) `count` cells at `col`: SL, SR, DECIC, DECDC.
    pub(super) fn change_columns(&mut self, col: usize, count: usize, insert: bool) {
        let style = self.pen.erased();
        let grid = self.grid_mut();
        if !(grid.top..=grid.bottom).contains(&grid.y) {
            return;
        }
        for row in &mut grid.rows[grid.top..=grid.bottom] {
            if insert {
                row.insert(col, count, style);
            } else {
                row.delete(col, count, style);
            }
            row.wrapped = false;
        }
    }

    fn erase_in_row(&mut self, y: usize, start: usize, end: usize, unwrap: bool, selective: bool) {
        let style = self.pen.erased();
        let row = &mut self.grid_mut().rows[y];
        if selective {
            row.erase_unprotected(start, end, style);
        } else {
            row.erase(start, end, style);
        }
        if unwrap {
            row.wrapped = false;
        }
    }
}
