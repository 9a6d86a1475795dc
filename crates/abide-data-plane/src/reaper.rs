//! Ends sessions whose time is up.
//!
//! A session is first marked in the store, naming the generation that was found overdue: a renewal
//! that came before makes the mark fail, one that comes after finds the session ended. Only then is
//! anything stopped.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{Route, RouteStatus};
use futures_util::StreamExt as _;
use tracing::{info, warn};

use crate::error::DataPlaneError;
use crate::plane::{DataPlane, PlaneEvent};
use crate::trace::TraceContext;

/// Sessions that are looked at together, and how many of them are ended at once.
const BATCH: usize = 100;
/// See [`BATCH`].
const AT_ONCE: usize = 16;
/// How long to sleep at most: another data plane on the same routes may have made a session that
/// expires sooner, or have gone away with one that did.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Ended routes that are forgotten in one go.
const FORGET: usize = 1000;

pub(crate) fn start(plane: &Arc<DataPlane>) {
    let this = Arc::clone(plane);
    plane.tasks.spawn("reaper", async move {
        let stopping = this.tasks.stopping();
        loop {
            let pause = this.reap().await.unwrap_or_else(|error| {
                warn!(error = %error.chain(), "cannot look for what has expired");
                LOOK_AGAIN
            });
            tokio::select! {
                () = stopping.cancelled() => return,
                () = this.expiry_moved.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
}

impl DataPlane {
    /// Ends every session that is overdue now; answers how long to wait for the next one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reap(&self) -> Result<Duration, DataPlaneError> {
        loop {
            let overdue = self.registry.expired(self.now(), BATCH).await?;
            let full = overdue.len() == BATCH;
            let expiring = overdue.into_iter().map(|route| self.expire(route));
            futures_util::stream::iter(expiring)
                .for_each_concurrent(AT_ONCE, std::convert::identity)
                .await;
            if !full {
                break;
            }
        }
        let now = self.now();
        let remember = i64::try_from(self.config.remember.as_secs()).unwrap_or(i64::MAX);
        self.registry
            .forget(now.plus_seconds(remember.saturating_neg()), FORGET)
            .await?;
        let next = self.registry.next_expiry().await?;
        Ok(next.map_or(LOOK_AGAIN, |at| {
            let micros = at.as_micros().saturating_sub(now.as_micros()).max(1000);
            Duration::from_micros(micros.unsigned_abs()).min(LOOK_AGAIN)
        }))
    }

    async fn expire(&self, route: Arc<Route>) {
        let _turn = self.change_turn(&route.session_id).await;
        let mut expired = (*route).clone();
        expired.status = RouteStatus::Expired;
        match self.registry.replace(expired).await {
            // Renewed, or ended by somebody else.
            Ok(None) => {}
            Ok(Some(expired)) => {
                self.metrics.session_ended("expired");
                info!(
                    session_id = %expired.session_id, runtime_id = %expired.runtime_id,
                    "session expired"
                );
                self.tell(PlaneEvent::Expired(Arc::clone(&expired)));
                self.clean_up(&expired, &TraceContext::new(None, None))
                    .await;
            }
            Err(error) => {
                warn!(session_id = %route.session_id, error = %error.chain(), "cannot expire");
            }
        }
    }
}
