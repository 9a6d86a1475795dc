//! `abide run`: one step in a session.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use abide_model::{Runtime, StepStatus, SubmitStep};
use clap::Args;

use super::App;
use crate::config::{Span, Value as _};
use crate::connect::{FirstUse, label, open_session};
use crate::error::{CommandError, Kind, Result};
use crate::follow::{Show, Watched, watch};
use crate::output::{Format, FormatArgs};

/// The session of those who name none.
pub(crate) const DEFAULT_SESSION: &str = "default";

/// Which session, and how it is created on first use.
#[derive(Debug, Clone, Args)]
pub(crate) struct SessionArgs {
    /// Name or id of the session; a new name creates it
    #[arg(short, long, value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,
    /// Language of the session: python or node
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_runtime)]
    pub(crate) runtime: Option<Runtime>,
    /// Directory a new session works in; a scratch directory without it
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
}

/// Run code in a session, which is created on first use
///
/// Output is shown as it comes; the value of the last expression is printed like a prompt would.
/// Ctrl-C interrupts the step, a second Ctrl-C leaves it running. When the connection breaks or
/// the server restarts, the step is found again by its id and its output goes on where it was.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code tells how the step ended: `abide help exit-codes`.\n\n\
                  Examples:\n  abide run -s demo 'x = 41'\n  abide run -s demo 'x + 1'\n  \
                  abide run -s demo -f script.py\n  echo 'print(1)' | abide run -s demo -"
)]
pub(crate) struct RunArgs {
    /// Where to run it
    #[command(flatten)]
    session: SessionArgs,
    /// Read the code from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "code")]
    file: Option<PathBuf>,
    /// Stop the step after this time, for example 10s or 5m
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    timeout: Option<Span>,
    /// What the step reads from its standard input
    #[arg(long, value_name = "FILE")]
    stdin_file: Option<PathBuf>,
    /// Print the step's id and return as soon as it is accepted
    #[arg(long)]
    no_wait: bool,
    /// Form of the output; json prints the finished step
    #[command(flatten)]
    format: FormatArgs,
    /// The code, or - to read it from standard input
    #[arg(value_name = "CODE", allow_hyphen_values = true)]
    code: Option<String>,
}

impl SessionArgs {
    /// How to create it.
    pub(crate) fn first_use(&self) -> FirstUse {
        FirstUse {
            runtime: self.runtime,
            workspace: self.workspace.clone(),
        }
    }
}

fn parse_runtime(text: &str) -> std::result::Result<Runtime, String> {
    Runtime::from_alias(text).map_err(|e| e.to_string())
}

/// Runs it.
pub(crate) async fn run(app: App<'_>, args: RunArgs) -> Result {
    let submit = SubmitStep {
        code: code(&args)?,
        step_id: Some(abide_model::StepId::new()),
        timeout_ms: args
            .timeout
            .map(|t| u64::try_from(t.0.as_millis()).unwrap_or(u64::MAX)),
        stdin: args
            .stdin_file
            .as_ref()
            .map(|path| read_text(path))
            .transpose()?,
    };
    let client = app.connect()?;
    let first = args.session.first_use();
    let opening = open_session(&client, &args.session.session, &first);
    let session = app.output.waiting("opening the session", opening).await?;
    let json = args.format.output == Format::Json;
    if args.no_wait {
        let step = client.submit_step(session.id, &submit).await?;
        return if json {
            app.output.json(&step)
        } else {
            app.output.line(step.id.to_string())
        };
    }
    let show = if json {
        Show::Nothing
    } else {
        Show::Everything
    };
    match watch(app.output, &app.config, &client, &session, submit, show).await? {
        Watched::LeftRunning => Err(CommandError::silent(Kind::LeftRunning)),
        Watched::Ended(step) => {
            if json {
                app.output.json(&step)?;
            }
            if step.status == StepStatus::Timeout {
                app.output.note(format!(
                    "[stopped in session {} after its timeout]",
                    label(&session)
                ));
            }
            match step.status {
                StepStatus::Completed => Ok(()),
                status => Err(CommandError::silent(Kind::Step(status))),
            }
        }
    }
}

fn code(args: &RunArgs) -> Result<String> {
    if let Some(path) = &args.file {
        return if path.as_os_str() == "-" {
            read_stdin()
        } else {
            read_text(path)
        };
    }
    match args.code.as_deref() {
        Some("-") => read_stdin(),
        Some(code) => Ok(code.to_owned()),
        None if std::io::stdin().is_terminal() => {
            Err(CommandError::usage("there is no code to run")
                .hint("give it as an argument, with -f FILE, or on standard input")
                .hint("`abide repl` is for typing"))
        }
        None => read_stdin(),
    }
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| CommandError::io("cannot read the code from standard input", &e))?;
    Ok(text)
}

fn read_text(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| CommandError::io(format!("cannot read {}", path.display()), &e))
}
