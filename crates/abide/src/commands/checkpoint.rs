//! `abide checkpoint`: what a client recovers from.

use std::io::Read as _;

use abide_model::{JsonObject, UpdateSession};
use clap::{Args, Subcommand};

use super::App;
use crate::connect::{find_session, label};
use crate::error::{CommandError, Kind, Result};
use crate::output::{Format, FormatArgs};

/// Save and read what a client recovers from
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Print a session's checkpoint, exactly as it was saved
    Get(GetArgs),
    /// Replace a session's checkpoint
    Set(SetArgs),
}

/// Print a session's checkpoint, exactly as it was saved
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name or id
    session: String,
    /// Form of the output; json prints null where there is no checkpoint
    #[command(flatten)]
    format: FormatArgs,
}

/// Replace a session's checkpoint
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Name or id
    session: String,
    /// A JSON object, or - to read it from standard input
    #[arg(default_value = "-")]
    json: String,
}

/// Runs the subcommand.
pub(crate) async fn run(app: App<'_>, command: CheckpointCommand) -> Result {
    match command {
        CheckpointCommand::Get(args) => get(app, args).await,
        CheckpointCommand::Set(args) => set(app, args).await,
    }
}

async fn get(app: App<'_>, args: GetArgs) -> Result {
    let client = app.connect()?;
    let reading = find_session(&client, &args.session);
    let session = app.output.waiting("reading", reading).await?;
    match (&session.checkpoint, args.format.output) {
        (Some(checkpoint), _) => app.output.line(checkpoint.as_str()),
        (None, Format::Json) => app.output.line("null"),
        (None, Format::Table) => Err(CommandError::new(
            Kind::NotFound,
            format!("session {} has no checkpoint", label(&session)),
        )),
    }
}

async fn set(app: App<'_>, args: SetArgs) -> Result {
    let text = if args.json == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| CommandError::io("cannot read standard input", &e))?;
        text
    } else {
        args.json
    };
    let checkpoint = JsonObject::from_text(text.trim().to_owned())
        .map_err(|_| CommandError::usage("a checkpoint must be a JSON object"))?;
    let client = app.connect()?;
    let session = find_session(&client, &args.session).await?;
    let update = UpdateSession {
        checkpoint: Some(checkpoint),
        ..UpdateSession::default()
    };
    let saving = client.update_session(session.id, &update);
    app.output.waiting("saving", saving).await?;
    app.output
        .line(format!("saved the checkpoint of {}", label(&session)))
}
