//! The project's only automation: `cargo xtask <command>`.
//!
//! A person and CI type the same two commands, `cargo xtask up` and `cargo xtask test`; the rest
//! are the parts those are made of.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its terminal"
)]

mod bench;
mod ci;
mod command;
mod doctests;
mod fuzz;
mod openapi;
mod repository;
mod setup;
mod tidy;
mod up;
mod venv;
mod versions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ci::Stage;
use crate::repository::Repository;

/// Sets up, checks, measures and starts Abide.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set up what is missing, build Abide and start it.
    Up {
        /// Passed on to `abide up`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up what is missing and pass everything that must pass (the same as `ci`).
    Test {
        /// Only these stages, in the order of the list.
        stages: Vec<Stage>,
    },
    /// Format, lints, tidy, tests, documentation, dependencies: what CI runs.
    Ci {
        /// Only these stages, in the order of the list.
        stages: Vec<Stage>,
    },
    /// Install what this machine lacks.
    Setup,
    /// The checks that need no test run: formatting, clippy, tidy, dependencies.
    Lint,
    /// Format every source file.
    Format,
    /// Build the whole workspace for development.
    Build,
    /// Check the rules of the house that no compiler knows.
    Tidy,
    /// Write docs/openapi.json from the binary.
    Openapi {
        /// Compare instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// Feed made-up bytes to whatever reads bytes that somebody else wrote.
    Fuzz {
        /// One target (all of them when none is named).
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Where the made-up bytes begin; each time elsewhere if not given.
        #[arg(long)]
        seed: Option<u32>,
    },
    /// Measure rows of the benchmark table (all of them when none is named) and append them to
    /// docs/benchmarks.md.
    Bench {
        /// List the rows instead.
        #[arg(long)]
        list: bool,
        /// Print the table without appending it.
        #[arg(long)]
        dry_run: bool,
        /// Measure this binary instead of building one.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Rows by name.
        rows: Vec<String>,
    },
    /// A baseline of `bench`, as a process of its own.
    #[command(hide = true)]
    TerminalServer,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let repository = Repository::find()?;
    match task {
        Task::Up { arguments } => up::run(&repository, &arguments),
        Task::Test { stages } | Task::Ci { stages } => ci::run(&repository, &stages),
        Task::Setup => setup::for_testing(&repository),
        Task::Lint => ci::run(&repository, &ci::LINT),
        Task::Format => repository.cargo(["fmt", "--all"]).run(),
        Task::Build => repository.cargo(["build", "--workspace"]).run(),
        Task::Tidy => tidy::run(&repository),
        Task::Openapi { check } => openapi::run(&repository, check),
        Task::Fuzz {
            target,
            seconds,
            seed,
        } => fuzz::run(&repository, target.as_deref(), seconds, seed),
        Task::Bench { list: true, .. } => bench::list(),
        Task::Bench {
            dry_run,
            binary,
            rows,
            ..
        } => bench::run(&repository, &rows, binary.as_deref(), dry_run),
        Task::TerminalServer => bench::serve_terminals(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
