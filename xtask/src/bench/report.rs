//! The table in docs/benchmarks.md; a run adds to it and never rewrites what is there.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

use anyhow::{Context, Result};

use super::ROUNDS;
use super::row::{Outcome, Row};
use crate::command::Command;
use crate::repository::Repository;

/// Where the tables lie, relative to the root.
const PATH: &str = "docs/benchmarks.md";

/// What a new file begins with.
const PREAMBLE: &str = "\
# Benchmarks

Written by `cargo xtask bench`, newest last. The contenders of a row run in turn on the same
machine; each figure is the median of the runs' medians, with the lowest and the highest of them,
and the 99th percentile of all samples. A ratio is Abide's median divided by the contender's.
";

/// The table of one run.
#[derive(Debug)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// Notes when and on what the run is made.
    pub(crate) fn begin(repository: &Repository) -> Result<Self> {
        let date = Command::new("date")
            .arguments(["-u", "+%Y-%m-%d %H:%M UTC"])
            .output()?;
        let commit = Command::new("git")
            .arguments(["describe", "--always", "--dirty", "--exclude=*"])
            .directory(repository.root())
            .output()?;
        let cores = std::thread::available_parallelism().context("cannot count the cores")?;
        Ok(Self {
            text: heading(date.trim(), cores.get(), commit.trim()),
        })
    }

    /// Adds a row: a line per contender, then what was promised.
    pub(crate) fn add(&mut self, row: &Row, outcome: &Outcome) {
        for (position, summary) in outcome.summaries().iter().enumerate() {
            let name = if position == 0 { row.name } else { "" };
            let what = if position == 0 { row.what } else { "" };
            let ratio = match position {
                0 => String::new(),
                _ => format!("{:.2}", outcome.ratio(position)),
            };
            let _ = writeln!(
                self.text,
                "| {name} | {what} | {} | {} {} ({}–{}) | {} | {ratio} |  |",
                row.contenders[position],
                figure(summary.median),
                row.unit,
                figure(summary.lowest),
                figure(summary.highest),
                figure(summary.p99),
            );
        }
        for claim in (row.claims)(outcome) {
            let holds = if claim.holds { "met" } else { "**missed**" };
            let _ = writeln!(
                self.text,
                "|  | target: {} |  |  |  |  | {holds} |",
                claim.text
            );
        }
    }

    /// The table in Markdown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Appends the table to the file.
    pub(crate) fn append(&self, repository: &Repository) -> Result<()> {
        let path = repository.root().join(PATH);
        let preamble = if path.exists() { "" } else { PREAMBLE };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {PATH}"))?;
        write!(file, "{preamble}\n{}", self.text).with_context(|| format!("cannot write {PATH}"))
    }
}

fn heading(date: &str, cores: usize, commit: &str) -> String {
    format!(
        "## {date}, {cores} cores, commit {commit}, {ROUNDS} runs each\n\n\
         | row | what | contender | median (lowest–highest) | p99 | ratio | target |\n\
         |---|---|---|---|---|---|---|\n"
    )
}

/// Three significant digits, without an exponent.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::{Claim, Unit};

    #[test]
    fn a_row_has_a_line_per_contender_and_per_promise() {
        let row = Row {
            name: "echo",
            what: "round trip",
            contenders: &["abide", "bare loop"],
            unit: Unit::Milliseconds,
            open: |_| anyhow::bail!("not run"),
            claims: |outcome| vec![Claim::new("at most twice", outcome.ratio(1) <= 2.0)],
        };
        let outcome = Outcome::new(&[vec![vec![0.3], vec![0.4]], vec![vec![0.1], vec![0.1]]]);
        let mut report = Report {
            text: String::new(),
        };
        report.add(&row, &outcome);
        let expected = "\
            | echo | round trip | abide | 0.300 ms (0.300–0.400) | 0.400 |  |  |\n\
            |  |  | bare loop | 0.100 ms (0.100–0.100) | 0.100 | 3.00 |  |\n\
            |  | target: at most twice |  |  |  |  | **missed** |\n";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.0314, 1.0, 48.25, 640.4].map(figure),
            ["0.031", "1.00", "48.2", "640"]
        );
    }
}
