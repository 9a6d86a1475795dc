//! A session agent that the data plane starts itself, with a directory and a secret of its own.
//!
//! It is used once it answered a health check under the boot id it announced. When it ends it is
//! started again, after a pause that grows; its sessions are there again then. A data plane that is
//! started anew takes over the agent of the one before, if that is still there, by what is written
//! down about it: process id, start time of that process, and the boot id that it answers with.
//!
//! The agent's environment is what it is given here and nothing of the data plane's own.

mod process;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use abide_model::AuthMode;
use abide_session_agent::Tasks;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Runtime, RuntimeDriver};
use crate::agent_client::{AgentClient, Connections};
use crate::error::DataPlaneError;
use crate::link::AgentLink as _;
use process::AgentProcess;
pub use process::runtime_id;

/// Pause before the agent is started again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// An agent that ran this long had started well: the next pause is a short one.
const STEADY: Duration = Duration::from_secs(30);
/// How long a health check may take.
const HEALTH: Duration = Duration::from_secs(5);
/// How long the agent may take to end once it was told to.
const END: Duration = Duration::from_secs(5);

/// How to start a session agent.
#[derive(Clone)]
pub struct LaunchConfig {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; `--addr` and `--data-dir` are added.
    pub arguments: Vec<String>,
    /// Its whole environment, to which its secret is added.
    pub environment: Vec<(String, String)>,
    /// Where its files, its log and what is written down about it are; made for its owner alone.
    pub dir: PathBuf,
    /// How long it may take to be ready.
    pub ready: Duration,
    /// Whether it is told to ask for session tokens.
    pub auth_mode: AuthMode,
}

/// See the module.
#[derive(Debug)]
pub struct LaunchedRuntime {
    id: String,
    state: watch::Receiver<State>,
}

/// The agent as it is now.
#[derive(Debug, Clone)]
struct State {
    runtime: Runtime,
    up: bool,
}

/// What stays the same from one agent process to the next.
struct Launcher {
    config: LaunchConfig,
    connections: Connections,
    secret: String,
    id: String,
}

impl LaunchedRuntime {
    /// Takes over the agent of the data plane before, or starts one; answers when it is ready.
    /// From then on it is watched until `tasks` stop, and told to end then; its interpreters stay.
    ///
    /// # Errors
    /// [`DataPlaneError::Launch`] and [`DataPlaneError::NotReady`].
    pub async fn start(
        config: LaunchConfig,
        connections: Connections,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, DataPlaneError> {
        let failed = |source| DataPlaneError::Launch {
            program: config.program.display().to_string(),
            source,
        };
        // First: it makes the directory.
        let id = runtime_id(&config.dir).map_err(failed)?;
        let launcher = Launcher {
            secret: process::secret(&config.dir.join("secret")).map_err(failed)?,
            id,
            config,
            connections,
        };
        let (process, runtime) = match launcher.adopt().await {
            Some(adopted) => adopted,
            None => launcher.launch().await?,
        };
        let (tell, state) = watch::channel(State { runtime, up: true });
        let this = Arc::new(Self {
            id: launcher.id.clone(),
            state,
        });
        let stopping = tasks.stopping();
        tasks.spawn("session agent", async move {
            let mut process = process;
            tokio::select! {
                () = stopping.cancelled() => {}
                () = launcher.keep_up(&mut process, &tell) => {}
            }
            process.end(END).await;
        });
        Ok(this)
    }

    fn now(&self) -> State {
        self.state.borrow().clone()
    }
}

impl RuntimeDriver for LaunchedRuntime {
    fn place(&self) -> Pin<Box<dyn Future<Output = Result<Runtime, DataPlaneError>> + Send + '_>> {
        Box::pin(async {
            let mut state = self.state.clone();
            let up = state.wait_for(|state| state.up);
            let waited = tokio::time::timeout(HEALTH, up).await;
            match waited {
                Ok(Ok(state)) => Ok(state.runtime.clone()),
                Ok(Err(_)) | Err(_) => Err(DataPlaneError::NotReady {
                    reason: "it is being started again".to_owned(),
                }),
            }
        })
    }

    fn runtime(&self, id: &str) -> Option<Runtime> {
        (id == self.id).then(|| self.now().runtime)
    }

    fn runtimes(&self) -> Vec<Runtime> {
        vec![self.now().runtime]
    }
}

impl Launcher {
    /// Starts the agent again whenever it ends.
    async fn keep_up(&self, process: &mut AgentProcess, tell: &watch::Sender<State>) {
        let mut pause = BACKOFF.0;
        loop {
            let begun = Instant::now();
            let how = process.ended().await;
            tell.send_modify(|state| state.up = false);
            warn!(runtime_id = %self.id, pid = process.pid(), how, "the session agent ended");
            if begun.elapsed() >= STEADY {
                pause = BACKOFF.0;
            }
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
                match self.launch().await {
                    Ok((again, runtime)) => {
                        *process = again;
                        tell.send_replace(State { runtime, up: true });
                        break;
                    }
                    Err(error) => warn!(error = %error.chain(), "cannot start it again"),
                }
            }
        }
    }

    /// The agent of the data plane before; `None` if it is gone or somebody else is in its place.
    async fn adopt(&self) -> Option<(AgentProcess, Runtime)> {
        let process = AgentProcess::recorded(&self.record())?;
        let about = process::about(&self.agent_file())?;
        if about.pid != process.pid() {
            return None;
        }
        let runtime = self.confirmed(&about.url, &about.boot_id).await.ok()?;
        info!(
            runtime_id = %self.id, pid = process.pid(), target_endpoint = %about.url,
            "session agent taken over"
        );
        Some((process, runtime))
    }

    /// A new agent process that is ready.
    async fn launch(&self) -> Result<(AgentProcess, Runtime), DataPlaneError> {
        let program = &self.config.program;
        let mut process =
            AgentProcess::spawn(&self.config, &self.secret, &self.record()).map_err(|source| {
                DataPlaneError::Launch {
                    program: program.display().to_string(),
                    source,
                }
            })?;
        let ready = tokio::time::timeout(self.config.ready, process.announced()).await;
        let told = match ready {
            Ok(Some(_)) => process::about(&self.agent_file()),
            Ok(None) | Err(_) => None,
        };
        let confirmed = match told.filter(|about| about.pid == process.pid()) {
            Some(about) => self.confirmed(&about.url, &about.boot_id).await,
            None => Err(format!(
                "it did not say so in {} s; see {}",
                self.config.ready.as_secs(),
                process::log_path(&self.config.dir).display()
            )),
        };
        match confirmed {
            Ok(runtime) => {
                info!(
                    runtime_id = %self.id, pid = process.pid(),
                    target_endpoint = runtime.link.endpoint(), "session agent started"
                );
                Ok((process, runtime))
            }
            Err(reason) => {
                process.end(END).await;
                Err(DataPlaneError::NotReady { reason })
            }
        }
    }

    /// The agent at `url`, if it answers under `boot_id` and to our secret.
    async fn confirmed(&self, url: &str, boot_id: &str) -> Result<Runtime, String> {
        let link = AgentClient::new(self.connections.clone(), url, Some(self.secret.clone()));
        let check = async {
            let health = link.health().await.map_err(|error| error.chain())?;
            if health.value.boot_id != boot_id {
                return Err("another session agent answers in its place".to_owned());
            }
            link.sessions().await.map_err(|error| error.chain())?;
            Ok(())
        };
        tokio::time::timeout(HEALTH, check)
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))?;
        Ok(Runtime {
            id: self.id.clone(),
            link: Arc::new(link),
            auth_mode: self.config.auth_mode,
        })
    }

    /// What we wrote down about the process.
    fn record(&self) -> PathBuf {
        self.config.dir.join("launched.json")
    }

    /// What the agent writes down about itself.
    fn agent_file(&self) -> PathBuf {
        agent_dir(&self.config.dir).join("agent.json")
    }
}

/// Where a session agent that was given `dir` as its data directory has its files.
fn agent_dir(dir: &Path) -> PathBuf {
    dir.join("session-agent")
}

impl std::fmt::Debug for LaunchConfig {
    /// Without the environment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchConfig")
            .field("program", &self.program)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
