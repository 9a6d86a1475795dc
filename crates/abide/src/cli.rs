//! The tree of commands. The comments here are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::config::Flags;
use crate::error::{CommandError, Result};

/// Keeps work alive: sessions whose interpreters keep their state, whatever dies
///
/// Start the server with `abide up`, then run code in a session:
///
///   abide run -s demo 'x = 41'
///   abide run -s demo 'x + 1'
#[derive(Debug, Parser)]
#[command(
    name = "abide",
    version,
    max_term_width = 100,
    infer_long_args = true,
    disable_help_subcommand = false,
    after_help = "Exit codes: `abide help exit-codes`. Settings: `abide config show`."
)]
pub(crate) struct Cli {
    /// For every command.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// Which command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Arguments that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Where Abide keeps everything [env: ABIDE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port of the server [env: ABIDE_PORT] [default: 8080]
    #[arg(long, global = true, value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// URL of the server; found through the data directory [env: ABIDE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// API key; read from the data directory [env: ABIDE_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Configuration file; DIR/config.toml by default [env: ABIDE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting of `abide config show`, for example --set warm_python=4
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

/// What Abide can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Up(Box<commands::up::UpArgs>),
    /// Stop the server and every interpreter
    Down(commands::down::DownArgs),
    /// Show how the server does
    Status(commands::status::StatusArgs),
    /// Run code in a session, which is created on first use
    Run(commands::run::RunArgs),
    /// Talk to a session line by line
    Repl(commands::repl::ReplArgs),
    /// List sessions, newest first
    #[command(visible_alias = "list")]
    Ls(commands::ls::LsArgs),
    /// Show a session, its workers and its last steps
    Show(commands::show::ShowArgs),
    /// Remove sessions with their steps and scratch workspaces
    Rm(commands::rm::RmArgs),
    /// Give a session a fresh interpreter; the old one's state is gone
    Restart(commands::restart::RestartArgs),
    /// Interrupt the step that a session runs
    Interrupt(commands::interrupt::InterruptArgs),
    /// Print what a session's interpreter has printed
    Logs(commands::logs::LogsArgs),
    /// Show what has happened
    Events(commands::events::EventsArgs),
    /// Save and read what a client recovers from
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
    /// Print the API key
    Key(commands::key::KeyArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    /// Say what is missing on this machine, and how to get it
    Doctor(commands::doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
    /// What the exit codes mean
    #[command(hide = true, name = "exit-codes", help_template = "{after-help}")]
    ExitCodes,
    /// Supervise one worker
    #[command(hide = true)]
    Keeper {
        /// Directory of the worker
        dir: PathBuf,
    },
    /// Print the OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Print a page of the documentation
    #[command(hide = true)]
    Docs {
        /// Which page
        page: commands::docs::Page,
    },
}

impl GlobalArgs {
    /// The settings that were given as arguments.
    pub(crate) fn flags(&self) -> Result<Flags> {
        let mut flags = Flags::default();
        for pair in &self.set {
            let known = |name: &str| crate::config::SETTINGS.iter().any(|s| s.name == name);
            match pair.split_once('=') {
                Some((name, value)) if known(name) => {
                    flags.add(name, &format!("--set {name}"), value)
                }
                Some((name, _)) => {
                    return Err(CommandError::usage(format!(
                        "--set: there is no setting {name:?}"
                    ))
                    .hint("`abide config show` lists every setting"));
                }
                None => {
                    return Err(CommandError::usage(format!(
                        "--set: {pair:?} is not NAME=VALUE"
                    )));
                }
            }
        }
        let data_dir = self.data_dir.as_ref().map(|p| p.to_string_lossy());
        flags.add_some("data_dir", "--data-dir", data_dir);
        flags.add_some("port", "--port", self.port.as_deref());
        flags.add_some("url", "--url", self.url.as_deref());
        flags.add_some("key", "--key", self.key.as_deref());
        Ok(flags)
    }
}

/// The text of `abide help exit-codes`.
pub(crate) fn exit_codes_text() -> String {
    let mut text = "Exit codes:\n".to_owned();
    for (code, meaning) in crate::error::EXIT_CODES {
        text.push_str(&format!("{code:>5}  {meaning}\n"));
    }
    text
}

/// The whole tree, ready to parse with or to describe.
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
        .mut_subcommand("exit-codes", |c| c.after_help(exit_codes_text()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_sound() {
        super::command().debug_assert();
    }
}
