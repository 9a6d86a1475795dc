//! HTTP over the service: one file per resource, one for errors.

mod agents;
mod auth;
mod body;
mod dialect;
mod error;
mod events;
mod jobs;
mod output;
mod server;
mod sessions;
mod steps;
mod system;
mod telemetry;
mod terminals;

use std::sync::Arc;

use abide_session_agent::http::sse;
use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use auth::Security;

use crate::service::ControlPlane;

type App = Arc<ControlPlane>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Abide",
        description = "Sessions that stay alive: durable records plus the live processes that \
                       belong to them.\n\nEvery route but the health checks, the metrics and this \
                       documentation needs a key: `Authorization: Bearer KEY` or `X-API-Key: KEY` \
                       (`abide key` prints it). Collection paths work with and without a trailing \
                       slash. Errors are problem details (RFC 9457) with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "sessions", description = "The durable unit: record, interpreter, workspace"),
        (name = "steps", description = "Code to run in a session's interpreter"),
        (name = "jobs", description = "Code to run once, in a session of its own"),
        (name = "output", description = "What steps and sessions wrote, byte for byte"),
        (name = "terminals", description = "Programs on a terminal, and whoever looks at them"),
        (name = "events", description = "What changed, in order, as a list or as it happens"),
        (name = "agents", description = "Who sessions belong to"),
        (name = "system", description = "Health, status, metrics, shutdown"),
    ),
    components(schemas(abide_model::Problem, abide_model::FieldError)),
    modifiers(&Security),
    security(("bearer" = []), ("api_key" = [])),
)]
struct ApiDocument;

fn routes() -> (Router<App>, Router<App>, utoipa::openapi::OpenApi) {
    let (guarded, guarded_api) = OpenApiRouter::with_openapi(ApiDocument::openapi())
        .merge(sessions::router())
        .merge(steps::router())
        .merge(jobs::router())
        .merge(output::router())
        .merge(terminals::router())
        .merge(agents::router())
        .merge(events::router())
        .merge(system::guarded())
        .split_for_parts();
    let (open, open_api) = OpenApiRouter::new().merge(system::open()).split_for_parts();
    let mut api = guarded_api;
    api.merge(open_api);
    (guarded, open, api)
}

/// The OpenAPI 3.1 document of the public API, as `/openapi.json` serves it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().2
}

/// Everything the server answers, layered: telemetry with the origin check, key, handler.
fn service(app: &App) -> Router {
    let (guarded, open, _) = routes();
    let guarded = guarded.route_layer(from_fn_with_state(app.clone(), auth::require_key));
    guarded
        .merge(open)
        // Who may use these is asked in their own way.
        .merge(dialect::router())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        // One layer, since each costs every request one or two microseconds.
        .layer(from_fn_with_state(app.clone(), telemetry::observe))
        .with_state(app.clone())
}
