//! The one place where errors become responses.

use abide_model::{Problem, ProblemCode};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

use super::telemetry::request_id;

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

impl From<abide_store::StoreError> for ApiError {
    fn from(error: abide_store::StoreError) -> Self {
        Self(crate::service::store_problem(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut problem = self.0;
        problem.request_id = request_id();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Body::from(body),
        )
            .into_response();
        if problem.retryable
            && let Ok(value) = "1".parse()
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("Not Found: there is no {path}; GET /docs lists what there is");
    ApiError(Problem::new(ProblemCode::NotFound, message))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("Method Not Allowed: {method} {}", uri.path());
    ApiError(Problem::new(ProblemCode::MethodNotAllowed, message))
}

/// A panic in a handler is a bug of ours: 500 for this request, and the server goes on.
pub(super) async fn catch_panic(request: Request, next: Next) -> Response {
    match std::panic::AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
    {
        Ok(response) => response,
        Err(_) => ApiError(Problem::new(
            ProblemCode::Internal,
            "something of ours failed; the server's log has the details",
        ))
        .into_response(),
    }
}
