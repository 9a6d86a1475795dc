//! `abide shell`: a terminal in a session.

use std::process::ExitCode;

use abide_model::{TerminalSpec, ViewerRole};
use clap::Args;

use super::App;
use super::attach::DetachArgs;
use super::run::SessionArgs;
use crate::connect::open_session;
use crate::error::Result;
use crate::terminal::{Target, Viewing, label, view, window};

/// Start a terminal in a session, which is created on first use, and attach to it
///
/// A shell, or the program behind `--`. It goes on whoever looks at it: after detaching, after the
/// connection broke, and while the server restarts. `abide attach` comes back to it.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is the program's own; 128 and the signal's number if one ended it; 0 after \
                  detaching.\n\n\
                  Examples:\n  abide shell\n  abide shell -s demo --name build -- make -j8\n  \
                  abide shell -s demo --name server -d -- npm start"
)]
pub(crate) struct ShellArgs {
    /// Where to start it
    #[command(flatten)]
    session: SessionArgs,
    /// Start the shell as a login shell
    #[arg(long, conflicts_with = "command")]
    login: bool,
    /// What to call the terminal
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Do not attach to it: print what `abide attach` and others call it
    #[arg(short, long)]
    detached: bool,
    /// How to detach
    #[command(flatten)]
    detach: DetachArgs,
    /// Program and arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Starts it and looks at it.
pub(crate) async fn run(app: App<'_>, args: ShellArgs) -> Result<ExitCode> {
    let client = app.connect()?;
    let first = args.session.first_use();
    let size = window().filter(|_| !args.detached);
    let spec = TerminalSpec {
        name: args.name,
        command: args.command,
        login: args.login,
        cols: size.map(|(cols, _)| cols),
        rows: size.map(|(_, rows)| rows),
        ..TerminalSpec::default()
    };
    let starting = async {
        let session = open_session(&client, &args.session.session, &first).await?;
        let state = client.start_terminal(session.id, &spec).await?;
        Result::Ok(Target::started(session, state))
    };
    let target = app
        .output
        .waiting("starting the terminal", starting)
        .await?;
    if args.detached {
        app.output.line(label(&target))?;
        return Ok(ExitCode::SUCCESS);
    }
    let viewing = Viewing {
        target,
        role: ViewerRole::Drive,
        detach_key: args.detach.detach_key,
        // Nobody has seen anything of it: no snapshot is needed, which would clear what stands here.
        from: Some(0),
        ends_input: true,
        name: None,
        film: None,
    };
    view(app, client, viewing).await
}
