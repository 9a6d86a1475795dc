//! Output as raw bytes, by offset, straight from the journal.

use abide_model::{Problem, ProblemCode, SessionId, Step, StepId};
use abide_session_agent::{OutputChunk, OutputReader, Phase, StreamFilter};
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Fields, path_uuid};
use super::error::{Answer, ApiError};
use super::sessions::session_id;
use crate::runtimes::Wanted;
use crate::service::Caller;

const OUTPUT_FROM: HeaderName = HeaderName::from_static("x-output-from");
const OUTPUT_NEXT: HeaderName = HeaderName::from_static("x-output-next");

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(of_step))
        .routes(routes!(of_session))
}

/// What the routes take.
pub(super) struct Asked {
    pub(super) from: Option<u64>,
    pub(super) tail: Option<u64>,
    pub(super) filter: StreamFilter,
    pub(super) follow: bool,
}

fn parse(query: Option<&str>) -> Result<Asked, Problem> {
    let mut fields = Fields::of_query(query);
    let offset = |number: i64| u64::try_from(number).unwrap_or(0);
    let wanted = Asked {
        from: fields.integer(&["from"], 0, i64::MAX).map(offset),
        tail: fields.integer(&["tail"], 0, i64::MAX).map(offset),
        filter: fields
            .text(&["stream"], "enum", |text| match text {
                "all" => Ok(StreamFilter::All),
                "stdout" => Ok(StreamFilter::Stdout),
                "stderr" => Ok(StreamFilter::Stderr),
                _ => Err("must be one of all, stdout, stderr".to_owned()),
            })
            .unwrap_or(StreamFilter::All),
        follow: fields.flag("follow").unwrap_or(false),
    };
    fields.done()?;
    Ok(wanted)
}

/// A step's whole output
///
/// Raw bytes from offset `from` of the step's own output, as long as the journal has them. With
/// `follow=1` the answer goes on until the step has ended.
#[utoipa::path(
    get, path = "/sessions/{session_id}/steps/{step_id}/output", tag = "output",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("step_id" = String, Path, description = "The step's id"),
        ("from" = Option<i64>, Query, description = "Offset into the step's output; 0 by default"),
        ("stream" = Option<String>, Query, description = "`all` (default), `stdout` or `stderr`"),
        ("follow" = Option<bool>, Query, description = "Go on until the step has ended"),
    ),
    responses(
        (status = 200, description = "Bytes", content_type = "application/octet-stream",
         headers(("X-Output-From" = i64), ("X-Output-Next" = i64, description = "Where to go on; not with follow"))),
        (status = 404, description = "`session_not_found`, `step_not_found`", body = Problem),
        (status = 416, description = "`expired`: these bytes have left the journal; `details.earliest` has not", body = Problem),
    )
)]
async fn of_step(
    State(app): State<App>,
    Path((session, step)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let session = session_id(&app, &session).await?;
    let step = StepId(path_uuid("step_id", &step)?);
    let wanted = parse(query.as_deref())?;
    let (start, end, reader) = open_step(&app, session, step, &wanted).await?;
    respond(&app, reader, start, end, &wanted)
}

/// Where the step's output lies and a reader on it.
async fn open_step(
    app: &App,
    session: SessionId,
    id: StepId,
    wanted: &Asked,
) -> Result<(u64, Option<u64>, OutputReader), ApiError> {
    let caller = if wanted.follow {
        Caller::Reads
    } else {
        Caller::Waits
    };
    let submitted = app.find_step(session, id, caller).await?;
    let from = wanted.from.unwrap_or(0);
    let (start, end, worker) = match submitted.run {
        Some(mut run) => {
            let reader = if wanted.follow {
                // Subscribes before it starts, so that no byte is missed.
                run.output().await
            } else {
                None
            };
            match (run.phase(), reader) {
                (Phase::Running { output_start, .. }, Some(reader)) => {
                    let reader = reader.starting_at(output_start + from, wanted.filter);
                    return Ok((output_start, None, reader));
                }
                (Phase::Running { output_start, .. }, None) => (output_start, None, None),
                (Phase::Ended(ended), _) => {
                    let outcome = &ended.outcome;
                    (
                        outcome.output_start,
                        Some(outcome.output_end),
                        outcome.worker,
                    )
                }
                (Phase::Queued, _) => (0, Some(0), None),
            }
        }
        None => match app.store.step_output_range(id).await? {
            Some(range) if range.worker.is_some() => (range.start, Some(range.end), range.worker),
            _ => return Err(gone(0).into()),
        },
    };
    let read = Wanted {
        worker,
        filter: wanted.filter,
        from: Some(start + from),
        tail: None,
        end,
        follow: false,
    };
    let reader = app
        .runtimes
        .output(session, read)
        .await?
        .ok_or_else(|| gone(0))?;
    let end = end.unwrap_or_else(|| reader.head());
    Ok((start, Some(end), reader))
}

/// The output of a step that has ended, from its first byte; `None` when the journal is gone, or the
/// step never started.
pub(super) async fn ended_output(app: &App, step: &Step) -> Result<Option<OutputReader>, ApiError> {
    let range = app.store.step_output_range(step.id).await?;
    let Some(range) = range.filter(|range| range.worker.is_some()) else {
        return Ok(None);
    };
    let read = Wanted {
        worker: range.worker,
        filter: StreamFilter::All,
        from: Some(range.start),
        tail: None,
        end: Some(range.end),
        follow: false,
    };
    Ok(app.runtimes.output(step.session_id, read).await?)
}

/// A session's output
///
/// Raw bytes that the present interpreter wrote, in steps and between them, from its start:
/// standard output and standard error in the order they came. With `follow=1` the answer goes on.
#[utoipa::path(
    get, path = "/sessions/{session_id}/output", tag = "output",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("from" = Option<i64>, Query, description = "Offset; the earliest there is by default"),
        ("tail" = Option<i64>, Query, description = "Instead of `from`: only the last so many bytes"),
        ("stream" = Option<String>, Query, description = "`all` (default), `stdout` or `stderr`"),
        ("follow" = Option<bool>, Query, description = "Go on as it writes"),
    ),
    responses(
        (status = 200, description = "Bytes", content_type = "application/octet-stream",
         headers(("X-Output-From" = i64), ("X-Output-Next" = i64, description = "Where to go on; not with follow"))),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 416, description = "`expired`: these bytes have left the journal; `details.earliest` has not", body = Problem),
    )
)]
async fn of_session(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let session = app.session(session_id(&app, &id).await?).await?;
    let mut wanted = parse(query.as_deref())?;
    let read = Wanted {
        worker: None,
        filter: wanted.filter,
        from: wanted.from,
        tail: wanted.tail,
        end: None,
        follow: wanted.follow,
    };
    let Some(reader) = app.runtimes.output(session.id, read).await? else {
        // It never ran anything: there is no output, and that is no error.
        return Ok(bytes_response(0, Some(0), Body::empty()));
    };
    wanted.from = Some(reader.offset());
    let end = (!wanted.follow).then_some(reader.head());
    respond(&app, reader, 0, end, &wanted)
}

/// `start` and `end` are journal offsets; the caller's offsets count from `start`.
pub(super) fn respond(
    app: &App,
    reader: OutputReader,
    start: u64,
    end: Option<u64>,
    wanted: &Asked,
) -> Answer {
    let from = wanted.from.unwrap_or(0);
    let earliest = reader.earliest();
    if start + from < earliest && end.is_none_or(|end| start + from < end) {
        return Err(gone(earliest - start).into());
    }
    let next = end
        .filter(|_| !wanted.follow)
        .map(|end| end.saturating_sub(start).max(from));
    let stream = futures_util::stream::unfold(reader, |mut reader| async {
        let bytes = match reader.next().await? {
            OutputChunk::Bytes { data, .. } => Ok::<Bytes, _>(data),
            // Raw bytes cannot say that some are missing: the connection breaks off, and asking
            // again from there answers 416.
            OutputChunk::Gap { .. } => Err(std::io::Error::other("output has left the journal")),
        };
        Some((bytes, reader))
    });
    let stream = stream.take_until(app.tasks.stopping().cancelled_owned());
    Ok(bytes_response(from, next, Body::from_stream(stream)))
}

fn bytes_response(from: u64, next: Option<u64>, body: Body) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(OUTPUT_FROM, from.into());
    if let Some(next) = next {
        headers.insert(OUTPUT_NEXT, next.into());
    }
    (headers, body).into_response()
}

pub(super) fn gone(earliest: u64) -> Problem {
    Problem::new(
        ProblemCode::OutputExpired,
        format!("these bytes have left the journal; the earliest offset there is {earliest}"),
    )
    .with_details(serde_json::json!({ "earliest": earliest }))
}
