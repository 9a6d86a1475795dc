//! `/sessions/{id}/workers`: terminals.

mod attach;
mod journal;

use abide_model::{
    Problem, SessionId, SizePolicy, TerminalChanges, TerminalSpec, TerminalState, WorkerId,
    WorkerKind,
};
use abide_session_agent::WindowSize;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Fields, Whole, path_uuid};
use super::error::{Answer, ApiError};
use super::sessions::session_id;

/// Largest width and height of a terminal.
const MAX_SIDE: i64 = 1000;
const MAX_NAME: usize = 128;
/// Most output that is kept of a terminal, in bytes.
const MAX_OUTPUT: i64 = 1 << 30;
/// Arguments of a command, and bytes in all of them.
const MAX_COMMAND: (usize, usize) = (1000, 64 * 1024);

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_live))
        .routes(routes!(list, start))
        .routes(routes!(show, update, end))
        .routes(routes!(restart))
        .routes(routes!(screen))
        .routes(routes!(input))
        .routes(routes!(resize))
        .merge(attach::router())
        .merge(journal::router())
}

/// The worker that a path speaks of.
async fn of_path(
    app: &App,
    session: &str,
    worker: &str,
) -> Result<(SessionId, WorkerId), ApiError> {
    let worker = path_uuid("worker_id", worker)?;
    Ok((session_id(app, session).await?, WorkerId(worker)))
}

/// A side of a terminal.
fn side(fields: &mut Fields, name: &'static str) -> Option<u16> {
    let side = fields.integer(&[name], 2, MAX_SIDE)?;
    u16::try_from(side).ok()
}

/// List the live workers of all sessions, oldest first
#[utoipa::path(
    get, path = "/workers", tag = "terminals",
    responses((status = 200, description = "Workers", body = Vec<TerminalState>))
)]
async fn list_live(State(app): State<App>) -> Answer {
    Ok(Json(app.live_workers().await?).into_response())
}

/// List a session's workers, oldest first
///
/// Those that have ended included.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers", tag = "terminals",
    params(("session_id" = String, Path, description = "The session's id or name")),
    responses(
        (status = 200, description = "Workers", body = Vec<TerminalState>),
        (status = 404, description = "`session_not_found`", body = Problem),
    )
)]
async fn list(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let id = session_id(&app, &id).await?;
    Ok(Json(app.workers(id).await?).into_response())
}

/// Start a terminal
///
/// A shell, or the program of `command`, in the session's workspace. It goes on whoever looks at it,
/// until it ends or is ended.
#[utoipa::path(
    post, path = "/sessions/{session_id}/workers", tag = "terminals",
    params(("session_id" = String, Path, description = "The session's id or name")),
    request_body(content = TerminalSpec, content_type = "application/json"),
    responses(
        (status = 201, description = "Started", body = TerminalState),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 409, description = "`session_not_active`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
        (status = 429, description = "`limit_reached`", body = Problem),
        (status = 503, description = "`runtime_unavailable`", body = Problem),
    )
)]
async fn start(State(app): State<App>, Path(id): Path<String>, Whole(body): Whole) -> Answer {
    let spec = parse_spec(&body)?;
    let id = session_id(&app, &id).await?;
    let started = app.start_terminal(id, spec).await?;
    Ok((StatusCode::CREATED, Json(started)).into_response())
}

fn parse_spec(body: &[u8]) -> Result<TerminalSpec, Problem> {
    let mut fields = Fields::of_body(body)?;
    fields.text(&["kind"], "enum", |text| match WorkerKind::parse(text) {
        Some(WorkerKind::Terminal) => Ok(()),
        _ => Err("must be terminal: interpreters are started by steps".to_owned()),
    });
    let command = command(&mut fields);
    let spec = TerminalSpec {
        name: fields.string(&["name"], MAX_NAME),
        command,
        login: fields.flag("login").unwrap_or(false),
        cols: side(&mut fields, "cols"),
        rows: side(&mut fields, "rows"),
        size_policy: size_policy(&mut fields),
        replaces: None,
        output_bytes: fields
            .integer(&["output_bytes"], 1, MAX_OUTPUT)
            .and_then(|bytes| u64::try_from(bytes).ok()),
    };
    fields.done()?;
    Ok(spec)
}

fn size_policy(fields: &mut Fields) -> Option<SizePolicy> {
    let all = ["latest", "smallest", "owner"];
    fields.one_of("size_policy", SizePolicy::parse, &all)
}

/// The program and its arguments; none for a shell.
fn command(fields: &mut Fields) -> Vec<String> {
    let Some(raw) = fields.raw("command") else {
        return Vec::new();
    };
    let (most, longest) = MAX_COMMAND;
    let fits = |command: &Vec<String>| {
        let length: usize = command.iter().map(String::len).sum();
        let is_text = !command.iter().any(|text| text.contains('\0'));
        is_text && command.len() <= most && length <= longest
    };
    match serde_json::from_str::<Option<Vec<String>>>(raw.get()) {
        Ok(command) if command.as_ref().is_none_or(fits) => command.unwrap_or_default(),
        _ => {
            let problem = format!(
                "must be a list of texts, the program and its arguments: at most {most}, {longest} \
                 bytes in all, without NUL"
            );
            fields.wrong("command", "list_type", problem, serde_json::Value::Null);
            Vec::new()
        }
    }
}

/// A worker as it stands
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    responses(
        (status = 200, description = "As it stands", body = TerminalState),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
    )
)]
async fn show(State(app): State<App>, Path((session, worker)): Path<(String, String)>) -> Answer {
    let (session, worker) = of_path(&app, &session, &worker).await?;
    Ok(Json(app.terminal_state(session, worker).await?).into_response())
}

/// Rename a terminal, or change whose size it has
///
/// What is not given stays.
#[utoipa::path(
    patch, path = "/sessions/{session_id}/workers/{worker_id}", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    request_body(content = TerminalChanges, description = "`null` takes the name away", content_type = "application/json"),
    responses(
        (status = 200, description = "As it stands", body = TerminalState),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`; or an interpreter", body = Problem),
    )
)]
async fn update(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    Whole(body): Whole,
) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let is_named = fields.has("name");
    let name = fields.string(&["name"], MAX_NAME);
    let changes = TerminalChanges {
        name: is_named.then(|| name.unwrap_or_default()),
        size_policy: size_policy(&mut fields),
    };
    fields.done()?;
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let state = app.update_terminal(session, worker, changes).await?;
    Ok(Json(state).into_response())
}

/// Start a terminal's program again
///
/// Ends it with everything that was started in it, and starts the same program on another terminal of the
/// same name and size. That one is the answer; its `terminal.replaces` names the first, whose output stays
/// readable as long as its journal.
#[utoipa::path(
    post, path = "/sessions/{session_id}/workers/{worker_id}/restart", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    responses(
        (status = 201, description = "The terminal in its place", body = TerminalState),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 409, description = "`session_not_active`", body = Problem),
        (status = 422, description = "`invalid_input`: an interpreter", body = Problem),
        (status = 429, description = "`limit_reached`", body = Problem),
        (status = 503, description = "`runtime_unavailable`", body = Problem),
    )
)]
async fn restart(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
) -> Answer {
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let state = app.restart_terminal(session, worker).await?;
    Ok((StatusCode::CREATED, Json(state)).into_response())
}

/// End a terminal
///
/// With everything that was started in it.
#[utoipa::path(
    delete, path = "/sessions/{session_id}/workers/{worker_id}", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 422, description = "`invalid_input`: an interpreter", body = Problem),
    )
)]
async fn end(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (session, worker) = of_path(&app, &session, &worker).await?;
    app.end_terminal(session, worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The visible screen of a terminal
///
/// As text, a line per row; with `format=ansi` with colours and links.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}/screen", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
        ("format" = Option<String>, Query, description = "`text` (default) or `ansi`"),
    ),
    responses(
        (status = 200, description = "The screen", body = String, content_type = "text/plain"),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
    )
)]
async fn screen(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let mut fields = Fields::of_query(query.as_deref());
    let ansi = fields.text(&["format"], "enum", |text| match text {
        "text" => Ok(false),
        "ansi" => Ok(true),
        _ => Err("must be text or ansi".to_owned()),
    });
    fields.done()?;
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    let text = terminal.screen(ansi.unwrap_or(false)).await?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, text).into_response())
}

/// Type into a terminal
///
/// The body's bytes, as they are. Answered once the terminal's keeper has them all; a program that does
/// not read makes that take as long.
#[utoipa::path(
    post, path = "/sessions/{session_id}/workers/{worker_id}/input", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "It is on its way to the program"),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
    )
)]
async fn input(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    Whole(body): Whole,
) -> Answer<StatusCode> {
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    terminal.input(body, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a terminal another size
#[utoipa::path(
    post, path = "/sessions/{session_id}/workers/{worker_id}/resize", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
    ),
    request_body(content = TerminalSpec, description = "`cols` and `rows`", content_type = "application/json"),
    responses(
        (status = 204, description = "It is on its way to the program"),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn resize(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    Whole(body): Whole,
) -> Answer<StatusCode> {
    let mut fields = Fields::of_body(&body)?;
    let cols = fields.required("cols", |fields| side(fields, "cols"));
    let rows = fields.required("rows", |fields| side(fields, "rows"));
    fields.done()?;
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    let size = WindowSize::new(cols.unwrap_or_default(), rows.unwrap_or_default());
    terminal.set_size(size).await?;
    Ok(StatusCode::NO_CONTENT)
}
