//! `/sessions/{id}/steps`

use std::time::Duration;

use abide_model::{
    AgentStep, Problem, RunStep, STEP_FRAMES, StepFrame, StepId, is_session_label,
    session_id_of_label,
};
use abide_session_agent::OutputChunk;
use abide_session_agent::http::body::Fields;
use abide_session_agent::http::sse::{self, OutputEvents};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use uuid::Uuid;

use super::App;
use super::error::{Answer, ApiError, Whole, bad_request};
use super::output::pass_on;
use super::sessions::session_label;
use crate::plane::{StepItem, StepItems, StepReply, StepRequest};
use crate::trace::TraceContext;

/// Longest limit of a step, in milliseconds: thirty days.
const MAX_TIMEOUT_MS: u64 = 30 * 86_400_000;
/// Longest long poll, in milliseconds.
const MAX_WAIT_MS: u64 = 300_000;
/// Longest idempotency key.
const MAX_KEY: usize = 255;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/sessions/{session}/steps", post(submit))
        .route("/sessions/{session}/steps/{step}", get(show).delete(cancel))
}

/// How the caller wants to hear of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Frames,
    Events,
}

fn form(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    match accept {
        Some(accept) if accept.contains(STEP_FRAMES) => Form::Frames,
        Some(_) if sse::wanted(headers) => Form::Events,
        _ => Form::Json,
    }
}

async fn submit(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(session): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let mut query = Fields::of_query(query.as_deref());
    let output = query.flag("output", false)?;
    let wait = query.flag("wait", true)?;
    let run = run_step(session_label(&session)?, &headers, &body)?;
    let label = run.step_id.clone();
    let request = StepRequest { run, trace };
    match form(&headers) {
        Form::Json => {
            let reply = app.plane.run_step(&request, wait).await?;
            Ok((StatusCode::ACCEPTED, Json(reply.into_step(&label))).into_response())
        }
        Form::Frames => {
            let items = app.plane.follow_step(request, output);
            Ok(frames_response(items).await?)
        }
        Form::Events => {
            let items = accepted(app.plane.follow_step(request, true)).await?;
            let stopping = app.plane.tasks.stopping();
            Ok(sse::response(events(items, label), stopping))
        }
    }
}

/// The body of a submission.
fn run_step(session_id: String, headers: &HeaderMap, body: &[u8]) -> Result<RunStep, Problem> {
    let mut fields = Fields::of_body(body)?;
    let command = fields.text("command")?;
    let code = match fields.text("code")? {
        code if code.trim().is_empty() => command,
        code => code,
    };
    if code.trim().is_empty() {
        return Err(bad_request("command: is required"));
    }
    let limit = |fields: &mut Fields, name| match fields.number(name, MAX_TIMEOUT_MS)? {
        Some(0) => Err(bad_request(format!("{name}: must be at least 1"))),
        limit => Ok(limit),
    };
    let timeout_ms = limit(&mut fields, "timeoutMs")?;
    // A step may wait for its turn as long as it may run, unless the client says otherwise.
    let queue_timeout_ms = limit(&mut fields, "queueTimeoutMs")?.or(timeout_ms);
    let step_id = match fields.text("stepId")? {
        id if id.is_empty() => step_of_key(&session_id, headers)?,
        id if is_session_label(&id) => id,
        _ => {
            return Err(bad_request(
                "stepId: must begin with a letter or digit and go on with at most 127 of those, \
                 '.', '_' and '-'",
            ));
        }
    };
    Ok(RunStep {
        session_id,
        step_id,
        code,
        timeout_ms,
        queue_timeout_ms,
        stdin: Some(fields.text("stdin")?).filter(|stdin| !stdin.is_empty()),
    })
}

/// The step that an idempotency key names, which is the same in the same session (UUIDv5, RFC 9562
/// §5.5), or a new one.
fn step_of_key(session: &str, headers: &HeaderMap) -> Result<String, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(StepId::new().to_string());
    };
    let key = key.as_bytes();
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(bad_request("Idempotency-Key: must have 1 to 255 bytes"));
    }
    Ok(Uuid::new_v5(&session_id_of_label(session).0, key).to_string())
}

/// Waits until the runtime has the step, so that what keeps it from there is an answer of its own.
async fn accepted(mut items: StepItems) -> Result<StepItems, ApiError> {
    match items.recv().await {
        Some(StepItem::Accepted) => Ok(items),
        Some(StepItem::Failed(problem)) => Err(ApiError(*problem)),
        // Never before it is accepted, unless the server stops.
        _ => Err(ApiError(Problem::new(
            abide_model::ProblemCode::ShuttingDown,
            "the server is stopping",
        ))),
    }
}

/// Frames as they came. What ends within the same moment goes out whole.
async fn frames_response(items: StepItems) -> Result<Response, ApiError> {
    let mut items = accepted(items).await?;
    let (mut there, mut is_whole) = (Vec::new(), false);
    while !is_whole && let Ok(item) = items.try_recv() {
        is_whole = matches!(item, StepItem::Ended(_));
        there.push(frame_of(item));
    }
    let body = if is_whole {
        // Nothing failed, or it would not have ended.
        let lines: Vec<_> = there.into_iter().flatten().collect();
        Body::from(lines.concat())
    } else {
        let later = futures_util::stream::unfold(items, |mut items| async {
            Some((frame_of(items.recv().await?), items))
        });
        Body::from_stream(futures_util::stream::iter(there).chain(later))
    };
    let headers = [
        (header::CONTENT_TYPE, STEP_FRAMES),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// A frame as it came. An error breaks the stream off, and the caller asks by the step's id.
fn frame_of(item: StepItem) -> std::io::Result<Bytes> {
    match item {
        StepItem::Line(line) | StepItem::Ended(line) => Ok(line.raw),
        StepItem::Accepted => Ok(Bytes::new()),
        StepItem::Failed(problem) => Err(std::io::Error::other(problem.message)),
    }
}

/// Server-sent events: `started`, `stdout`, `stderr`, `gap`, `result`, `completed`; `error` in place
/// of the last if there will be no end.
fn events(items: StepItems, label: String) -> impl Stream<Item = Bytes> + Send {
    let state = (items, OutputEvents::default(), label);
    futures_util::stream::unfold(state, |(mut items, mut output, label)| async {
        let bytes = match items.recv().await? {
            StepItem::Accepted => Bytes::new(),
            StepItem::Line(line) => match line.frame {
                StepFrame::Output { stderr, data, end } => output.encode(OutputChunk::Bytes {
                    stderr,
                    data: STANDARD.decode(data).unwrap_or_default().into(),
                    end,
                }),
                StepFrame::Gap { from, to } => output.encode(OutputChunk::Gap { from, to }),
                StepFrame::Started { .. } => {
                    let step = AgentStep {
                        step_id: label.clone(),
                        status: "running".to_owned(),
                        ..AgentStep::default()
                    };
                    sse::event("started", None, &step)
                }
                StepFrame::Ended { .. } => Bytes::new(),
            },
            StepItem::Ended(line) => {
                let step = StepReply::Ended(line).into_step(&label);
                let result = step.result.as_ref();
                let result = result.map(|result| sse::event("result", None, result));
                let parts = [
                    output.finish(),
                    result.unwrap_or_default(),
                    sse::event("completed", None, &step),
                ];
                parts.concat().into()
            }
            StepItem::Failed(problem) => [output.finish(), sse::event("error", None, &problem)]
                .concat()
                .into(),
        };
        Some((bytes, (items, output, label)))
    })
    .filter(|bytes| std::future::ready(!bytes.is_empty()))
}

async fn show(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path((session, step)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let (session, step) = (session_label(&session)?, step_label(step)?);
    match form(&headers) {
        Form::Json => {
            let mut query = Fields::of_query(query.as_deref());
            let wait = query.number("wait_ms", MAX_WAIT_MS)?.unwrap_or(0);
            let wait = Duration::from_millis(wait);
            let found = app.plane.step(&session, &step, wait, &trace).await?;
            Ok(Json(found).into_response())
        }
        form => {
            let accept = match form {
                Form::Events => "text/event-stream",
                _ => STEP_FRAMES,
            };
            let query = query.unwrap_or_default();
            let passed = app
                .plane
                .step_as_it_happens(&session, &step, &query, accept, &trace)
                .await?;
            Ok(pass_on(passed))
        }
    }
}

async fn cancel(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path((session, step)): Path<(String, String)>,
) -> Answer {
    let (session, step) = (session_label(&session)?, step_label(step)?);
    let cancelled = app.plane.cancel(&session, &step, &trace).await?;
    Ok((StatusCode::ACCEPTED, Json(cancelled)).into_response())
}

/// A step's name in a path.
fn step_label(step: String) -> Result<String, Problem> {
    if is_session_label(&step) {
        Ok(step)
    } else {
        Err(Problem::new(
            abide_model::ProblemCode::StepNotFound,
            "no step has such a name",
        ))
    }
}
