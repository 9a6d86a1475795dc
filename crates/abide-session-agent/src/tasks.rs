//! The only place that starts background tasks.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Starts named tasks, tells them to stop and waits for them.
///
/// Every task is handed nothing but what it owns; it watches [`Tasks::stopping`] and returns
/// when that fires. Clones share one set of tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `work` under a span called `name`.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        // Some are large, and what follows would move them several times.
        let work = Box::pin(work);
        #[expect(clippy::disallowed_methods, reason = "this is the supervisor")]
        tokio::spawn(
            self.tracker
                .track_future(work)
                .instrument(tracing::info_span!(parent: None, "task", name)),
        );
    }

    /// Fires once [`Self::stop`] is called.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to stop.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Waits until every task has ended, at most `limit`; `false` if some had not.
    pub async fn drained(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}
