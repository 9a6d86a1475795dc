//! The `abide` program: command line, configuration, and the composition of the server.

#![allow(
    clippy::print_stdout,
    reason = "printing is what a command line is for"
)]

mod cli;
mod commands;
mod config;
mod connect;
mod error;
mod follow;
mod input;
mod leftovers;
mod outage;
mod output;
mod serve;
mod terminal;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use cli::Cli;
use commands::App;
use config::{Config, Environment};
use error::{CommandError, Kind};
use output::Output;

fn main() -> ExitCode {
    // First of all, since a keeper is meant to be as small as a process can be.
    if abide_keeper::is_keeper(std::env::args_os()) {
        return abide_keeper::run();
    }
    let environment = Environment::of_process();
    let mut output = Output::new(&environment);
    let (cli, command) = match cli::command().try_get_matches().and_then(|matches| {
        let command = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((Cli::from_arg_matches(&matches)?, command))
    }) {
        Ok(parsed) => parsed,
        Err(said) => {
            // Help and version come this way too. That nobody reads them is no failure.
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() {
                Kind::Usage.code()
            } else {
                0
            });
        }
    };
    match run(cli, &command, environment, &mut output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.kind.code())
        }
    }
}

fn run(
    cli: Cli,
    command: &str,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, CommandError> {
    let flags = commands::flags(&cli, command)?;
    let config = Config::load(&flags, &environment, cli.global.config.as_deref())?;
    let app = App {
        config,
        environment,
        global: cli.global,
        output,
    };
    commands::dispatch(cli.command, app)
}
