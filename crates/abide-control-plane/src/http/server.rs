//! Serving connections.

use std::sync::Arc;
use std::time::Duration;

use abide_session_agent::http::listen;
use tokio::net::TcpListener;
use tower::Layer as _;
use tower_http::normalize_path::NormalizePathLayer;
use tracing::{info, warn};

use crate::service::{ControlPlane, WorkersAfterShutdown};

/// How long requests under way may take to end once the server stops.
const DRAIN: Duration = Duration::from_millis(500);
/// How long stopping every worker may take.
const END_WORKERS: Duration = Duration::from_secs(20);

impl ControlPlane {
    /// Serves on `listeners` until `stop` says what is to become of the workers, then drains:
    /// no new connections, open streams end, waiting requests are answered, the store is closed.
    pub async fn serve(
        self: &Arc<Self>,
        listeners: Vec<TcpListener>,
        stop: impl Future<Output = WorkersAfterShutdown>,
    ) {
        crate::expiry::start(self);
        self.start_dialect_reaper();
        let service = NormalizePathLayer::trim_trailing_slash().layer(super::service(self));
        listen(listeners, &service, &self.tasks);
        let workers = stop.await;
        if workers == WorkersAfterShutdown::End {
            info!("stopping every worker");
            let ended = self.runtimes.end_all();
            if tokio::time::timeout(END_WORKERS, ended).await.is_err() {
                warn!("some workers did not end in time");
            }
        }
        self.tasks.stop();
        if !self.tasks.drained(DRAIN).await {
            // Connections that wait for a step that goes on under its keeper.
            warn!("leaving requests that have not ended");
        }
        self.store.close().await;
    }
}
