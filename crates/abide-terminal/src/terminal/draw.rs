//! Makes lines of the log into cells again.

use super::Terminal;
use crate::log::Log;
use crate::parser::{Event, Parser};
use crate::row::Row;
use crate::utf8::Utf8;

/// More than there can be.
const NEVER: usize = usize::MAX / 2;

impl Terminal {
    /// The row that `bytes` draw on a screen of `cols` columns.
    pub(crate) fn draw(&mut self, bytes: &[u8], cols: u16) -> Row {
        let mut scratch = Self::new(cols.into(), 2, Log::new(0));
        // The cells refer to what is kept here, where nothing must be forgotten before they have a place.
        scratch.clusters_in_use = NEVER;
        scratch.links_in_use = NEVER;
        std::mem::swap(&mut scratch.links, &mut self.links);
        std::mem::swap(&mut scratch.clusters, &mut self.clusters);
        let (mut utf8, mut parser) = (Utf8::default(), Parser::default());
        for code in bytes.iter().filter_map(|byte| utf8.push(*byte)) {
            match parser.advance(code) {
                Event::Print(character) => scratch.print(character),
                Event::Execute(control) => scratch.execute(control),
                Event::Csi(last) => scratch.sequence(parser.collected(), last, parser.params()),
                Event::Osc { .. } => scratch.command(parser.payload()),
                Event::None | Event::Escape(_) | Event::DcsStart(_) | Event::DcsEnd => {}
            }
        }
        std::mem::swap(&mut scratch.links, &mut self.links);
        std::mem::swap(&mut scratch.clusters, &mut self.clusters);
        scratch.main.rows.swap_remove(0)
    }
}
