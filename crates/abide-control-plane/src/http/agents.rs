//! `/agents`

use abide_model::{Agent, AgentChanges, AgentId, AgentStatus, NewAgent, Problem};
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Fields, Whole, path_uuid};
use super::error::Answer;
use crate::service::{agent_not_found, did, new_agent};

const STATUSES: &[&str] = &[
    "created",
    "active",
    "idle",
    "busy",
    "suspended",
    "terminated",
    "error",
];

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, update, delete))
}

fn agent_id(text: &str) -> Result<AgentId, Problem> {
    path_uuid("agent_id", text).map(AgentId)
}

/// What `POST /agents` and `PATCH /agents/{agent_id}` take.
#[derive(utoipa::ToSchema)]
#[expect(
    dead_code,
    reason = "documents the fields that the handlers read one by one"
)]
struct AgentBody {
    /// At most 255 characters; required on create.
    name: Option<String>,
    /// At most 100 characters; `general` by default.
    agent_type: Option<String>,
    /// Only on update.
    status: Option<AgentStatus>,
    /// `{}` by default.
    #[schema(value_type = Option<Object>)]
    configuration: Option<()>,
    /// `{}` by default.
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
    /// `{}` by default.
    #[schema(value_type = Option<Object>)]
    resource_limits: Option<()>,
}

fn changes(fields: &mut Fields) -> AgentChanges {
    AgentChanges {
        name: fields.string(&["name"], 255),
        agent_type: fields.string(&["agent_type"], 100),
        status: fields.one_of("status", AgentStatus::parse, STATUSES),
        configuration: fields.object_or_null("configuration"),
        metadata: fields.object_or_null("metadata"),
        resource_limits: fields.object_or_null("resource_limits"),
    }
}

/// Register an agent
#[utoipa::path(
    post, path = "/agents", tag = "agents",
    request_body(content = AgentBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Registered", body = Agent),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn create(State(app): State<App>, Whole(body): Whole) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let name = fields
        .required("name", |fields| fields.string(&["name"], 255))
        .unwrap_or_default();
    let given = changes(&mut fields);
    fields.done()?;
    let agent = NewAgent {
        did: did(&name),
        agent_type: given.agent_type.unwrap_or_else(|| "general".to_owned()),
        configuration: given.configuration.unwrap_or_default(),
        metadata: given.metadata.unwrap_or_default(),
        resource_limits: given.resource_limits.unwrap_or_default(),
        ..new_agent(AgentId::new(), &name)
    };
    Ok((StatusCode::CREATED, Json(app.create_agent(agent).await?)).into_response())
}

/// List agents, newest first
#[utoipa::path(
    get, path = "/agents", tag = "agents",
    params(
        ("status" = Option<AgentStatus>, Query, description = "Only of this status"),
        ("limit" = Option<i64>, Query, description = "At most this many; 100 by default, 10000 at most"),
        ("offset" = Option<i64>, Query, description = "Leave out so many first"),
    ),
    responses((status = 200, description = "Agents", body = Vec<Agent>))
)]
async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Answer<Response> {
    let mut fields = Fields::of_query(query.as_deref());
    let status = fields.one_of("status", AgentStatus::parse, STATUSES);
    let limit = fields
        .integer(&["limit"], 0, i64::MAX)
        .unwrap_or(100)
        .min(10_000);
    let offset = fields.integer(&["offset"], 0, i64::MAX).unwrap_or(0);
    fields.done()?;
    Ok(Json(app.store.agents(status, limit, offset).await?).into_response())
}

/// Show an agent
#[utoipa::path(
    get, path = "/agents/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's id")),
    responses(
        (status = 200, description = "The agent", body = Agent),
        (status = 404, description = "`agent_not_found`", body = Problem),
    )
)]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Answer<Json<Agent>> {
    let agent = app.store.agent(agent_id(&id)?).await?;
    Ok(Json(agent.ok_or_else(agent_not_found)?))
}

/// Change an agent
///
/// Each given field replaces the stored one whole; `null` leaves it alone.
#[utoipa::path(
    patch, path = "/agents/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's id")),
    request_body(content = AgentBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The agent after the change", body = Agent),
        (status = 404, description = "`agent_not_found`", body = Problem),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn update(
    State(app): State<App>,
    Path(id): Path<String>,
    Whole(body): Whole,
) -> Answer<Json<Agent>> {
    let id = agent_id(&id)?;
    let mut fields = Fields::of_body(&body)?;
    let changes = changes(&mut fields);
    fields.done()?;
    let agent = app.store.update_agent(id, changes).await?;
    Ok(Json(agent.ok_or_else(agent_not_found)?))
}

/// Delete an agent
///
/// Refused while it owns sessions.
#[utoipa::path(
    delete, path = "/agents/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, description = "`agent_not_found`", body = Problem),
        (status = 409, description = "`agent_in_use`", body = Problem),
    )
)]
async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answer<StatusCode> {
    if app.store.delete_agent(agent_id(&id)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(agent_not_found().into())
    }
}
