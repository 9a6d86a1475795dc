//! What happens to every request: an id, one log line, metrics; no answer to web pages elsewhere, and
//! one in place of a handler that panics.

use abide_data_plane::trace::{REQUEST_ID_HEADER, TraceContext};
use abide_session_agent::http::error::{catch_panic, with_request_id};
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::App;
use super::auth::foreign;
use super::error::ApiError;
use crate::trace::with_trace;

/// Gives the request an id (the caller's, if it is a sensible one), logs it and counts it.
pub(super) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let trace = TraceContext::of_headers(request.headers());
    let id = trace.request_id.clone();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let begun = Instant::now();
    let span = tracing::info_span!(
        "request", id = %id, trace_id = %trace.trace_id, method = %method, route = %route
    );
    let header = HeaderValue::from_str(&id).ok();
    let refusal = foreign(&app, &request);
    let answer = async {
        match refusal {
            Some(problem) => ApiError(problem).into_response(),
            None => next.run(request).await,
        }
    };
    let answer = catch_panic(answer).instrument(span.clone());
    let mut response = with_request_id(id, with_trace(trace, answer)).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    app.metrics
        .requests
        .answered(&route, method.as_str(), status, elapsed);
    span.in_scope(|| tracing::info!(status, ms = elapsed * 1000.0, "answered"));
    if let Some(header) = header {
        response.headers_mut().insert(REQUEST_ID_HEADER, header);
    }
    response
}
