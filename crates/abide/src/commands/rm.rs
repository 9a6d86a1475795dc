//! `abide rm`: remove sessions.

use clap::Args;

use super::App;
use crate::connect::find_session;
use crate::error::{CommandError, Result};

/// Remove sessions with their steps and scratch workspaces
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or ids
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
    /// Also when a session is active
    #[arg(long)]
    force: bool,
}

/// Removes all that can be removed; fails as the first failure did.
pub(crate) async fn run(app: App<'_>, args: RmArgs) -> Result {
    let client = app.connect()?;
    let mut failed: Option<CommandError> = None;
    for name in &args.sessions {
        let removing = async {
            let session = find_session(&client, name).await?;
            Result::Ok(client.delete_session(session.id, args.force).await?)
        };
        match app.output.waiting("removing", removing).await {
            Ok(()) => app.output.line(format!("removed {name}"))?,
            Err(error) => {
                app.output.error(&error);
                failed.get_or_insert(CommandError::silent(error.kind));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
