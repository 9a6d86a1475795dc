//! The visible screen as text.

use crate::row::{Content, Row};
use crate::style::{Pen, Style};
use crate::terminal::Terminal;

/// Without looks.
pub(crate) fn plain(terminal: &Terminal) -> String {
    lines(terminal, false)
}

/// With looks.
pub(crate) fn ansi(terminal: &Terminal) -> String {
    lines(terminal, true)
}

fn lines(terminal: &Terminal, looks: bool) -> String {
    let rows = &terminal.grid().rows;
    let mut out = Vec::new();
    // Up to the last row that shows something.
    let mut end = 0;
    for row in rows {
        let start = out.len();
        write_row(terminal, row, looks, &mut out);
        if out.len() > start {
            end = out.len();
        }
        out.push(b'\n');
    }
    out.truncate(end);
    String::from_utf8_lossy(&out).into_owned()
}

fn write_row(terminal: &Terminal, row: &Row, looks: bool, out: &mut Vec<u8>) {
    let painter = terminal.painter();
    let links = &terminal.links;
    let mut pen = Pen::default();
    // Up to the last cell that is no blank, or that looks like something.
    let start = out.len();
    let (mut end, mut pen_there) = (start, pen);
    for cell in &row.cells()[..row.painted()] {
        if cell.content == Content::SPACER {
            continue;
        }
        if looks {
            pen.take(cell.style, links, out);
        }
        if cell.content.is_empty() {
            out.push(b' ');
        } else {
            painter.glyph(cell.content, out);
        }
        if out.last() != Some(&b' ') || looks && cell.style != Style::default() {
            (end, pen_there) = (out.len(), pen);
        }
    }
    out.truncate(end);
    pen_there.take(Style::default(), links, out);
}
