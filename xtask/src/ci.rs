//! Everything that must pass, stage by stage; the same on a person's machine and in CI.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::command::Command;
use crate::repository::Repository;
use crate::{doctests, fuzz, openapi, setup, tidy, versions};

/// One part of CI. Declared in the order they run: what fails fastest for the least work first,
/// and what shares compiled dependencies side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Install what the machine lacks.
    Setup,
    /// Download the dependencies; apart, so that a network failure is not taken for another.
    Fetch,
    /// Formatting, compared.
    Fmt,
    /// Lints, warnings as errors.
    Clippy,
    /// The rules of the house.
    Tidy,
    /// Unit and integration tests.
    Tests,
    /// The tests of the harness with other versions of Python and Node.
    Versions,
    /// Made-up bytes for whatever reads bytes that somebody else wrote.
    Fuzz,
    /// Examples in the documentation, when there are any.
    Doctests,
    /// Documentation, warnings as errors.
    Docs,
    /// docs/openapi.json, compared.
    Openapi,
    /// Licences, bans and sources of the dependencies.
    Deny,
}

/// How long each target is fuzzed.
const FUZZ_SECONDS: u32 = 10;
/// Always the same, so that a change is told what is wrong with it, and not with what was there before. To find
/// that, `cargo xtask fuzz` begins elsewhere each time.
const FUZZ_SEED: u32 = 1;

/// The stages that run no test.
pub(crate) const LINT: [Stage; 5] = [
    Stage::Setup,
    Stage::Fmt,
    Stage::Clippy,
    Stage::Tidy,
    Stage::Deny,
];

/// Runs the named stages, or all of them, up to the first that fails; prints how long each took.
pub(crate) fn run(repository: &Repository, only: &[Stage]) -> Result<()> {
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for stage in Stage::value_variants() {
        if !only.is_empty() && !only.contains(stage) {
            continue;
        }
        println!("\n==> {}", stage.name());
        let started = Instant::now();
        let result = stage.run(repository);
        let took = started.elapsed();
        println!("<== {}: {:.1} s", stage.name(), took.as_secs_f64());
        times.push((stage.name(), took, result.is_ok()));
        if let Err(error) = result {
            outcome = Err(error.context(format!("{} failed", stage.name())));
            break;
        }
    }
    print!("{}", summary(&times));
    outcome
}

impl Stage {
    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, repository: &Repository) -> Result<()> {
        match self {
            Self::Setup => setup::for_testing(repository),
            Self::Fetch => repository.cargo(["fetch", "--locked"]).run(),
            Self::Fmt => repository.cargo(["fmt", "--all", "--", "--check"]).run(),
            Self::Clippy => quiet_incremental(repository.cargo([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]))
            .run(),
            Self::Tidy => tidy::run(repository),
            Self::Tests => {
                quiet_incremental(repository.cargo(["nextest", "run", "--workspace", "--locked"]))
                    .run()
            }
            Self::Versions => versions::run(repository),
            Self::Fuzz => fuzz::run(repository, None, FUZZ_SECONDS, Some(FUZZ_SEED)),
            Self::Doctests => {
                if !doctests::exist(repository)? {
                    println!("no examples in the documentation");
                    return Ok(());
                }
                quiet_incremental(repository.cargo(["test", "--doc", "--workspace", "--locked"]))
                    .run()
            }
            Self::Docs => {
                quiet_incremental(repository.cargo(["doc", "--workspace", "--no-deps", "--locked"]))
                    .variable("RUSTDOCFLAGS", "-D warnings")
                    .run()
            }
            Self::Openapi => openapi::run(repository, true),
            Self::Deny => deny(repository),
        }
    }
}

/// Incremental data doubles the target directory and is of no use to a build that starts from
/// nothing.
fn quiet_incremental(command: Command) -> Command {
    command.variable("CARGO_INCREMENTAL", "0")
}

fn deny(repository: &Repository) -> Result<()> {
    let program = setup::deny(repository).context("cannot set up cargo-deny")?;
    Command::new(program)
        .arguments([
            "--locked",
            "--workspace",
            "check",
            "bans",
            "licenses",
            "sources",
        ])
        .directory(repository.root())
        .run()
}

fn summary(times: &[(String, Duration, bool)]) -> String {
    let mut table = String::from("\n  stage        seconds\n  --------------------\n");
    let mut total = Duration::ZERO;
    for (name, took, passed) in times {
        total += *took;
        let mark = if *passed { "" } else { "  FAILED" };
        let _ = writeln!(table, "  {name:<10} {:>9.1}{mark}", took.as_secs_f64());
    }
    let _ = writeln!(table, "  {:<10} {:>9.1}\n", "all", total.as_secs_f64());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_marks_what_failed() {
        let times = [
            ("fmt".to_owned(), Duration::from_millis(1200), true),
            ("clippy".to_owned(), Duration::from_secs(61), false),
        ];
        let expected = "\n  stage        seconds\n  --------------------\n  \
                        fmt              1.2\n  clippy          61.0  FAILED\n  \
                        all             62.2\n\n";
        assert_eq!(summary(&times), expected);
    }
}
