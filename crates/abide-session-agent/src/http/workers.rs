//! `/v1/workers` and `/v1/sessions/{id}/workers`: terminals.

use abide_keeper::WindowSize;
use abide_model::{
    CastFormat, Problem, ProblemCode, SizePolicy, SnapshotReason, StartTerminal, TerminalChanges,
    TerminalState, WorkerId,
};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::attach::{AttachmentHost, SignsOfLife, attach, visit_of};
use super::body::{Fields, Whole, credentials};
use super::error::Answer;
use super::recording::recorded;
use super::{App, Shared};
use crate::host::invalid;
use crate::terminal::TerminalHandle;

/// Smallest and largest width and height of a terminal.
const SIDES: std::ops::RangeInclusive<u16> = 1..=1000;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/workers", get(list_all))
        .route("/v1/sessions/{session}/workers", get(list).post(start))
        .route(
            "/v1/sessions/{session}/workers/{worker}",
            get(show).patch(change).delete(end),
        )
        .route("/v1/sessions/{session}/workers/{worker}/stop", post(stop))
        .route(
            "/v1/sessions/{session}/workers/{worker}/screen",
            get(screen),
        )
        .route("/v1/sessions/{session}/workers/{worker}/input", post(input))
        .route(
            "/v1/sessions/{session}/workers/{worker}/resize",
            post(resize),
        )
        .route(
            "/v1/sessions/{session}/workers/{worker}/recording",
            get(recording),
        )
        .route(
            "/v1/sessions/{session}/workers/{worker}/attach",
            get(attached),
        )
}

/// The worker that a path names.
pub(super) fn worker_id(text: &str) -> Result<WorkerId, Problem> {
    WorkerId::parse(text)
        .map_err(|_| Problem::new(ProblemCode::WorkerNotFound, "no worker has such an id"))
}

/// What a body that the plane above wrote says.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem {
        status: 400,
        ..Problem::new(
            ProblemCode::InvalidJson,
            format!("the body is not as it should be: {error}"),
        )
    })
}

/// A side of a terminal that may be.
fn check_side(name: &str, side: u16) -> Result<(), Problem> {
    if SIDES.contains(&side) {
        return Ok(());
    }
    let (least, most) = (SIDES.start(), SIDES.end());
    let wrong = format!("must be from {least} to {most}");
    Err(invalid(name, &wrong, &side.to_string()))
}

async fn list_all(State(app): State<App>, headers: HeaderMap) -> Answer<Json<Vec<TerminalState>>> {
    Ok(Json(app.host.all_terminals(&credentials(&headers))?))
}

async fn list(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Vec<TerminalState>>> {
    Ok(Json(app.host.terminals(&session, &credentials(&headers))?))
}

async fn start(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let credentials = credentials(&headers);
    // Before the body is looked at: who has no token learns nothing about it.
    app.host.session(&session, &credentials)?;
    let new: StartTerminal = parse(&body)?;
    for (name, side) in [("cols", new.spec.cols), ("rows", new.spec.rows)] {
        side.map_or(Ok(()), |side| check_side(name, side))?;
    }
    let started = app.host.start_terminal(&session, &credentials, new).await?;
    Ok((StatusCode::CREATED, Json(started)).into_response())
}

async fn show(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Json<TerminalState>> {
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    Ok(Json(
        app.host.terminal(&session, &credentials, worker).await?,
    ))
}

/// What it is called is known above only.
async fn change(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<TerminalState>> {
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    app.host.session(&session, &credentials)?;
    let changes: TerminalChanges = parse(&body)?;
    let state = match changes.size_policy {
        Some(policy) => {
            let host = &app.host;
            host.set_size_policy(&session, &credentials, worker, policy)?
        }
        None => app.host.terminal(&session, &credentials, worker).await?,
    };
    Ok(Json(state))
}

async fn stop(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Json<TerminalState>> {
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let stopped = app
        .host
        .stop_terminal(&session, &credentials, worker)
        .await?;
    Ok(Json(stopped))
}

async fn end(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Json<TerminalState>> {
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let ended = app
        .host
        .end_terminal(&session, &credentials, worker)
        .await?;
    Ok(Json(ended))
}

async fn screen(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let mut query = Fields::of_query(query.as_deref());
    let ansi = query.parsed("format", "must be text or ansi", |text| match text {
        "text" => Some(false),
        "ansi" => Some(true),
        _ => None,
    })?;
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let (_, terminal) = app
        .host
        .open_terminal(&session, &credentials, worker)
        .await?;
    terminal.catch_up().await;
    let text = terminal.screen(ansi.unwrap_or(false));
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, text).into_response())
}

async fn input(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<StatusCode> {
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let (_, terminal) = app
        .host
        .open_terminal(&session, &credentials, worker)
        .await?;
    // One of those who look, whose size counts from now on where the latest has the say.
    if let Some(viewer) = Fields::of_query(query.as_deref()).number("viewer", u64::MAX)? {
        terminal.is_active(viewer);
    }
    terminal.input(body).await.map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn resize(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<StatusCode> {
    #[derive(Deserialize)]
    struct Size {
        cols: u16,
        rows: u16,
    }
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let (_, terminal) = app
        .host
        .open_terminal(&session, &credentials, worker)
        .await?;
    let Size { cols, rows } = parse(&body)?;
    check_side("cols", cols)?;
    check_side("rows", rows)?;
    terminal
        .set_size(WindowSize::new(cols, rows))
        .map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn attached(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Answer {
    let visit = visit_of(query.as_deref())?;
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let host = &app.host;
    let (_, terminal) = host.open_terminal(&session, &credentials, worker).await?;
    let tasks = app.tasks.clone();
    Ok(attach(upgrade, terminal, visit, app, tasks))
}

impl AttachmentHost for Shared {
    fn signs_of_life(&self) -> SignsOfLife {
        self.config.signs_of_life
    }

    fn viewer_was_sent(&self, bytes: usize) {
        self.host.metrics.viewer_was_sent(bytes);
    }

    fn viewer_was_sent_a_snapshot(&self, reason: SnapshotReason) {
        self.host.metrics.viewer_was_sent_a_snapshot(reason);
    }

    fn size_policy_changes<'a>(
        &'a self,
        terminal: &'a TerminalHandle,
        policy: SizePolicy,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        let (session, id) = (terminal.session(), terminal.id());
        let changed = self.host.policy_changed(session, id, policy);
        Box::pin(std::future::ready(changed))
    }
}

async fn recording(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let mut query = Fields::of_query(query.as_deref());
    let format = query.parsed("format", "must be v2 or v3", CastFormat::parse)?;
    let worker = worker_id(&worker)?;
    let credentials = credentials(&headers);
    let (worker, terminal) = app
        .host
        .open_terminal(&session, &credentials, worker)
        .await?;
    let format = format.unwrap_or(CastFormat::V3);
    Ok(recorded(&worker, &terminal, format, app.tasks.stopping()).await)
}
