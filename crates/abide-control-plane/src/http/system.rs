//! Health, status, documentation and shutdown.

use abide_model::{Problem, ServerStatus, WarmCounts};
use abide_session_agent::metrics::metrics_response;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Fields;
use super::error::Answer;
use crate::disk;
use crate::metrics::Gauges;
use crate::service::WorkersAfterShutdown;

/// Routes without a key.
pub(super) fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(root))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(openapi))
        .routes(routes!(docs))
        .route("/health/live", axum::routing::get(healthz))
        .route("/health/ready", axum::routing::get(readyz))
}

/// Routes with a key.
pub(super) fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(shutdown))
        .route("/health", axum::routing::get(health))
}

/// What this server is
#[utoipa::path(get, path = "/", tag = "system", security(()),
    responses((status = 200, description = "Name, version and where to look", body = Object)))]
async fn root() -> Response {
    Json(serde_json::json!({
        "service": "abide",
        "version": env!("CARGO_PKG_VERSION"),
        "status": "operational",
        "endpoints": {
            "sessions": "/sessions",
            "agents": "/agents",
            "events": "/events",
            "docs": "/docs",
            "openapi": "/openapi.json",
            "health": "/healthz",
        },
    }))
    .into_response()
}

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", tag = "system", security(()),
    responses((status = 200, description = "It does", body = Object)))]
async fn healthz() -> Response {
    Json(serde_json::json!({
        "status": "alive", "service": "abide", "version": env!("CARGO_PKG_VERSION")
    }))
    .into_response()
}

/// What session-service clients ask.
async fn health() -> Response {
    Json(serde_json::json!({
        "status": "healthy", "service": "abide", "version": env!("CARGO_PKG_VERSION")
    }))
    .into_response()
}

/// Whether requests can be served: the database answers and has room to write
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses(
        (status = 200, description = "Ready", body = Object),
        (status = 503, description = "Not ready; `reason` says why", body = Object),
    ))]
async fn readyz(State(app): State<App>) -> Response {
    let reason = match app.store.check().await {
        Ok(()) => disk::has_room(&app.config.data_dir).err(),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            Some(error.to_string())
        }
    };
    match reason {
        None => Json(serde_json::json!({ "status": "ready", "database": "up" })).into_response(),
        Some(reason) => {
            let body =
                serde_json::json!({ "status": "not_ready", "database": "down", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// Metrics in Prometheus text
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text")))]
async fn metrics(State(app): State<App>) -> Answer {
    let counts = app.runtimes.counts();
    let text = app.metrics.text(Gauges {
        sessions: app.store.count_sessions().await?,
        interpreters: counts.interpreters,
        warm_python: counts.warm_python,
        warm_node: counts.warm_node,
        running_steps: counts.running_steps,
        queued_steps: counts.queued_steps,
        terminals: counts.terminals,
        event_sequence: *app.store.watch_events().borrow(),
    });
    Ok(metrics_response(text))
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi() -> Response {
    Json(super::openapi()).into_response()
}

/// This document for people
#[utoipa::path(get, path = "/docs", tag = "system", security(()),
    responses((status = 200, description = "A page", content_type = "text/html")))]
async fn docs() -> Response {
    Html(include_str!("../../assets/docs.html")).into_response()
}

/// What the server is doing
#[utoipa::path(get, path = "/status", tag = "system",
    responses((status = 200, description = "Status", body = ServerStatus)))]
async fn status(State(app): State<App>) -> Answer<Json<ServerStatus>> {
    let counts = app.runtimes.counts();
    Ok(Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: app.started_at,
        data_dir: app.config.data_dir.clone(),
        url: app.config.url.clone(),
        sessions: app.store.count_sessions().await?,
        live_interpreters: counts.interpreters as u64,
        running_steps: counts.running_steps as u64,
        queued_steps: counts.queued_steps as u64,
        warm: WarmCounts {
            python: counts.warm_python as u64,
            node: counts.warm_node as u64,
        },
        terminals: counts.terminals,
    }))
}

/// Stop the server
///
/// With `workers=keep` (default) interpreters and running steps go on and are found again at the
/// next start; with `workers=end` they are stopped first.
#[utoipa::path(post, path = "/shutdown", tag = "system",
    params(("workers" = Option<String>, Query, description = "`keep` (default) or `end`")),
    responses(
        (status = 202, description = "Stopping"),
        (status = 422, description = "`invalid_input`", body = Problem),
    ))]
async fn shutdown(State(app): State<App>, RawQuery(query): RawQuery) -> Answer<StatusCode> {
    let mut fields = Fields::of_query(query.as_deref());
    let workers = fields.text(&["workers"], "enum", |text| match text {
        "keep" => Ok(WorkersAfterShutdown::Keep),
        "end" => Ok(WorkersAfterShutdown::End),
        _ => Err("must be keep or end".to_owned()),
    });
    fields.done()?;
    app.request_shutdown(workers.unwrap_or(WorkersAfterShutdown::Keep));
    Ok(StatusCode::ACCEPTED)
}
