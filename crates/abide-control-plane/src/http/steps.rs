//! `/sessions/{id}/steps`

use std::time::Duration;

use abide_model::{Problem, Step, StepFilter, StepId, SubmitStep};
use abide_session_agent::{OutputReader, RunHandle, StreamFilter};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Fields, Whole, path_uuid};
use super::error::Answer;
use super::output::ended_output;
use super::sessions::session_id;
use super::sse::{self, OutputEvents};
use crate::service::{Caller, Submission, Submitted, with_end, with_phase};

/// Longest long poll, in seconds.
const MAX_WAIT_SECONDS: i64 = 300;
const MAX_TIMEOUT_MS: i64 = 30 * 86_400_000;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(submit, list))
        .routes(routes!(show, cancel))
}

fn step_id(text: &str) -> Result<StepId, Problem> {
    path_uuid("step_id", text).map(StepId)
}

/// Run code
///
/// Answers when the step has ended, however it ended: look at `status`. With `wait=0` it answers
/// at once; with `Accept: text/event-stream` it streams `started`, `stdout`, `stderr`, `result`
/// and `completed`. The same `step_id` (or `Idempotency-Key`) again joins the first execution.
///
/// `command` instead of `code` is for runtime-routing clients: the answer is 202 with
/// `status` `accepted` and the step's own status as `outcome`.
#[utoipa::path(
    post, path = "/sessions/{session_id}/steps", tag = "steps",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("wait" = Option<bool>, Query, description = "`0`: answer at once with 202"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the step where no `step_id` does"),
    ),
    request_body(content = SubmitStep, content_type = "application/json"),
    responses(
        (status = 200, description = "The step has ended", body = Step),
        (status = 202, description = "The step was accepted (`wait=0`)", body = Step),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 409, description = "`session_not_active`, `idempotency_conflict`", body = Problem),
        (status = 410, description = "`session_expired`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
        (status = 429, description = "`limit_reached`", body = Problem),
        (status = 503, description = "`runtime_crashed`, `runtime_unavailable`, `shutting_down`", body = Problem),
    )
)]
async fn submit(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let id = session_id(&app, &id).await?;
    let mut query = Fields::of_query(query.as_deref());
    let wait = query.flag("wait").unwrap_or(true);
    query.done()?;
    let mut fields = Fields::of_body(&body)?;
    let dialect = !fields.has("code") && fields.has("command");
    let code = fields
        .required("code", |fields| {
            fields.string(&["code", "command"], usize::MAX)
        })
        .unwrap_or_default();
    let step = SubmitStep {
        code,
        step_id: fields.uuid(&["step_id", "stepId"]).map(StepId),
        timeout_ms: fields
            .integer(&["timeout_ms", "timeoutMs"], 1, MAX_TIMEOUT_MS)
            .and_then(|ms| u64::try_from(ms).ok()),
        stdin: fields.string(&["stdin"], usize::MAX),
    };
    fields.done()?;
    let stream = sse::wanted(&headers);
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok());
    let submission = Submission {
        step,
        key: key.map(str::to_owned),
        caller: match (stream, wait) {
            (true, _) => Caller::Reads,
            (false, true) => Caller::Waits,
            (false, false) => Caller::Leaves,
        },
    };
    let submitted = app.submit(id, submission).await?;
    if stream {
        let stopping = app.tasks.stopping();
        return Ok(sse::response(step_events(app, submitted, 0), stopping));
    }
    if !wait {
        return Ok((StatusCode::ACCEPTED, Json(now(submitted))).into_response());
    }
    let step = app.ended(submitted).await?;
    if dialect {
        return Ok((StatusCode::ACCEPTED, Json(accepted(&step))).into_response());
    }
    Ok(Json(step).into_response())
}

/// A step as runtime-routing clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedStep<'a> {
    id: StepId,
    status: &'static str,
    stdout: &'a str,
    stderr: String,
    outcome: abide_model::StepStatus,
    result: Option<&'a str>,
    error: Option<&'a abide_model::StepError>,
    duration_ms: Option<f64>,
    truncated: bool,
}

fn accepted(step: &Step) -> AcceptedStep<'_> {
    // Those clients know no `error`: they look for the traceback in stderr.
    let traceback = step
        .error
        .as_ref()
        .map_or("", |error| error.traceback.as_str());
    AcceptedStep {
        id: step.id,
        status: "accepted",
        stdout: &step.stdout,
        stderr: format!("{}{traceback}", step.stderr),
        outcome: step.status,
        result: step
            .result
            .as_ref()
            .and_then(|result| result.text.as_deref()),
        error: step.error.as_ref(),
        duration_ms: step.duration_ms,
        truncated: step.truncated,
    }
}

fn now(submitted: Submitted) -> Step {
    match &submitted.run {
        Some(run) => with_phase(submitted.step, &run.phase()),
        None => submitted.step,
    }
}

/// Where a stream of one step stands.
enum Stage {
    Begin(Submitted),
    Output {
        step: Step,
        run: Option<RunHandle>,
        reader: OutputReader,
        events: OutputEvents,
    },
    End {
        step: Step,
        run: Option<RunHandle>,
    },
    Over,
}

/// `started`, then output as it comes from journal offset `seen` on, then `result` if there is
/// one, then `completed`.
fn step_events(app: App, submitted: Submitted, seen: u64) -> impl Stream<Item = Bytes> + Send {
    futures_util::stream::unfold(
        (app, Stage::Begin(submitted)),
        move |(app, mut stage)| async move {
            loop {
                match stage {
                    Stage::Begin(Submitted { step, mut run }) => {
                        let reader = match &mut run {
                            Some(run) => run.output().await,
                            None => ended_reader(&app, &step).await,
                        };
                        let step = match &run {
                            Some(run) => with_phase(step, &run.phase()),
                            None => step,
                        };
                        let started = sse::event("started", None, &step);
                        let next = match reader {
                            Some(reader) => {
                                let from = reader.offset().max(seen);
                                let reader = reader.starting_at(from, StreamFilter::All);
                                Stage::Output {
                                    step,
                                    run,
                                    reader,
                                    events: OutputEvents::default(),
                                }
                            }
                            None => Stage::End { step, run },
                        };
                        return Some((started, (app, next)));
                    }
                    Stage::Output {
                        step,
                        run,
                        mut reader,
                        mut events,
                    } => {
                        match reader.next().await {
                            Some(chunk) => {
                                let bytes = events.encode(chunk);
                                stage = Stage::Output {
                                    step,
                                    run,
                                    reader,
                                    events,
                                };
                                // A chunk may hold nothing but the beginning of a character.
                                if !bytes.is_empty() {
                                    return Some((bytes, (app, stage)));
                                }
                            }
                            None => {
                                let rest = events.finish();
                                stage = Stage::End { step, run };
                                if !rest.is_empty() {
                                    return Some((rest, (app, stage)));
                                }
                            }
                        }
                    }
                    Stage::End { step, run } => {
                        let step = match run {
                            // The server stops: the client asks again by the step's id.
                            Some(mut run) => {
                                let ended = run.ended().await?;
                                with_end(step, &ended)
                            }
                            None => step,
                        };
                        let mut bytes = Vec::new();
                        if let Some(result) = &step.result {
                            bytes.extend_from_slice(&sse::event("result", None, result));
                        }
                        bytes.extend_from_slice(&sse::event("completed", None, &step));
                        return Some((bytes.into(), (app, Stage::Over)));
                    }
                    Stage::Over => return None,
                }
            }
        },
    )
}

/// The output of a step that ended earlier; none where the journal is gone: its record has the
/// beginning and the end.
async fn ended_reader(app: &App, step: &Step) -> Option<OutputReader> {
    ended_output(app, step).await.ok()?
}

/// List a session's steps, oldest first
#[utoipa::path(
    get, path = "/sessions/{session_id}/steps", tag = "steps",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("after" = Option<i64>, Query, description = "Only steps after this sequence number"),
        ("limit" = Option<i64>, Query, description = "At most this many; 100 by default, 1000 at most"),
    ),
    responses(
        (status = 200, description = "Steps", body = Vec<Step>),
        (status = 404, description = "`session_not_found`", body = Problem),
    )
)]
async fn list(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Vec<Step>>> {
    let id = app.session(session_id(&app, &id).await?).await?.id;
    let mut fields = Fields::of_query(query.as_deref());
    let filter = StepFilter {
        after: fields.integer(&["after"], 0, i64::MAX).unwrap_or(0),
        limit: fields
            .integer(&["limit"], 0, i64::MAX)
            .unwrap_or(100)
            .min(1000),
    };
    fields.done()?;
    Ok(Json(app.steps(id, filter).await?))
}

/// Show a step
///
/// A running step shows what it has printed so far. `wait=SECONDS` waits for its end that long;
/// with `Accept: text/event-stream` the step is streamed from its beginning, or from the
/// `Last-Event-ID` header on.
#[utoipa::path(
    get, path = "/sessions/{session_id}/steps/{step_id}", tag = "steps",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("step_id" = String, Path, description = "The step's id"),
        ("wait" = Option<i64>, Query, description = "Seconds to wait for its end, at most 300"),
    ),
    responses(
        (status = 200, description = "The step", body = Step),
        (status = 404, description = "`session_not_found`, `step_not_found`", body = Problem),
    )
)]
async fn show(
    State(app): State<App>,
    Path((session, step)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    let (session, step) = (session_id(&app, &session).await?, step_id(&step)?);
    let mut fields = Fields::of_query(query.as_deref());
    let wait = fields.integer(&["wait"], 0, MAX_WAIT_SECONDS).unwrap_or(0);
    fields.done()?;
    if sse::wanted(&headers) {
        let submitted = app.find_step(session, step, Caller::Reads).await?;
        let seen = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let stopping = app.tasks.stopping();
        return Ok(sse::response(
            step_events(app, submitted, seen.unwrap_or(0)),
            stopping,
        ));
    }
    if wait > 0
        && let Some(mut run) = app.find_step(session, step, Caller::Waits).await?.run
    {
        let limit = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
        // Ended, stopped or out of time: what stands now is the answer.
        let _ = tokio::time::timeout(limit, run.ended()).await;
    }
    Ok(Json(app.step(session, step).await?).into_response())
}

/// Cancel a step
///
/// Takes it out of the queue, or interrupts it. Answers at once with the step as it stands; one
/// that has ended stays as it is.
#[utoipa::path(
    delete, path = "/sessions/{session_id}/steps/{step_id}", tag = "steps",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("step_id" = String, Path, description = "The step's id"),
    ),
    responses(
        (status = 202, description = "Asked to stop", body = Step),
        (status = 404, description = "`session_not_found`, `step_not_found`", body = Problem),
    )
)]
async fn cancel(
    State(app): State<App>,
    Path((session, step)): Path<(String, String)>,
) -> Answer<Response> {
    let step = app
        .cancel(session_id(&app, &session).await?, step_id(&step)?)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(step)).into_response())
}
