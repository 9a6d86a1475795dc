//! What happens to every request.

use abide_model::{Problem, ProblemCode};
use abide_session_agent::http::error::{catch_panic, problem_response, with_request_id};
use abide_session_agent::http::origin::{host_name, host_of, is_address, is_ours, origin_of};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::App;
use crate::trace::{REQUEST_ID_HEADER, TraceContext};

/// Names the request and its part of the trace, logs it and counts it. Answers in place of handlers
/// that panic, and requests of a web page elsewhere.
pub(super) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let trace = TraceContext::of_headers(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request", id = %trace.request_id, trace_id = %trace.trace_id, %method, %route
    );
    let begun = Instant::now();
    let id = trace.request_id.clone();
    request.extensions_mut().insert(trace);
    let refusal = foreign(&app, &request);
    let answer = async {
        match refusal {
            Some(problem) => problem_response(problem),
            None => next.run(request).await,
        }
    };
    let answer = catch_panic(answer).instrument(span.clone());
    let mut response = with_request_id(id.clone(), answer).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    app.plane
        .metrics
        .requests
        .answered(&route, method.as_str(), status, elapsed);
    span.in_scope(|| tracing::debug!(status, ms = elapsed * 1000.0, "answered"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    response
}

/// Lets a request through whose sender may use this plane.
pub(super) async fn require_identity(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match app.authorizer.check(authorization) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(problem) => problem_response(problem),
    }
}

/// Why a request is refused that a web page made a browser send. Where nobody is asked who they are,
/// the `Host` has to be this machine's as well: a name that somebody else owns may point here.
fn foreign(app: &App, request: &Request) -> Option<Problem> {
    let allowed = &app.allowed_hosts;
    let host = host_of(request.headers(), request.uri()).map(host_name);
    let ours = |name: &str| is_ours(name, allowed) || is_address(name);
    let refused = match (host, origin_of(request.headers())) {
        (_, Some(origin)) if !is_ours(origin, allowed) => Some(format!(
            "pages from {origin:?} may not use this data plane (allowed_hosts)"
        )),
        (host, _) if app.bypass && !host.is_some_and(ours) => Some(format!(
            "the Host {:?} is not this data plane's; add it to allowed_hosts if it should be",
            host.unwrap_or_default()
        )),
        _ => None,
    };
    refused.map(|message| Problem::new(ProblemCode::ForbiddenOrigin, message))
}
