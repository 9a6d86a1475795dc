//! `abide events`: what has happened.

use abide_client::EventQuery;
use abide_model::Event;
use clap::Args;

use super::App;
use crate::connect::find_session;
use crate::error::Result;
use crate::outage::Outage;
use crate::output::{Format, FormatArgs};

/// Show what has happened
///
/// The newest events, oldest of them first; with --after the ones that followed; with -f whatever
/// happens from now on, or from --after on.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// Only events after this sequence number
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<i64>,
    /// Only events of this session, by name or id
    #[arg(short, long, value_name = "SESSION")]
    session: Option<String>,
    /// Only events of this type, for example step.completed; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// At most this many; not with -f
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// Form of the output; json is one object per line when following
    #[command(flatten)]
    format: FormatArgs,
}

const HEADS: [&str; 5] = ["SEQUENCE", "TIME", "TYPE", "ABOUT", "PAYLOAD"];

/// Shows them.
pub(crate) async fn run(app: App<'_>, args: EventsArgs) -> Result {
    let client = app.connect()?;
    let mut query = EventQuery {
        after: args.after,
        types: args.types.clone(),
        ..Default::default()
    };
    if let Some(session) = &args.session {
        query.aggregate_id = Some(find_session(&client, session).await?.id.0);
    }
    if args.follow {
        return follow(app, client, query, args.format.output).await;
    }
    query.limit = Some(args.limit);
    let mut events = app.output.waiting("reading", client.events(&query)).await?;
    if args.after.is_none() {
        events.reverse();
    }
    if args.format.output == Format::Json {
        return app.output.json(&events);
    }
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    app.output.table(&HEADS, &rows)
}

async fn follow(
    mut app: App<'_>,
    mut client: abide_client::Client,
    mut query: EventQuery,
    format: Format,
) -> Result {
    let mut outage = Outage::default();
    loop {
        let error = match client.follow_events(&query).await {
            Err(error) => error,
            Ok(mut stream) => loop {
                match stream.next().await {
                    None => break client_gone(),
                    Some(Err(error)) => break error,
                    Some(Ok(event)) => {
                        outage.over();
                        query.after = Some(event.sequence);
                        match format {
                            Format::Json => app.output.json_line(&event)?,
                            Format::Table => app.output.line(row(&event).join("  "))?,
                        }
                    }
                }
            },
        };
        client = outage.bear(&mut app, error).await?;
    }
}

/// A stream of events has no end of its own.
const fn client_gone() -> abide_client::Error {
    abide_client::Error::Protocol {
        what: "the events ended",
    }
}

fn row(event: &Event) -> Vec<String> {
    vec![
        event.sequence.to_string(),
        event.created_at.to_string(),
        event.event_type.clone(),
        format!("{} {}", event.aggregate_type, event.aggregate_id),
        event.payload.as_str().to_owned(),
    ]
}
