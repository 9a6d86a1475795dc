//! `/v1/steps` and `/v1/sessions/{id}/steps/{step}`

use std::time::Duration;

use abide_model::{STEP_FRAMES, WorkerId};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tracing::{Instrument as _, Span, debug};

use super::App;
use super::body::{Fields, Whole, credentials, run_step};
use super::error::Answer;
use super::sessions::MAX_WAIT_MS;
use super::sse;
use super::step_stream::{Form, answer, frames_so_far};
use super::trace::TraceContext;

pub(super) fn router() -> Router<App> {
    Router::new().route("/v1/steps", post(submit)).route(
        "/v1/sessions/{session}/steps/{step}",
        get(show).delete(cancel),
    )
}

/// How the caller wants to hear of a step.
fn form(headers: &HeaderMap, query: &mut Fields) -> Answer<Option<Form>> {
    let output = query.flag("output", false)?;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    Ok(match accept {
        Some(accept) if accept.contains(STEP_FRAMES) => Some(Form::Frames { output }),
        Some(_) if sse::wanted(headers) => Some(Form::Events),
        _ => None,
    })
}

async fn submit(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let credentials = credentials(&headers);
    // Before the body is looked at: who has no token learns nothing about it.
    app.host.require_token(&credentials)?;
    let mut query = Fields::of_query(query.as_deref());
    let form = form(&headers, &mut query)?;
    let wait = query.flag("wait", true)?;
    let request = run_step(&body)?;
    let session = request.session_id.clone();
    let trace = TraceContext::of_headers(&headers);
    let span = tracing::info_span!(
        "step",
        session_id = %session,
        step_id = %request.step_id,
        request_id = %trace.request_id,
        trace_id = %trace.trace_id,
        span_id = trace.recorded(),
        parent_id = trace.parent(),
    );
    let work = async {
        let hold = form.is_some_and(Form::reads_output);
        let submitted = app.host.submit(&credentials, request, hold).await;
        let mut step = submitted.inspect_err(|refused| {
            routed(&app, None, &refused.code, &Span::current());
        })?;
        if let Some(form) = form {
            return Ok(answer(&app, session, step, form).await);
        }
        let worker = step.worker_id();
        if !wait {
            routed(&app, worker, "accepted", &Span::current());
            return Ok((StatusCode::ACCEPTED, Json(step.show().await)).into_response());
        }
        let outcome = step.ended().await?;
        routed(&app, worker, outcome.status.as_str(), &Span::current());
        Ok(Json(step.show_ended(&outcome)).into_response())
    };
    work.instrument(span).await
}

/// Tells where a step went and what came of it, for whoever records traces.
pub(super) fn routed(app: &App, worker: Option<WorkerId>, outcome: &str, span: &Span) {
    debug!(
        parent: span,
        runtime_id = app.host.boot_id(),
        target_endpoint = worker.map(tracing::field::display),
        auth_mode = app.host.auth_mode().as_str(),
        attempt = 1,
        outcome,
        "step routed"
    );
}

async fn show(
    State(app): State<App>,
    Path((session, step)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    let credentials = credentials(&headers);
    let mut query = Fields::of_query(query.as_deref());
    let form = form(&headers, &mut query)?;
    let wait = query.number("wait_ms", MAX_WAIT_MS)?;
    let hold = form.is_some_and(Form::reads_output);
    let mut step = app.host.step(&session, &step, &credentials, hold).await?;
    if let Some(form) = form
        && hold
    {
        return Ok(answer(&app, session, step, form).await);
    }
    if let Some(wait) = wait {
        // Ended, stopped or out of time: what stands now is the answer.
        let _ = tokio::time::timeout(Duration::from_millis(wait), step.ended()).await;
    }
    if form.is_some() {
        return Ok(frames_so_far(&mut step).await);
    }
    Ok(Json(step.show().await).into_response())
}

async fn cancel(
    State(app): State<App>,
    Path((session, step)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let credentials = credentials(&headers);
    let mut step = app.host.cancel(&session, &step, &credentials).await?;
    Ok((StatusCode::ACCEPTED, Json(step.show().await)).into_response())
}
