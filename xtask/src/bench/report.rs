//! The table in docs/benchmarks.md; a run adds to it and never rewrites what is there.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

use anyhow::{Context, Result};

use super::Measured;
use super::row::{Kind, ROUNDS, Row};
use crate::command::Command;
use crate::repository::Repository;

/// Where the tables lie, relative to the root.
const PATH: &str = "docs/benchmarks.md";

/// What a new file begins with.
const PREAMBLE: &str = "\
# Benchmarks

Written by `cargo xtask bench`, newest last.

## How to run

    cargo xtask bench                 # every row: a quarter of an hour, and the builds
    cargo xtask bench step idle-cpu   # these rows
    cargo xtask bench --list          # what there is
    cargo xtask bench --dry-run …     # print the table and leave this file alone
    cargo xtask bench --binary …      # measure this binary instead of building one

It builds the release binary and a release build of itself, starts servers on free ports with
directories of their own, and takes everything down again. jupyter_server is installed from PyPI,
node-pty, ws and xterm.js from npm, both below the target directory, and tmux from the distribution;
where that cannot be, their lines say so and the rest is measured.

## How to read

The contenders of a row run in turn (A B A B …) on the same machine, so that what disturbs it
disturbs all of them. A figure is the median of the runs' medians, with the lowest and the highest of
them in parentheses; p99 is that of all samples of all runs. A ratio is Abide's median divided by the
contender's: below 1 is better for times, above 1 for MB/s. A row without a baseline shows several
figures of Abide, one in each line.

Memory, bytes and counts of wake-ups hardly vary. Times say as much about the machine as about
Abide. Ratios and CPU time are steadier than times and still differ between runs of the same code on
a busy machine, up to twofold. So two tables do not tell whether a change made something faster:
for that, let the binaries before and after it run in turn.

The bare exec loop is a Python program of a few lines that reads an expression from a pipe and writes
its `repr` to another, in the interpreter that Abide itself uses. MB are 1,000,000 bytes, MiB are
1,048,576.

Terminals are 80 × 24 and print lines of a coloured listing, each about 70 bytes. Whoever is viewed
over a WebSocket is viewed by the same client, in this process. The minimal Rust server is
`xtask/src/bench/terminals/minimal.rs`: a thread per direction and viewer, no runtime, no screen, nothing
kept; less cannot be done. The two servers in Node are `xtask/src/bench/terminals/node/server.js`: node-pty and ws,
every piece of output a message; and the same with a headless xterm.js that the program waits for, as
it does in VS Code's pty host, and whose state is sent to whoever attaches. tmux has no status line and keeps
10,000 lines.
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
        // Averages over one, five and fifteen minutes.
        let load = std::fs::read_to_string("/proc/loadavg").context("cannot tell the load")?;
        let load: Vec<&str> = load.split(' ').take(3).collect();
        Ok(Self {
            text: heading(date.trim(), cores.get(), commit.trim(), &load.join(" ")),
        })
    }

    /// Adds a row: a line per contender, then what was promised and what else there is to know.
    /// Returns these lines.
    pub(crate) fn add(&mut self, row: &Row, measured: &Measured) -> &str {
        let begun = self.text.len();
        for (position, summary) in measured.outcome.summaries().iter().enumerate() {
            let name = if position == 0 { row.name } else { "" };
            let what = if position == 0 { row.what } else { "" };
            let contender = row.contenders[position];
            if let Some(reason) = &measured.absent[position] {
                let reason = reason.replace(['|', '\n'], " ");
                let _ = writeln!(
                    self.text,
                    "| {name} | {what} | {contender} | left out: {reason} |  |  |  |"
                );
                continue;
            }
            let ratio = match (position, row.kind.is_contest()) {
                (1.., true) => format!("{:.2}", measured.outcome.ratio(position)),
                _ => String::new(),
            };
            let spread = match row.kind {
                Kind::Contest | Kind::Figures => {
                    format!(" ({}–{})", figure(summary.lowest), figure(summary.highest))
                }
                Kind::ContestOnce | Kind::Once => String::new(),
            };
            let p99 = match row.unit.is_cost() {
                true => figure(summary.p99),
                false => String::new(),
            };
            let _ = writeln!(
                self.text,
                "| {name} | {what} | {contender} | {} {}{spread} | {p99} | {ratio} |  |",
                figure(summary.median),
                row.unit,
            );
        }
        for claim in &measured.claims {
            let value = if claim.measured.is_nan() {
                String::new()
            } else {
                figure(claim.measured)
            };
            let _ = writeln!(
                self.text,
                "|  | target: {} |  | {value} |  |  | {} |",
                claim.text, claim.verdict
            );
        }
        for note in &measured.notes {
            let note = note.replace(['|', '\n'], " ");
            let _ = writeln!(self.text, "|  | {note} |  |  |  |  |  |");
        }
        &self.text[begun..]
    }

    /// Adds a row that could not be measured. Returns its line.
    pub(crate) fn add_failure(&mut self, row: &Row, error: &anyhow::Error) -> &str {
        let begun = self.text.len();
        let reason = format!("{error:#}").replace(['|', '\n'], " ");
        let (name, what) = (row.name, row.what);
        let _ = writeln!(
            self.text,
            "| {name} | {what} |  | **not measured**: {reason} |  |  |  |"
        );
        &self.text[begun..]
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

fn heading(date: &str, cores: usize, commit: &str, load: &str) -> String {
    format!(
        "## {date}, {cores} cores, commit {commit}\n\n\
         {ROUNDS} runs of each contender in turn, medians. Load of the machine when it began: \
         {load}.\n\n\
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
    use crate::bench::row::{Claim, Outcome, Unit};

    #[test]
    fn a_row_has_a_line_per_contender_and_per_promise() {
        let row = Row {
            name: "echo",
            what: "round trip",
            contenders: &["abide", "bare loop", "other"],
            kind: Kind::Contest,
            unit: Unit::Milliseconds,
            open: |_| anyhow::bail!("not run"),
            claims: |_| Vec::new(),
        };
        let runs = [
            vec![vec![0.3], vec![0.4]],
            vec![vec![0.1], vec![0.1]],
            vec![],
        ];
        let outcome = Outcome::new(&runs);
        let claims = vec![
            Claim::at_most("at most twice", outcome.ratio(1), 2.0),
            Claim::at_most("at most other's", outcome.ratio(2), 1.0),
        ];
        let measured = Measured {
            outcome,
            absent: vec![None, None, Some("no pip".to_owned())],
            claims,
            notes: vec!["by hand".to_owned()],
        };
        let mut report = Report {
            text: String::new(),
        };
        report.add(&row, &measured);
        let expected = "\
            | echo | round trip | abide | 0.300 ms (0.300–0.400) | 0.400 |  |  |\n\
            |  |  | bare loop | 0.100 ms (0.100–0.100) | 0.100 | 3.00 |  |\n\
            |  |  | other | left out: no pip |  |  |  |\n\
            |  | target: at most twice |  | 3.00 |  |  | **missed** |\n\
            |  | target: at most other's |  |  |  |  | not measured |\n\
            |  | by hand |  |  |  |  |  |\n";
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
