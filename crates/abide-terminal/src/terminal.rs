//! The terminal: what control sequences and characters do to the two buffers.
//!
//! It does what xterm.js does, since that is what shows the same bytes to people; where it differs, the
//! decision record on the screen says so. It answers no query: whoever looks at the terminal has one that does.

mod collect;
mod control;
mod draw;
mod erase;
mod osc;
mod print;
mod sequence;

use crate::charset::Charsets;
use crate::clusters::Clusters;
use crate::colours::Colours;
use crate::grid::{Grid, Saved};
use crate::links::Links;
use crate::log::Log;
use crate::modes::Modes;
use crate::paint::Painter;
use crate::style::Style;

/// As many titles as xterm.js keeps on its stack.
const MOST_TITLES: usize = 10;

/// Everything that output has led to.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    pub(crate) cols: usize,
    pub(crate) rows: usize,
    pub(crate) main: Grid,
    /// Has rows only while it is in use.
    pub(crate) alternate: Grid,
    pub(crate) on_alternate: bool,
    /// The look of what is printed next.
    pub(crate) pen: Style,
    pub(crate) charsets: Charsets,
    pub(crate) modes: Modes,
    pub(crate) title: String,
    pub(crate) titles: Vec<String>,
    pub(crate) colours: Colours,
    pub(crate) links: Links,
    pub(crate) clusters: Clusters,
    /// Clusters that were in use when they were last collected.
    clusters_in_use: usize,
    links_in_use: usize,
    pub(crate) log: Log,
    /// The width of the character that was printed last, as long as nothing but printing followed: a mark
    /// joins it, and REP repeats it. 0 is none.
    pub(crate) printed: u8,
}

impl Terminal {
    pub(crate) fn new(cols: usize, rows: usize, log: Log) -> Self {
        let mut alternate = Grid::new(cols, rows);
        alternate.rows.clear();
        Self {
            cols,
            rows,
            main: Grid::new(cols, rows),
            alternate,
            on_alternate: false,
            pen: Style::default(),
            charsets: Charsets::default(),
            modes: Modes::default(),
            title: String::new(),
            titles: Vec::new(),
            colours: Colours::default(),
            links: Links::default(),
            clusters: Clusters::default(),
            clusters_in_use: 0,
            links_in_use: 0,
            log,
            printed: 0,
        }
    }

    /// The buffer in use.
    pub(crate) fn grid(&self) -> &Grid {
        if self.on_alternate {
            &self.alternate
        } else {
            &self.main
        }
    }

    fn grid_mut(&mut self) -> &mut Grid {
        if self.on_alternate {
            &mut self.alternate
        } else {
            &mut self.main
        }
    }

    /// What writes the rows.
    pub(crate) fn painter(&self) -> Painter<'_> {
        Painter {
            clusters: &self.clusters,
            links: &self.links,
        }
    }

    /// Keeps the cursor where it may be; `rightmost` is `cols` where it may wait behind the last column.
    fn restrict(&mut self, rightmost: usize) {
        let origin = self.modes.origin;
        self.grid_mut().restrict(rightmost, origin);
    }

    /// Moves the rows of the scroll region up by one. What leaves the main screen at its top goes into the
    /// log.
    fn scroll(&mut self, wrapped: bool) {
        let style = self.pen.erased();
        if !self.on_alternate && self.main.top == 0 {
            let painter = Painter {
                clusters: &self.clusters,
                links: &self.links,
            };
            let rows = &self.main.rows;
            self.log.push(&rows[0], rows.get(1), painter);
            self.main.saved.y -= 1;
        }
        let grid = self.grid_mut();
        grid.scroll_up(style);
        grid.rows[grid.bottom].wrapped = wrapped;
    }

    fn save_cursor(&mut self) {
        let style = self.pen;
        let charset = self.charsets.current();
        let last = self.cols - 1;
        let grid = self.grid_mut();
        grid.saved = Saved {
            // A restored cursor does not wait behind the last column.
            x: grid.x.min(last),
            y: grid.y.cast_signed(),
            style,
            charset,
        };
    }

    fn restore_cursor(&mut self) {
        let link = self.pen.link;
        let grid = self.grid_mut();
        let saved = grid.saved;
        grid.x = saved.x;
        grid.y = usize::try_from(saved.y).unwrap_or(0);
        // An open link is not part of what is saved.
        self.pen = Style {
            link,
            ..saved.style
        };
        self.charsets.restore(saved.charset);
        self.restrict(self.cols - 1);
    }

    fn enter_alternate(&mut self) {
        if self.on_alternate {
            return;
        }
        let saved = self.alternate.saved;
        let mut grid = Grid::new(self.cols, self.rows);
        let style = self.pen.erased();
        grid.rows.iter_mut().for_each(|row| row.clear(style));
        grid.x = self.main.x;
        grid.y = self.main.y;
        grid.saved = saved;
        self.alternate = grid;
        self.on_alternate = true;
    }

    fn leave_alternate(&mut self) {
        if !self.on_alternate {
            return;
        }
        self.main.x = self.alternate.x;
        self.main.y = self.alternate.y;
        self.alternate.rows = Vec::new();
        self.on_alternate = false;
    }

    /// RIS. The title stays.
    fn reset(&mut self) {
        let mut log = std::mem::replace(&mut self.log, Log::new(0));
        log.clear();
        let mut fresh = Self::new(self.cols, self.rows, log);
        fresh.title = std::mem::take(&mut self.title);
        fresh.titles = std::mem::take(&mut self.titles);
        fresh.colours = std::mem::take(&mut self.colours);
        *self = fresh;
    }

    /// DECSTR.
    fn soft_reset(&mut self) {
        self.pen = Style::default();
        self.modes.soft_reset();
        self.charsets = Charsets::default();
        let bottom = self.rows - 1;
        let grid = self.grid_mut();
        grid.top = 0;
        grid.bottom = bottom;
        grid.saved = Saved::default();
    }
}
