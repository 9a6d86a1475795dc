//! Forgets links and clusters that no cell refers to any more.

use super::Terminal;
use crate::clusters::Clusters;
use crate::grid::Grid;
use crate::links::Links;
use crate::row::{Cell, Glyph};
use crate::style::Style;

impl Terminal {
    /// Collects the clusters, if there are many more than the last time.
    pub(super) fn collect_clusters(&mut self) {
        if self.clusters.len() < self.clusters_in_use + Clusters::MANY {
            return;
        }
        let mut used = vec![false; self.clusters.len()];
        self.change_cells(|cell| {
            if let Glyph::Cluster(number) = cell.content.glyph()
                && let Some(used) = used.get_mut(number as usize)
            {
                *used = true;
            }
            cell
        });
        let numbers = self.clusters.collect(&used);
        self.clusters_in_use = self.clusters.len();
        self.change_cells(|mut cell| {
            if let Glyph::Cluster(number) = cell.content.glyph() {
                let number = numbers.get(number as usize).copied().unwrap_or(0);
                cell.content = cell.content.with_cluster(number);
            }
            cell
        });
    }

    /// Collects the links, if there are many more than the last time.
    pub(super) fn collect_links(&mut self) {
        if self.links.len() < self.links_in_use + Links::MANY {
            return;
        }
        let mut used = vec![false; self.links.len() + 1];
        self.change_styles(|style| {
            if let Some(used) = used.get_mut(usize::from(style.link)) {
                *used = true;
            }
            style
        });
        let numbers = self.links.collect(&used);
        self.links_in_use = self.links.len();
        self.change_styles(|style| Style {
            link: numbers.get(usize::from(style.link)).copied().unwrap_or(0),
            ..style
        });
    }

    fn change_styles(&mut self, mut change: impl FnMut(Style) -> Style) {
        self.pen = change(self.pen);
        self.main.saved.style = change(self.main.saved.style);
        self.alternate.saved.style = change(self.alternate.saved.style);
        self.change_cells(|cell| Cell {
            style: change(cell.style),
            ..cell
        });
    }

    fn change_cells(&mut self, mut change: impl FnMut(Cell) -> Cell) {
        let rows = |grid: &mut Grid| std::mem::take(&mut grid.rows);
        let (mut main, mut alternate) = (rows(&mut self.main), rows(&mut self.alternate));
        for row in main.iter_mut().chain(&mut alternate) {
            row.map(&mut change);
        }
        self.main.rows = main;
        self.alternate.rows = alternate;
    }
}
