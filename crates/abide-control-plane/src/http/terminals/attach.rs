//! Attachments: `GET …/workers/{id}/attach` as a WebSocket. What goes over it is described in
//! [`abide_model::FromTerminal`]'s module.

mod hearing;
mod telling;

use std::time::Duration;

use abide_model::{AttachmentError, FromTerminal, Problem, SessionId, ViewerRole};
use abide_session_agent::{TerminalHandle, Visit, WindowSize};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::hearing::{Hearing, type_on};
use self::telling::Telling;
use super::{of_path, side};
use crate::http::App;
use crate::http::body::Fields;
use crate::http::error::Answer;

/// Longest message of a viewer, in bytes: longer input comes in pieces.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Scrollback in a snapshot where the viewer does not say, and at most, in bytes.
const SCROLLBACK: (i64, i64) = (1024 * 1024, 16 * 1024 * 1024);
/// Messages of input that may wait for the program to read.
const TYPED_AHEAD: usize = 64;
/// What viewers do in vain and are not told yet; of more than that they are not told.
const COMPLAINTS: usize = 16;
/// How long a viewer that is told goodbye may take to hear it.
const GOODBYE: Duration = Duration::from_millis(500);

/// What becomes of a viewer that is slower than the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It is moved forward to a snapshot.
    Skip,
    /// The program waits for it.
    Block,
}

impl Flow {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "skip" => Some(Self::Skip),
            "block" => Some(Self::Block),
            _ => None,
        }
    }
}

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(attach))
}

/// Attach to a terminal
///
/// A WebSocket. Binary messages are one byte (1 output, 2 snapshot, 3 input), eight bytes of output
/// offset, most significant first, and bytes as programs write and read them. Text messages are JSON.
/// The first is `attached`, then `viewers` says who is there; then, unless it resumes, a `snapshot` comes
/// that stands for everything before.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}/attach", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
        ("role" = Option<ViewerRole>, Query, description = "`drive` (default) or `view`"),
        ("cols" = Option<u16>, Query, description = "The viewer's window"),
        ("rows" = Option<u16>, Query, description = "The viewer's window"),
        ("resume_from" = Option<u64>, Query, description = "Output offset up to which it has everything"),
        ("flow" = Option<String>, Query, description = "`skip` (default): who is too slow is moved forward to a snapshot; `block`: the program waits for it"),
        ("scrollback" = Option<u64>, Query, description = "Most scrollback in a snapshot, in bytes"),
    ),
    responses(
        (status = 101, description = "Attached", body = FromTerminal),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
        (status = 422, description = "`invalid_input`", body = Problem),
    )
)]
async fn attach(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let mut fields = Fields::of_query(query.as_deref());
    let role = fields.one_of("role", ViewerRole::parse, &["drive", "view"]);
    let window = (side(&mut fields, "cols"), side(&mut fields, "rows"));
    let resume_from = fields.integer(&["resume_from"], 0, i64::MAX);
    let flow = fields.one_of("flow", Flow::parse, &["skip", "block"]);
    let scrollback = fields.integer(&["scrollback"], 0, SCROLLBACK.1);
    fields.done()?;
    let visit = Visit {
        role: role.unwrap_or(ViewerRole::Drive),
        size: match window {
            (Some(cols), Some(rows)) => Some(WindowSize::new(cols, rows)),
            _ => None,
        },
        resume_from: resume_from.and_then(|offset| u64::try_from(offset).ok()),
        blocks: flow == Some(Flow::Block),
        scrollback: usize::try_from(scrollback.unwrap_or(SCROLLBACK.0)).unwrap_or(0),
    };
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .on_upgrade(move |socket| serve(app, socket, session, terminal, visit)))
}

/// Why an attachment ends; `None` if the viewer left.
type Goodbye = Option<(u16, &'static str)>;

/// What a viewer said in vain.
type Complaint = (AttachmentError, String);

/// Serves one viewer until it leaves, the terminal is gone or the server stops.
async fn serve(
    app: App,
    socket: WebSocket,
    session: SessionId,
    terminal: TerminalHandle,
    visit: Visit,
) {
    let viewer = terminal.attach(visit);
    let stopping = app.tasks.stopping();
    let (sender, receiver) = socket.split();
    let (acknowledged, acks) = watch::channel(None);
    let (typed, to_type) = mpsc::channel(TYPED_AHEAD);
    let (complaints, complained) = mpsc::channel(COMPLAINTS);
    let hearing = Hearing {
        app: &app,
        session,
        terminal: &terminal,
        viewer: viewer.id(),
        role: visit.role,
        acknowledged,
        typed,
        complaints,
    };
    let mut telling = Telling::new(sender, acks, &terminal, complained, &app.metrics);
    let said = tokio::select! {
        said = telling.tell(&terminal, viewer, visit.role) => said,
        heard = hearing.hear(receiver) => heard,
        never = type_on(to_type, &terminal) => match never {},
        () = stopping.cancelled() => Some((close_code::RESTART, "the server is stopping")),
    };
    let Some((code, reason)) = said else { return };
    let why = match code {
        close_code::RESTART => Some(AttachmentError::ShuttingDown),
        close_code::INVALID => Some(AttachmentError::InvalidMessage),
        // The terminal's end was told.
        _ => None,
    };
    let goodbye = async {
        if let Some(code) = why {
            let message = reason.to_owned();
            telling.say(&FromTerminal::Error { code, message }).await?;
        }
        let reason = reason.into();
        telling
            .send(Message::Close(Some(CloseFrame { code, reason })))
            .await
    };
    // Heard or not.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}
