//! Which terminal a command means.

use abide_client::{Client, ListSessions};
use abide_model::{Session, SessionStatus, TerminalState, Worker, WorkerKind};

use crate::connect::{find_session, label as session_label};
use crate::error::{CommandError, Kind, Result};

/// A terminal and its session.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Whose.
    pub(crate) session: Session,
    /// The terminal.
    pub(crate) worker: Worker,
}

/// What a command can do with a terminal that is named by its session alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// It is to be alive.
    Live,
    /// If none is alive, the one that ended last will do.
    Latest,
}

impl Target {
    /// One that was just started.
    pub(crate) fn started(session: Session, state: TerminalState) -> Self {
        Self {
            session,
            worker: state.worker,
        }
    }
}

/// How people call it: `session/name`, or its id in place of a name.
pub(crate) fn label(target: &Target) -> String {
    let name = name(&target.worker).map_or_else(|| target.worker.id.to_string(), str::to_owned);
    format!("{}/{name}", session_label(&target.session))
}

/// Whether the terminal's program has not ended.
fn live(worker: &Worker) -> bool {
    worker.kind == WorkerKind::Terminal && worker.ended_at.is_none()
}

fn name(worker: &Worker) -> Option<&str> {
    worker.terminal.as_ref()?.name.as_deref()
}

/// The terminal that `text` means: `session`, `session/terminal`, or the only one there is.
pub(crate) async fn find(client: &Client, text: Option<&str>, which: Which) -> Result<Target> {
    let Some(text) = text.filter(|text| *text != "-") else {
        return only(everywhere(client).await?, which, "");
    };
    let (session, worker) = match text.split_once('/') {
        Some((session, worker)) => (session, Some(worker)),
        None => (text, None),
    };
    let session = find_session(client, session).await?;
    let mut found = of_session(client, &session).await?;
    let of = format!(" of session {:?}", session_label(&session));
    let Some(worker) = worker else {
        return only(found, which, &of);
    };
    if let Some(at) = (found.iter()).position(|target| target.worker.id.to_string() == worker) {
        return Ok(found.swap_remove(at));
    }
    found.retain(|target| name(&target.worker) == Some(worker));
    if found.is_empty() {
        return Err(
            CommandError::new(Kind::NotFound, format!("there is no terminal {text:?}"))
                .hint("`abide show SESSION` lists a session's terminals"),
        );
    }
    // A name may be used again once its terminal has ended.
    only(found, Which::Latest, &of)
}

fn only(found: Vec<Target>, which: Which, of: &str) -> Result<Target> {
    let (mut alive, ended): (Vec<_>, Vec<_>) = found.into_iter().partition(|t| live(&t.worker));
    match (alive.pop(), which) {
        (Some(target), _) if alive.is_empty() => Ok(target),
        (Some(target), _) => {
            let several = CommandError::usage(format!("several terminals{of} are alive; name one"));
            let all = alive.iter().chain([&target]);
            Err(all.fold(several, |error, target| error.hint(label(target))))
        }
        (None, Which::Latest) => (ended.into_iter())
            .max_by_key(|target| target.worker.created_at)
            .ok_or_else(|| none(of)),
        (None, Which::Live) => Err(none(of)),
    }
}

fn none(of: &str) -> CommandError {
    CommandError::new(Kind::NotFound, format!("no terminal{of} is alive"))
        .hint("`abide shell` starts one")
}

async fn of_session(client: &Client, session: &Session) -> Result<Vec<Target>> {
    let workers = client.workers(session.id).await?.into_iter();
    let workers = workers.map(|state| state.worker);
    let terminals = workers.filter(|worker| worker.kind == WorkerKind::Terminal);
    let target = |worker| Target {
        session: session.clone(),
        worker,
    };
    Ok(terminals.map(target).collect())
}

/// The terminals of all active sessions.
async fn everywhere(client: &Client) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    let mut list = ListSessions {
        statuses: vec![SessionStatus::Active],
        ..ListSessions::default()
    };
    loop {
        let page = client.list_sessions(&list).await?;
        for session in &page.sessions {
            found.extend(of_session(client, session).await?);
        }
        list.cursor = page.next;
        if list.cursor.is_none() || page.sessions.is_empty() {
            return Ok(found);
        }
    }
}
