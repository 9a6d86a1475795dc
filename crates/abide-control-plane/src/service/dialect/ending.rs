//! Ending terminals of the dialect: on request, with their connection, or because nobody comes back.

use std::sync::Arc;
use std::time::Instant;

use abide_model::{ProblemCode, SessionId};
use tracing::warn;

use super::{Owner, Refusal};
use crate::service::ControlPlane;

impl ControlPlane {
    /// Ends a terminal: its id is free when this returns, and all of it goes in the background. `from`:
    /// the connection that asked for it.
    pub(crate) async fn dialect_close(
        self: &Arc<Self>,
        owner: &Owner,
        id: &str,
        from: u64,
    ) -> Result<(), Refusal> {
        self.dialect.check_id(id)?;
        let session = {
            let mut registry = self.dialect.registry.lock();
            let session = registry.find(owner, id)?;
            if let Some(entry) = registry.remove(session) {
                entry.news.send_modify(|news| {
                    news.is_closed = true;
                    news.from = Some(from);
                });
            }
            session
        };
        self.dialect_release(session).await;
        Ok(())
    }

    /// Frees the id of a terminal that was taken out, and ends it in the background.
    pub(super) async fn dialect_release(self: &Arc<Self>, session: SessionId) {
        if let Err(error) = self.store.release_dialect_terminal(session).await {
            let error = &error as &dyn std::error::Error;
            warn!(%session, error, "a terminal's id is not free in the records");
        }
        self.dialect_end(session);
    }

    pub(super) fn dialect_end(self: &Arc<Self>, session: SessionId) {
        let this = Arc::clone(self);
        self.tasks.spawn("end a terminal", async move {
            if let Err(problem) = this.delete_session(session, true).await
                && problem.code != ProblemCode::SessionNotFound.as_str()
            {
                // The next start finds it, and tries again.
                warn!(%session, problem = problem.message, "a terminal that was closed stays");
            }
        });
    }

    /// Ends what nobody has looked at for too long, and forgets what has ended long ago; runs until the
    /// server stops.
    pub(crate) fn start_dialect_reaper(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.tasks.spawn("orphaned terminals", async move {
            let stopping = this.tasks.stopping();
            loop {
                let kept = this.dialect.config.exited_for;
                let (overdue, next) = {
                    let mut registry = this.dialect.registry.lock();
                    registry.expire(Instant::now(), kept)
                };
                for session in overdue {
                    this.dialect_release(session).await;
                }
                let due = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = this.dialect.moved.notified() => {}
                    () = due => {}
                }
            }
        });
    }
}
