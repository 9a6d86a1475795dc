//! What befalls sessions below: told by the data plane, and looked up where it may have been missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_data_plane::client::{RemoteSession, mismatch};
use abide_model::{
    NewWorker, Problem, ProblemCode, RouteStatus, SessionId, SessionNews, WorkerKind,
};
use abide_store::StoreError;
use tracing::{info, warn};

use super::Remote;
use super::sessions::{Ending, Known};
use crate::service::Outcome;
use crate::trace;

/// Why what belonged to a session is gone.
const ENDED_BELOW: &str = "the session has expired or was terminated below this server";
/// How long one question waits.
const WAIT: Duration = Duration::from_secs(25);
/// Pause after the data plane could not be asked, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Follows what the data plane tells until the server stops.
pub(super) fn follow(remote: &Arc<Remote>) {
    let this = Arc::clone(remote);
    remote.config.tasks.spawn("news", async move {
        let stopping = this.config.tasks.stopping();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = this.hear_news() => {}
        }
    });
}

impl Remote {
    async fn hear_news(self: &Arc<Self>) {
        let mut seen: Option<(String, u64)> = None;
        let mut pause = BACKOFF.0;
        loop {
            let after = seen.as_ref().map(|(epoch, last)| (epoch.as_str(), *last));
            let news = match self.client.news(after, WAIT).await {
                Ok(news) => news,
                Err(problem) => {
                    warn!(message = %problem.message, "no news of the data plane");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                    continue;
                }
            };
            let follows = seen.as_ref().is_some_and(|(epoch, last)| {
                *epoch == news.epoch && news.earliest <= last.saturating_add(1)
            });
            if !follows {
                // What was missed shows in how things stand.
                if let Err(problem) = self.compare().await {
                    warn!(message = %problem.message, "cannot compare with the data plane");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                    continue;
                }
                seen = Some((news.epoch, news.last));
                pause = BACKOFF.0;
                continue;
            }
            pause = BACKOFF.0;
            for one in &news.events {
                self.hear(one).await;
            }
            if let (Some(seen), Some(last)) = (&mut seen, news.events.last()) {
                seen.1 = last.sequence;
            }
        }
    }

    async fn hear(self: &Arc<Self>, news: &SessionNews) {
        let Ok(session) = SessionId::parse(&news.session_id) else {
            return;
        };
        if news.kind == WorkerKind::Terminal {
            return self.hear_of_terminal(session, news).await;
        }
        match news.status {
            RouteStatus::Lost => self.look_terminals_up(session),
            RouteStatus::Expired | RouteStatus::Terminated | RouteStatus::Failed => {
                self.terminals_gone(session, ENDED_BELOW, false).await;
            }
            RouteStatus::Provisioning | RouteStatus::Ready | RouteStatus::Crashed => {}
        }
        let Some(known) = self.find(session) else {
            return;
        };
        let (ours, dead) = (known.worker(), known.death().is_some());
        match news.status {
            RouteStatus::Crashed if news.worker_id == Some(ours) => {
                if !dead {
                    self.crashed(&known, ours, news.exit.clone()).await;
                }
            }
            RouteStatus::Ready if news.worker_id == Some(ours) && !dead => {}
            RouteStatus::Lost if news.worker_id == Some(ours) => {
                self.lost(&known, ours, mismatch()).await;
            }
            RouteStatus::Crashed if dead => {}
            _ => self.look_up(known),
        }
    }

    /// Holds every session against what the data plane has.
    async fn compare(self: &Arc<Self>) -> Outcome<()> {
        let mut there: HashMap<String, RemoteSession> = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let trace = trace::current();
            let page = self.client.sessions(after.as_deref(), &trace).await?;
            let last = page.last().map(|session| session.id.clone());
            there.extend(
                page.into_iter()
                    .map(|session| (session.id.clone(), session)),
            );
            // The last page is empty.
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let all: Vec<_> = self.sessions.read().values().cloned().collect();
        for known in all {
            let found = there.get(&known.session.to_string());
            let same = found.is_some_and(|found| {
                let alive = found.status == "running" && found.worker_id == Some(known.worker());
                alive == known.death().is_none()
            });
            if !same && known.death().is_none() {
                self.look_up(known);
            }
        }
        self.compare_terminals().await
    }

    /// Looks at one session once nobody changes it.
    fn look_up(self: &Arc<Self>, known: Arc<Known>) {
        let this = Arc::clone(self);
        self.config.tasks.spawn("look up session", async move {
            let _turn = this.locks.lock(known.session).await;
            // Deleted meanwhile.
            if this.find(known.session).is_none() {
                return;
            }
            let label = known.session.to_string();
            match this.client.session(&label, &trace::current()).await {
                Ok(found) => this.held_against(&known, &found).await,
                Err(problem) if problem.status == 404 => {
                    this.learn(&known, known.worker(), problem).await;
                }
                Err(problem) => {
                    warn!(session = label, message = %problem.message, "cannot look it up");
                }
            }
        });
    }

    async fn held_against(&self, known: &Arc<Known>, found: &RemoteSession) {
        let ours = known.worker();
        match (found.status.as_str(), found.worker_id) {
            ("running", Some(worker)) if worker != ours => {
                info!(session = %known.session, %worker, "restarted below");
                let ending = Ending::on_purpose(ours, "restarted below this server");
                self.record_ending(known.session, Some(ending)).await;
                let Ok(Some(session)) = self.config.store.session(known.session).await else {
                    return;
                };
                let new = NewWorker::interpreter(worker, known.session, session.runtime);
                match self.config.store.restart_worker(new).await {
                    Ok(_) | Err(StoreError::IdTaken(_)) => {
                        self.renew(known.session, worker);
                    }
                    Err(error) => {
                        warn!(session = %known.session, error = &error as &dyn std::error::Error, "not recorded");
                    }
                }
            }
            ("lost", _) => self.lost(known, ours, mismatch()).await,
            ("crashed", _) => self.crashed(known, ours, None).await,
            ("expired" | "terminated" | "failed", _) => {
                let problem = Problem::new(ProblemCode::SessionExpired, ENDED_BELOW);
                self.gone(known, ours, problem).await;
            }
            _ => {}
        }
    }
}
