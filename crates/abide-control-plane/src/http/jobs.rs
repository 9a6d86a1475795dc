//! `/jobs`

use std::time::Duration;

use abide_model::{
    AgentId, JobId, JobStatus, Problem, Runtime, StepError, StepResult, StepStatus, Timestamp,
};
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::auth::Who;
use super::body::{Fields, Whole, path_uuid};
use super::error::Answer;
use super::sessions::{owner, request_key, tenant};
use crate::service::{JobState, NewJob};

/// Longest long poll, in seconds.
const MAX_WAIT_SECONDS: i64 = 300;
const MAX_TIMEOUT_MS: i64 = 30 * 86_400_000;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(show))
}

/// What `POST /jobs` takes.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "documents the fields that `create` reads one by one"
)]
struct CreateJobBody {
    /// `python`, `python3`, `node` or `javascript`.
    language: String,
    /// Source text.
    code: String,
    /// What it reads from standard input.
    stdin: Option<String>,
    /// Stops it after this many milliseconds of running.
    timeout_ms: Option<u64>,
    /// Owner: a registered agent, or a label of the caller's own.
    agent_id: Option<String>,
    /// Noted with the job's session.
    tenant_id: Option<String>,
}

/// A job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobView {
    id: JobId,
    status: JobStatus,
    language: Runtime,
    agent_id: AgentId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// What it wrote to standard output, so far: all, or head and tail.
    stdout: String,
    /// Standard error likewise, at its end with the traceback of an exception.
    stderr: String,
    /// `stdout` or `stderr` left something out.
    truncated: bool,
    /// 0 when it ran to its end; absent until it has ended, and where it could not be run.
    exit_code: Option<i32>,
    /// The exact status of its step once that has ended.
    outcome: Option<StepStatus>,
    /// The value of its last expression.
    result: Option<StepResult>,
    /// Why its step did not complete.
    error: Option<StepError>,
    /// How long it ran, in milliseconds.
    duration_ms: Option<f64>,
    /// Why it could not be run.
    problem: Option<Problem>,
}

impl From<JobState> for JobView {
    fn from(state: JobState) -> Self {
        let JobState { job, status, step } = state;
        let step = step.unwrap_or_default();
        Self {
            id: job.id,
            status,
            language: job.runtime,
            agent_id: job.agent_id,
            created_at: job.created_at,
            finished_at: job.finished_at,
            stdout: step.stdout,
            stderr: step.stderr,
            truncated: step.truncated,
            exit_code: step.exit_code,
            outcome: step.outcome,
            result: step.result,
            error: step.error,
            duration_ms: step.duration_ms,
            problem: job.end.and_then(|end| end.problem),
        }
    }
}

/// Run code once
///
/// In a session of its own, which is removed when the code has ended; what came of it stays. With an
/// `Idempotency-Key` header a repetition answers with the job that the first request made.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs",
    request_body(content = CreateJobBody, content_type = "application/json"),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    responses(
        (status = 202, description = "Accepted", body = JobView),
        (status = 404, description = "`agent_not_found`", body = Problem),
        (status = 409, description = "`idempotency_conflict`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn create(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let owner = owner(&mut fields, &who);
    let tenant = tenant(&mut fields, &who);
    let runtime = fields.required("language", |fields| {
        fields.text(&["language", "runtime"], "enum", |text| {
            Runtime::from_alias(text).map_err(|error| error.to_string())
        })
    });
    let code = fields.required("code", |fields| fields.string(&["code"], usize::MAX));
    let stdin = fields.string(&["stdin"], usize::MAX);
    let timeout_ms = fields.integer(&["timeout_ms", "timeoutMs"], 1, MAX_TIMEOUT_MS);
    fields.done()?;
    let new = NewJob {
        owner,
        runtime: runtime.unwrap_or(Runtime::Python),
        code: code.unwrap_or_default(),
        stdin,
        timeout_ms: timeout_ms.and_then(|ms| u64::try_from(ms).ok()),
        metadata: tenant.unwrap_or_default(),
    };
    let job = app.create_job(new, request_key(&headers, &body)).await?;
    Ok((StatusCode::ACCEPTED, Json(JobView::from(job))).into_response())
}

/// Show a job
///
/// As it stands, with what it has printed so far. `wait=SECONDS` waits for its end that long.
#[utoipa::path(
    get, path = "/jobs/{job_id}", tag = "jobs",
    params(
        ("job_id" = String, Path, description = "The job's id"),
        ("wait" = Option<i64>, Query, description = "Seconds to wait for its end, at most 300"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "`job_not_found`", body = Problem),
    )
)]
async fn show(
    State(app): State<App>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let id = JobId(path_uuid("job_id", &job)?);
    let mut fields = Fields::of_query(query.as_deref());
    let wait = fields.integer(&["wait"], 0, MAX_WAIT_SECONDS).unwrap_or(0);
    fields.done()?;
    let wait = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
    let job = app.job(id, wait).await?;
    Ok(Json(JobView::from(job)).into_response())
}
