//! `abide logs`: what the interpreter has printed.

use abide_client::{Client, Error, Output as Piece, OutputFrom};
use abide_model::{ProblemCode, SessionId};
use base64::Engine as _;
use clap::Args;
use serde_json::json;

use super::App;
use crate::connect::find_session;
use crate::error::Result;
use crate::output::{Format, FormatArgs, human_bytes};

/// Print what a session's interpreter has printed
///
/// Standard output and standard error in the order they were written, also what was printed
/// between steps, as far back as the journal reaches.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name or id
    session: String,
    /// Go on until the interpreter ends or Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last bytes
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
    /// Form of the output; json has offsets, one object per piece when following
    #[command(flatten)]
    format: FormatArgs,
}

/// Prints it.
pub(crate) async fn run(mut app: App<'_>, args: LogsArgs) -> Result {
    let client = app.connect()?;
    let session = find_session(&client, &args.session).await?.id;
    let from = args.tail.map_or(OutputFrom::Offset(0), OutputFrom::Tail);
    let first = app
        .output
        .waiting("reading", read(&client, session, from))
        .await?;
    let json = args.format.output == Format::Json;
    if json {
        print_json(&mut app, args.follow, first.from, &first.bytes)?;
    } else {
        if args.tail.is_none() && first.from > 0 {
            app.output.note(format!(
                "[{} before this have left the journal]",
                human_bytes(first.from)
            ));
        }
        app.output.raw(&first.bytes)?;
    }
    if !args.follow {
        return Ok(());
    }
    follow(app, client, session, first.next, json).await
}

/// Goes on from an offset; survives an outage of the server.
async fn follow(
    mut app: App<'_>,
    mut client: Client,
    session: SessionId,
    from: u64,
    json: bool,
) -> Result {
    let mut position = from;
    let mut outage = crate::outage::Outage::default();
    loop {
        let error = match client
            .follow_session_output(session, OutputFrom::Offset(position))
            .await
        {
            Ok(mut stream) => loop {
                match stream.next().await {
                    None => return Ok(()),
                    Some(Err(error)) => break error,
                    Some(Ok(bytes)) => {
                        outage.over();
                        if json {
                            print_json(&mut app, true, position, &bytes)?;
                        } else {
                            app.output.raw(&bytes)?;
                        }
                        position = stream.position();
                    }
                }
            },
            Err(error) => match earliest(&error) {
                Some(earliest) if earliest > position => {
                    let lost = human_bytes(earliest - position);
                    app.output
                        .note(format!("[{lost} left the journal before they were read]"));
                    position = earliest;
                    continue;
                }
                _ => error,
            },
        };
        client = outage.bear(&mut app, error).await?;
    }
}

/// Reads from an offset, or from the oldest byte there still is.
async fn read(client: &Client, session: SessionId, from: OutputFrom) -> Result<Piece> {
    match client.session_output(session, from).await {
        Err(error) => match earliest(&error) {
            Some(at) => Ok(client
                .session_output(session, OutputFrom::Offset(at))
                .await?),
            None => Err(error.into()),
        },
        Ok(piece) => Ok(piece),
    }
}

/// The oldest byte that is left, when the error says that older ones are not.
fn earliest(error: &Error) -> Option<u64> {
    let problem = error
        .problem()
        .filter(|p| p.code == ProblemCode::OutputExpired.as_str())?;
    problem.details.as_ref()?.get("earliest")?.as_u64()
}

fn print_json(app: &mut App<'_>, follow: bool, from: u64, bytes: &[u8]) -> Result {
    let next = from + bytes.len() as u64;
    let piece = match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "from": from, "next": next, "text": text }),
        Err(_) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({ "from": from, "next": next, "base64": base64 })
        }
    };
    if follow {
        app.output.json_line(&piece)
    } else {
        app.output.json(&piece)
    }
}
