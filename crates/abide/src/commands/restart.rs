//! `abide restart`: a fresh interpreter.

use clap::Args;

use super::App;
use crate::connect::{find_session, label};
use crate::error::Result;

/// Give a session a fresh interpreter; the old one's state is gone
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Name or id
    session: String,
}

/// Restarts it.
pub(crate) async fn run(app: App<'_>, args: RestartArgs) -> Result {
    let client = app.connect()?;
    let session = find_session(&client, &args.session).await?;
    let restarting = client.restart_session(session.id);
    let session = app.output.waiting("restarting", restarting).await?;
    app.output.line(format!(
        "{} has a fresh {} interpreter",
        label(&session),
        session.runtime
    ))
}
