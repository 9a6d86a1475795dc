//! Problems as answers, and bodies that are not understood.

use abide_model::{Problem, ProblemCode};
use abide_session_agent::http::error::problem_response;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::App;

/// A [`Problem`] on its way out.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Problem);

/// What handlers return.
pub(super) type Answer<T = Response> = Result<T, ApiError>;

/// A request's whole body.
#[derive(Debug)]
pub(super) struct Whole(pub(super) Bytes);

impl<E: Into<Problem>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        problem_response(self.0)
    }
}

impl FromRequest<App> for Whole {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.plane.config.max_body_bytes;
        DefaultBodyLimit::max(limit).apply(&mut request);
        let read = Bytes::from_request(request, app).await;
        read.map(Self).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message =
                    format!("the body has more than {limit} bytes, which is the limit (max_body)");
                return ApiError(Problem::new(ProblemCode::BodyTooLarge, message));
            }
            // Nobody may be left to read this.
            ApiError(bad_request("the body did not arrive whole"))
        })
    }
}

/// 400, which runtime-routing clients expect for what they got wrong.
pub(super) fn bad_request(message: impl Into<String>) -> Problem {
    Problem {
        status: 400,
        ..Problem::new(ProblemCode::InvalidInput, message)
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
