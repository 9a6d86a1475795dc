//! `/workers`, and `/sessions/{id}/workers` as the session agent answers it.

use abide_model::TerminalState;
use axum::extract::{Extension, FromRequest as _, Request, State};
use axum::routing::{any, get};
use axum::{Json, Router};

use super::App;
use super::error::{Answer, Whole, no_such_route};
use super::sessions::session_label;
use crate::forward::Forward;
use crate::trace::TraceContext;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/workers", get(list))
        .route("/sessions/{session}/workers", any(hand_on))
        .route("/sessions/{session}/workers/{*rest}", any(hand_on))
}

async fn list(State(app): State<App>) -> Answer<Json<Vec<TerminalState>>> {
    Ok(Json(app.plane.terminals().await?))
}

async fn hand_on(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut places = path.splitn(4, '/').skip(2);
    let (session, rest) = (places.next(), places.next());
    let rest = rest.and_then(|rest| rest.strip_prefix("workers"));
    let (Some(session), Some(rest)) = (session, rest) else {
        return Err(no_such_route(parts.uri).await);
    };
    let session = session_label(session)?;
    let Whole(body) = Whole::from_request(Request::new(body), &app).await?;
    let forward = Forward::of_request(&parts, rest.to_owned(), body);
    Ok(app.plane.hand_on(&session, &forward, &trace).await?)
}
