//! The benchmark table: every row against its named baselines, in one run, in turn.
//!
//! A row is a file in `bench/` with one function that returns a [`Row`]; add it to [`rows`].
//! The runner builds the release binary, lets the contenders run in turn (A B A B …), and
//! appends medians, spread and whether the targets were met to `docs/benchmarks.md`.

mod binary;
mod crash;
mod digest;
mod http;
mod idle;
mod jupyter;
mod memory;
mod planes;
mod process;
mod python;
mod records;
mod report;
mod restart;
mod row;
mod server;
mod sessions;
mod stack;
mod statistics;
mod steps;
mod stream;
mod terminals;
mod websocket;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::bench::report::Report;
use crate::bench::row::{Contest, Outcome, Row};
pub(crate) use crate::bench::terminals::serve as serve_terminals;
use crate::repository::Repository;

/// What a row may use.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The release binary.
    pub(crate) abide: PathBuf,
    /// Where tools that are installed for this workspace lie.
    pub(crate) tools: PathBuf,
}

/// Every row, in the order of the table.
fn rows() -> Vec<Row> {
    vec![
        steps::round_trip(),
        sessions::warm(),
        sessions::cold(),
        sessions::burst_warm(),
        sessions::burst_cold(),
        stream::bytes(),
        stream::events(),
        memory::python(),
        memory::node(),
        idle::sessions(),
        crash::noticed(),
        planes::cost(),
        planes::throughput(),
        planes::idle(),
        planes::recovery(),
        records::get(),
        records::patch(),
        records::create_session(),
        records::list(),
        restart::ready(),
        restart::memory(),
        restart::recovery(),
        terminals::stream(),
        terminals::echo(),
        terminals::reattach(),
        terminals::history(),
        terminals::interrupt(),
        terminals::wire(),
        terminals::idle(),
        terminals::filled(),
        terminals::stalled(),
        terminals::continuity(),
        binary::size(),
        binary::start(),
    ]
}

/// Prints what can be measured.
pub(crate) fn list() -> Result<()> {
    for row in rows() {
        println!("{:<16} {}", row.name, row.what);
    }
    Ok(())
}

/// Measures the named rows, or all of them: of this binary, or of one that is built for it.
pub(crate) fn run(
    repository: &Repository,
    names: &[String],
    binary: Option<&Path>,
    dry_run: bool,
) -> Result<()> {
    let rows = select(rows(), names)?;
    // The release build of this program is started from elsewhere.
    let binary = binary.map(std::fs::canonicalize).transpose();
    let binary = binary.context("cannot find the binary")?;
    let binary = binary.as_deref();
    if cfg!(debug_assertions) {
        // A client that was not optimised would be what is measured.
        return Err(in_release(repository, names, binary, dry_run));
    }
    let target = repository.target()?;
    let built = target.join("release/abide");
    if binary.is_none() {
        repository
            .cargo(["build", "--release", "--locked", "--package", "abide"])
            .run()?;
    }
    // A copy, since keepers are started from it for as long as the run takes, whatever is built
    // meanwhile.
    let home = tempfile::Builder::new().prefix("abide-bench-").tempdir()?;
    let bench = Bench {
        abide: home.path().join("abide"),
        tools: target.join("tools"),
    };
    std::fs::copy(binary.unwrap_or(&built), &bench.abide).context("cannot copy the binary")?;

    let mut report = Report::begin(repository)?;
    let mut failures = Vec::new();
    for row in rows {
        println!("==> {}: {}", row.name, row.what);
        let begun = Instant::now();
        match measure(&bench, &row) {
            Ok(measured) => print!("{}", report.add(&row, &measured)),
            // What was measured before, and what can be after, is worth having.
            Err(error) => {
                print!("{}", report.add_failure(&row, &error));
                failures.push(row.name);
            }
        }
        println!("<== {}: {:.0} s", row.name, begun.elapsed().as_secs_f64());
    }
    print!("\n{}", report.text());
    if !dry_run {
        report.append(repository)?;
    }
    if !failures.is_empty() {
        bail!("not measured: {}", failures.join(", "));
    }
    Ok(())
}

/// The same command in a release build of this program; returns only when that fails.
fn in_release(
    repository: &Repository,
    names: &[String],
    binary: Option<&Path>,
    dry_run: bool,
) -> anyhow::Error {
    let run = [
        "run",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "xtask",
        "--",
        "bench",
    ];
    repository
        .cargo(run)
        .arguments(dry_run.then_some("--dry-run"))
        .arguments(binary.iter().flat_map(|path| [Path::new("--binary"), path]))
        .arguments(names)
        .replace()
}

/// A row's figures and what its contest has to say.
#[derive(Debug)]
struct Measured {
    outcome: Outcome,
    /// By contender: why it did not take part.
    absent: Vec<Option<String>>,
    claims: Vec<row::Claim>,
    notes: Vec<String>,
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
///
/// A run of Abide that fails is a failure of the row. One of a baseline counts for nothing and is
/// told; what fails twice takes no further part.
fn measure(bench: &Bench, row: &Row) -> Result<Measured> {
    let mut contest = (row.open)(bench).context("cannot set up")?;
    let contenders = 0..row.contenders.len();
    let mut absent: Vec<_> = contenders.map(|who| contest.absent(who)).collect();
    let mut samples = vec![Vec::with_capacity(row.kind.rounds()); row.contenders.len()];
    let mut failures = vec![Vec::new(); row.contenders.len()];
    for _ in 0..row.kind.rounds() {
        for (contender, runs) in samples.iter_mut().enumerate() {
            if absent[contender].is_some() || failures[contender].len() == 2 {
                continue;
            }
            match run_once(contest.as_mut(), row, contender) {
                Ok(run) => runs.push(run),
                Err(error) if contender == 0 || !row.kind.is_contest() => return Err(error),
                Err(error) => failures[contender].push(format!("{error:#}")),
            }
        }
    }
    let mut notes = contest.notes();
    for (contender, failures) in failures.into_iter().enumerate() {
        if samples[contender].is_empty() && absent[contender].is_none() {
            absent[contender] = failures.first().cloned();
        } else {
            notes.extend(failures);
        }
    }
    let outcome = Outcome::new(&samples);
    let mut claims = (row.claims)(&outcome);
    claims.extend(contest.claims());
    Ok(Measured {
        outcome,
        absent,
        claims,
        notes,
    })
}

fn run_once(contest: &mut dyn Contest, row: &Row, contender: usize) -> Result<Vec<f64>> {
    let name = row.contenders[contender];
    let run = contest
        .run(contender)
        .with_context(|| format!("a run of {name} failed"))?;
    ensure!(!run.is_empty(), "{name} measured nothing");
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::{Claim, Kind, Unit, Verdict};

    /// Writes down who ran. The last contender fails.
    struct Turns(Vec<usize>);

    impl Contest for Turns {
        fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
            self.0.push(contender);
            ensure!(contender < 3, "out of order");
            let first_of_all = self.0.len() == 1;
            // A disturbed first run, which a median does not see.
            Ok(vec![if first_of_all {
                1000.0
            } else {
                (contender + 1) as f64
            }])
        }

        fn absent(&self, contender: usize) -> Option<String> {
            (contender == 2).then(|| "not installed".to_owned())
        }
    }

    fn row() -> Row {
        Row {
            name: "turns",
            what: "a row of a test",
            contenders: &["abide", "bare", "not here", "broken"],
            kind: Kind::Contest,
            unit: Unit::Milliseconds,
            open: |_| Ok(Box::new(Turns(Vec::new()))),
            claims: |outcome| vec![Claim::at_most("at most half", outcome.ratio(1), 0.5)],
        }
    }

    #[test]
    fn contenders_take_turns_and_the_median_counts() {
        let bench = Bench {
            abide: PathBuf::new(),
            tools: PathBuf::new(),
        };
        let measured = measure(&bench, &row()).unwrap();
        let outcome = &measured.outcome;
        assert_eq!(
            (outcome.summary(0).median, outcome.summary(1).median),
            (1.0, 2.0)
        );
        assert_eq!(outcome.summary(0).highest, 1000.0);
        assert_eq!(measured.claims[0].verdict, Verdict::Met);
        assert_eq!(measured.absent[2].as_deref(), Some("not installed"));
        assert!(outcome.summary(2).median.is_nan());
        let broken = measured.absent[3].as_deref();
        assert_eq!(broken, Some("a run of broken failed: out of order"));
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
