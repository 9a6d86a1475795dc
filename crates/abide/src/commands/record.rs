//! `abide record`: a terminal, written down.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use abide_client::Client;
use abide_model::{CastFormat, TerminalSpec, ViewerRole};
use clap::Args;

use super::App;
use super::attach::DetachArgs;
use super::run::DEFAULT_SESSION;
use crate::connect::{FirstUse, open_session};
use crate::error::{CommandError, Result};
use crate::terminal::{Film, Target, Viewing, Which, find, view, window};

/// Record a terminal as asciicast
///
/// A terminal's own journal, as far as it goes back, without attaching to it; or, with --attach or with a
/// program to start, what is seen from now on until it ends or is left.
#[derive(Debug, Args)]
#[command(
    after_help = "With --attach or a program the exit code is that of `abide attach`.\n\n\
                  Examples:\n  abide record demo/build -o build.cast\n  abide record -o new.cast -- make test\n  \
                  abide record demo --attach -o session.cast"
)]
pub(crate) struct RecordArgs {
    /// The session, or session/terminal by name or id; the only live one if not given. With a program the
    /// session to start it in, and what to call it
    terminal: Option<String>,
    /// Write to this file; standard output if not given
    #[arg(short, long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Version of the format: v3 or v2
    #[arg(long, value_name = "VERSION", default_value = "v3", value_parser = parse_format)]
    format: CastFormat,
    /// Attach to it, and record what is seen from now on
    #[arg(long, requires = "output")]
    attach: bool,
    /// How to detach
    #[command(flatten)]
    detach: DetachArgs,
    /// Start this program, with its arguments, and attach to it
    #[arg(last = true, value_name = "COMMAND", requires = "output")]
    command: Vec<String>,
}

/// Records it.
pub(crate) async fn run(app: App<'_>, args: RecordArgs) -> Result<ExitCode> {
    let client = app.connect()?;
    let (target, from) = if !args.command.is_empty() {
        let starting = start(&client, args.terminal.as_deref(), &args.command);
        let target = app.output.waiting("starting the terminal", starting);
        (target.await?, Some(0))
    } else {
        let which = if args.attach {
            Which::Live
        } else {
            Which::Latest
        };
        let finding = find(&client, args.terminal.as_deref(), which);
        (app.output.waiting("looking", finding).await?, None)
    };
    if args.command.is_empty() && !args.attach {
        let (output, format) = (args.output.as_deref(), args.format);
        download(app, &client, &target, output, format).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let command = target.worker.terminal.as_ref();
    let command = command.map(|spec| spec.command.join(" "));
    // The arguments require it.
    let path = args.output.unwrap_or_default();
    let film = Film::create(&path, args.format, command.filter(|text| !text.is_empty()))?;
    let viewing = Viewing {
        target,
        role: ViewerRole::Drive,
        detach_key: args.detach.detach_key,
        from,
        ends_input: from.is_some(),
        name: None,
        film: Some(film),
    };
    view(app, client, viewing).await
}

async fn start(client: &Client, text: Option<&str>, command: &[String]) -> Result<Target> {
    let text = text.unwrap_or(DEFAULT_SESSION);
    let (session, name) = match text.split_once('/') {
        Some((session, name)) => (session, Some(name.to_owned())),
        None => (text, None),
    };
    let first = FirstUse {
        runtime: None,
        workspace: None,
    };
    let session = open_session(client, session, &first).await?;
    let size = window();
    let spec = TerminalSpec {
        name,
        command: command.to_vec(),
        cols: size.map(|(cols, _)| cols),
        rows: size.map(|(_, rows)| rows),
        ..TerminalSpec::default()
    };
    let state = client.start_terminal(session.id, &spec).await?;
    Ok(Target::started(session, state))
}

/// Writes down what the terminal's journal has.
async fn download(
    app: App<'_>,
    client: &Client,
    target: &Target,
    output: Option<&Path>,
    format: CastFormat,
) -> Result {
    let (session, worker) = (target.session.id, target.worker.id);
    let mut recording = client.recording(session, worker, format).await?;
    let Some(path) = output else {
        while let Some(piece) = recording.next().await? {
            app.output.raw(&piece)?;
        }
        return Ok(());
    };
    let failed =
        |e: std::io::Error| CommandError::io(format!("cannot write {}", path.display()), &e);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    while let Some(piece) = recording.next().await? {
        file.write_all(&piece).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn parse_format(text: &str) -> std::result::Result<CastFormat, String> {
    CastFormat::parse(text).ok_or_else(|| "use v3 or v2".to_owned())
}
