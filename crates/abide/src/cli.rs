//! The tree of commands. The comments here are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::config::Flags;
use crate::error::{CommandError, Result};

/// Keeps work alive: sessions whose interpreters keep their state, whatever dies
///
/// A session is a durable record plus live interpreters. Code runs in a session as steps, and what
/// one step leaves behind the next one finds, also after the server was killed and started again.
#[derive(Debug, Parser)]
#[command(
    name = "abide",
    version,
    max_term_width = 100,
    infer_long_args = true,
    disable_help_subcommand = false,
    after_help = "Examples:\n  abide up -d\n  abide run -s demo 'x = 41'\n  abide run -s demo 'x + 1'\n\n\
                  Exit codes: `abide help exit-codes`. Settings: `abide config show`."
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
    // The help of each stands with its arguments, in its own file.
    Up(Box<commands::up::UpArgs>),
    Down(commands::down::DownArgs),
    ControlPlane(commands::control_plane::ControlPlaneArgs),
    DataPlane(commands::data_plane::DataPlaneArgs),
    SessionAgent(commands::session_agent::SessionAgentArgs),
    Status(commands::status::StatusArgs),
    Run(commands::run::RunArgs),
    Repl(commands::repl::ReplArgs),
    Shell(commands::shell::ShellArgs),
    Attach(commands::attach::AttachArgs),
    Screen(commands::screen::ScreenArgs),
    Send(commands::send::SendArgs),
    Wait(commands::wait::WaitArgs),
    Record(commands::record::RecordArgs),
    Play(commands::play::PlayArgs),
    Rename(commands::rename::RenameArgs),
    #[command(visible_alias = "list")]
    Ls(commands::ls::LsArgs),
    Show(commands::show::ShowArgs),
    Rm(commands::rm::RmArgs),
    Restart(commands::restart::RestartArgs),
    Interrupt(commands::interrupt::InterruptArgs),
    Logs(commands::logs::LogsArgs),
    Events(commands::events::EventsArgs),
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
    Key(commands::key::KeyArgs),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Doctor(commands::doctor::DoctorArgs),
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
                    flags.add(name, &format!("--set {name}"), value);
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
