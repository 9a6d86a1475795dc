//! `abide ls`: list sessions.

use std::collections::HashMap;

use abide_client::ListSessions;
use abide_model::{AgentId, Session, SessionId, SessionStatus, TerminalState, WorkerKind};
use clap::Args;

use super::App;
use crate::error::Result;
use crate::output::{Format, FormatArgs, human_age};

/// The server's largest page.
const PAGE: u32 = 100;

/// List sessions, newest first
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only sessions of this status: active, paused, completed or crashed; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = parse_status)]
    status: Vec<SessionStatus>,
    /// Only sessions of this agent
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
    /// Form of the output
    #[command(flatten)]
    format: FormatArgs,
}

/// Lists them.
pub(crate) async fn run(app: App<'_>, args: LsArgs) -> Result {
    let client = app.connect()?;
    let mut sessions: Vec<Session> = Vec::new();
    let mut list = ListSessions {
        agent_id: args.agent,
        statuses: args.status,
        ..ListSessions::default()
    };
    loop {
        let wanted = args
            .limit
            .saturating_sub(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        if wanted == 0 {
            break;
        }
        list.limit = Some(wanted.min(PAGE));
        let page = app
            .output
            .waiting("listing", client.list_sessions(&list))
            .await?;
        let empty = page.sessions.is_empty();
        sessions.extend(page.sessions);
        list.cursor = page.next;
        if list.cursor.is_none() || empty {
            break;
        }
    }
    if args.format.output == Format::Json {
        return app.output.json(&sessions);
    }
    let live = app.output.waiting("listing", client.live_workers()).await?;
    let terminals = terminals(&live);
    let row = |session| row(session, terminals.get(&session.id));
    let rows: Vec<Vec<String>> = sessions.iter().map(row).collect();
    app.output.table(
        &[
            "NAME",
            "STATUS",
            "RUNTIME",
            "TERMINALS",
            "AGE",
            "CHANGED",
            "ID",
        ],
        &rows,
    )
}

/// The names of each session's live terminals, and how many have none.
fn terminals(live: &[TerminalState]) -> HashMap<SessionId, (Vec<&str>, usize)> {
    let mut found: HashMap<_, (Vec<&str>, usize)> = HashMap::new();
    for TerminalState { worker, .. } in live {
        if worker.kind == WorkerKind::Terminal {
            let (names, nameless) = found.entry(worker.session_id).or_default();
            let name = worker
                .terminal
                .as_ref()
                .and_then(|spec| spec.name.as_deref());
            match name {
                Some(name) => names.push(name),
                None => *nameless += 1,
            }
        }
    }
    found
}

fn row(session: &Session, terminals: Option<&(Vec<&str>, usize)>) -> Vec<String> {
    let terminals = match terminals {
        None => "-".to_owned(),
        Some((names, 0)) => names.join(","),
        Some((names, nameless)) if names.is_empty() => nameless.to_string(),
        Some((names, nameless)) => format!("{},+{nameless}", names.join(",")),
    };
    vec![
        session.name.clone().unwrap_or_else(|| "-".to_owned()),
        session.status.to_string(),
        session.runtime.to_string(),
        terminals,
        human_age(session.created_at),
        human_age(session.updated_at),
        session.id.to_string(),
    ]
}

fn parse_status(text: &str) -> std::result::Result<SessionStatus, String> {
    SessionStatus::parse(text).ok_or_else(|| {
        let all: Vec<&str> = SessionStatus::ALL.iter().map(|s| s.as_str()).collect();
        format!("use one of {}", all.join(", "))
    })
}
