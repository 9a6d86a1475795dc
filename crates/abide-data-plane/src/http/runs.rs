//! `/runs`: one piece of code in a session of its own.

use std::time::Duration;

use abide_model::{Runtime, is_session_label};
use abide_session_agent::http::body::Fields;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::App;
use super::error::{Answer, Whole, bad_request};
use crate::runs::{NewRun, RunView};
use crate::trace::TraceContext;

/// Longest limit of a run, in milliseconds: thirty days.
const MAX_TIMEOUT_MS: u64 = 30 * 86_400_000;
/// Longest long poll, in milliseconds.
const MAX_WAIT_MS: u64 = 300_000;
/// Longest job id: `-run` is added to it.
const MAX_JOB_ID: usize = 124;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/runs", post(create))
        .route("/runs/{run}", get(show))
        .route("/runs/{run}/terminate", post(terminate))
}

async fn create(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let mut query = Fields::of_query(query.as_deref());
    let wait = query.number("wait_ms", MAX_WAIT_MS)?.unwrap_or(0);
    let mut fields = Fields::of_body(&body)?;
    let job_id = fields.required("jobId")?;
    if !is_session_label(&job_id) || job_id.len() > MAX_JOB_ID {
        return Err(bad_request(
            "jobId: must begin with a letter or digit and go on with at most 123 of those, '.', \
             '_' and '-'",
        )
        .into());
    }
    let language = fields.required("language")?;
    let new = NewRun {
        job_id,
        runtime: Runtime::from_alias(&language)
            .map_err(|error| bad_request(format!("language: {error}")))?,
        code: fields.required("code")?,
        timeout_ms: fields.number("timeoutMs", MAX_TIMEOUT_MS)?,
        stdin: Some(fields.text("stdin")?).filter(|stdin| !stdin.is_empty()),
        workspace_ref: Some(fields.text("workspaceRef")?).filter(|text| !text.is_empty()),
    };
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok());
    let run = app.runs.start(new, key, &trace).await?;
    let run = app.runs.wait(&run, Duration::from_millis(wait)).await?;
    Ok((StatusCode::ACCEPTED, Json(run)).into_response())
}

async fn show(
    State(app): State<App>,
    Path(run): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Json<RunView>> {
    let mut query = Fields::of_query(query.as_deref());
    let wait = query.number("wait_ms", MAX_WAIT_MS)?.unwrap_or(0);
    Ok(Json(
        app.runs.wait(&run, Duration::from_millis(wait)).await?,
    ))
}

async fn terminate(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(run): Path<String>,
) -> Answer<Response> {
    let run = app.runs.terminate(&run, &trace).await?;
    Ok((StatusCode::ACCEPTED, Json(run)).into_response())
}
