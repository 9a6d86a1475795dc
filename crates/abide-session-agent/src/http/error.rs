//! Problems as responses, in every plane the same.

use abide_model::{Problem, ProblemCode};
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

tokio::task_local! {
    static REQUEST: String;
}

/// The id of the request that is being answered by this task.
pub fn request_id() -> Option<String> {
    REQUEST.try_with(Clone::clone).ok()
}

/// Runs `work` as part of answering the request `id`.
pub async fn with_request_id<T>(id: String, work: impl Future<Output = T>) -> T {
    REQUEST.scope(id, work).await
}

/// The answer that tells of a problem (RFC 9457), with the request's id in it.
pub fn problem_response(mut problem: Problem) -> Response {
    problem.request_id = request_id().or(problem.request_id);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        Body::from(body),
    )
        .into_response();
    if problem.retryable {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A [`Problem`] on its way out.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Problem);

/// What handlers return.
pub(super) type Answer<T = Response> = Result<T, ApiError>;

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        problem_response(self.0)
    }
}

pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("Not Found: there is no {path} here");
    ApiError(Problem::new(ProblemCode::NotFound, message))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("Method Not Allowed: {method} {}", uri.path());
    ApiError(Problem::new(ProblemCode::MethodNotAllowed, message))
}

/// A panic while a request is answered is a bug of ours: 500 for this request, and the server goes
/// on.
pub async fn catch_panic(answer: impl Future<Output = Response>) -> Response {
    match std::panic::AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(_) => problem_response(Problem::new(
            ProblemCode::Internal,
            "something of ours failed; the server's log has the details",
        )),
    }
}
