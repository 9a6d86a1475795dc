//! `abide attach`: look at a terminal and type into it.

use std::process::ExitCode;

use abide_model::ViewerRole;
use clap::Args;

use super::App;
use crate::error::Result;
use crate::terminal::{DetachKey, Viewing, Which, find, view};

/// How to leave a terminal that goes on.
#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// Key that detaches: ctrl- with a letter or one of @ [ \ ] ^ _; or none
    #[arg(long, value_name = "KEY", default_value = "ctrl-]", value_parser = DetachKey::parse)]
    pub(crate) detach_key: DetachKey,
}

/// Attach to a terminal
///
/// Shows what it shows, and types what is typed, until its program ends or Ctrl-] is pressed. When the
/// connection breaks or the server restarts, it is attached again and goes on where it was; the
/// title says so meanwhile, and Ctrl-C leaves. Where standard input is no terminal, it is read and typed.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is the program's own; 128 and the signal's number if one ended it; 0 after \
                  detaching.\n\n\
                  Examples:\n  abide attach\n  abide attach demo/build --view\n  \
                  abide attach demo --detach-key ctrl-q"
)]
pub(crate) struct AttachArgs {
    /// The session, or session/terminal by name or id; the only live one if not given
    terminal: Option<String>,
    /// Only look: nothing is typed, and the terminal keeps its size
    #[arg(long)]
    view: bool,
    /// What others who are attached see you called
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// How to detach
    #[command(flatten)]
    detach: DetachArgs,
}

/// Attaches to it.
pub(crate) async fn run(app: App<'_>, args: AttachArgs) -> Result<ExitCode> {
    let client = app.connect()?;
    let finding = find(&client, args.terminal.as_deref(), Which::Live);
    let target = app.output.waiting("looking", finding).await?;
    let viewing = Viewing {
        target,
        role: if args.view {
            ViewerRole::View
        } else {
            ViewerRole::Drive
        },
        detach_key: args.detach.detach_key,
        from: None,
        ends_input: false,
        name: args.name,
        film: None,
    };
    view(app, client, viewing).await
}
