//! Terminals of the multi-terminal dialect: sessions with one worker each, which their clients know by
//! ids of their own.
//!
//! Whoever looks has an [`Attachment`]; a terminal that nobody has looked at for the configured time is
//! ended. Which client's id stands for which session is recorded, so the next server has it, too.

mod ending;
mod presence;
mod registry;
mod starting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abide_model::{AgentId, DialectCounts, DialectTerminal, Exit, Problem, SessionId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(crate) use self::registry::{News, Owner};
use self::registry::{Quotas, Registry};
use super::{ControlPlane, Outcome, OwnerRequest, store_problem};
use crate::DialectConfig;
use crate::runtimes::Terminal;

/// Characters of a name; the rest is cut off.
const MAX_NAME: usize = 50;

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
    pub(crate) terminal: Arc<dyn Terminal>,
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
            Some(text) => AgentId::parse(text)
                .map_or_else(|_| OwnerRequest::Named(text.to_owned()), OwnerRequest::Id),
        };
        Ok(Owner {
            agent: self.owner(request).await?,
            tenant: tenant.unwrap_or_default().to_owned(),
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
        match exit.or_else(|| terminal.as_ref().and_then(|terminal| terminal.exit())) {
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
        let terminal = entry
            .worker
            .and_then(|worker| self.runtimes.terminal(worker));
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
        let mut counts = DialectCounts::default();
        let mut terminals = Vec::new();
        for (session, entry) in self.dialect.registry.lock().all() {
            counts.sessions += 1;
            counts.orphaned_sessions += usize::from(entry.presence.is_orphaned());
            counts.exited_sessions += usize::from(entry.exit.is_some());
            terminals.extend(entry.worker.map(|worker| (session, worker)));
        }
        let screens = self.runtimes.screens(&terminals).await;
        let kept = |id| screens.get(id).map(|it| it.output_end - it.output_start);
        counts.buffer_bytes = terminals.iter().filter_map(|(_, id)| kept(id)).sum();
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
}
