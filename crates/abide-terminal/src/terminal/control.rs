//! Control characters and escape sequences.

use super::Terminal;
use crate::row::Content;

impl Terminal {
    /// A control character, C0 or C1.
    pub(crate) fn execute(&mut self, control: u8) {
        match control {
            0x08 => self.backspace(),
            0x09 => self.tab(),
            0x0a..=0x0c => self.line_feed(),
            0x0d => self.grid_mut().x = 0,
            0x0e => self.charsets.shift(1),
            0x0f => self.charsets.shift(0),
            0x84 => self.index(),
            0x85 => self.next_line(),
            0x88 => self.set_tab(),
            _ => {}
        }
        self.printed = 0;
    }

    /// An escape sequence that is no control sequence.
    pub(crate) fn escape(&mut self, intermediates: u32, last: u8) {
        match (intermediates, last) {
            (0, b'7') => self.save_cursor(),
            (0, b'8') => self.restore_cursor(),
            (0, b'D') => self.index(),
            (0, b'E') => self.next_line(),
            (0, b'H') => self.set_tab(),
            (0, b'M') => self.reverse_index(),
            (0, b'=') => self.modes.set_keypad(true),
            (0, b'>') => self.modes.set_keypad(false),
            (0, b'c') => self.reset(),
            (0, b'n' | b'}') => self.charsets.shift(2),
            (0, b'o' | b'|') => self.charsets.shift(3),
            (0, b'~') => self.charsets.shift(1),
            (0x25, b'@' | b'G') => self.charsets.reset_to_ascii(),
            (0x23, b'8') => self.align(),
            (0x28..=0x2e, designator) => {
                let intermediate = u8::try_from(intermediates).unwrap_or(0);
                self.charsets.designate(intermediate, designator);
            }
            _ => {}
        }
        self.printed = 0;
    }

    fn line_feed(&mut self) {
        let newline = self.modes.newline;
        let (cols, rows) = (self.cols, self.rows);
        let grid = self.grid_mut();
        if newline {
            grid.x = 0;
        }
        // The program has ended the line, so the cursor no longer waits behind it.
        grid.x = grid.x.min(cols - 1);
        grid.y += 1;
        if grid.y == grid.bottom + 1 {
            grid.y -= 1;
            self.scroll(false);
        } else if grid.y >= rows {
            grid.y = rows - 1;
        } else {
            grid.row().wrapped = false;
        }
    }

    fn index(&mut self) {
        self.restrict(self.cols - 1);
        let rows = self.rows;
        let grid = self.grid_mut();
        grid.y += 1;
        if grid.y == grid.bottom + 1 {
            grid.y -= 1;
            self.scroll(false);
        } else if grid.y >= rows {
            grid.y = rows - 1;
        }
        self.restrict(self.cols - 1);
    }

    fn next_line(&mut self) {
        self.grid_mut().x = 0;
        self.index();
    }

    fn reverse_index(&mut self) {
        self.restrict(self.cols - 1);
        let style = self.pen.erased();
        let grid = self.grid_mut();
        if grid.y == grid.top {
            let top = grid.top;
            grid.insert_rows(top, 1, style);
        } else {
            grid.y = grid.y.saturating_sub(1);
            self.restrict(self.cols - 1);
        }
    }

    fn backspace(&mut self) {
        let reverse = self.modes.reverse_wrap;
        self.restrict(if reverse { self.cols } else { self.cols - 1 });
        let cols = self.cols;
        let grid = self.grid_mut();
        if grid.x > 0 {
            grid.x -= 1;
        } else if reverse && grid.y > grid.top && grid.y <= grid.bottom && grid.rows[grid.y].wrapped
        {
            grid.rows[grid.y].wrapped = false;
            grid.y -= 1;
            grid.x = cols - 1;
            // A wide character had no room there.
            let last = grid.rows[grid.y].cells()[cols - 1].content;
            if last.is_empty() && last != Content::SPACER {
                grid.x -= 1;
            }
        }
        self.restrict(self.cols - 1);
    }

    fn tab(&mut self) {
        let cols = self.cols;
        let grid = self.grid_mut();
        if grid.x < cols {
            grid.x = grid.next_tab(grid.x, cols);
        }
    }

    fn set_tab(&mut self) {
        let grid = self.grid_mut();
        let x = grid.x;
        grid.set_tab(x, true);
    }

    /// DECALN: a screen full of E.
    fn align(&mut self) {
        let style = self.pen;
        let grid = self.grid_mut();
        for row in &mut grid.rows {
            row.fill(Content::char('E', 1), style);
        }
        self.move_to(0, 0);
    }
}
