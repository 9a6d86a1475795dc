//! `/v1/sessions/{id}/output`

use abide_model::{STEP_FRAMES, WorkerId};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use futures_util::StreamExt as _;

use super::App;
use super::body::{Fields, credentials};
use super::error::Answer;
use super::step_stream::output_frame;
use crate::output::StreamFilter;

const HEAD: HeaderName = HeaderName::from_static("x-output-head");
const EARLIEST: HeaderName = HeaderName::from_static("x-output-earliest");

pub(super) fn router() -> Router<App> {
    Router::new().route("/v1/sessions/{session}/output", get(read))
}

async fn read(
    State(app): State<App>,
    Path(session): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let mut query = Fields::of_query(query.as_deref());
    let worker = query.parsed("worker", "must be the id of a worker", |text| {
        WorkerId::parse(text).ok()
    })?;
    let filter = query.parsed("stream", "must be one of all, stdout, stderr", |text| {
        Some(match text {
            "all" => StreamFilter::All,
            "stdout" => StreamFilter::Stdout,
            "stderr" => StreamFilter::Stderr,
            _ => return None,
        })
    })?;
    let from = query.number("from", u64::MAX)?;
    let end = query.number("end", u64::MAX)?;
    let follow = query.flag("follow", false)?;
    let output = app.host.output(
        &session,
        &credentials(&headers),
        worker,
        filter.unwrap_or(StreamFilter::All),
        from,
        end,
        follow,
    )?;
    let mut answer = HeaderMap::new();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(STEP_FRAMES));
    answer.insert(HEAD, output.head.into());
    answer.insert(EARLIEST, output.earliest.into());
    let frames = futures_util::stream::unfold(output.reader, |mut reader| async {
        let frame = output_frame(reader.next().await?);
        Some((Ok::<_, std::convert::Infallible>(frame), reader))
    });
    let frames = frames.take_until(app.tasks.stopping().cancelled_owned());
    Ok((answer, Body::from_stream(frames)).into_response())
}
