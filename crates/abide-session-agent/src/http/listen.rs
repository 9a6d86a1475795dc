//! Accepting connections, in every plane the same way.

use std::convert::Infallible;

use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tower::Service;
use tracing::warn;

use crate::tasks::Tasks;

/// Serves on every listener until `tasks` are stopped; connections that are there then may end what
/// is under way.
pub fn listen<S>(listeners: Vec<TcpListener>, service: &S, tasks: &Tasks)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    for listener in listeners {
        let make = axum::ServiceExt::<Request>::into_make_service(service.clone());
        let stopping = tasks.stopping();
        // Steps are small and answered at once: never wait to fill a packet.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                warn!(%error, "TCP_NODELAY");
            }
        });
        tasks.spawn("http", async move {
            let served = axum::serve(listener, make)
                .with_graceful_shutdown(stopping.cancelled_owned())
                .await;
            if let Err(error) = served {
                warn!(%error, "serving ended");
            }
        });
    }
}
