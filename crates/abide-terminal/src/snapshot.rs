//! The state of a terminal as the bytes that give it to another one of the same size.
//!
//! The order matters: rows are printed while nothing bears on printing, then the states that move the
//! cursor, then the cursor, and last what the next character depends on. If the last thing that
//! happened was that a character was printed, a mark may still join it, and REP may repeat it; so that one
//! is printed again at the very end.

use std::io::Write as _;

use crate::charset;
use crate::colours::Colours;
use crate::grid::Grid;
use crate::log::{Log, Stored};
use crate::paint::{Tail, command};
use crate::resize::reflow::cells_of;
use crate::row::{Cell, Content, Row};
use crate::style::{Pen, Style};
use crate::terminal::Terminal;

/// Ends whatever the reader was in the middle of, and resets it.
const RESET: &[u8] = b"\x18\x1bc";

/// Ends a line that was drawn for another width: a row that scrolls in may have been filled with a background.
const END_OF_FLOW: &[u8] = b"\x1b[K";

/// Reset, scrollback, screen.
pub(crate) fn whole(terminal: &Terminal, max_scrollback_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * 1024);
    out.extend_from_slice(RESET);
    // What a reset may leave as it was.
    out.extend_from_slice(b"\x1b[20l");
    out.extend_from_slice(Colours::RESET);
    terminal.colours.write(&mut out);
    write_titles(terminal, &mut out);
    let mut above = scrollback(terminal, max_scrollback_bytes, &mut out);
    let main = &terminal.main;
    write_rows(terminal, main, &mut above, &mut out);
    write_grid_state(terminal, main, &mut out);
    if terminal.on_alternate {
        // Where the cursor was decides which line is not wrapped anew when the size changes.
        move_to(main.x.min(terminal.cols - 1), main.y, &mut out);
        out.extend_from_slice(b"\x1b[?1047h");
        let alternate = &terminal.alternate;
        out.extend_from_slice(b"\x1b[H");
        write_rows(terminal, alternate, &mut None, &mut out);
        write_grid_state(terminal, alternate, &mut out);
    } else if !terminal.alternate.saved.is_default() {
        out.extend_from_slice(b"\x1b[?1047h");
        write_saved(terminal, &terminal.alternate, &mut out);
        out.extend_from_slice(b"\x1b[?1047l");
    }
    write_present(terminal, &mut out);
    out
}

/// The last lines of the log. Returns how the last of them ended.
pub(crate) fn scrollback(terminal: &Terminal, max_bytes: usize, out: &mut Vec<u8>) -> Option<Tail> {
    let lines: Vec<Stored<'_>> = terminal.log.last(max_bytes).collect();
    let mut start = 0;
    let mut scratch = None;
    for end in 1..=lines.len() {
        if lines.get(end).is_some_and(|next| next.flags.wrapped()) {
            continue;
        }
        let line = &lines[start..end];
        if start > 0 {
            out.extend_from_slice(b"\r\n");
        }
        let present = |part: &Stored<'_>| usize::from(part.cols) == terminal.cols;
        let (last, before) = (line[line.len() - 1], &line[..line.len() - 1]);
        if line.iter().all(present) {
            out.extend_from_slice(line[0].bytes);
            for part in &line[1..] {
                out.extend_from_slice(part.prefix);
                out.extend_from_slice(part.bytes);
            }
        } else if last.flags.flows()
            && before
                .iter()
                .all(|part| part.flags.flows() && !part.flags.open())
        {
            line.iter()
                .for_each(|part| out.extend_from_slice(part.bytes));
            out.extend_from_slice(END_OF_FLOW);
        } else {
            // What is empty must take its place too, or the line would not be wrapped where it has to be.
            let scratch = scratch.get_or_insert_with(|| Terminal::new(2, 2, Log::new(0)));
            let rows: Vec<Row> = line
                .iter()
                .map(|part| scratch.draw(part.bytes, part.cols))
                .collect();
            scratch.painter().flowing(&cells_of(&rows, None), out);
            out.extend_from_slice(END_OF_FLOW);
        }
        start = end;
    }
    (start > 0).then(|| terminal.log.tail().unwrap_or(Tail::Full))
}

fn write_titles(terminal: &Terminal, out: &mut Vec<u8>) {
    let present = terminal.title.as_str();
    let stacked = terminal.titles.iter().map(|title| (title.as_str(), true));
    for (title, push) in stacked.chain([(present, false)]) {
        out.extend_from_slice(b"\x1b]2;");
        out.extend_from_slice(title.as_bytes());
        out.extend_from_slice(b"\x1b\\");
        if push {
            out.extend_from_slice(b"\x1b[22;2t");
        }
    }
}

/// `above` is how the line ended that was written before, if one was.
fn write_rows(terminal: &Terminal, grid: &Grid, above: &mut Option<Tail>, out: &mut Vec<u8>) {
    let painter = terminal.painter();
    for (index, row) in grid.rows.iter().enumerate() {
        if let Some(tail) = above {
            if row.wrapped {
                painter.join(*tail, row, out);
            } else {
                out.extend_from_slice(b"\r\n");
            }
        }
        painter.row(row, grid.rows.get(index + 1), out);
        *above = Some(Tail::of(row));
    }
}

/// Tab stops, saved cursor, scroll region.
fn write_grid_state(terminal: &Terminal, grid: &Grid, out: &mut Vec<u8>) {
    if !grid.has_default_tabs(terminal.cols) {
        out.extend_from_slice(b"\x1b[3g");
        for (col, _) in grid.tabs.iter().enumerate().filter(|(_, stop)| **stop) {
            if col < terminal.cols {
                command(out, col + 1, b'G');
                out.extend_from_slice(b"\x1bH");
            }
        }
    }
    write_saved(terminal, grid, out);
    if (grid.top, grid.bottom) != (0, terminal.rows - 1) {
        let _ = write!(out, "\x1b[{};{}r", grid.top + 1, grid.bottom + 1);
    }
}

fn write_saved(terminal: &Terminal, grid: &Grid, out: &mut Vec<u8>) {
    let saved = grid.saved;
    if saved.is_default() {
        return;
    }
    let links = &terminal.links;
    let mut pen = Pen::default();
    let row = usize::try_from(saved.y).unwrap_or(0).min(terminal.rows - 1);
    move_to(saved.x, row, out);
    if saved.charset.is_some() {
        charset::write_designation(b'(', saved.charset, out);
    }
    pen.take(saved.style, links, out);
    out.extend_from_slice(b"\x1b7");
    pen.take(Style::default(), links, out);
    if saved.charset.is_some() {
        charset::write_designation(b'(', None, out);
    }
}

/// Modes, character sets, cursor, pen, and the last character.
fn write_present(terminal: &Terminal, out: &mut Vec<u8>) {
    let (modes, charsets, links) = (&terminal.modes, &terminal.charsets, &terminal.links);
    let grid = terminal.grid();
    modes.write(out);
    if !charsets.is_shifted() {
        // Only a restored cursor brings a set that is not shifted in; so it is restored again, from
        // whichever buffer has it.
        charsets.write(out);
        let is_here = grid.saved.charset == charsets.current();
        let is_there = terminal.alternate.saved.charset == charsets.current();
        let from_there = !is_here && is_there && !terminal.on_alternate;
        out.extend_from_slice(if from_there {
            b"\x1b[?1047h\x1b8\x1b[?1047l\x1b[0m"
        } else {
            b"\x1b8\x1b[0m"
        });
    }
    let y = grid.y.min(terminal.rows - 1);
    let row = &grid.rows[y];
    if modes.origin {
        out.extend_from_slice(b"\x1b[?6h");
    }
    let mut pen = Pen::default();
    let again = last_printed(terminal, grid, row);
    if let Some((col, cell)) = again {
        move_in_region(terminal, col, y, out);
        if modes.insert {
            // Printing will push the rest of the row to where it is now.
            command(out, usize::from(cell.content.width()), b'P');
        }
    } else {
        move_in_region(terminal, grid.x.min(terminal.cols - 1), y, out);
        if grid.x >= terminal.cols {
            print_last(terminal, row, &mut pen, out);
            pen.take(Style::default(), links, out);
            // Nothing must join it.
            out.extend_from_slice(b"\x1b[0m");
        }
    }
    if charsets.is_shifted() {
        charsets.write(out);
    }
    if modes.insert {
        out.extend_from_slice(b"\x1b[4h");
    }
    if !modes.wrap {
        out.extend_from_slice(b"\x1b[?7l");
    }
    pen.take(terminal.pen, links, out);
    if let Some((_, cell)) = again {
        let ascii = cell.content.ascii();
        let drawn_by = ascii
            .zip(charsets.current())
            .and_then(|(byte, set)| set.drawn_by(byte));
        match drawn_by {
            Some(byte) => out.push(byte),
            None => terminal.painter().glyph(cell.content, out),
        }
    }
}

/// The cell that was printed last and that a mark could still join, and its column.
fn last_printed(terminal: &Terminal, grid: &Grid, row: &Row) -> Option<(usize, Cell)> {
    let width = usize::from(terminal.printed);
    let col = grid.x.checked_sub(width).filter(|_| width > 0)?;
    let cell = *row.cells().get(col)?;
    let as_printed = usize::from(cell.content.width()) == width
        && !cell.content.is_empty()
        && cell.style == terminal.pen;
    as_printed.then_some((col, cell))
}

/// Prints the last cell of a row so that the cursor waits behind it. If it has been erased since, a blank takes
/// its place: nothing can bring the cursor there but printing.
fn print_last(terminal: &Terminal, row: &Row, pen: &mut Pen, out: &mut Vec<u8>) {
    let cells = row.cells();
    let last = cells.len() - 1;
    let col = if cells[last].content == Content::SPACER {
        command(out, last, b'G');
        last - 1
    } else {
        last
    };
    if terminal.painter().cell(cells[col], pen, out) == 0 {
        pen.take(cells[col].style.erased(), &terminal.links, out);
        out.push(b' ');
    }
}

/// Moves the cursor, under origin mode if that is on: then the rows count from the scroll region, which
/// the cursor does not leave. If it was outside of it all the same, it is moved in the other buffer, which
/// has a region of its own, and taken along.
fn move_in_region(terminal: &Terminal, col: usize, row: usize, out: &mut Vec<u8>) {
    let grid = terminal.grid();
    if !terminal.modes.origin {
        move_to(col, row, out);
    } else if (grid.top..=grid.bottom).contains(&row) || terminal.on_alternate {
        move_to(col, row.saturating_sub(grid.top), out);
    } else {
        out.extend_from_slice(b"\x1b[?1047h");
        move_to(col, row, out);
        out.extend_from_slice(b"\x1b[?1047l");
    }
}

fn move_to(col: usize, row: usize, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "\x1b[{};{}H", row + 1, col + 1);
}
