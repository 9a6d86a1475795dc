//! Request ids, one log line and the metrics of each request.

use abide_data_plane::trace::{REQUEST_ID_HEADER, TraceContext};
use abide_session_agent::http::error::with_request_id;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::App;
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
    let mut response = with_request_id(
        id,
        with_trace(trace, next.run(request).instrument(span.clone())),
    )
    .await;
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
