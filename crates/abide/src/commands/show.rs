//! `abide show`: one session, its workers, its last steps.

use abide_client::Client;
use abide_model::{ScreenState, Session, SessionId, Step, TerminalState};
use clap::Args;
use serde::Serialize;

use super::App;
use crate::connect::find_session;
use crate::error::Result;
use crate::output::{Format, FormatArgs, human_age, human_bytes};

/// A page of steps is at most this long; the last ones are shown.
const PAGE: u32 = 100;

/// Show a session, its workers and its last steps
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name or id
    session: String,
    /// How many of its last steps
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    steps: usize,
    /// Form of the output
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Shown {
    session: Session,
    workers: Vec<TerminalState>,
    steps: Vec<Step>,
}

/// Shows it.
pub(crate) async fn run(app: App<'_>, args: ShowArgs) -> Result {
    let client = app.connect()?;
    let reading = async {
        let session = find_session(&client, &args.session).await?;
        let workers = client.workers(session.id).await?;
        let steps = last_steps(&client, session.id, args.steps).await?;
        Result::Ok(Shown {
            session,
            workers,
            steps,
        })
    };
    let shown = app.output.waiting("reading", reading).await?;
    if args.format.output == Format::Json {
        return app.output.json(&shown);
    }
    let session = &shown.session;
    let mut rows = vec![
        ("id", session.id.to_string()),
        (
            "name",
            session.name.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        ("status", session.status.to_string()),
        ("runtime", session.runtime.to_string()),
        ("type", session.session_type.clone()),
        ("agent", session.agent_id.to_string()),
        (
            "workspace",
            format!("{} ({})", session.workspace.path, session.workspace.kind),
        ),
        ("created", session.created_at.to_string()),
        ("changed", session.updated_at.to_string()),
    ];
    if let Some(at) = session.expires_at {
        rows.push(("expires", at.to_string()));
    }
    if let Some(checkpoint) = &session.checkpoint {
        rows.push(("checkpoint", human_bytes(checkpoint.as_str().len() as u64)));
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    app.output.table(&[], &rows)?;
    if !shown.workers.is_empty() {
        app.output.line("")?;
        let rows: Vec<_> = shown.workers.iter().map(worker_row).collect();
        app.output.table(
            &[
                "WORKER",
                "KIND",
                "STATE",
                "GENERATION",
                "AGE",
                "SCREEN",
                "END",
            ],
            &rows,
        )?;
    }
    if !shown.steps.is_empty() {
        app.output.line("")?;
        let rows: Vec<_> = shown.steps.iter().map(step_row).collect();
        app.output
            .table(&["STEP", "STATUS", "MS", "STDOUT", "STDERR", "CODE"], &rows)?;
    }
    Ok(())
}

/// The last steps of a session, oldest first. Lists only go forward, so the pages before are read
/// too.
async fn last_steps(client: &Client, session: SessionId, wanted: usize) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    if wanted == 0 {
        return Ok(steps);
    }
    loop {
        let after = steps.last().map_or(0, |s| s.sequence);
        let page = client.list_steps(session, after, PAGE).await?;
        let full = page.len() == PAGE as usize;
        steps.extend(page);
        steps.drain(..steps.len().saturating_sub(wanted));
        if !full {
            return Ok(steps);
        }
    }
}

fn worker_row(state: &TerminalState) -> Vec<String> {
    let worker = &state.worker;
    vec![
        worker.id.to_string(),
        match worker.runtime {
            Some(runtime) => format!("{runtime} {}", worker.kind),
            None => {
                let name = worker.terminal.as_ref().and_then(|spec| spec.name.as_ref());
                name.map_or_else(
                    || worker.kind.to_string(),
                    |name| format!("{} {name}", worker.kind),
                )
            }
        },
        worker.state.to_string(),
        worker.generation.to_string(),
        human_age(worker.created_at),
        state.screen.as_ref().map_or_else(|| "-".to_owned(), screen),
        worker
            .exit
            .as_ref()
            .map_or_else(|| "-".to_owned(), |e| e.reason.clone()),
    ]
}

/// A terminal's size, how many look at it, and its title.
fn screen(screen: &ScreenState) -> String {
    let ScreenState {
        cols,
        rows,
        viewers,
        ..
    } = screen;
    let looked_at = match viewers {
        0 => String::new(),
        1 => ", 1 viewer".to_owned(),
        viewers => format!(", {viewers} viewers"),
    };
    let title = screen.title.as_deref().map(first_line);
    let title = title.map_or_else(String::new, |title| format!(", {title:?}"));
    format!("{cols}x{rows}{looked_at}{title}")
}

fn step_row(step: &Step) -> Vec<String> {
    vec![
        step.sequence.to_string(),
        step.status.to_string(),
        step.duration_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}")),
        human_bytes(step.stdout_bytes),
        human_bytes(step.stderr_bytes),
        first_line(&step.code),
    ]
}

/// The beginning of code, on one line.
fn first_line(code: &str) -> String {
    const CHARS: usize = 50;
    let line = code.trim_start().lines().next().unwrap_or_default();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = line.chars().take(CHARS).map(printable).collect();
    if text.trim_end().len() < code.trim().len() {
        text.push('…');
    }
    text
}
