//! `/sessions`

use abide_model::{Problem, Route, Runtime, is_session_label};
use abide_session_agent::http::body::Fields;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use uuid::Uuid;

use super::App;
use super::error::{Answer, Whole, bad_request};
use crate::plane::{CreateSession, SessionView};
use crate::trace::TraceContext;

/// Longest time to live, in seconds: ten years.
const MAX_TTL_SECONDS: u64 = 10 * 366 * 86_400;
/// Sessions in one answer.
const MAX_LIST: u64 = 1000;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/sessions", get(list).post(create))
        .route("/sessions/{session}", get(show))
        .route("/sessions/{session}/terminate", post(terminate))
        .route("/sessions/{session}/restart", post(restart))
        .route("/sessions/{session}/interrupt", post(interrupt))
}

#[derive(Serialize)]
struct Interrupted {
    id: String,
    status: &'static str,
}

/// The name of a session as the data plane keeps it: UUIDs are one whatever their spelling.
pub(super) fn session_label(text: &str) -> Result<String, Problem> {
    if !is_session_label(text) {
        return Err(bad_request(
            "sessionId: must begin with a letter or digit and go on with at most 127 of those, \
             '.', '_' and '-'",
        ));
    }
    Ok(Uuid::try_parse(text).map_or_else(|_| text.to_owned(), |id| id.to_string()))
}

/// A route as `POST /sessions` and its like answer it.
fn accepted(route: &Route) -> Response {
    (StatusCode::ACCEPTED, Json(SessionView::of(route))).into_response()
}

async fn create(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Whole(body): Whole,
) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let session_id = session_label(&fields.required("sessionId")?)?;
    let runtime = fields.text("runtime")?;
    let runtime = if runtime.trim().is_empty() {
        Runtime::Python
    } else {
        Runtime::from_alias(&runtime).map_err(|error| bad_request(format!("runtime: {error}")))?
    };
    // Policies are the control plane's; it has applied this one already.
    fields.text("policyId")?;
    let workspace_ref = Some(fields.text("workspaceRef")?).filter(|text| !text.is_empty());
    let ttl = fields.number("ttlSeconds", MAX_TTL_SECONDS)?;
    let new = CreateSession {
        session_id,
        runtime,
        workspace_ref,
        scratch: fields.boolean("scratch")?.unwrap_or(false),
        ttl_seconds: ttl
            .filter(|ttl| *ttl > 0)
            .and_then(|t| i64::try_from(t).ok()),
        sliding: fields.boolean("sliding")?.unwrap_or(false),
        interpreter: fields.boolean("interpreter")?.unwrap_or(true),
    };
    let plane = app.plane.clone();
    // Goes on to its end, or is undone, even if the client goes away.
    let route = app
        .plane
        .finish(
            "create session",
            async move { plane.create(new, &trace).await },
        )
        .await?;
    Ok(accepted(&route))
}

async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Answer<Json<Vec<SessionView>>> {
    let mut query = Fields::of_query(query.as_deref());
    let limit = query.number("limit", MAX_LIST)?.unwrap_or(MAX_LIST);
    let after = Some(query.text("after")?).filter(|after| !after.is_empty());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let routes = app.plane.list(after, limit).await?;
    Ok(Json(routes.iter().map(|r| SessionView::of(r)).collect()))
}

async fn show(State(app): State<App>, Path(session): Path<String>) -> Answer<Json<SessionView>> {
    let route = app.plane.session(&session_label(&session)?).await?;
    Ok(Json(SessionView::of(&route)))
}

async fn terminate(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(session): Path<String>,
) -> Answer {
    let session = session_label(&session)?;
    let plane = app.plane.clone();
    let route = app
        .plane
        .finish("terminate session", async move {
            plane.terminate(&session, &trace).await
        })
        .await?;
    Ok(accepted(&route))
}

async fn restart(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(session): Path<String>,
) -> Answer {
    let session = session_label(&session)?;
    let plane = app.plane.clone();
    let route = app
        .plane
        .finish("restart session", async move {
            plane.restart(&session, &trace).await
        })
        .await?;
    Ok(accepted(&route))
}

async fn interrupt(
    State(app): State<App>,
    Extension(trace): Extension<TraceContext>,
    Path(session): Path<String>,
) -> Answer {
    let session = session_label(&session)?;
    app.plane.interrupt(&session, &trace).await?;
    let answer = Interrupted {
        id: session,
        status: "interrupted",
    };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}
