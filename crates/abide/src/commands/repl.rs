//! `abide repl`: a prompt on a session.

use std::io::IsTerminal as _;

use abide_client::Client;
use abide_model::{Runtime, Session, SubmitStep};
use clap::Args;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper};
use tokio::runtime::Runtime as EventLoop;

use super::App;
use super::run::SessionArgs;
use crate::connect::{label, open_session};
use crate::error::{CommandError, Result};
use crate::follow::{Show, Watched, watch};
use crate::input::is_complete;

const HELP: &str = "\
.help      this
.restart   a fresh interpreter; the old one's state is gone
.exit      leave (the session and its variables stay)
Ctrl-C     clear the line, or interrupt what runs; twice: leave it running
Ctrl-D     leave
A line that is not finished goes on with the next one; in Python an empty line ends a block.";

/// How much is remembered.
const HISTORY_LINES: usize = 10_000;

/// Talk to a session line by line
///
/// The session stays when the prompt is left. History is kept in the data directory.
#[derive(Debug, Args)]
pub(crate) struct ReplArgs {
    /// Which session
    #[command(flatten)]
    session: SessionArgs,
}

struct Prompt {
    runtime: Runtime,
}

impl Helper for Prompt {}
impl Completer for Prompt {
    type Candidate = String;
}
impl Hinter for Prompt {
    type Hint = String;
}
impl Highlighter for Prompt {}
impl Validator for Prompt {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        Ok(if is_command(text) || is_complete(self.runtime, text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

type Line = Editor<Prompt, FileHistory>;

/// Runs the prompt until its user leaves.
pub(crate) fn run(app: App<'_>, event_loop: &EventLoop, args: ReplArgs) -> Result {
    let client = app.connect()?;
    let first = args.session.first_use();
    let session = event_loop.block_on(app.output.waiting(
        "opening the session",
        open_session(&client, &args.session.session, &first),
    ))?;
    let mut line =
        editor(session.runtime).map_err(|e| CommandError::io("cannot use this terminal", &e))?;
    let history = app.config.data_dir.join("history");
    // There is none before the first time.
    let _ = line.load_history(&history);
    if std::io::stdin().is_terminal() {
        app.output.note(format!(
            "session {} ({}); .help for help",
            label(&session),
            session.runtime
        ));
    }
    let outcome = talk(app, event_loop, &client, session, &mut line);
    // Losing the history is no reason to fail.
    let _ = line.append_history(&history);
    outcome
}

fn editor(runtime: Runtime) -> rustyline::Result<Line> {
    let config = rustyline::Config::builder()
        .max_history_size(HISTORY_LINES)?
        .auto_add_history(true)
        .history_ignore_space(true)
        .build();
    let mut line = Editor::with_config(config)?;
    line.set_helper(Some(Prompt { runtime }));
    Ok(line)
}

fn talk(
    app: App<'_>,
    event_loop: &EventLoop,
    client: &Client,
    session: Session,
    line: &mut Line,
) -> Result {
    let prompt = match session.runtime {
        Runtime::Python => ">>> ",
        Runtime::Node => "> ",
    };
    loop {
        let text = match line.readline(prompt) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(CommandError::io("cannot read from the terminal", &error)),
        };
        match text.trim() {
            "" => continue,
            ".exit" => return Ok(()),
            ".help" => app.output.line(HELP)?,
            ".restart" => {
                let restarting = app
                    .output
                    .waiting("restarting", client.restart_session(session.id));
                match event_loop.block_on(restarting) {
                    Ok(_) => app.output.note("a fresh interpreter"),
                    Err(error) => app.output.error(&error.into()),
                }
            }
            command if is_command(command) => {
                app.output.note("there is no such command; .help shows all");
            }
            _ => {
                let submit = SubmitStep {
                    code: text,
                    ..SubmitStep::default()
                };
                let step = watch(
                    app.output,
                    &app.config,
                    client,
                    &session,
                    submit,
                    Show::Everything,
                );
                match event_loop.block_on(step) {
                    Ok(Watched::Ended(_)) => app.output.end_line()?,
                    Ok(Watched::LeftRunning) => {}
                    Err(error) if error.message.is_empty() => return Err(error),
                    Err(error) => app.output.error(&error),
                }
            }
        }
    }
}

/// `.name`, which is neither Python nor JavaScript.
fn is_command(text: &str) -> bool {
    text.trim()
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        && !text.contains('\n')
}
