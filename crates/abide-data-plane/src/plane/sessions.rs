//! A session's route: made, shown, restarted, ended.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{
    AgentSession, AuthMode, Exit, Problem, ProblemCode, RegisterSession, Route, RouteStatus,
    Runtime, Timestamp, WorkerId,
};
use serde::Serialize;
use tracing::{info, warn};

use super::problems::{of_call, other_runtime, session_gone, session_not_found, unreachable};
use super::{DataPlane, PlaneEvent, caller};
use crate::error::DataPlaneError;
use crate::link::{Answered, CallError};
use crate::registry::Entered;
use crate::routing::SEND_ATTEMPTS;
use crate::trace::TraceContext;

/// A session to make.
#[derive(Debug, Clone)]
pub struct CreateSession {
    /// Its id, checked by [`abide_model::is_session_label`].
    pub session_id: String,
    /// What its steps run in.
    pub runtime: Runtime,
    /// The directory beneath the workspaces' root that its steps share; without one it gets a
    /// scratch directory, which goes with it.
    pub workspace_ref: Option<String>,
    /// The directory that `workspace_ref` names is the session's alone, and goes with it too.
    pub scratch: bool,
    /// Seconds until it expires; none means never.
    pub ttl_seconds: Option<i64>,
    /// Each step begins those seconds anew.
    pub sliding: bool,
    /// It is to have an interpreter; without one it has terminals only, until it is made again with one.
    pub interpreter: bool,
}

/// A session as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Which runtime holds it.
    pub runtime_id: String,
    /// `running`, or how its route stands.
    pub status: &'static str,
    /// What its steps run in.
    pub runtime: Runtime,
    /// Base URL of its session agent.
    pub endpoint: String,
    /// Whether that asks for a token.
    pub auth_mode: AuthMode,
    /// Boot id of that agent.
    pub boot_id: String,
    /// Its interpreter.
    pub worker_id: Option<WorkerId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a step or a check last got through, to within some seconds.
    pub last_seen_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

impl SessionView {
    /// What a route says.
    pub fn of(route: &Route) -> Self {
        Self {
            id: route.session_id.clone(),
            runtime_id: route.runtime_id.clone(),
            status: match route.status {
                RouteStatus::Ready => "running",
                other => other.as_str(),
            },
            runtime: route.runtime,
            endpoint: route.endpoint.clone(),
            auth_mode: route.auth_mode,
            boot_id: route.boot_id.clone(),
            worker_id: route.worker_id,
            created_at: route.created_at,
            last_seen_at: route.last_seen_at,
            expires_at: route.expires_at,
        }
    }
}

impl DataPlane {
    /// Makes a session. One that is there already with the same runtime is answered as it is.
    ///
    /// # Errors
    /// 409 `runtime_mismatch`; 503 `runtime_unreachable`, `runtime_unavailable`; what the session
    /// agent refuses. Nothing of the session is left after an error.
    pub async fn create(
        &self,
        new: CreateSession,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        let _turn = self.change_turn(&new.session_id).await;
        loop {
            if let Some(existing) = self.registry.load(&new.session_id).await? {
                if let Some(answer) = self.existing(&new, existing).await {
                    return self.furnished(&new, answer?, trace).await;
                }
            } else if let Entered::New(route) = self.registry.insert(self.blank(&new)?).await? {
                return self.provision(&new, route, trace).await;
            }
        }
    }

    /// A session that is there, with an interpreter if it is to have one and never had.
    async fn furnished(
        &self,
        new: &CreateSession,
        route: Arc<Route>,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        if !new.interpreter || route.worker_id.is_some() || route.status != RouteStatus::Ready {
            return Ok(route);
        }
        let link = self.link(&route);
        let answered = self.register(&route, true, trace).await;
        let answered = answered.map_err(|error| of_call(error, SEND_ATTEMPTS))?;
        let route = self
            .bound(&new.session_id, &answered, link.endpoint())
            .await?;
        self.tell(PlaneEvent::Ready(Arc::clone(&route)));
        Ok(route)
    }

    /// A session's route as it is.
    ///
    /// # Errors
    /// 404 `session_not_found`.
    pub async fn session(&self, session: &str) -> Result<Arc<Route>, Problem> {
        let route = self.registry.load(session).await?;
        route.ok_or_else(session_not_found)
    }

    /// Up to `limit` routes after the session id `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Arc<Route>>, Problem> {
        Ok(self.registry.list(after, limit).await?)
    }

    /// Ends a session at once, also while a step runs. Ending it again changes nothing. A runtime
    /// that cannot be reached is told later.
    ///
    /// # Errors
    /// 404 `session_not_found`.
    pub async fn terminate(
        &self,
        session: &str,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        let _turn = self.change_turn(session).await;
        let mut ended = false;
        let route = self
            .registry
            .change(session, |route| {
                ended = !has_ended(route.status);
                if ended {
                    route.status = RouteStatus::Terminated;
                }
                ended
            })
            .await?
            .ok_or_else(session_not_found)?;
        if ended {
            self.metrics.session_ended("terminated");
            info!(session_id = session, runtime_id = %route.runtime_id, "session terminated");
            self.tell(PlaneEvent::Terminated(Arc::clone(&route)));
        }
        self.clean_up(&route, trace).await;
        Ok(route)
    }

    /// Gives a session a fresh interpreter, also when its runtime has lost it.
    ///
    /// # Errors
    /// 404, 410, and those of the runtime.
    pub async fn restart(
        &self,
        session: &str,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        let _turn = self.change_turn(session).await;
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let restarted = self
            .persist(false, || link.restart(caller(&route, trace)))
            .await;
        let answered = match restarted {
            Err(error) if error.code() == Some("session_not_found") => {
                self.register(&route, true, trace).await
            }
            other => other,
        };
        let answered = answered.map_err(|error| of_call(error, SEND_ATTEMPTS))?;
        let route = self.bound(session, &answered, link.endpoint()).await?;
        self.tell(PlaneEvent::Ready(Arc::clone(&route)));
        Ok(route)
    }

    /// Interrupts what runs in a session.
    ///
    /// # Errors
    /// 404, 410, and those of the runtime.
    pub async fn interrupt(&self, session: &str, trace: &TraceContext) -> Result<(), Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        self.persist(false, || link.interrupt(caller(&route, trace)))
            .await
            .map(|_| ())
            .map_err(|error| of_call(error, SEND_ATTEMPTS))
    }

    /// A route that has not ended; also one whose interpreter has.
    pub(crate) async fn open_session(&self, session: &str) -> Result<Arc<Route>, Problem> {
        let route = self.session(session).await?;
        if has_ended(route.status) || self.is_overdue(&route) {
            return Err(session_gone());
        }
        Ok(route)
    }

    /// Whether its time is up.
    pub(crate) fn is_overdue(&self, route: &Route) -> bool {
        route.expires_at.is_some_and(|at| at <= self.now())
    }

    /// What to answer about a session that is there; `None` when it is out of the way now.
    async fn existing(
        &self,
        new: &CreateSession,
        route: Arc<Route>,
    ) -> Option<Result<Arc<Route>, Problem>> {
        let alive = matches!(
            route.status,
            RouteStatus::Ready | RouteStatus::Lost | RouteStatus::Crashed
        );
        if alive && !self.is_overdue(&route) {
            return Some(if route.runtime == new.runtime {
                Ok(route)
            } else {
                Err(other_runtime(&route))
            });
        }
        // Not by this data plane, where one is made at a time.
        if route.status == RouteStatus::Provisioning && !self.is_stuck(&route) {
            return Some(Err(Problem {
                retryable: true,
                ..Problem::new(
                    ProblemCode::SessionExists,
                    "the session is being made by another request",
                )
            }));
        }
        self.clean_up(&route, &TraceContext::new(None, None)).await;
        // If it moved meanwhile, the next look tells.
        match self.registry.load(&route.session_id).await {
            Ok(Some(latest)) => self
                .registry
                .remove(&latest)
                .await
                .err()
                .map(|error| Err(error.into())),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Whether whoever was making it must have gone away.
    pub(crate) fn is_stuck(&self, route: &Route) -> bool {
        let since = self.now().as_micros() - route.last_seen_at.as_micros();
        i128::from(since) > micros(self.config.give_up_provisioning)
    }

    fn blank(&self, new: &CreateSession) -> Result<Route, DataPlaneError> {
        let now = self.now();
        Ok(Route {
            session_id: new.session_id.clone(),
            runtime_id: String::new(),
            runtime: new.runtime,
            endpoint: String::new(),
            token: random_token()?,
            auth_mode: AuthMode::Enforced,
            boot_id: String::new(),
            worker_id: None,
            status: RouteStatus::Provisioning,
            workspace: String::new(),
            scratch: false,
            created_at: now,
            last_seen_at: now,
            expires_at: new.ttl_seconds.map(|ttl| now.plus_seconds(ttl)),
            sliding_seconds: new.ttl_seconds.filter(|_| new.sliding),
            generation: 0,
        })
    }

    /// Makes the runtime ready, or leaves nothing of the session.
    async fn provision(
        &self,
        new: &CreateSession,
        entered: Arc<Route>,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        let mut route = (*entered).clone();
        match self.make_ready(new, &mut route, trace).await {
            Ok(ready) => {
                info!(
                    session_id = %ready.session_id, runtime_id = %ready.runtime_id,
                    target_endpoint = %ready.endpoint, auth_mode = %ready.auth_mode, "session ready"
                );
                self.tell(PlaneEvent::Ready(Arc::clone(&ready)));
                self.expiry_moved.notify_one();
                Ok(ready)
            }
            Err(problem) => {
                warn!(session_id = %route.session_id, code = %problem.code, "session not made");
                self.clean_up(&route, trace).await;
                // Where it lies is known by its session id; the generation may have moved.
                if let Some(latest) = self.registry.load(&route.session_id).await? {
                    self.registry.remove(&latest).await?;
                }
                Err(problem)
            }
        }
    }

    /// Fills `route` in as it goes, so that whoever cleans up knows how far it got.
    async fn make_ready(
        &self,
        new: &CreateSession,
        route: &mut Route,
        trace: &TraceContext,
    ) -> Result<Arc<Route>, Problem> {
        let runtime = self.driver.place().await?;
        route.runtime_id = runtime.id;
        route.endpoint = runtime.link.endpoint().to_owned();
        route.auth_mode = runtime.auth_mode;
        if runtime.auth_mode == AuthMode::Bypass {
            route.token.clear();
        }
        let reference = new.workspace_ref.as_deref().filter(|r| !r.is_empty());
        route.scratch = new.scratch || reference.is_none();
        route.workspace = self.workspaces.make(reference)?;
        // Recorded before anything is started: whatever becomes of this process, somebody finds it.
        let recorded = self.registry.replace(route.clone()).await?;
        *route = (*recorded.ok_or_else(session_gone)?).clone();
        let answered = self
            .register(route, new.interpreter, trace)
            .await
            .map_err(|error| not_registered(error, &route.session_id))?;
        route.worker_id = answered.value.worker_id;
        route.boot_id = answered.boot_id;
        let mut ready = route.clone();
        ready.status = RouteStatus::Ready;
        ready.last_seen_at = self.now();
        // It was terminated while it was being made.
        let ready = self.registry.replace(ready).await?;
        ready.ok_or_else(session_gone)
    }

    /// May be repeated: the token says that it is the same session.
    async fn register(
        &self,
        route: &Route,
        interpreter: bool,
        trace: &TraceContext,
    ) -> Result<Answered<AgentSession>, CallError> {
        let new = RegisterSession {
            session_id: route.session_id.clone(),
            runtime: route.runtime.as_str().to_owned(),
            token: route.token.clone(),
            workspace_dir: route.workspace.clone(),
            // Agents of other makes know nothing else.
            interpreter: (!interpreter).then_some(false),
        };
        let link = self.link(route);
        self.persist(true, || link.register(&new, caller(route, trace)))
            .await
    }

    /// Binds a route to the interpreter that its runtime says it has.
    async fn bound(
        &self,
        session: &str,
        answered: &Answered<AgentSession>,
        endpoint: &str,
    ) -> Result<Arc<Route>, Problem> {
        let now = self.now();
        let mut gone = false;
        let route = self
            .registry
            .change(session, |route| {
                gone = has_ended(route.status);
                if gone {
                    return false;
                }
                route.status = RouteStatus::Ready;
                route.worker_id = answered.value.worker_id;
                route.boot_id.clone_from(&answered.boot_id);
                endpoint.clone_into(&mut route.endpoint);
                route.last_seen_at = now;
                true
            })
            .await?;
        match route {
            Some(route) if !gone => Ok(route),
            Some(_) => Err(session_gone()),
            None => Err(session_not_found()),
        }
    }

    /// Notes that a session's interpreter `worker` is gone, as `exit` says, unless it has another one by now.
    pub(crate) async fn mark_crashed(
        &self,
        session: &str,
        worker: Option<WorkerId>,
        exit: Option<Exit>,
    ) -> Result<(), DataPlaneError> {
        self.mark(session, worker, RouteStatus::Crashed, exit).await
    }

    /// Notes that a session's runtime was restarted without its interpreter `worker`, which the next
    /// step is to be told.
    pub(crate) async fn mark_lost(
        &self,
        session: &str,
        worker: Option<WorkerId>,
    ) -> Result<(), DataPlaneError> {
        self.mark(session, worker, RouteStatus::Lost, None).await
    }

    async fn mark(
        &self,
        session: &str,
        worker: Option<WorkerId>,
        status: RouteStatus,
        exit: Option<Exit>,
    ) -> Result<(), DataPlaneError> {
        let mut news = false;
        let route = self
            .registry
            .change(session, |route| {
                news = route.worker_id == worker && route.status == RouteStatus::Ready;
                // Somebody is told now of what was noticed before.
                let told = route.worker_id == worker
                    && (route.status, status) == (RouteStatus::Lost, RouteStatus::Crashed);
                if news || told {
                    route.status = status;
                }
                news || told
            })
            .await?;
        if let Some(route) = route.filter(|_| news) {
            self.metrics.session_ended("crashed");
            warn!(session_id = session, runtime_id = %route.runtime_id, "session crashed");
            self.tell_with(PlaneEvent::Crashed(route), exit);
        }
        Ok(())
    }

    /// Ends what a route that ended, or never came about, still has: its interpreter, its scratch
    /// workspace. Notes that it has nothing any more. Whether that is so.
    pub(crate) async fn clean_up(&self, route: &Route, trace: &TraceContext) -> bool {
        if !has_something(route) {
            return true;
        }
        let link = self.link(route);
        // Somebody may be waiting: a runtime that does not answer is left to the reconciler.
        let ended = self
            .persist(false, || link.terminate(caller(route, trace)))
            .await;
        match ended {
            Ok(_) => {}
            Err(error) if error.code() == Some("session_not_found") => {}
            Err(error) => {
                warn!(
                    session_id = %route.session_id, runtime_id = %route.runtime_id,
                    target_endpoint = %route.endpoint, error = %error.chain(),
                    "cannot end the session on its runtime now"
                );
                return false;
            }
        }
        if route.scratch && !self.workspaces.remove(route.workspace.clone()).await {
            return false;
        }
        let cleaned = self
            .registry
            .change(&route.session_id, |latest| {
                let same = latest.workspace == route.workspace && has_ended(latest.status);
                if same {
                    latest.worker_id = None;
                    latest.boot_id.clear();
                    latest.workspace.clear();
                    latest.scratch = false;
                }
                same
            })
            .await;
        cleaned.is_ok()
    }
}

/// Whether nothing leads out of this status but making the session anew.
pub(crate) const fn has_ended(status: RouteStatus) -> bool {
    matches!(
        status,
        RouteStatus::Failed | RouteStatus::Expired | RouteStatus::Terminated
    )
}

/// Whether a runtime may still hold something for it.
pub(crate) fn has_something(route: &Route) -> bool {
    !route.workspace.is_empty() || route.worker_id.is_some()
}

/// The id is taken on the runtime by somebody who did not come through this registry.
fn not_registered(error: CallError, session: &str) -> Problem {
    if let CallError::Refused { problem, .. } = &error
        && problem.status == 401
    {
        return Problem::new(
            ProblemCode::SessionExists,
            format!("the runtime has a session {session} of somebody else's"),
        );
    }
    match error {
        CallError::Broke { .. } | CallError::Connect { .. } => {
            warn!(session_id = session, error = %error.chain(), "cannot register");
            unreachable(SEND_ATTEMPTS, false, None)
        }
        CallError::Refused { .. } => of_call(error, SEND_ATTEMPTS),
    }
}

fn random_token() -> Result<String, DataPlaneError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(DataPlaneError::Random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap_or(i128::MAX)
}
