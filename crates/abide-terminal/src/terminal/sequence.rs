//! Control sequences, `CSI …`.

use super::Terminal;
use crate::parser::Params;
use crate::style::Attributes;

/// Prefix and intermediates, as the parser collects them.
const NONE: u32 = 0;
const QUESTION: u32 = b'?' as u32;
const GREATER: u32 = b'>' as u32;
const SPACE: u32 = b' ' as u32;
const BANG: u32 = b'!' as u32;
const QUOTE: u32 = b'"' as u32;
const APOSTROPHE: u32 = b'\'' as u32;

impl Terminal {
    /// A control sequence.
    pub(crate) fn sequence(&mut self, collected: u32, last: u8, params: &Params) {
        let count = params.count(0);
        let first = params.get(0);
        let x = self.grid().x;
        match (collected, last) {
            (NONE, b'm') => self.pen.select(params),
            (NONE, b'H' | b'f') => self.move_to(params.count(1) - 1, count - 1),
            (NONE, b'A') => self.up(count),
            (NONE, b'B') => self.down(count),
            (NONE, b'C' | b'a') => self.move_by(count.cast_signed(), 0),
            (NONE, b'D') => self.move_by(-count.cast_signed(), 0),
            (NONE, b'E') => {
                self.down(count);
                self.grid_mut().x = 0;
            }
            (NONE, b'F') => {
                self.up(count);
                self.grid_mut().x = 0;
            }
            (NONE, b'G' | b'`') => {
                let y = self.grid().y;
                self.move_to_row(count - 1, y.cast_signed());
            }
            (NONE, b'd') => self.move_to(x, count - 1),
            (NONE, b'e') => self.move_by(0, count.cast_signed()),
            (NONE, b'I') => self.tabs(count, true),
            (NONE, b'Z') => self.tabs(count, false),
            (NONE, b'g') => self.clear_tabs(first),
            (NONE, b'J') => self.erase_in_display(first, false),
            (QUESTION, b'J') => self.erase_in_display(first, true),
            (NONE, b'K') => self.erase_in_line(first, false),
            (QUESTION, b'K') => self.erase_in_line(first, true),
            (NONE, b'X') => self.erase_chars(count),
            (NONE, b'@') => self.insert_chars(count),
            (NONE, b'P') => self.delete_chars(count),
            (NONE, b'L') => self.change_lines(count, true),
            (NONE, b'M') => self.change_lines(count, false),
            (NONE, b'S') => self.scroll_region(count, true),
            (NONE, b'T') => self.scroll_region(count, false),
            (SPACE, b'@') => self.change_columns(0, count, false),
            (SPACE, b'A') => self.change_columns(0, count, true),
            (APOSTROPHE, b'}') => self.change_columns(x, count, true),
            (APOSTROPHE, b'~') => self.change_columns(x, count, false),
            (NONE, b'b') => self.repeat(count),
            (NONE, b'r') => self.set_region(params),
            (NONE, b's') => self.save_cursor(),
            (NONE, b'u') => self.restore_cursor(),
            (NONE, b'h' | b'l') => {
                params
                    .iter()
                    .for_each(|mode| self.modes.set(mode, last == b'h'));
            }
            (QUESTION, b'h' | b'l') => {
                params
                    .iter()
                    .for_each(|mode| self.private_mode(mode, last == b'h'));
            }
            (BANG, b'p') => self.soft_reset(),
            (SPACE, b'q') => self.modes.set_cursor_form(first),
            (QUOTE, b'q') => self.protect(first),
            (GREATER, b'm') if first == 4 => self.modes.set_other_keys(params.get(1)),
            (NONE, b't') if matches!(params.get(1), 0 | 2) => match first {
                22 => self.stack_title(true),
                23 => self.stack_title(false),
                _ => {}
            },
            _ => {}
        }
        self.printed = 0;
    }

    /// Moves the cursor; with origin mode `y` counts from the top of the scroll region.
    pub(super) fn move_to(&mut self, x: usize, y: usize) {
        self.move_to_row(x, y.cast_signed());
    }

    fn move_to_row(&mut self, x: usize, y: isize) {
        let origin = self.modes.origin;
        let grid = self.grid_mut();
        let top = if origin { grid.top } else { 0 };
        grid.x = x;
        grid.y = usize::try_from(y.saturating_add_unsigned(top)).unwrap_or(0);
        self.restrict(self.cols - 1);
    }

    fn move_by(&mut self, x: isize, y: isize) {
        self.restrict(self.cols - 1);
        let grid = self.grid();
        let x = grid.x.saturating_add_signed(x);
        let y = grid.y.cast_signed().saturating_add(y);
        self.move_to_row(x, y);
    }

    /// Up, but not out of the scroll region.
    fn up(&mut self, count: usize) {
        let grid = self.grid();
        let room = grid.y.checked_sub(grid.top).unwrap_or(usize::MAX);
        self.move_by(0, -count.min(room).cast_signed());
    }

    /// Down, but not out of the scroll region.
    fn down(&mut self, count: usize) {
        let grid = self.grid();
        let room = grid.bottom.checked_sub(grid.y).unwrap_or(usize::MAX);
        self.move_by(0, count.min(room).cast_signed());
    }

    fn tabs(&mut self, count: usize, forward: bool) {
        let cols = self.cols;
        let grid = self.grid_mut();
        if grid.x >= cols {
            return;
        }
        for _ in 0..count.min(cols) {
            grid.x = if forward {
                grid.next_tab(grid.x, cols)
            } else {
                grid.previous_tab(grid.x)
            };
        }
    }

    fn clear_tabs(&mut self, which: i32) {
        let grid = self.grid_mut();
        match which {
            0 => {
                let x = grid.x;
                grid.set_tab(x, false);
            }
            3 => grid.tabs.fill(false),
            _ => {}
        }
    }

    /// SU and SD. What leaves the screen here does not go into the scrollback.
    fn scroll_region(&mut self, count: usize, up: bool) {
        let style = self.pen.erased();
        let grid = self.grid_mut();
        let top = grid.top;
        if up {
            grid.delete_rows(top, count, style);
        } else {
            grid.insert_rows(top, count, Default::default());
        }
    }

    /// DECSTBM.
    fn set_region(&mut self, params: &Params) {
        let rows = self.rows;
        let top = params.count(0);
        let bottom = match usize::try_from(params.get(1)) {
            Ok(bottom) if params.len() >= 2 && (1..=rows).contains(&bottom) => bottom,
            _ => rows,
        };
        if bottom > top {
            let grid = self.grid_mut();
            grid.top = top - 1;
            grid.bottom = bottom - 1;
            self.move_to(0, 0);
        }
    }

    /// DECSCA.
    fn protect(&mut self, which: i32) {
        match which {
            0 | 2 => self.pen.attributes.set(Attributes::PROTECTED, false),
            1 => self.pen.attributes.set(Attributes::PROTECTED, true),
            _ => {}
        }
    }

    fn private_mode(&mut self, mode: i32, on: bool) {
        match (mode, on) {
            (2, true) => self.charsets.all_ascii(),
            (6, _) => {
                self.modes.origin = on;
                self.move_to(0, 0);
            }
            (1048, true) => self.save_cursor(),
            (1048, false) => self.restore_cursor(),
            (47 | 1047 | 1049, true) => {
                if mode == 1049 {
                    self.save_cursor();
                }
                self.enter_alternate();
            }
            (47 | 1047 | 1049, false) => {
                self.leave_alternate();
                if mode == 1049 {
                    self.restore_cursor();
                }
            }
            _ => {
                if let Ok(mode) = u16::try_from(mode) {
                    self.modes.set_private(mode, on);
                }
            }
        }
    }
}
