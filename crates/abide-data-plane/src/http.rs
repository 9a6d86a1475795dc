//! HTTP over the data plane: one file per resource.

mod error;
mod events;
mod middleware;
mod output;
mod runs;
mod sessions;
mod steps;
mod system;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use abide_session_agent::http::listen;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::auth::Authorizer;
use crate::plane::DataPlane;
use crate::runs::Runs;

/// How long requests under way may take to end once the data plane stops.
const DRAIN: Duration = Duration::from_millis(500);

/// What handlers share.
#[derive(Debug)]
pub struct DataPlaneApi {
    plane: Arc<DataPlane>,
    authorizer: Authorizer,
    /// `Host` and `Origin` names to accept besides the loopback ones.
    allowed_hosts: Vec<String>,
    /// Nobody is asked who they are.
    bypass: bool,
    runs: Arc<Runs>,
}

type App = Arc<DataPlaneApi>;

impl DataPlaneApi {
    /// Over a data plane; `bypass` says whether the authorizer lets everybody in, and then only
    /// requests that name this machine as their host get through.
    pub fn new(
        plane: Arc<DataPlane>,
        authorizer: Authorizer,
        bypass: bool,
        allowed_hosts: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            runs: Runs::new(Arc::clone(&plane)),
            plane,
            authorizer,
            allowed_hosts,
            bypass,
        })
    }

    /// Serves on `listeners` until `stop` fires, then drains: no new connections, streams end,
    /// waiting requests are answered or left. Steps go on in their runtimes.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Vec<TcpListener>,
        stop: impl Future<Output = ()>,
    ) {
        let tasks = self.plane.tasks.clone();
        if let Err(error) = self.runs.resume().await {
            warn!(error = %error.chain(), "cannot go on with the runs of before");
        }
        listen(listeners, &router(&self), &tasks);
        stop.await;
        tasks.stop();
        if !tasks.drained(DRAIN).await {
            info!("leaving requests that have not ended");
        }
        self.plane.registry.close().await;
    }
}

/// Everything the data plane answers.
fn router(app: &App) -> Router {
    Router::new()
        .merge(sessions::router())
        .merge(steps::router())
        .merge(output::router())
        .merge(runs::router())
        .merge(workers::router())
        .merge(events::router())
        .route_layer(from_fn_with_state(
            app.clone(),
            middleware::require_identity,
        ))
        .merge(system::router())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        // One layer, since each costs every request one or two microseconds.
        .layer(from_fn_with_state(app.clone(), middleware::observe))
        .with_state(app.clone())
}
