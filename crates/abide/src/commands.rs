//! One file per command.

pub(crate) mod attach;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod control_plane;
pub(crate) mod data_plane;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod interrupt;
pub(crate) mod keeper;
pub(crate) mod key;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod openapi;
pub(crate) mod play;
pub(crate) mod record;
pub(crate) mod rename;
pub(crate) mod repl;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod send;
pub(crate) mod session_agent;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod wait;

use std::process::ExitCode;

use abide_client::Client;

use crate::cli::{Cli, Command, GlobalArgs};
use crate::config::{Config, Environment, Flags};
use crate::error::{CommandError, Result};
use crate::output::Output;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct App<'a> {
    /// The settings.
    pub(crate) config: Config,
    /// The environment they were read from.
    pub(crate) environment: Environment,
    /// The arguments they were read from.
    pub(crate) global: GlobalArgs,
    /// Where to write.
    pub(crate) output: &'a mut Output,
}

impl App<'_> {
    /// A client of the running server.
    pub(crate) fn connect(&self) -> Result<Client> {
        crate::connect::connect(&self.config)
    }
}

/// All settings given as arguments: the global ones, and those of `command`, which it is.
pub(crate) fn flags(cli: &Cli, command: &str) -> Result<Flags> {
    let mut flags = cli.global.flags()?;
    flags.set_command(command);
    if let Command::Config(config::ConfigCommand::Show(args)) = &cli.command {
        args.add_to(&mut flags);
    }
    if let Command::Up(args) = &cli.command {
        args.add_to(&mut flags);
    }
    if let Command::SessionAgent(args) = &cli.command {
        args.add_to(&mut flags);
    }
    if let Command::ControlPlane(args) = &cli.command {
        args.add_to(&mut flags);
    }
    if let Command::DataPlane(args) = &cli.command {
        args.add_to(cli.global.port.as_deref(), &mut flags);
    }
    Ok(flags)
}

/// Runs a command.
pub(crate) fn dispatch(command: Command, app: App<'_>) -> Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(app, *args),
        Command::ControlPlane(_) => control_plane::run(&app),
        Command::DataPlane(_) => data_plane::run(&app),
        Command::SessionAgent(args) => session_agent::run(&app, &args),
        Command::Keeper { dir } => Ok(keeper::run(&dir)),
        Command::Openapi => openapi::run().map_err(CommandError::from),
        Command::Repl(args) => repl::run(app, &runtime()?, args).map(done),
        Command::Shell(args) => runtime()?.block_on(shell::run(app, args)),
        Command::Attach(args) => runtime()?.block_on(attach::run(app, args)),
        Command::Record(args) => runtime()?.block_on(record::run(app, args)),
        Command::Play(args) => runtime()?.block_on(play::run(args)),
        Command::Key(args) => key::run(app, args).map(done),
        Command::Config(command) => config::run(app, &command).map(done),
        Command::Completions(args) => completions::run(app, &args).map(done),
        Command::ExitCodes => app
            .output
            .raw(crate::cli::exit_codes_text().as_bytes())
            .map(done),
        Command::Docs { page } => docs::run(app, page).map(done),
        served => runtime()?.block_on(dispatch_served(served, app)).map(done),
    }
}

/// Commands that talk to a server.
async fn dispatch_served(command: Command, app: App<'_>) -> Result {
    match command {
        Command::Down(args) => down::run(app, args).await,
        Command::Status(args) => status::run(app, args).await,
        Command::Run(args) => run::run(app, args).await,
        Command::Screen(args) => screen::run(app, args).await,
        Command::Send(args) => send::run(app, args).await,
        Command::Wait(args) => wait::run(app, args).await,
        Command::Rename(args) => rename::run(app, args).await,
        Command::Ls(args) => ls::run(app, args).await,
        Command::Show(args) => show::run(app, args).await,
        Command::Rm(args) => rm::run(app, args).await,
        Command::Restart(args) => restart::run(app, args).await,
        Command::Interrupt(args) => interrupt::run(app, args).await,
        Command::Logs(args) => logs::run(app, args).await,
        Command::Events(args) => events::run(app, args).await,
        Command::Checkpoint(command) => checkpoint::run(app, command).await,
        Command::Doctor(args) => doctor::run(app, args).await,
        Command::Up(_)
        | Command::ControlPlane(_)
        | Command::DataPlane(_)
        | Command::SessionAgent(_)
        | Command::Keeper { .. }
        | Command::Openapi
        | Command::Repl(_)
        | Command::Shell(_)
        | Command::Attach(_)
        | Command::Record(_)
        | Command::Play(_)
        | Command::Key(_)
        | Command::Config(_)
        | Command::Completions(_)
        | Command::ExitCodes
        | Command::Docs { .. } => Ok(()),
    }
}

/// A runtime for one command: requests are few, one thread is enough.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::io("cannot set up the event loop", &e))
}

const fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
