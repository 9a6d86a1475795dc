//! Terminals of the multi-terminal dialect: sessions with one worker each, which their clients know by
//! ids of their own.
//!
//! Whoever looks has an [`Attachment`]; a terminal that nobody has looked at for the configured time is
//! ended. Which client's id stands for which session is recorded, so the next server has it, too.

mod presence;
mod registry;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abide_model::{
    AgentId, DialectCounts, DialectCreate, DialectTerminal, Exit, JsonObject, NewSession, Problem,
    Runtime, SessionId, TerminalSpec, Timestamp, WorkerKind,
};
use abide_session_agent::TerminalHandle;
use abide_store::{StoreError, StoredDialectTerminal};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tracing::warn;

use self::registry::{Entry, Registry};
use self::registry::Quotas;
pub(crate) use self::registry::{News, Owner};
use super::{ControlPlane, OwnerRequest, Outcome, WorkspaceRequest, store_problem};
use crate::DialectConfig;

/// Characters of a name; the rest is cut off.
const MAX_NAME: usize = 50;
/// How exactly the last activity is known.
const ACTIVITY: Duration = Duration::from_secs(1);

/// Why something is not done, for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("invalid session ID")]
    InvalidId,
    #[error("session not found")]
    NotFound,
    #[error("not authorized")]
    NotAuthorized,
    #[error("session already exists")]
    Exists,
    #[error("maximum sessions reached: {0} of one user")]
    OwnerFull(usize),
    #[error("maximum sessions reached: {0} of all users")]
    Full(usize),
    #[error("SESSION_EXITED")]
    Exited(Exit),
    #[error("{0}")]
    Failed(String),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem.message)
    }
}

/// What the control plane keeps of the dialect.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) config: DialectConfig,
    registry: Mutex<Registry>,
    /// Something is due earlier than was known.
    moved: Notify,
    connections: AtomicU64,
}

/// A terminal that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) session: SessionId,
    pub(crate) directory: String,
    pub(crate) terminal: TerminalHandle,
}

/// Somebody looks at a terminal, until this is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    control: Arc<ControlPlane>,
    session: SessionId,
    /// What others do with the terminal.
    pub(crate) news: watch::Receiver<News>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let dialect = &self.control.dialect;
        let grace = dialect.config.orphan_grace;
        dialect.registry.lock().leave(self.session, grace);
        dialect.moved.notify_one();
    }
}

impl Dialect {
    pub(super) fn new(config: DialectConfig) -> Self {
        Self {
            config,
            registry: Mutex::default(),
            moved: Notify::new(),
            connections: AtomicU64::new(0),
        }
    }

    /// Names a connection.
    pub(crate) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    fn quotas(&self) -> Quotas {
        let config = &self.config;
        Quotas {
            per_owner: config.max_per_owner,
            total: config.max_terminals,
            exited: config.exited_kept,
        }
    }

    /// Whether a client may use this id.
    fn check_id(&self, id: &str) -> Result<(), Refusal> {
        let fits = (1..=self.config.id_length).contains(&id.len());
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if fits && id.bytes().all(good) {
            Ok(())
        } else {
            Err(Refusal::InvalidId)
        }
    }
}

/// A name as it is kept: without what moves cursors, and not too long.
fn tidy_name(name: &str) -> Option<String> {
    let shown = name.chars().filter(|c| !c.is_control()).take(MAX_NAME);
    let name: String = shown.collect();
    Some(name).filter(|name| !name.is_empty())
}

impl ControlPlane {
    /// The owner of what a caller makes: the agent of its token, else the token's subject, else the
    /// default agent.
    pub(crate) async fn dialect_owner(
        &self,
        named: Option<&str>,
        tenant: Option<&str>,
    ) -> Outcome<Owner> {
        let request = match named {
            None => OwnerRequest::Default,
            Some(text) => AgentId::parse(text).map_or_else(
                |_| OwnerRequest::Named(text.to_owned()),
                OwnerRequest::Id,
            ),
        };
        Ok(Owner {
            agent: self.owner(request).await?,
            tenant: tenant.unwrap_or_default().to_owned(),
        })
    }

    /// Starts a terminal. It is started even if whoever asked for it goes away.
    pub(crate) async fn dialect_create(
        self: &Arc<Self>,
        owner: Owner,
        request: DialectCreate,
        size: (u16, u16),
    ) -> Result<Found, Refusal> {
        self.dialect.check_id(&request.session_id)?;
        let id = Some(request.session_id);
        let (name, directory) = (request.name, request.work_dir);
        self.dialect_start(owner, id, name, directory, size).await
    }

    /// Starts one that belongs to a single connection, which ends it.
    pub(crate) async fn dialect_create_single(
        self: &Arc<Self>,
        owner: Owner,
        size: (u16, u16),
    ) -> Result<Found, Refusal> {
        self.dialect_start(owner, None, None, None, size).await
    }

    async fn dialect_start(
        self: &Arc<Self>,
        owner: Owner,
        client_id: Option<String>,
        name: Option<String>,
        directory: Option<String>,
        size: (u16, u16),
    ) -> Result<Found, Refusal> {
        let session = SessionId::new();
        let mut entry = Entry::new(owner, client_id);
        entry.name = name.as_deref().and_then(tidy_name);
        let quotas = self.dialect.quotas();
        let terminal = StoredDialectTerminal {
            session_id: session,
            agent_id: entry.owner.agent,
            tenant: entry.owner.tenant.clone(),
            client_id: entry.client_id.clone(),
            name: entry.name.clone(),
        };
        let removed = self.dialect.registry.lock().reserve(session, entry, quotas)?;
        let (reply, started) = oneshot::channel();
        let this = Arc::clone(self);
        self.tasks.spawn("start a terminal", async move {
            for session in removed {
                this.dialect_release(session).await;
            }
            let started = this.dialect_record(terminal, directory, size).await;
            if started.is_err() {
                this.dialect.registry.lock().remove(session);
                // There is none if it could not be recorded.
                let _ = this.delete_session(session, true).await;
            }
            // Whoever asked may be gone; then nobody looks at it.
            let _ = reply.send(started);
        });
        let stopped = || Refusal::Failed("the server is stopping".to_owned());
        started.await.map_err(|_| stopped())?
    }

    /// Records a terminal that there is room for, and starts it.
    async fn dialect_record(
        self: &Arc<Self>,
        terminal: StoredDialectTerminal,
        directory: Option<String>,
        (rows, cols): (u16, u16),
    ) -> Result<Found, Refusal> {
        let id = terminal.session_id;
        let directory = directory.filter(|path| !path.is_empty());
        let workspace = directory.map_or(WorkspaceRequest::Scratch, |path| {
            WorkspaceRequest::Directory(PathBuf::from(path))
        });
        let config = &self.dialect.config;
        let mut metadata = serde_json::Map::new();
        if let Some(client_id) = &terminal.client_id {
            metadata.insert("client_session_id".to_owned(), client_id.as_str().into());
        }
        if !terminal.tenant.is_empty() {
            metadata.insert("tenant_id".to_owned(), terminal.tenant.as_str().into());
        }
        let metadata = serde_json::Value::Object(metadata).to_string();
        let session = NewSession {
            id,
            agent_id: terminal.agent_id,
            session_type: "terminal".to_owned(),
            context: JsonObject::empty(),
            runtime_backend: None,
            runtime_metadata: JsonObject::from_text(metadata).unwrap_or_default(),
            name: None,
            runtime: Runtime::Python,
            workspace: self.runtimes.workspace(id, workspace)?,
            ttl_seconds: None,
            sliding: false,
        };
        let spec = TerminalSpec {
            name: terminal.name.clone(),
            command: config.shell.iter().cloned().collect(),
            cols: Some(cols),
            rows: Some(rows),
            output_bytes: Some(config.output_bytes),
            ..TerminalSpec::default()
        };
        let created = self.store.create_dialect_terminal(session, terminal).await;
        let session = created.map_err(store_problem)?;
        let terminal = self.runtimes.start_terminal(&session, spec).await?;
        let directory = session.workspace.path.clone();
        {
            let mut registry = self.dialect.registry.lock();
            if let Some(entry) = registry.get_mut(id) {
                entry.worker = Some(terminal.id());
                entry.directory.clone_from(&directory);
                (entry.created_at, entry.active_at) = (session.created_at, session.created_at);
                entry.wait_for_somebody(config.orphan_grace);
            }
        }
        self.dialect.moved.notify_one();
        self.dialect_follow(id, terminal.clone());
        Ok(Found {
            session: id,
            directory,
            terminal,
        })
    }

    /// What an owner calls by this id, if its program lives.
    pub(crate) async fn dialect_find(&self, owner: &Owner, id: &str) -> Result<Found, Refusal> {
        self.dialect.check_id(id)?;
        let session = self.dialect.registry.lock().find(owner, id)?;
        let recorded = self.store.session(session).await.map_err(store_problem)?;
        if recorded.is_none() {
            // Somebody deleted it through the rest of the API.
            self.dialect.registry.lock().remove(session);
            return Err(Refusal::NotFound);
        }
        let (worker, exit, directory) = {
            let registry = self.dialect.registry.lock();
            let entry = registry.get(session).ok_or(Refusal::NotFound)?;
            let exit = entry.exit.as_ref().map(|(exit, _)| exit.clone());
            (entry.worker, exit, entry.directory.clone())
        };
        let terminal = worker.and_then(|worker| self.runtimes.terminal(worker));
        match exit.or_else(|| terminal.as_ref().and_then(TerminalHandle::exit)) {
            Some(exit) => Err(Refusal::Exited(exit)),
            None => Ok(Found {
                session,
                directory,
                terminal: terminal.ok_or(Refusal::NotFound)?,
            }),
        }
    }

    /// A terminal of one of an owner's single connections, by the id that the server gave it.
    pub(crate) fn dialect_single(&self, owner: &Owner, id: &str) -> Result<Found, Refusal> {
        let session = SessionId::parse(id).map_err(|_| Refusal::NotFound)?;
        let registry = self.dialect.registry.lock();
        let entry = registry.get(session).filter(|it| it.client_id.is_none());
        let entry = entry.ok_or(Refusal::NotFound)?;
        if entry.owner != *owner {
            return Err(Refusal::NotFound);
        }
        let terminal = entry.worker.and_then(|worker| self.runtimes.terminal(worker));
        Ok(Found {
            session,
            directory: entry.directory.clone(),
            terminal: terminal.ok_or(Refusal::NotFound)?,
        })
    }

    /// Begins to look at a terminal; `None`: it is being ended.
    pub(crate) fn dialect_attach(self: &Arc<Self>, session: SessionId) -> Option<Attachment> {
        let news = self.dialect.registry.lock().come(session)?;
        Some(Attachment {
            control: Arc::clone(self),
            session,
            news,
        })
    }

    /// Notes that somebody did something in a terminal.
    pub(crate) fn dialect_active(&self, session: SessionId) {
        if let Some(entry) = self.dialect.registry.lock().get_mut(session) {
            entry.active_at = Timestamp::now();
        }
    }

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

    /// Ends the terminal of a single connection, in the background.
    pub(crate) fn dialect_end_single(self: &Arc<Self>, session: SessionId) {
        self.dialect.registry.lock().remove(session);
        self.dialect_end(session);
    }

    /// Gives a terminal another name; the name as it is kept.
    pub(crate) async fn dialect_rename(
        &self,
        owner: &Owner,
        id: &str,
        name: &str,
        from: u64,
    ) -> Result<String, Refusal> {
        self.dialect.check_id(id)?;
        let name = tidy_name(name);
        let session = self.dialect.registry.lock().find(owner, id)?;
        let recorded = self.store.rename_dialect_terminal(session, name.clone());
        recorded.await.map_err(store_problem)?;
        let shown = name.clone().unwrap_or_default();
        if let Some(entry) = self.dialect.registry.lock().get_mut(session) {
            entry.name = name;
            entry.news.send_modify(|news| {
                news.name = Some(shown.clone());
                news.from = Some(from);
            });
        }
        Ok(shown)
    }

    /// An owner's terminals, oldest first.
    pub(crate) async fn dialect_list(&self, owner: &Owner) -> Outcome<Vec<DialectTerminal>> {
        self.dialect_prune(Some(owner)).await?;
        Ok(self.dialect.registry.lock().list(owner))
    }

    /// How many there are.
    pub(crate) async fn dialect_counts(&self) -> Outcome<DialectCounts> {
        self.dialect_prune(None).await?;
        let registry = self.dialect.registry.lock();
        let mut counts = DialectCounts::default();
        for (_, entry) in registry.all() {
            counts.sessions += 1;
            counts.orphaned_sessions += usize::from(entry.presence.is_orphaned());
            counts.exited_sessions += usize::from(entry.exit.is_some());
            let terminal = entry.worker.and_then(|worker| self.runtimes.terminal(worker));
            let (start, end) = terminal.map_or((0, 0), |terminal| terminal.output_range());
            counts.buffer_bytes += end - start;
        }
        Ok(counts)
    }

    /// Forgets what was deleted through the rest of the API.
    async fn dialect_prune(&self, of: Option<&Owner>) -> Outcome<()> {
        let known: Vec<SessionId> = {
            let registry = self.dialect.registry.lock();
            let all = registry.all().filter(|(_, entry)| {
                // What is being started is not recorded yet.
                entry.worker.is_some() && of.is_none_or(|owner| entry.owner == *owner)
            });
            all.map(|(session, _)| session).collect()
        };
        for session in known {
            let recorded = self.store.session(session).await.map_err(store_problem)?;
            if recorded.is_none() {
                self.dialect.registry.lock().remove(session);
            }
        }
        Ok(())
    }

    /// Follows a terminal to the end of its program.
    fn dialect_follow(self: &Arc<Self>, session: SessionId, terminal: TerminalHandle) {
        let this = Arc::clone(self);
        self.tasks.spawn("follow a terminal", async move {
            let stopping = this.tasks.stopping();
            let mut changes = terminal.changes();
            let exit = tokio::select! {
                () = stopping.cancelled() => return,
                exit = terminal.ended() => exit,
                () = async {
                    while changes.changed().await.is_ok() {
                        this.dialect_active(session);
                        tokio::time::sleep(ACTIVITY).await;
                    }
                    // Nothing more is written; how it ended is on its way.
                    std::future::pending().await
                } => return,
            };
            drop(terminal);
            this.dialect_active(session);
            let quotas = this.dialect.quotas();
            let removed = this.dialect.registry.lock().exited(session, exit, quotas);
            this.dialect.moved.notify_one();
            for session in removed {
                this.dialect_release(session).await;
            }
        });
    }

    /// Frees the id of a terminal that was taken out, and ends it in the background.
    async fn dialect_release(self: &Arc<Self>, session: SessionId) {
        if let Err(error) = self.store.release_dialect_terminal(session).await {
            let error = &error as &dyn std::error::Error;
            warn!(%session, error, "a terminal's id is not free in the records");
        }
        self.dialect_end(session);
    }

    fn dialect_end(self: &Arc<Self>, session: SessionId) {
        let this = Arc::clone(self);
        self.tasks.spawn("end a terminal", async move {
            if let Err(problem) = this.delete_session(session, true).await
                && problem.code != abide_model::ProblemCode::SessionNotFound.as_str()
            {
                // The next start finds it, and tries again.
                warn!(%session, problem = problem.message, "a terminal that was closed stays");
            }
        });
    }

    /// Finds the terminals of the server before. Those that nobody can come back to are ended; of the
    /// others nobody looks at any now.
    pub(super) async fn recover_dialect(self: &Arc<Self>) -> Result<(), StoreError> {
        for stored in self.store.dialect_terminals().await? {
            let id = stored.session_id;
            let Some(session) = self.store.session(id).await? else {
                continue;
            };
            let workers = self.store.workers(id).await?;
            let mut terminals = workers.iter().filter(|it| it.kind == WorkerKind::Terminal);
            let (Some(worker), Some(client_id)) = (terminals.next(), stored.client_id) else {
                self.dialect_end(id);
                continue;
            };
            let owner = Owner {
                agent: stored.agent_id,
                tenant: stored.tenant,
            };
            let mut entry = Entry::new(owner, Some(client_id));
            entry.name = stored.name;
            entry.directory = session.workspace.path;
            entry.created_at = session.created_at;
            entry.active_at = worker.ended_at.unwrap_or_else(Timestamp::now);
            entry.worker = Some(worker.id);
            entry.wait_for_somebody(self.dialect.config.orphan_grace);
            let ended = worker.ended_at.is_some();
            let exit = ended.then(|| worker.exit.clone().unwrap_or_default());
            entry.exit = exit.map(|exit| (exit, Instant::now()));
            self.dialect.registry.lock().insert(id, entry);
            if let Some(terminal) = self.runtimes.terminal(worker.id) {
                self.dialect_follow(id, terminal);
            }
        }
        Ok(())
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
