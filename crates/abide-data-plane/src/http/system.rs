//! Health and metrics: open to probes.

use abide_session_agent::metrics::metrics_response;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::App;
use super::error::Answer;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn ready(State(app): State<App>) -> Answer<Json<Value>> {
    app.plane.ready().await?;
    Ok(Json(json!({ "status": "ready" })))
}

async fn metrics(State(app): State<App>) -> Response {
    metrics_response(app.plane.metrics.text(app.plane.steps_under_way()))
}
