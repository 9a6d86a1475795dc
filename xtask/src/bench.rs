//! The benchmark table: every row against its named baselines, in one run, in turn.
//!
//! A row is a file in `bench/` with one function that returns a [`Row`]; add it to [`rows`].
//! The runner builds the release binary, lets the contenders run in turn (A B A B …), and
//! appends medians, spread and whether the targets were met to `docs/benchmarks.md`.

mod binary;
mod report;
mod row;
mod statistics;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::bench::report::Report;
use crate::bench::row::{Outcome, Row};
use crate::repository::Repository;

/// Runs per contender. Five is the fewest of which a median survives two disturbed runs.
const ROUNDS: usize = 5;

/// What a row may use.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The release binary.
    pub(crate) abide: PathBuf,
}

/// Every row, in the order of the table.
fn rows() -> Vec<Row> {
    vec![binary::size(), binary::start()]
}

/// Prints what can be measured.
pub(crate) fn list() -> Result<()> {
    for row in rows() {
        println!("{:<16} {}", row.name, row.what);
    }
    Ok(())
}

/// Measures the named rows, or all of them.
pub(crate) fn run(repository: &Repository, names: &[String], dry_run: bool) -> Result<()> {
    let rows = select(rows(), names)?;
    repository
        .cargo(["build", "--release", "--locked", "--package", "abide"])
        .run()?;
    let bench = Bench {
        abide: repository.target()?.join("release/abide"),
    };

    let mut report = Report::begin(repository)?;
    for row in rows {
        println!("==> {}: {}", row.name, row.what);
        let outcome = measure(&bench, &row).with_context(|| format!("{} failed", row.name))?;
        report.add(&row, &outcome);
    }
    print!("\n{}", report.text());
    if dry_run {
        Ok(())
    } else {
        report.append(repository)
    }
}

fn select(rows: Vec<Row>, names: &[String]) -> Result<Vec<Row>> {
    for name in names {
        ensure!(
            rows.iter().any(|row| row.name == name),
            "no row is called {name}; see --list"
        );
    }
    let wanted = |row: &Row| names.is_empty() || names.iter().any(|name| name == row.name);
    Ok(rows.into_iter().filter(wanted).collect())
}

/// Lets the contenders run in turn, so that what disturbs the machine disturbs all of them.
fn measure(bench: &Bench, row: &Row) -> Result<Outcome> {
    let mut contest = (row.open)(bench).context("cannot set up")?;
    let mut samples = vec![Vec::with_capacity(ROUNDS); row.contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, runs) in samples.iter_mut().enumerate() {
            let run = contest
                .run(contender)
                .with_context(|| format!("a run of {} failed", row.contenders[contender]))?;
            ensure!(
                !run.is_empty(),
                "{} measured nothing",
                row.contenders[contender]
            );
            runs.push(run);
        }
    }
    Ok(Outcome::new(&samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::{Claim, Contest, Unit};

    /// Writes down who ran.
    struct Turns(Vec<usize>);

    impl Contest for Turns {
        fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
            self.0.push(contender);
            let first_of_all = self.0.len() == 1;
            // A disturbed first run, which a median does not see.
            Ok(vec![if first_of_all {
                1000.0
            } else {
                (contender + 1) as f64
            }])
        }
    }

    fn row() -> Row {
        Row {
            name: "turns",
            what: "a row of a test",
            contenders: &["abide", "bare"],
            unit: Unit::Milliseconds,
            open: |_| Ok(Box::new(Turns(Vec::new()))),
            claims: |outcome| vec![Claim::new("at most half", outcome.ratio(1) <= 0.5)],
        }
    }

    #[test]
    fn contenders_take_turns_and_the_median_counts() {
        let bench = Bench {
            abide: PathBuf::new(),
        };
        let outcome = measure(&bench, &row()).unwrap();
        assert_eq!(
            (outcome.summary(0).median, outcome.summary(1).median),
            (1.0, 2.0)
        );
        assert_eq!(outcome.summary(0).highest, 1000.0);
        assert!((row().claims)(&outcome)[0].holds);
    }

    #[test]
    fn rows_have_names_of_their_own() {
        let mut names: Vec<&str> = rows().iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows().len());
        assert!(select(rows(), &["no-such".to_owned()]).is_err());
        assert_eq!(select(rows(), &[names[0].to_owned()]).unwrap().len(), 1);
    }
}
