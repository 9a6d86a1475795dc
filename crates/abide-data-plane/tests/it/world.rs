//! A data plane with a fake agent below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use abide_data_plane::agent_client::{AgentClient, AgentTimes, Connections};
use abide_data_plane::auth::{AuthConfig, Authorizer};
use abide_data_plane::link::AgentLink;
use abide_data_plane::registry::Registry;
use abide_data_plane::runtimes::FixedRuntime;
use abide_data_plane::seal::Sealer;
use abide_data_plane::trace::TraceContext;
use abide_data_plane::{
    CreateSession, DataPlane, DataPlaneApi, DataPlaneConfig, StepReply, StepRequest, Workspaces,
};
use abide_model::{AgentStep, AuthMode, Problem, Route, RunStep, Runtime, Timestamp};
use abide_session_agent::Tasks;
use abide_store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::fake_agent::FakeAgent;

/// Seconds that the test moved the clock on.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now().plus_seconds(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Directories and clock that data planes share.
pub(crate) struct Ground {
    pub(crate) dir: TempDir,
    pub(crate) clock: TestClock,
}

impl Ground {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: TestClock::default(),
        }
    }

    pub(crate) fn plane(&self, link: Arc<dyn AgentLink>, mode: AuthMode) -> Arc<DataPlane> {
        let path = self.dir.path().join("routes.db");
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let clock = self.clock.clone();
        let config = DataPlaneConfig {
            grace: Duration::from_secs(2),
            silence: Duration::from_secs(4),
            probe_after: Duration::from_millis(300),
            ..DataPlaneConfig::new(Arc::new(move || clock.now()))
        };
        DataPlane::new(
            config,
            Registry::new(store, Sealer::new([7; 32])),
            Arc::new(FixedRuntime::new(link, mode)),
            Workspaces::open(&self.dir.path().join("workspaces")).unwrap(),
            Connections::new(times()),
            Tasks::new(),
        )
    }
}

fn times() -> AgentTimes {
    AgentTimes {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        ready: Duration::from_secs(5),
        // A test's thread that stops an agent may use a connection before it hears of its end.
        idle: Duration::ZERO,
    }
}

pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) agent: FakeAgent,
    pub(crate) plane: Arc<DataPlane>,
}

impl World {
    pub(crate) fn new() -> Self {
        let ground = Ground::new();
        let agent = FakeAgent::start();
        let plane = ground.plane(link(&agent), AuthMode::Enforced);
        Self {
            ground,
            agent,
            plane,
        }
    }

    /// Another data plane on the same routes and the same agent.
    pub(crate) fn second_plane(&self) -> Arc<DataPlane> {
        self.ground.plane(link(&self.agent), AuthMode::Enforced)
    }

    pub(crate) async fn create(&self, session: &str) -> Arc<Route> {
        create(&self.plane, new_session(session)).await.unwrap()
    }

    pub(crate) async fn step(
        &self,
        session: &str,
        step: &str,
        code: &str,
    ) -> Result<AgentStep, Problem> {
        run(&self.plane, session, step, code).await
    }

    /// Serves the API and answers its base URL.
    pub(crate) async fn serve(&self, auth: AuthConfig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bypass = auth.bypass;
        let api = DataPlaneApi::new(
            Arc::clone(&self.plane),
            Authorizer::new(&auth),
            bypass,
            Vec::new(),
        );
        Tasks::new().spawn("serve", api.serve(vec![listener], std::future::pending()));
        url
    }

    pub(crate) async fn serve_openly(&self) -> String {
        self.serve(AuthConfig {
            bypass: true,
            ..AuthConfig::default()
        })
        .await
    }
}

pub(crate) fn link(agent: &FakeAgent) -> Arc<dyn AgentLink> {
    let secret = agent.memory.lock().secret.clone();
    Arc::new(AgentClient::new(
        Connections::new(times()),
        &agent.url(),
        secret,
    ))
}

pub(crate) fn new_session(session: &str) -> CreateSession {
    CreateSession {
        session_id: session.to_owned(),
        runtime: Runtime::Python,
        workspace_ref: None,
        scratch: false,
        ttl_seconds: None,
        sliding: false,
        interpreter: true,
    }
}

pub(crate) fn trace() -> TraceContext {
    TraceContext::new(Some("test"), None)
}

pub(crate) async fn create(plane: &DataPlane, new: CreateSession) -> Result<Arc<Route>, Problem> {
    plane.create(new, &trace()).await
}

pub(crate) fn request(session: &str, step: &str, code: &str) -> StepRequest {
    StepRequest {
        run: RunStep {
            session_id: session.to_owned(),
            step_id: step.to_owned(),
            code: code.to_owned(),
            ..RunStep::default()
        },
        trace: trace(),
    }
}

pub(crate) async fn run(
    plane: &DataPlane,
    session: &str,
    step: &str,
    code: &str,
) -> Result<AgentStep, Problem> {
    let reply: StepReply = plane.run_step(&request(session, step, code), true).await?;
    Ok(reply.into_step(step))
}
