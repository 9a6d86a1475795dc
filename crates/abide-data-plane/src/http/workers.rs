//! `/sessions/{id}/workers`, as the session agent answers it.

use axum::Router;
use axum::extract::{Extension, FromRequest as _, Request, State};
use axum::routing::any;

use super::App;
use super::error::{Answer, Whole, bad_request};
use super::sessions::session_label;
use crate::forward::Forward;
use crate::trace::TraceContext;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/sessions/{session}/workers", any(hand_on))
        .route("/sessions/{session}/workers/{*rest}", any(hand_on))
}

async fn hand_on(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let Whole(body) = Whole::from_request(Request::new(body), &app).await?;
    let session = parts.uri.path().split('/').nth(2).unwrap_or_default();
    let session = session_label(session)?;
    let forward = Forward::of_workers(&parts, body)
        .ok_or_else(|| bad_request("this is no path of a session's workers"))?;
    Ok(app.plane.hand_on(&session, &forward, &trace).await?)
}
