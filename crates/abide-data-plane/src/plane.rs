//! The data plane as functions: sessions and steps in, problems or answers out. No HTTP in it.

mod exchange;
mod news;
mod problems;
mod questions;
mod sessions;
mod steps;
mod streams;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_model::{Exit, PlaneNews, Problem, Route, Timestamp, WorkerNews};
use abide_session_agent::Tasks;
use abide_store::Clock;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tracing::warn;

use crate::agent_client::{AgentClient, Connections};
use crate::link::{AgentLink, Call, CallError, Caller};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::routing::SEND_ATTEMPTS;
use crate::runtimes::RuntimeDriver;
use crate::trace::TraceContext;
use crate::workspaces::Workspaces;

use news::News;
pub use problems::mismatch;
pub(crate) use problems::session_gone;
pub use sessions::{CreateSession, SessionView};
pub(crate) use sessions::{has_ended, has_something};
pub use steps::{StepReply, StepRequest, Want};
pub use streams::{StepItem, StepItems};

/// Events that a follower may be behind before it misses some.
const EVENTS_KEPT: usize = 1024;

/// How the data plane behaves.
#[derive(Clone)]
pub struct DataPlaneConfig {
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// What a step's deadlines may be overrun by until the step is given up: to interrupt it, to
    /// record its end, to start a session agent again.
    pub grace: Duration,
    /// How long a runtime that was sent a step may be silent before the step is given up.
    pub silence: Duration,
    /// How long a step may show no sign of life before its runtime is asked for one.
    pub probe_after: Duration,
    /// How long routes that ended are remembered, to tell what expired from what never was.
    pub remember: Duration,
    /// How often routes and runtimes are compared.
    pub reconcile_every: Duration,
    /// Age at which a route that is still being made is given up.
    pub give_up_provisioning: Duration,
    /// The time.
    pub clock: Clock,
}

/// What befell a session, for whoever keeps records of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaneEvent {
    /// Its time was up and it was ended.
    Expired(Arc<Route>),
    /// Its interpreter is gone, and its variables with it.
    Crashed(Arc<Route>),
    /// It was ended on request.
    Terminated(Arc<Route>),
    /// It is ready; for the first time or again.
    Ready(Arc<Route>),
}

/// See the module. Shared by reference.
pub struct DataPlane {
    pub(crate) config: DataPlaneConfig,
    pub(crate) registry: Registry,
    pub(crate) driver: Arc<dyn RuntimeDriver>,
    pub(crate) workspaces: Workspaces,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    connections: Connections,
    /// Ways to agents that the driver does not know: other data planes placed sessions there.
    foreign: Mutex<HashMap<String, Arc<dyn AgentLink>>>,
    /// Held while a session's route is made or ended.
    changing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Steps under way by session.
    under_way: Mutex<HashMap<String, usize>>,
    events: broadcast::Sender<PlaneEvent>,
    news: News,
    /// Wakes the reaper: the next expiry may have come nearer.
    pub(crate) expiry_moved: tokio::sync::Notify,
    /// Wakes the reconciler: a runtime was restarted.
    pub(crate) compare_now: tokio::sync::Notify,
}

impl DataPlaneConfig {
    /// What suits most, with a clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            max_body_bytes: 16 * 1024 * 1024,
            grace: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            probe_after: Duration::from_secs(10),
            remember: Duration::from_secs(24 * 3600),
            reconcile_every: Duration::from_secs(60),
            give_up_provisioning: Duration::from_secs(120),
            clock,
        }
    }
}

impl DataPlane {
    /// Puts the parts together; nothing runs yet, see [`Self::start`].
    pub fn new(
        config: DataPlaneConfig,
        registry: Registry,
        driver: Arc<dyn RuntimeDriver>,
        workspaces: Workspaces,
        connections: Connections,
        tasks: Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            registry,
            driver,
            workspaces,
            tasks,
            metrics: Metrics::new(),
            connections,
            foreign: Mutex::default(),
            changing: Mutex::default(),
            under_way: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            news: News::default(),
            expiry_moved: tokio::sync::Notify::new(),
            compare_now: tokio::sync::Notify::new(),
        })
    }

    /// Starts what runs beside the requests: expiry, the comparison with the runtimes, and
    /// listening for interpreters that die.
    pub fn start(self: &Arc<Self>) {
        crate::reaper::start(self);
        crate::reconciler::start(self);
    }

    /// What befalls sessions from now on.
    pub fn events(&self) -> broadcast::Receiver<PlaneEvent> {
        self.events.subscribe()
    }

    /// Whether routes can be read and changed.
    pub async fn ready(&self) -> Result<(), Problem> {
        Ok(self.registry.check().await?)
    }

    /// Steps under way.
    pub fn steps_under_way(&self) -> usize {
        self.under_way.lock().values().sum()
    }

    /// Does work to its end, whether or not somebody waits for it.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.tasks.spawn(name, async move {
            // Nobody may be waiting any more.
            let _ = tell.send(work.await);
        });
        told.await.unwrap_or_else(|_| {
            Err(Problem::new(
                abide_model::ProblemCode::ShuttingDown,
                "the server is stopping",
            ))
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.config.clock)()
    }

    /// What befell sessions after number `after` of `epoch`, waited for at most `wait`; without a
    /// number, and in another epoch, how far the numbers are. An empty epoch is the present one.
    pub async fn news(&self, epoch: &str, after: Option<u64>, wait: Duration) -> PlaneNews {
        self.news.after(epoch, after, wait).await
    }

    pub(crate) fn tell(&self, event: PlaneEvent) {
        self.tell_with(event, None);
    }

    /// The same with how an interpreter ended.
    pub(crate) fn tell_with(&self, event: PlaneEvent, exit: Option<Exit>) {
        let (PlaneEvent::Expired(route)
        | PlaneEvent::Crashed(route)
        | PlaneEvent::Terminated(route)
        | PlaneEvent::Ready(route)) = &event;
        self.news.add(route, exit);
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Tells what befell a terminal.
    pub(crate) async fn tell_of_terminal(&self, told: &WorkerNews) {
        match self.registry.load(&told.session_id).await {
            Ok(Some(route)) => self.news.of_terminal(&route, told),
            // Its session is gone, and everybody was told that.
            Ok(None) => {}
            Err(error) => {
                warn!(session_id = %told.session_id, error = %error.chain(), "cannot tell of a terminal");
                self.news.skip();
            }
        }
    }

    /// Something that befell terminals may not have been heard of.
    pub(crate) fn may_have_missed_news(&self) {
        self.news.skip();
    }

    /// The way to a route's session agent.
    pub(crate) fn link(&self, route: &Route) -> Arc<dyn AgentLink> {
        if let Some(runtime) = self.driver.runtime(&route.runtime_id) {
            return runtime.link;
        }
        let mut foreign = self.foreign.lock();
        let link = foreign.entry(route.endpoint.clone()).or_insert_with(|| {
            let client = AgentClient::new(self.connections.clone(), &route.endpoint, None);
            Arc::new(client)
        });
        Arc::clone(link)
    }

    /// Counts a step until the guard is dropped.
    fn step_begins<'a>(&'a self, session: &'a str) -> UnderWay<'a> {
        *self.under_way.lock().entry(session.to_owned()).or_default() += 1;
        UnderWay {
            plane: self,
            session,
        }
    }

    /// Waits for its turn to make or end a session's route.
    pub(crate) async fn change_turn(&self, session: &str) -> Turn<'_> {
        let lock = Arc::clone(self.changing.lock().entry(session.to_owned()).or_default());
        Turn {
            guard: Some(lock.lock_owned().await),
            plane: self,
            session: session.to_owned(),
        }
    }

    /// Does a call that may be repeated, as often as a step is offered to a runtime.
    pub(crate) async fn persist<'a, T>(
        &self,
        repeat_broken: bool,
        call: impl Fn() -> Call<'a, T>,
    ) -> Result<T, CallError> {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match &error {
                CallError::Connect { .. } => true,
                CallError::Broke { .. } => repeat_broken,
                CallError::Refused { problem, .. } => problem.code == "shutting_down",
            };
            if !again || attempt >= SEND_ATTEMPTS {
                return Err(error);
            }
            self.metrics.retried();
            self.pause(Duration::from_millis(200) * 2_u32.pow(attempt - 1))
                .await;
            attempt += 1;
        }
    }

    /// Waits, and up to a quarter longer, so that those who failed together do not come back
    /// together.
    async fn pause(&self, pause: Duration) {
        if !pause.is_zero() {
            tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
        }
    }
}

/// Whom the data plane speaks for when it calls about a route.
pub(crate) fn caller<'a>(route: &'a Route, trace: &'a TraceContext) -> Caller<'a> {
    Caller {
        session: &route.session_id,
        token: &route.token,
        trace,
    }
}

/// See [`DataPlane::step_begins`].
struct UnderWay<'a> {
    plane: &'a DataPlane,
    session: &'a str,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.plane.under_way.lock();
        if let Some(count) = under_way.get_mut(self.session) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(self.session);
            }
        }
    }
}

/// See [`DataPlane::change_turn`].
pub(crate) struct Turn<'a> {
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    plane: &'a DataPlane,
    session: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut changing = self.plane.changing.lock();
        // Nobody else holds it or waits for it.
        if changing
            .get(&self.session)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            changing.remove(&self.session);
        }
    }
}

impl std::fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataPlane").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DataPlaneConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataPlaneConfig")
            .field("max_body_bytes", &self.max_body_bytes)
            .finish_non_exhaustive()
    }
}
