//! What happens to every request.

use abide_model::{AuthMode, BOOT_ID_HEADER, Problem, ProblemCode};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::App;
use super::error::{catch_panic, problem_response, with_request_id};
use super::origin::{host_name, host_of, is_address, is_ours, origin_of};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BOOT_ID: HeaderName = HeaderName::from_static(BOOT_ID_HEADER);

/// Says in every answer which agent gave it, and to which request; counts it. Answers in place of
/// handlers that panic, and requests of a web page elsewhere.
pub(super) async fn receive(State(app): State<App>, request: Request, next: Next) -> Response {
    let sent = text(request.headers(), &REQUEST_ID)
        .filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let id = sent.map_or_else(
        || abide_model::new_uuid().simple().to_string(),
        str::to_owned,
    );
    let header = HeaderValue::from_str(&id).ok();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let begun = Instant::now();
    let refusal = foreign(&app, &request);
    let answer = catch_panic(async {
        match refusal {
            Some(problem) => problem_response(problem),
            None => next.run(request).await,
        }
    });
    let mut response = with_request_id(id, answer).await;
    app.host.metrics.requests.answered(
        route.as_ref().map_or("(none)", MatchedPath::as_str),
        method.as_str(),
        response.status().as_u16(),
        begun.elapsed().as_secs_f64(),
    );
    let headers = response.headers_mut();
    if let Some(id) = header {
        headers.insert(REQUEST_ID, id);
    }
    if let Ok(id) = HeaderValue::from_str(app.host.boot_id()) {
        headers.insert(BOOT_ID, id);
    }
    response
}

/// Refuses a request that is meant for another agent than this one, or for this one before it was
/// restarted.
pub(super) async fn check_boot_id(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let ours = app.host.boot_id();
    match text(request.headers(), &BOOT_ID) {
        Some(meant) if meant != ours => problem_response(
            Problem::new(
                ProblemCode::RuntimeIdentityMismatch,
                "this is another session agent than the request is meant for, or the same one \
                 after a restart; nothing was done",
            )
            .with_details(serde_json::json!({ "boot_id": ours })),
        ),
        _ => next.run(request).await,
    }
}

/// Why a request is refused that a web page made a browser send. Where no token is asked for, the
/// `Host` has to be this machine's as well: a name that somebody else owns may point here.
fn foreign(app: &App, request: &Request) -> Option<Problem> {
    let allowed = &app.config.allowed_hosts;
    let host = host_of(request.headers(), request.uri()).map(host_name);
    let ours = |name: &str| is_ours(name, allowed) || is_address(name);
    let refused = match (host, origin_of(request.headers())) {
        (_, Some(origin)) if !is_ours(origin, allowed) => Some(format!(
            "pages from {origin:?} may not use this agent (allowed_hosts)"
        )),
        (host, _) if app.host.auth_mode() == AuthMode::Bypass && !host.is_some_and(ours) => {
            Some(format!(
                "the Host {:?} is not this agent's; add it to allowed_hosts if it should be",
                host.unwrap_or_default()
            ))
        }
        _ => None,
    };
    refused.map(|message| Problem::new(ProblemCode::ForbiddenOrigin, message))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
