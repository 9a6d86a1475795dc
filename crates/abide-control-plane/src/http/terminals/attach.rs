//! Attachments: `GET …/workers/{id}/attach` as a WebSocket. What goes over it is described in
//! [`abide_model::FromTerminal`]'s module.

use std::sync::Arc;

use abide_model::{
    ACK_WINDOW, FromTerminal, Problem, SizePolicy, SnapshotReason, TerminalChanges, ViewerRole,
};
use abide_session_agent::http::{AttachmentHost, SignsOfLife};
use abide_session_agent::{TerminalHandle, Visit, WindowSize};
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use futures_util::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{of_path, side};
use crate::http::App;
use crate::http::body::Fields;
use crate::http::error::Answer;
use crate::service::ControlPlane;

/// Scrollback in a snapshot where the viewer does not say, and at most, in bytes.
const SCROLLBACK: (i64, i64) = (1024 * 1024, 16 * 1024 * 1024);

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
/// that stands for everything before, and where there is much scrollback at once another one that has all of it.
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
    request: Request,
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
        screen_first: true,
        ack_window: ACK_WINDOW,
    };
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    let (mut request, _) = request.into_parts();
    let host = Arc::clone(&app);
    Ok(terminal.attach(&mut request, visit, host).await?)
}

impl AttachmentHost for ControlPlane {
    fn signs_of_life(&self) -> SignsOfLife {
        self.config.signs_of_life
    }

    fn viewer_was_sent(&self, bytes: usize) {
        self.metrics.terminals.viewer_was_sent(bytes);
    }

    fn viewer_was_sent_a_snapshot(&self, reason: SnapshotReason) {
        self.metrics.terminals.viewer_was_sent_a_snapshot(reason);
    }

    fn size_policy_changes<'a>(
        &'a self,
        terminal: &'a TerminalHandle,
        policy: SizePolicy,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        let changes = TerminalChanges {
            name: None,
            size_policy: Some(policy),
        };
        let changed = self.update_terminal(terminal.session(), terminal.id(), changes);
        Box::pin(async move { changed.await.map(drop) })
    }
}
