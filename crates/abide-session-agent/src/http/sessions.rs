//! `/v1/health`, `/metrics`, `/v1/sessions`, `/v1/news`

use std::time::Duration;

use abide_model::{AgentHealth, AgentSession, WorkerNews};
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::App;
use super::body::{Fields, Whole, credentials, register};
use super::error::Answer;
use crate::metrics::metrics_response;

/// Longest long poll, in milliseconds.
pub(super) const MAX_WAIT_MS: u64 = 300_000;

/// Open to probes.
pub(super) fn open() -> Router<App> {
    Router::new()
        .route("/v1/health", get(show_health))
        .route("/metrics", get(metrics))
}

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/sessions", get(list).post(create))
        .route("/v1/sessions/{session}", get(show))
        .route("/v1/sessions/{session}/token", post(rotate))
        .route("/v1/sessions/{session}/restart", post(restart))
        .route("/v1/sessions/{session}/interrupt", post(interrupt))
        .route("/v1/sessions/{session}/terminate", post(terminate))
        .route("/v1/news", get(news))
}

async fn show_health(State(app): State<App>) -> Json<AgentHealth> {
    Json(app.host.health())
}

async fn metrics(State(app): State<App>) -> Response {
    metrics_response(app.host.metrics_text())
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Answer<Json<Vec<AgentSession>>> {
    Ok(Json(app.host.sessions(&credentials(&headers))?))
}

async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<AgentSession>> {
    let credentials = credentials(&headers);
    // Before the body is looked at: who has no token learns nothing about it.
    app.host.require_token(&credentials)?;
    let request = register(&body)?;
    Ok(Json(app.host.register(&credentials, request).await?))
}

async fn show(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<AgentSession>> {
    Ok(Json(app.host.session(&session, &credentials(&headers))?))
}

async fn rotate(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<AgentSession>> {
    let credentials = credentials(&headers);
    app.host.require_token(&credentials)?;
    let token = Fields::of_body(&body)?.text("token")?;
    let rotated = app.host.rotate_token(&session, &credentials, &token)?;
    Ok(Json(rotated))
}

async fn restart(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<AgentSession>> {
    let restarted = app.host.restart(&session, &credentials(&headers)).await?;
    Ok(Json(restarted))
}

async fn interrupt(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<AgentSession>> {
    Ok(Json(app.host.interrupt(&session, &credentials(&headers))?))
}

async fn terminate(
    State(app): State<App>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<AgentSession>> {
    let terminated = app.host.terminate(&session, &credentials(&headers)).await?;
    Ok(Json(terminated))
}

async fn news(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Json<Vec<WorkerNews>>> {
    let mut query = Fields::of_query(query.as_deref());
    let after = query.number("after", u64::MAX)?.unwrap_or(0);
    let wait = query.number("wait_ms", MAX_WAIT_MS)?.unwrap_or(0);
    let wait = Duration::from_millis(wait);
    let news = app.host.news(&credentials(&headers), after, wait).await?;
    Ok(Json(news))
}
