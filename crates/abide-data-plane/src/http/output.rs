//! `/sessions/{id}/output`, as the session agent answers it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use futures_util::StreamExt as _;

use super::App;
use super::error::Answer;
use super::sessions::session_label;
use crate::link::PassedOn;
use crate::trace::TraceContext;

pub(super) fn router() -> Router<App> {
    Router::new().route("/sessions/{session}/output", get(output))
}

async fn output(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(session): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let session = session_label(&session)?;
    let query = query.unwrap_or_default();
    Ok(pass_on(app.plane.output(&session, &query, &trace).await?))
}

/// An answer of the plane below as one of ours.
pub(super) fn pass_on(passed: PassedOn) -> Response {
    let body = passed
        .body
        .map(|data| data.map_err(|error| std::io::Error::other(error.chain())));
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = StatusCode::from_u16(passed.status).unwrap_or(StatusCode::OK);
    for (name, value) in passed.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
