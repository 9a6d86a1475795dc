//! The one place where errors become responses.

use abide_model::{Problem, ProblemCode};
use abide_session_agent::http::error::problem_response;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};

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
        problem_response(self.0)
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
