//! Ends sessions whose time is up, and puts the end off for those that slide with their use.
//!
//! A session is first marked as expired in the records, if it is still overdue there: a renewal that
//! came before makes that fail, one that comes after finds the session expired. Only then is its
//! interpreter ended and its scratch workspace removed.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{Problem, ProblemCode, Session, Timestamp};
use abide_store::StoreError;
use tracing::{info, warn};

use crate::service::{ControlPlane, Outcome, store_problem};

/// Sessions that are looked at together.
const BATCH: i64 = 100;
/// After the records could not be read or written.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A session is renewed once this part of its time has passed since the last renewal: each one is a
/// write.
const RENEW_AFTER: i64 = 8;

/// Runs until the server stops.
pub(crate) fn start(control: &Arc<ControlPlane>) {
    let this = Arc::clone(control);
    control.tasks.spawn("expiry", async move {
        let stopping = this.tasks.stopping();
        loop {
            let due = this.expire_overdue().await.unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                warn!(error, "cannot look for what has expired");
                Some(TRY_AGAIN)
            });
            tokio::select! {
                () = stopping.cancelled() => return,
                () = this.expiry_moved.notified() => {}
                () = after(due) => {}
            }
        }
    });
}

async fn after(due: Option<Duration>) {
    match due {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

impl ControlPlane {
    /// Ends every session that is overdue now; how long until the next one is, if any.
    async fn expire_overdue(&self) -> Result<Option<Duration>, StoreError> {
        loop {
            let now = Timestamp::now();
            let overdue = self.store.overdue_sessions(now, BATCH).await?;
            if overdue.is_empty() {
                break;
            }
            for session in overdue {
                self.expire(&session, now).await?;
            }
        }
        let next = self.store.next_session_expiry().await?;
        Ok(next.map(|at| {
            let left = at.as_micros().saturating_sub(Timestamp::now().as_micros());
            Duration::from_micros(left.max(1000).unsigned_abs())
        }))
    }

    async fn expire(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let id = session.id;
        // At work: that is use.
        let busy = self.runtimes.known(id).is_some_and(|known| !known.idle);
        if session.sliding && busy && self.store.extend_session(id, now).await? {
            return Ok(());
        }
        if !self.store.expire_session(id, now).await? {
            return Ok(());
        }
        info!(session = %id, "session expired");
        let workers = self.store.workers(id).await?;
        let workers: Vec<_> = workers.iter().map(|worker| worker.id).collect();
        if let Err(problem) = self.runtimes.delete(session, &workers).await {
            warn!(session = %id, problem = problem.message, "what it ran in stays");
        }
        Ok(())
    }

    /// Puts the end of a sliding session off, since it is used. 410 when it is too late.
    pub(crate) async fn renew(&self, session: &Session) -> Outcome<()> {
        let (Some(ttl), Some(expires_at)) = (session.ttl_seconds, session.expires_at) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let left = expires_at.as_micros().saturating_sub(now.as_micros());
        let whole = ttl.saturating_mul(1_000_000);
        if !session.sliding || left > whole - whole / RENEW_AFTER {
            return Ok(());
        }
        let renewed = self.store.renew_session(session.id, now).await;
        if renewed.map_err(store_problem)? {
            Ok(())
        } else {
            Err(expired())
        }
    }
}

/// 410.
pub(crate) fn expired() -> Problem {
    Problem::new(
        ProblemCode::SessionExpired,
        "the session has expired (expires_at); create a new one",
    )
}
