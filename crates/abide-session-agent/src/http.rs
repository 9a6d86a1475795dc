//! `/v1`: the session agent as a service of its own, and what the planes above serve in the same
//! way.

mod attach;
pub mod body;
pub mod error;
mod gather;
mod listen;
mod middleware;
pub mod origin;
mod output;
mod recording;
mod sessions;
pub mod sse;
mod step_stream;
mod steps;
pub mod trace;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tracing::info;

pub use self::attach::{AttachmentHost, SignsOfLife, attach, query_of};
pub use self::listen::listen;
pub use self::recording::recorded;
use crate::host::SessionHost;
use crate::tasks::Tasks;

/// How long requests under way may take to end once the agent stops.
const DRAIN: Duration = Duration::from_millis(500);

/// Plain settings of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// `Host` and `Origin` names to accept besides the loopback ones.
    pub allowed_hosts: Vec<String>,
    /// What those who view terminals are given up by.
    pub signs_of_life: SignsOfLife,
}

/// What handlers share.
#[derive(Debug)]
struct Shared {
    host: Arc<SessionHost>,
    tasks: Tasks,
    config: HttpConfig,
    gathering: gather::Gathering,
}

type App = Arc<Shared>;

/// Serves `host` on `listeners` until `stop` fires, then drains: new work is refused, streams end,
/// waiting requests are answered. Interpreters go on under their keepers.
pub async fn serve(
    host: Arc<SessionHost>,
    tasks: Tasks,
    config: HttpConfig,
    listeners: Vec<TcpListener>,
    stop: impl Future<Output = ()>,
) {
    let router = service(Arc::clone(&host), tasks.clone(), config);
    listen(listeners, &router, &tasks);
    stop.await;
    host.drain();
    tasks.stop();
    if !tasks.drained(DRAIN).await {
        // Connections that wait for a step that goes on under its keeper.
        info!("leaving requests that have not ended");
    }
}

/// What [`serve`] serves, for whoever brings requests in another way.
pub fn service(host: Arc<SessionHost>, tasks: Tasks, config: HttpConfig) -> Router {
    let app = Arc::new(Shared {
        host,
        tasks,
        config,
        gathering: gather::Gathering::default(),
    });
    Router::new()
        .merge(sessions::router())
        .merge(steps::router())
        .merge(output::router())
        .merge(workers::router())
        // Behind it only what somebody may do who knows which agent this is.
        .route_layer(from_fn_with_state(
            Arc::clone(&app),
            middleware::check_boot_id,
        ))
        .merge(sessions::open())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        // One layer, since each costs every request one or two microseconds.
        .layer(from_fn_with_state(Arc::clone(&app), middleware::receive))
        .with_state(app)
}
