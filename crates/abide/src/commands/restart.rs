//! `abide restart`: a fresh interpreter, or a terminal's program once more.

use clap::Args;

use super::App;
use crate::connect::{find_session, label};
use crate::error::Result;
use crate::terminal::{self, Target, Which, find};

/// Give a session a fresh interpreter, or start a terminal's program again
///
/// Of a session the old interpreter's state is gone. Of a terminal, named session/terminal, everything that was
/// started in it is ended, and the same program is started on another terminal of the same name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  abide restart demo\n  abide restart demo/server")]
pub(crate) struct RestartArgs {
    /// Name or id of the session, or session/terminal
    session: String,
}

/// Restarts it.
pub(crate) async fn run(app: App<'_>, args: RestartArgs) -> Result {
    let client = app.connect()?;
    if args.session.contains('/') {
        let target = find(&client, Some(&args.session), Which::Latest).await?;
        let restarting = client.restart_terminal(target.session.id, target.worker.id);
        let state = app.output.waiting("restarting", restarting).await?;
        let again = Target::started(target.session, state);
        return app.output.line(terminal::label(&again));
    }
    let session = find_session(&client, &args.session).await?;
    let restarting = client.restart_session(session.id);
    let session = app.output.waiting("restarting", restarting).await?;
    app.output.line(format!(
        "{} has a fresh {} interpreter",
        label(&session),
        session.runtime
    ))
}
