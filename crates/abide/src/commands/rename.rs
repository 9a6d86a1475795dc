//! `abide rename`: another name for a terminal.

use abide_model::TerminalChanges;
use clap::Args;

use super::App;
use crate::error::Result;
use crate::terminal::{Target, Which, find, label};

/// Give a terminal another name
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  abide rename demo/build tests\n  abide rename demo build")]
pub(crate) struct RenameArgs {
    /// The session, or session/terminal by name or id; - for the only live one
    terminal: String,
    /// What to call it; nothing if empty
    name: String,
}

/// Renames it.
pub(crate) async fn run(app: App<'_>, args: RenameArgs) -> Result {
    let client = app.connect()?;
    let target = find(&client, Some(&args.terminal), Which::Latest).await?;
    let changes = TerminalChanges {
        name: Some(args.name),
        size_policy: None,
    };
    let (session, worker) = (target.session.id, target.worker.id);
    let state = client.update_terminal(session, worker, &changes).await?;
    let renamed = Target::started(target.session, state);
    app.output.line(label(&renamed))
}
