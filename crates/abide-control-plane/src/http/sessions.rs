//! `/sessions`

use abide_model::{
    AgentId, JsonObject, Problem, Runtime, RuntimeBackend, Session, SessionChanges, SessionFilter,
    SessionId, SessionStatus, Timestamp,
};
use abide_store::RequestKey;
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::auth::Who;
use super::body::{Fields, Whole, path_uuid};
use super::error::Answer;
use crate::service::{CreateSession, OwnerRequest, WorkspaceRequest, store_problem};

const MAX_TYPE_CHARS: usize = 100;
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 10_000;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, update, delete))
        .routes(routes!(restart))
        .routes(routes!(interrupt))
}

/// The session that a path speaks of: by id in any spelling, or by name.
pub(super) async fn session_id(app: &App, text: &str) -> Result<SessionId, Problem> {
    let invalid = match path_uuid("session_id", text) {
        Ok(id) => return Ok(SessionId(id)),
        Err(invalid) => invalid,
    };
    let named = app
        .store
        .session_by_name(text)
        .await
        .map_err(store_problem)?;
    named.map(|session| session.id).ok_or(invalid)
}

/// Create a session
///
/// The record only: its interpreter is started by the first step. With an `Idempotency-Key`
/// header a repetition answers with the session that the first request created.
#[utoipa::path(
    post, path = "/sessions", tag = "sessions",
    request_body(content = abide_model::CreateSession, content_type = "application/json"),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    responses(
        (status = 201, description = "Created", body = Session),
        (status = 404, description = "`agent_not_found`", body = Problem),
        (status = 409, description = "`session_exists`, `idempotency_conflict`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
        (status = 429, description = "`limit_reached`", body = Problem),
    )
)]
async fn create(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let request = parse_create(&body, &who)?;
    let session = app
        .create_session(request, request_key(&headers, &body))
        .await?;
    Ok((StatusCode::CREATED, Json(session)).into_response())
}

/// What an `Idempotency-Key` names, and what tells two requests of one key apart.
pub(super) fn request_key(headers: &HeaderMap, body: &[u8]) -> Option<RequestKey> {
    let key = headers.get("idempotency-key")?.to_str().ok()?;
    Some(RequestKey {
        key: key.to_owned(),
        fingerprint: fingerprint(body),
    })
}

/// Who is to own what is created: the agent of the token, else the one that the body names.
pub(super) fn owner(fields: &mut Fields, who: &Who) -> OwnerRequest {
    let label = |text: String| match AgentId::parse(&text) {
        Ok(id) => OwnerRequest::Id(id),
        Err(_) => OwnerRequest::Named(text),
    };
    let named = if fields.has("agent_id") {
        fields
            .uuid(&["agent_id"])
            .map(|id| OwnerRequest::Id(AgentId(id)))
    } else {
        // Runtime-routing clients send labels of their own here.
        fields.string(&["agentId"], 255).map(label)
    };
    match &who.agent {
        Some(agent) => label(agent.clone()),
        None => named.unwrap_or(OwnerRequest::Default),
    }
}

/// The tenant of the token, else the one that the body names, as it is noted in the metadata.
pub(super) fn tenant(fields: &mut Fields, who: &Who) -> Option<JsonObject> {
    let named = fields.string(&["tenantId"], 255);
    let tenant = who.tenant.clone().or(named)?;
    Some(with_tenant(JsonObject::empty(), &tenant))
}

fn with_tenant(object: JsonObject, tenant: &str) -> JsonObject {
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(object.as_str()).unwrap_or_default();
    fields.insert("tenant_id".to_owned(), tenant.into());
    let text = serde_json::Value::Object(fields).to_string();
    JsonObject::from_text(text).unwrap_or(object)
}

fn parse_create(body: &[u8], who: &Who) -> Result<CreateSession, Problem> {
    let mut fields = Fields::of_body(body)?;
    let owner = owner(&mut fields, who);
    let tenant = tenant(&mut fields, who);
    let request = CreateSession {
        id: fields
            .uuid(&["session_id", "sessionId"])
            .map(SessionId)
            .unwrap_or_default(),
        owner,
        session_type: fields
            .string_not_null(&["session_type", "sessionType"], MAX_TYPE_CHARS)
            .unwrap_or_else(|| "conversation".to_owned()),
        context: if fields.has("context") {
            fields.object("context")
        } else {
            None
        }
        .unwrap_or_default(),
        runtime_backend: fields.one_of(
            "runtime_backend",
            RuntimeBackend::parse,
            &["local", "kubernetes", "unknown"],
        ),
        runtime_metadata: if fields.has("runtime_metadata") {
            let given = fields.object("runtime_metadata");
            given.map(|given| match &who.tenant {
                Some(tenant) => with_tenant(given, tenant),
                None => given,
            })
        } else {
            tenant
        }
        .unwrap_or_default(),
        name: fields.text(&["name"], "value_error", session_name),
        runtime: fields
            .text(&["runtime"], "enum", |text| {
                Runtime::from_alias(text).map_err(|error| error.to_string())
            })
            .unwrap_or(Runtime::Python),
        workspace: workspace(&mut fields).unwrap_or(WorkspaceRequest::Scratch),
        ttl_seconds: fields.integer(&["ttl_seconds", "ttlSeconds"], 1, 100 * 365 * 86_400),
        sliding: fields.flag("sliding").unwrap_or(false),
    };
    fields.done()?;
    Ok(request)
}

fn session_name(text: &str) -> Result<String, String> {
    let fits = (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    // A name that looks like an id could never be told apart from one.
    if fits && SessionId::parse(text).is_err() {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 100 of A-Z a-z 0-9 . _ - and not a UUID".to_owned())
}

fn workspace(fields: &mut Fields) -> Option<WorkspaceRequest> {
    let raw = fields.raw("workspace")?;
    let value: serde_json::Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let path = value.as_str().or_else(|| value["path"].as_str());
    match (value["kind"].as_str(), path) {
        (Some("scratch"), None) => Some(WorkspaceRequest::Scratch),
        (None | Some("directory"), Some(path)) => Some(WorkspaceRequest::Directory(path.into())),
        _ => {
            let msg = "must be an absolute path, {\"kind\": \"directory\", \"path\": …} or \
                       {\"kind\": \"scratch\"}";
            fields.wrong("workspace", "value_error", msg, value);
            None
        }
    }
}

/// What tells two requests of one key apart: the body itself, folded to 64 bits (FNV-1a).
fn fingerprint(body: &[u8]) -> String {
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}:{hash:016x}", body.len())
}

/// List sessions, newest first
///
/// A bare array. When there is more, `X-Next-Cursor` names where to go on (`cursor=`).
#[utoipa::path(
    get, path = "/sessions", tag = "sessions",
    params(
        ("agent_id" = Option<String>, Query, description = "Only this agent's"),
        ("status" = Option<String>, Query, description = "Only these statuses, comma-separated"),
        ("name" = Option<String>, Query, description = "Only the session of this name"),
        ("limit" = Option<i64>, Query, description = "At most this many; 100 by default, 10000 at most"),
        ("cursor" = Option<String>, Query, description = "`X-Next-Cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "Sessions", body = Vec<Session>,
         headers(("X-Next-Cursor" = String, description = "There is more"))),
        (status = 422, description = "`invalid_input`", body = Problem),
    )
)]
async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let mut fields = Fields::of_query(query.as_deref());
    let limit = fields
        .integer(&["limit"], 0, i64::MAX)
        .unwrap_or(DEFAULT_LIMIT)
        .min(MAX_LIMIT);
    let filter = SessionFilter {
        agent_id: fields.uuid(&["agent_id"]).map(AgentId),
        statuses: fields
            .text(&["status"], "enum", statuses)
            .unwrap_or_default(),
        name: fields.string(&["name"], 100),
        after: fields.text(&["cursor"], "value_error", parse_cursor),
        limit: limit + 1,
    };
    fields.done()?;
    let mut sessions = app.store.sessions(&filter).await?;
    let more = i64::try_from(sessions.len()).unwrap_or(i64::MAX) > limit;
    if more {
        sessions.pop();
    }
    let next = sessions.last().filter(|_| more).map(cursor);
    let mut response = Json(sessions).into_response();
    if let Some(value) = next.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert("x-next-cursor", value);
    }
    Ok(response)
}

fn statuses(text: &str) -> Result<Vec<SessionStatus>, String> {
    text.split(',')
        .map(|status| {
            SessionStatus::parse(status.trim()).ok_or_else(|| {
                "must be of active, paused, completed, crashed, comma-separated".to_owned()
            })
        })
        .collect()
}

fn cursor(session: &Session) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}/{}", session.created_at.as_micros(), session.id))
}

fn parse_cursor(text: &str) -> Result<(Timestamp, SessionId), String> {
    let parse = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (micros, id) = text.split_once('/')?;
        Some((
            Timestamp::from_micros(micros.parse().ok()?),
            SessionId::parse(id).ok()?,
        ))
    };
    parse().ok_or_else(|| "must be an X-Next-Cursor of this server".to_owned())
}

/// Show a session
#[utoipa::path(
    get, path = "/sessions/{session_id}", tag = "sessions",
    params(("session_id" = String, Path, description = "The session's id or name")),
    responses(
        (status = 200, description = "The session", body = Session),
        (status = 404, description = "`session_not_found`", body = Problem),
    )
)]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Answer<Json<Session>> {
    Ok(Json(app.session(session_id(&app, &id).await?).await?))
}

/// Change a session
///
/// Each given field replaces the stored one whole; `null` leaves it alone.
#[utoipa::path(
    patch, path = "/sessions/{session_id}", tag = "sessions",
    params(("session_id" = String, Path, description = "The session's id or name")),
    request_body(content = abide_model::UpdateSession, content_type = "application/json"),
    responses(
        (status = 200, description = "The session after the change", body = Session),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn update(
    State(app): State<App>,
    Path(id): Path<String>,
    Whole(body): Whole,
) -> Answer<Json<Session>> {
    let id = session_id(&app, &id).await?;
    let mut fields = Fields::of_body(&body)?;
    let named = ["status", "context", "checkpoint", "runtime_metadata"];
    let named = named.into_iter().filter(|name| fields.has(name)).collect();
    let changes = SessionChanges {
        status: fields.one_of(
            "status",
            SessionStatus::parse,
            &["active", "paused", "completed", "crashed"],
        ),
        context: fields.object_or_null("context"),
        checkpoint: fields.object_or_null("checkpoint"),
        runtime_metadata: fields.object_or_null("runtime_metadata"),
        named,
        reason: None,
    };
    fields.done()?;
    let session = app.store.update_session(id, changes).await?;
    Ok(Json(session.ok_or_else(crate::service::session_not_found)?))
}

/// Delete a session
///
/// Ends its interpreter and removes its steps, journals and scratch workspace.
#[utoipa::path(
    delete, path = "/sessions/{session_id}", tag = "sessions",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("force" = Option<bool>, Query, description = "Also while it is active"),
    ),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 409, description = "`session_active`", body = Problem),
    )
)]
async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<StatusCode> {
    let mut fields = Fields::of_query(query.as_deref());
    let force = fields.flag("force").unwrap_or(false);
    fields.done()?;
    app.delete_session(session_id(&app, &id).await?, force)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a session a fresh interpreter
///
/// Ends the old one, if it lives; its variables are gone. A crashed session is active again.
#[utoipa::path(
    post, path = "/sessions/{session_id}/restart", tag = "sessions",
    params(("session_id" = String, Path, description = "The session's id or name")),
    responses(
        (status = 200, description = "The session", body = Session),
        (status = 404, description = "`session_not_found`", body = Problem),
        (status = 503, description = "`runtime_unavailable`", body = Problem),
    )
)]
async fn restart(State(app): State<App>, Path(id): Path<String>) -> Answer<Json<Session>> {
    Ok(Json(app.restart(session_id(&app, &id).await?).await?))
}

/// Interrupt whatever runs in a session
///
/// Answers at once; the step ends as `interrupted`. Nothing happens when nothing runs.
#[utoipa::path(
    post, path = "/sessions/{session_id}/interrupt", tag = "sessions",
    params(("session_id" = String, Path, description = "The session's id or name")),
    responses(
        (status = 202, description = "Sent"),
        (status = 404, description = "`session_not_found`", body = Problem),
    )
)]
async fn interrupt(State(app): State<App>, Path(id): Path<String>) -> Answer<StatusCode> {
    app.interrupt(session_id(&app, &id).await?).await?;
    Ok(StatusCode::ACCEPTED)
}
