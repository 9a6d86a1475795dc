//! Compares routes with what the runtimes have, and cleans what is orphaned on either side: at
//! start, now and then, and when a runtime turns out to have been restarted. Between that it hears
//! from the runtimes which interpreters die.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_model::{AgentSession, Route, RouteStatus, Timestamp, WorkerKind, WorkerNews};
use futures_util::StreamExt as _;
use tracing::{info, warn};

use crate::error::DataPlaneError;
use crate::link::{AgentLink, Answered, CallError, Caller};
use crate::plane::{DataPlane, caller, has_ended, has_something};
use crate::runtimes::Runtime;
use crate::trace::TraceContext;

/// Sessions that are looked at, or ended, at once.
const AT_ONCE: usize = 8;
/// How long one question for interpreters that died waits.
const NEWS_WAIT: Duration = Duration::from_secs(20);
/// Pause after a runtime could not be asked, at first and at most.
const NEWS_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

pub(crate) fn start(plane: &Arc<DataPlane>) {
    let this = Arc::clone(plane);
    plane.tasks.spawn("reconciler", async move {
        let stopping = this.tasks.stopping();
        loop {
            let reconciling = async {
                if let Err(error) = this.reconcile().await {
                    warn!(error = %error.chain(), "cannot compare routes with runtimes");
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = reconciling => {}
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = this.compare_now.notified() => {}
                () = tokio::time::sleep(this.config.reconcile_every) => {}
            }
        }
    });
    for runtime in plane.driver.runtimes() {
        let this = Arc::clone(plane);
        plane.tasks.spawn("news", async move {
            let stopping = this.tasks.stopping();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.hear_news_of(&runtime.id) => {}
            }
        });
    }
}

impl DataPlane {
    /// One comparison. Runtimes that cannot be asked are left for the next.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reconcile(&self) -> Result<(), DataPlaneError> {
        for runtime in self.driver.runtimes() {
            // Before its sessions are listed: what is newer than this may be missing in the list.
            let since = self.now();
            match runtime.link.sessions().await {
                Ok(listed) => self.compare(&runtime, listed, since).await?,
                Err(CallError::Refused { .. }) => self.ask_one_by_one(&runtime).await?,
                Err(error) => {
                    warn!(runtime_id = %runtime.id, error = %error.chain(), "cannot be compared");
                }
            }
        }
        self.finish_what_ended().await
    }

    async fn compare(
        &self,
        runtime: &Runtime,
        listed: Answered<Vec<AgentSession>>,
        since: Timestamp,
    ) -> Result<(), DataPlaneError> {
        let mut there: HashMap<&str, &AgentSession> = listed
            .value
            .iter()
            .map(|session| (session.session_id.as_str(), session))
            .collect();
        for route in self.registry.all().await? {
            if route.runtime_id != runtime.id {
                continue;
            }
            let session = there.remove(route.session_id.as_str());
            if route.status == RouteStatus::Ready && route.last_seen_at < since {
                let found = session.map(|session| (session, listed.boot_id.as_str()));
                self.confirm(&route, found, &*runtime.link).await?;
            }
        }
        if !runtime.link.is_ours() {
            return Ok(());
        }
        // What no route leads to. Each route is made before its session is registered, so a look
        // after the list finds every session that has one.
        for session in there.into_keys() {
            let route = self.registry.load(session).await?;
            let led_to = route.is_some_and(|route| {
                route.runtime_id == runtime.id || route.status == RouteStatus::Provisioning
            });
            if !led_to {
                info!(session_id = session, runtime_id = %runtime.id, "ending an orphan");
                let trace = TraceContext::new(None, None);
                let nobody = Caller {
                    session,
                    token: "",
                    trace: &trace,
                };
                if let Err(error) = runtime.link.terminate(nobody).await {
                    warn!(session_id = session, error = %error.chain(), "cannot end an orphan");
                }
            }
        }
        Ok(())
    }

    /// For a runtime that does not list its sessions for us.
    async fn ask_one_by_one(&self, runtime: &Runtime) -> Result<(), DataPlaneError> {
        let routes = self.registry.all().await?;
        let ours = routes
            .into_iter()
            .filter(|route| route.runtime_id == runtime.id && route.status == RouteStatus::Ready);
        futures_util::stream::iter(ours)
            .map(async |route| {
                let trace = TraceContext::new(None, None);
                match runtime.link.session(caller(&route, &trace)).await {
                    Ok(found) => {
                        let found = Some((&found.value, found.boot_id.as_str()));
                        self.confirm(&route, found, &*runtime.link).await
                    }
                    Err(error) if error.code() == Some("session_not_found") => {
                        self.confirm(&route, None, &*runtime.link).await
                    }
                    Err(_) => Ok(()),
                }
            })
            .buffer_unordered(AT_ONCE)
            .fold(Ok(()), async |all: Result<(), _>, one| all.and(one))
            .await
    }

    /// Holds a ready route against what its runtime has of it.
    async fn confirm(
        &self,
        route: &Route,
        found: Option<(&AgentSession, &str)>,
        link: &dyn AgentLink,
    ) -> Result<(), DataPlaneError> {
        let same = found.filter(|(session, _)| session.worker_id == route.worker_id);
        let Some((session, boot_id)) = same else {
            return self.mark_lost(&route.session_id, route.worker_id).await;
        };
        if session.status != "registered" {
            let exit = session.exit.clone();
            return self
                .mark_crashed(&route.session_id, route.worker_id, exit)
                .await;
        }
        self.registry
            .change(&route.session_id, |latest| {
                let moved = latest.worker_id == route.worker_id
                    && (latest.boot_id != boot_id || latest.endpoint != link.endpoint());
                if moved {
                    boot_id.clone_into(&mut latest.boot_id);
                    link.endpoint().clone_into(&mut latest.endpoint);
                }
                moved
            })
            .await?;
        Ok(())
    }

    /// Takes from runtimes what routes that ended still have there, and ends routes whose makers
    /// went away.
    async fn finish_what_ended(&self) -> Result<(), DataPlaneError> {
        let all = self.registry.all().await?;
        futures_util::stream::iter(all)
            .for_each_concurrent(AT_ONCE, async |route| {
                let trace = TraceContext::new(None, None);
                if has_ended(route.status) {
                    if has_something(&route) {
                        self.clean_up(&route, &trace).await;
                    }
                } else if route.status == RouteStatus::Provisioning && self.is_stuck(&route) {
                    let mut failed = (*route).clone();
                    failed.status = RouteStatus::Failed;
                    if let Ok(Some(failed)) = self.registry.replace(failed).await {
                        warn!(session_id = %failed.session_id, "session was never ready");
                        self.clean_up(&failed, &trace).await;
                    }
                }
            })
            .await;
        Ok(())
    }

    /// Follows what a runtime says of interpreters that die, until it says that it will not.
    async fn hear_news_of(&self, runtime_id: &str) {
        let (mut after, mut boot, mut pause) = (0, String::new(), NEWS_BACKOFF.0);
        while let Some(runtime) = self.driver.runtime(runtime_id) {
            match runtime.link.news(after, NEWS_WAIT).await {
                Ok(answered) if answered.boot_id != boot => {
                    // Its sequence begins anew; what happened before, a comparison tells.
                    if !boot.is_empty() {
                        self.compare_now.notify_one();
                        self.may_have_missed_news();
                    }
                    boot = answered.boot_id;
                    if after != 0 {
                        after = 0;
                        continue;
                    }
                    self.note_news(&answered.value, &mut after).await;
                }
                Ok(answered) => self.note_news(&answered.value, &mut after).await,
                Err(CallError::Refused { problem, .. }) if problem.code != "shutting_down" => {
                    info!(runtime_id, code = %problem.code, "does not tell of news");
                    return;
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(NEWS_BACKOFF.1);
                    continue;
                }
            }
            pause = NEWS_BACKOFF.0;
        }
    }

    async fn note_news(&self, news: &[WorkerNews], after: &mut u64) {
        let is_next = |first: &WorkerNews| first.sequence <= *after + 1;
        if *after != 0 && !news.first().is_none_or(is_next) {
            // More befell its workers than it remembers.
            self.compare_now.notify_one();
            self.may_have_missed_news();
        }
        for told in news {
            *after = (*after).max(told.sequence);
            if told.kind == WorkerKind::Terminal {
                self.tell_of_terminal(told).await;
                continue;
            }
            let session = &told.session_id;
            let marked = self
                .mark_crashed(session, Some(told.worker_id), told.exit.clone())
                .await;
            if let Err(error) = marked {
                warn!(session_id = %session, error = %error.chain(), "cannot note an end");
            }
        }
    }
}
