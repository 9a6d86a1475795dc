//! What a worker's journal still has: bytes by offset, and a terminal's as a recording.

use abide_model::{CastFormat, Problem};
use abide_session_agent::StreamFilter;
use axum::extract::{Path, RawQuery, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::of_path;
use crate::http::App;
use crate::http::body::Fields;
use crate::http::error::Answer;
use crate::http::output::{Asked, gone, respond};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(output))
        .routes(routes!(recording))
}

/// What a worker wrote
///
/// Raw bytes from output offset `from` to before `to`, as long as the journal has them: of a terminal
/// what went over it, of an interpreter standard output and standard error in the order they came.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}/output", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
        ("from" = Option<u64>, Query, description = "Offset; the earliest there is by default"),
        ("to" = Option<u64>, Query, description = "Offset of the first byte that is not wanted; the end by default"),
        ("follow" = Option<bool>, Query, description = "Go on as it writes, to `to` or until it has ended"),
    ),
    responses(
        (status = 200, description = "Bytes", content_type = "application/octet-stream",
         headers(("X-Output-From" = i64), ("X-Output-Next" = i64, description = "Where to go on; not with follow"))),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 416, description = "`expired`: these bytes have left the journal; `details.earliest` has not", body = Problem),
        (status = 422, description = "`invalid_input`", body = Problem),
    )
)]
async fn output(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let mut fields = Fields::of_query(query.as_deref());
    let mut offset = |name| {
        let offset = fields.integer(&[name], 0, i64::MAX)?;
        u64::try_from(offset).ok()
    };
    let (from, to) = (offset("from"), offset("to"));
    let follow = fields.flag("follow").unwrap_or(false);
    if to < from && to.is_some() {
        let end = to.unwrap_or_default().into();
        fields.wrong("to", "value_error", "must not lie before from", end);
    }
    fields.done()?;
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let range = (from, to);
    let reader = app.worker_output(session, worker, range, follow).await?;
    let reader = reader.ok_or_else(|| gone(0))?;
    let asked = Asked {
        from: Some(reader.offset()),
        tail: None,
        filter: StreamFilter::All,
        follow,
    };
    let head = reader.head();
    let end = match (to, follow) {
        (to, true) => to,
        (to, false) => Some(to.map_or(head, |to| to.min(head))),
    };
    respond(&app, reader, 0, end, &asked)
}

/// A terminal's recording
///
/// Asciicast of everything that the terminal's journal still has, up to now: output, changes of size and
/// the end of its program, with the times at which the keeper saw them. Once the journal has turned it
/// begins with the screen as it was at some later time. Players show it: `abide play`, asciinema.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}/recording", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
        ("format" = Option<CastFormat>, Query, description = "`v3` (default) or `v2`"),
    ),
    responses(
        (status = 200, description = "A header, then a line for each event", body = String, content_type = "application/x-asciicast"),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
        (status = 422, description = "`invalid_input`; or an interpreter", body = Problem),
    )
)]
async fn recording(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let mut fields = Fields::of_query(query.as_deref());
    let format = fields.one_of("format", CastFormat::parse, &["v2", "v3"]);
    fields.done()?;
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (worker, terminal) = app.terminal(session, worker).await?;
    let format = format.unwrap_or(CastFormat::V3);
    Ok(terminal.recording(&worker, format).await?)
}
