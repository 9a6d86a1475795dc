//! The screen of a terminal: what its output amounts to, and how to hand that over.
//!
//! A [`Screen`] is fed with a terminal's output, beside the way of that output to its viewers. It keeps the
//! cells of what is visible, cursor, modes and all else that bears on what comes next; lines that have
//! scrolled off it keeps as the bytes that draw them, within a [`ScrollbackLimit`]. From it come
//!
//! - a snapshot: bytes that give a terminal of the same size the same state. [`Screen::snapshot`] is
//!   everything, [`Screen::visible`] and [`Screen::scrollback`] its two parts;
//! - a [`Keyframe`]: the same to be stored, from which the screen can go on after a restart;
//! - text for those who read and do not look: [`Screen::text`] and [`Screen::ansi`].
//!
//! What it guarantees: a snapshot and what follows its offset lead to the same cells, cursor and modes as the
//! output from its beginning, however the output was cut; nothing in a snapshot makes a terminal answer, ring or
//! touch the clipboard; and no output, however malformed, makes it panic or take memory without a bound.
//! It answers no queries, for there is a terminal that does whenever somebody looks. Output that is
//! replayed goes through a [`ReplayFilter`].
//!
//! It does what xterm.js does; `docs/decisions/0012-the-screen-is-our-own.md` says why, and where not.
//!
//! ```
//! use abide_terminal::{Screen, ScrollbackLimit, Size};
//!
//! # fn main() -> Result<(), abide_terminal::Error> {
//! let mut screen = Screen::new(Size::new(80, 24)?, ScrollbackLimit(1 << 20), 0);
//! screen.feed(b"\x1b[1mready\x1b[0m\r\n$ ");
//! assert_eq!(screen.text(), "ready\n$");
//! assert_eq!(screen.offset(), 17);
//! # Ok(())
//! # }
//! ```

mod charset;
mod clusters;
mod colours;
mod grid;
mod keyframe;
mod links;
mod log;
mod modes;
mod paint;
mod parser;
mod replay;
mod resize;
mod row;
mod screen;
mod size;
mod snapshot;
mod style;
mod terminal;
mod text;
mod utf8;
mod width;

pub use keyframe::Keyframe;
pub use replay::ReplayFilter;
pub use screen::{Cursor, Screen, ScrollbackLimit};
pub use size::Size;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A size outside of what a screen can have.
    #[error("a screen cannot have {cols} columns and {rows} rows")]
    Size {
        /// Columns that were asked for.
        cols: u16,
        /// Rows that were asked for.
        rows: u16,
    },
    /// A keyframe that cannot be used.
    #[error("the keyframe cannot be read: {what}")]
    Keyframe {
        /// What is the matter with it.
        what: &'static str,
    },
}
