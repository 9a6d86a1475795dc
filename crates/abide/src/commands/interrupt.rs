//! `abide interrupt`: interrupt the running step.

use clap::Args;

use super::App;
use crate::connect::{find_session, label};
use crate::error::Result;

/// Interrupt the step that a session runs
#[derive(Debug, Args)]
pub(crate) struct InterruptArgs {
    /// Name or id
    session: String,
}

/// Interrupts it.
pub(crate) async fn run(app: App<'_>, args: InterruptArgs) -> Result {
    let client = app.connect()?;
    let session = find_session(&client, &args.session).await?;
    app.output
        .waiting("interrupting", client.interrupt_session(session.id))
        .await?;
    app.output.line(format!("interrupted {}", label(&session)))
}
