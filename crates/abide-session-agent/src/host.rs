//! The sessions of one session agent that stands alone: registered under a client's label, each
//! with a token, a workspace, an interpreter and a ledger. No HTTP in here.
//!
//! Guarantees
//! - A session is registered once: the same label again finds it, with its interpreter's state.
//! - What was answered is on disk before: a killed agent that is started again has the same
//!   sessions, interpreters and steps.
//! - A session's interpreter is started, restarted and ended by one request at a time, and a
//!   caller that goes away does not leave that half done.

mod lifecycle;
pub(crate) mod news;
mod output;
mod recovery;
mod register;
mod steps;
mod terminals;
mod tokens;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abide_model::{
    AgentHealth, AgentSession, AuthMode, Problem, ProblemCode, Runtime, SessionId, WorkerNews,
    is_session_label, session_id_of_label,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::agent::SessionAgent;
use crate::ledger::Ledger;
use crate::metrics::{AgentMetrics, Gauges};
use crate::tasks::Tasks;
use crate::worker::WorkerHandle;
use news::News;

pub use output::HostedOutput;
pub(crate) use register::invalid;
pub use steps::{HostedStep, StepState};
pub use tokens::Credentials;

/// An answer that is a [`Problem`].
pub type Outcome<T> = Result<T, Problem>;

/// Plain settings; nothing in here changes while the agent runs.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Holds one directory per session, named by its id.
    pub sessions_dir: PathBuf,
    /// Holds the workspaces that the agent makes itself, one per session.
    pub workspaces_dir: PathBuf,
    /// Whether session tokens are asked for.
    pub auth_mode: AuthMode,
    /// What the plane above proves itself with.
    pub secret: Option<String>,
    /// Version of the program, for `health`.
    pub version: String,
    /// Sessions that may be registered.
    pub max_sessions: usize,
    /// Interpreters that may live at once.
    pub max_live: usize,
    /// Applied to steps that bring no limit; none by default.
    pub step_timeout_ms: Option<u64>,
}

/// The sessions of this host. Shared by every request.
#[derive(Debug)]
pub struct SessionHost {
    config: HostConfig,
    agent: Arc<SessionAgent>,
    tasks: Tasks,
    boot_id: String,
    sessions: Mutex<HashMap<SessionId, Arc<Hosted>>>,
    news: Arc<News>,
    pub(crate) metrics: Arc<AgentMetrics>,
    stopping: AtomicBool,
}

/// One label's place: being registered, registered, or gone.
#[derive(Debug)]
struct Hosted {
    id: SessionId,
    /// Held by whoever registers, restarts or ends the session.
    changing: tokio::sync::Mutex<()>,
    /// Set once it is registered.
    ledger: OnceLock<Arc<Ledger>>,
    /// It was ended, or could not be registered; another place takes the label.
    gone: AtomicBool,
}

impl Hosted {
    fn new(id: SessionId) -> Self {
        Self {
            id,
            changing: tokio::sync::Mutex::default(),
            ledger: OnceLock::new(),
            gone: AtomicBool::new(false),
        }
    }

    fn registered(&self) -> Option<&Arc<Ledger>> {
        self.ledger.get().filter(|_| !self.is_gone())
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl SessionHost {
    /// Makes the directories. Call [`Self::recover`] before serving.
    pub fn new(
        config: HostConfig,
        agent: Arc<SessionAgent>,
        tasks: Tasks,
    ) -> std::io::Result<Self> {
        make_private_dir(&config.sessions_dir)?;
        make_private_dir(&config.workspaces_dir)?;
        Ok(Self {
            config,
            agent,
            tasks,
            boot_id: Uuid::new_v4().to_string(),
            sessions: Mutex::default(),
            news: Arc::new(News::new()),
            metrics: Arc::new(AgentMetrics::new()),
            stopping: AtomicBool::new(false),
        })
    }

    /// New with every start of the process.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What [`HostConfig::auth_mode`] says.
    pub fn auth_mode(&self) -> AuthMode {
        self.config.auth_mode
    }

    /// From here on new sessions and steps are refused. What runs goes on.
    pub fn drain(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// How the agent is and how much it has in hand.
    pub fn health(&self) -> AgentHealth {
        let counts = self.agent.counts();
        AgentHealth {
            status: if self.is_stopping() { "stopping" } else { "ok" }.to_owned(),
            boot_id: self.boot_id.clone(),
            version: self.config.version.clone(),
            sessions: self.registered(),
            interpreters: counts.interpreters,
            running_steps: counts.running_steps,
            queued_steps: counts.queued_steps,
            auth_mode: self.config.auth_mode,
        }
    }

    /// Prometheus text.
    pub(crate) fn metrics_text(&self) -> String {
        self.metrics.text(Gauges {
            sessions: self.registered(),
            python: self.agent.interpreters(Runtime::Python),
            node: self.agent.interpreters(Runtime::Node),
            counts: self.agent.counts(),
        })
    }

    /// How many sessions there are.
    fn registered(&self) -> usize {
        let sessions = self.sessions.lock();
        let registered = sessions.values().filter(|it| it.registered().is_some());
        registered.count()
    }

    /// Every session, for the plane above.
    pub fn sessions(&self, credentials: &Credentials) -> Outcome<Vec<AgentSession>> {
        self.require_secret(credentials)?;
        let all: Vec<_> = self.sessions.lock().values().cloned().collect();
        let mut shown: Vec<_> = all.iter().filter_map(|it| self.show(it)).collect();
        shown.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        Ok(shown)
    }

    /// What befell workers after the news numbered `after`; waits for some at most `wait`. For the plane
    /// above.
    pub async fn news(
        &self,
        credentials: &Credentials,
        after: u64,
        wait: Duration,
    ) -> Outcome<Vec<WorkerNews>> {
        self.require_secret(credentials)?;
        let stopping = self.tasks.stopping();
        tokio::select! {
            news = self.news.after(after, wait) => Ok(news),
            // Not "none": whoever asks again at once would get no other answer.
            () = stopping.cancelled() => Err(agent_stopping()),
        }
    }

    /// One session.
    pub fn session(&self, label: &str, credentials: &Credentials) -> Outcome<AgentSession> {
        let hosted = self.authorized(label, credentials)?;
        self.show(&hosted).ok_or_else(session_not_found)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn check_open(&self) -> Outcome<()> {
        if self.is_stopping() {
            return Err(agent_stopping());
        }
        Ok(())
    }

    /// The registered session of a label.
    fn find(&self, label: &str) -> Outcome<Arc<Hosted>> {
        if !is_session_label(label) {
            return Err(session_not_found());
        }
        let id = session_id_of_label(label);
        let found = self.sessions.lock().get(&id).cloned();
        found
            .filter(|hosted| hosted.registered().is_some())
            .ok_or_else(session_not_found)
    }

    /// The session of a label, for whoever has its token.
    fn authorized(&self, label: &str, credentials: &Credentials) -> Outcome<Arc<Hosted>> {
        self.require_token(credentials)?;
        let hosted = self.find(label)?;
        self.check_token_of(&hosted, credentials)?;
        Ok(hosted)
    }

    fn check_token_of(&self, hosted: &Hosted, credentials: &Credentials) -> Outcome<()> {
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        ledger.with_record(|record| self.check_token(credentials, record.token_sha256.as_deref()))
    }

    fn show(&self, hosted: &Hosted) -> Option<AgentSession> {
        let record = hosted.registered()?.record();
        let live = self
            .worker(hosted, &record)
            .filter(|worker| worker.exit().is_none());
        let exit = match live {
            Some(_) => None,
            None if record.has_had_no_interpreter() => None,
            None => Some(self.exit_of(hosted, &record)),
        };
        Some(AgentSession {
            session_id: record.label,
            status: if exit.is_none() {
                "registered"
            } else {
                "crashed"
            }
            .to_owned(),
            runtime: Some(record.runtime),
            worker_id: record.worker,
            exit,
        })
    }

    /// The session's present interpreter, alive or dead, if this agent has had it in hand.
    fn worker(
        &self,
        hosted: &Hosted,
        record: &crate::ledger::SessionRecord,
    ) -> Option<WorkerHandle> {
        let worker = self.agent.worker(hosted.id)?;
        (Some(worker.id()) == record.worker).then_some(worker)
    }

    fn exit_of(&self, hosted: &Hosted, record: &crate::ledger::SessionRecord) -> abide_model::Exit {
        let seen = self.worker(hosted, record).and_then(|worker| worker.exit());
        record
            .exit
            .clone()
            .or(seen)
            .unwrap_or_else(|| abide_model::Exit {
                reason: if record.has_had_no_interpreter() {
                    "it has not got one yet"
                } else {
                    "its interpreter could not be started"
                }
                .to_owned(),
                ..abide_model::Exit::default()
            })
    }

    /// Carries `change` through although whoever asked for it may go away meanwhile.
    async fn to_the_end<T: Send + 'static>(
        &self,
        name: &'static str,
        change: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.tasks.spawn(name, async move {
            let _ = answer.send(change.await);
        });
        answered.await.unwrap_or_else(|_| {
            Err(Problem::new(
                ProblemCode::Internal,
                "something of ours failed; see the log",
            ))
        })
    }
}

fn agent_stopping() -> Problem {
    Problem::new(ProblemCode::ShuttingDown, "the session agent is stopping")
}

fn session_not_found() -> Problem {
    Problem::new(ProblemCode::SessionNotFound, "session not found")
}

/// What could not be written or read, as a client is told.
fn storage_problem(error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    tracing::error!(%error, "ledger");
    if matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ) {
        return Problem::new(
            ProblemCode::StorageFull,
            "the disk is full: nothing was done; free some space and try again",
        );
    }
    Problem::new(
        ProblemCode::Internal,
        "the agent's files failed; its log says why",
    )
}

/// A directory for its owner alone, and those above it.
pub(crate) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
