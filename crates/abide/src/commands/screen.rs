//! `abide screen`: what a terminal shows.

use clap::Args;

use super::App;
use crate::error::Result;
use crate::terminal::{Which, find};

/// Print what a terminal shows, a line per row
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  abide screen demo\n  abide screen demo/build --ansi")]
pub(crate) struct ScreenArgs {
    /// The session, or session/terminal by name or id; the only live one if not given
    terminal: Option<String>,
    /// With colours and links
    #[arg(long)]
    ansi: bool,
}

/// Prints it.
pub(crate) async fn run(app: App<'_>, args: ScreenArgs) -> Result {
    let client = app.connect()?;
    let target = find(&client, args.terminal.as_deref(), Which::Latest).await?;
    let screen = client
        .screen(target.session.id, target.worker.id, args.ansi)
        .await?;
    app.output.raw(&screen)?;
    app.output.end_line()
}
