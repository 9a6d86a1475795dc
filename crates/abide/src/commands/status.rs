//! `abide status`: how the server does.

use clap::Args;

use super::App;
use crate::error::Result;
use crate::output::{Format, FormatArgs, human_age};

/// Show how the server does
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Form of the output
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows it.
pub(crate) async fn run(app: App<'_>, args: StatusArgs) -> Result {
    let client = app.connect()?;
    let status = app
        .output
        .waiting("asking the server", client.status())
        .await?;
    if args.format.output == Format::Json {
        return app.output.json(&status);
    }
    let rows = [
        ("url", status.url),
        ("version", status.version),
        ("pid", status.pid.to_string()),
        ("up", human_age(status.started_at)),
        ("data", status.data_dir.display().to_string()),
        ("sessions", status.sessions.to_string()),
        ("interpreters", status.live_interpreters.to_string()),
        (
            "warm",
            format!("{} python, {} node", status.warm.python, status.warm.node),
        ),
        (
            "steps",
            format!(
                "{} running, {} queued",
                status.running_steps, status.queued_steps
            ),
        ),
        (
            "terminals",
            format!(
                "{} live, {} ended, {} viewers",
                status.terminals.live, status.terminals.ended, status.terminals.viewers
            ),
        ),
    ];
    app.output
        .table(&[], &rows.map(|(name, value)| vec![name.to_owned(), value]))
}
