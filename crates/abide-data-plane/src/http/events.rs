//! `/events`: what befell sessions, for the plane above.

use std::time::Duration;

use abide_model::PlaneNews;
use abide_session_agent::http::body::Fields;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use axum::{Json, Router};

use super::App;
use super::error::Answer;

/// Longest long poll, in milliseconds.
const MAX_WAIT_MS: u64 = 300_000;

pub(super) fn router() -> Router<App> {
    Router::new().route("/events", get(events))
}

async fn events(State(app): State<App>, RawQuery(query): RawQuery) -> Answer<Json<PlaneNews>> {
    let mut query = Fields::of_query(query.as_deref());
    let epoch = query.text("epoch")?;
    let after = query.number("after", u64::MAX)?;
    let wait = query.number("wait_ms", MAX_WAIT_MS)?.unwrap_or(0);
    let news = app.plane.news(&epoch, after, Duration::from_millis(wait));
    // A server that stops keeps nobody waiting.
    tokio::select! {
        news = news => Ok(Json(news)),
        () = app.plane.tasks.stopping().cancelled_owned() => {
            Ok(Json(app.plane.news("", None, Duration::ZERO).await))
        }
    }
}
