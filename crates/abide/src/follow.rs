//! Showing one step while it runs: output as it comes, Ctrl-C, then its value or its error.

use std::pin::pin;

use abide_client::{Client, ResumableStep, ResumePolicy, StepEvent};
use abide_model::{MimeBundle, Session, Step, StepResult, StepStatus, SubmitStep};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::connect::{label, locator};
use crate::error::{CommandError, Result};
use crate::output::{Output, Spinner, human_bytes};

/// How long leaving may wait for the interrupt to be sent.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(2);

/// How watching a step ended.
#[derive(Debug)]
pub(crate) enum Watched {
    /// The step has ended.
    Ended(Box<Step>),
    /// The user pressed Ctrl-C twice: the step goes on.
    LeftRunning,
}

/// What is shown of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Output, value and error.
    Everything,
    /// Nothing: the caller shows the finished step.
    Nothing,
}

/// Submits a step and shows it until it ends. `interrupt` delivers Ctrl-C.
pub(crate) async fn watch(
    output: &mut Output,
    config: &Config,
    client: &Client,
    session: &Session,
    submit: SubmitStep,
    show: Show,
) -> Result<Watched> {
    let mut interrupt = ctrl_c()?;
    let mut told = false;
    let locate = locator(config, move || {
        if !std::mem::replace(&mut told, true) {
            // The spinner may stand on this line.
            let text = "\r\x1b[Klost the server; the step goes on without it, waiting for it to come back\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    });
    let mut step = ResumableStep::new(client.clone(), session.id, submit, ResumePolicy::default())
        .with_locate(locate);
    let id = step.id();
    let mut spinner = Spinner::new(output, "running");
    let mut presses = 0;
    loop {
        let client = step.client().clone();
        // One event is awaited without being dropped in between, so that neither a signal nor the
        // spinner cuts a request short.
        let mut next = pin!(step.next());
        let mut cancel = None;
        let event = loop {
            tokio::select! {
                biased;
                event = &mut next => break event,
                () = caught(&mut interrupt) => {
                    spinner.clear();
                    presses += 1;
                    if presses > 1 {
                        // What the first press promised is sent before leaving, however quickly
                        // the second one came.
                        if cancel.is_some() {
                            let _ = tokio::time::timeout(LAST_WORD, pending(&mut cancel)).await;
                        }
                        output.note(format!(
                            "left running; `abide logs -f {}` follows its output, `abide interrupt {0}` stops it",
                            label(session)
                        ));
                        return Ok(Watched::LeftRunning);
                    }
                    output.note("interrupting; Ctrl-C again leaves it running");
                    let client = client.clone();
                    cancel = Some(Box::pin(async move { client.cancel_step(session.id, id).await }));
                }
                answer = pending(&mut cancel) => {
                    cancel = None;
                    if let Err(error) = answer {
                        output.note(format!("could not interrupt: {error}"));
                    }
                }
                () = spinner.tick() => {}
            }
        };
        let event = match event {
            Some(event) => event?,
            None => {
                return Err(CommandError::new(
                    crate::error::Kind::Internal,
                    "the step has no end",
                ));
            }
        };
        if !matches!(event, StepEvent::Started(_)) {
            spinner.stop();
        }
        match (event, show) {
            (StepEvent::Completed(step), Show::Everything) => {
                show_error(output, session, &step)?;
                return Ok(Watched::Ended(Box::new(step)));
            }
            (StepEvent::Completed(step), Show::Nothing) => {
                return Ok(Watched::Ended(Box::new(step)));
            }
            (StepEvent::Started(_), _) | (_, Show::Nothing) => {}
            (StepEvent::Stdout(bytes), Show::Everything) => output.raw(&bytes)?,
            (StepEvent::Stderr(bytes), Show::Everything) => output.raw_error(&bytes),
            (StepEvent::Gap { from, to }, Show::Everything) => {
                let lost = human_bytes(to - from);
                output.note(format!(
                    "[{lost} of output left the journal before they were read]"
                ));
            }
            (StepEvent::Result(result), Show::Everything) => show_result(output, &result)?,
        }
    }
}

/// Ctrl-C as a stream of signals, which from now on do not end the program.
fn ctrl_c() -> Result<Signal> {
    signal(SignalKind::interrupt()).map_err(|e| CommandError::io("cannot listen for Ctrl-C", &e))
}

async fn caught(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a future that may not be there.
async fn pending<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Shows a value the way an interpreter's own prompt would.
fn show_result(output: &mut Output, result: &StepResult) -> Result {
    for display in &result.displays {
        show_display(output, display)?;
    }
    if let Some(text) = &result.text {
        output.end_line()?;
        output.line(text)?;
    }
    if result.truncated {
        output.note("[the value was too large and is cut]");
    }
    Ok(())
}

fn show_display(output: &mut Output, display: &MimeBundle) -> Result {
    output.end_line()?;
    match display.get("text/plain") {
        Some(text) => output.line(text),
        None => {
            let kinds: Vec<&str> = display.keys().map(String::as_str).collect();
            output.note(format!("[shows {}; `-o json` has it]", kinds.join(", ")));
            Ok(())
        }
    }
}

/// Shows why a step did not complete, on standard error.
fn show_error(output: &mut Output, session: &Session, step: &Step) -> Result {
    if step.status == StepStatus::Completed {
        return Ok(());
    }
    output.end_line()?;
    let mut text = match &step.error {
        Some(error) if !error.traceback.is_empty() => error.traceback.clone(),
        Some(error) if error.message.is_empty() => error.kind.clone(),
        Some(error) => format!("{}: {}", error.kind, error.message),
        None => format!("the step ended as {}", step.status),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output.raw_error(text.as_bytes());
    if let Some(exit) = &step.exit
        && !exit.reason.is_empty()
    {
        output.note(format!("[{}]", exit.reason));
    }
    if matches!(step.status, StepStatus::Crashed | StepStatus::Lost) {
        output.note(format!(
            "[`abide restart {}` gives it a fresh interpreter]",
            label(session)
        ));
    }
    Ok(())
}
