//! Starting terminals of the dialect, and finding those of the server before.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_model::{
    DialectCreate, JsonObject, NewSession, Runtime, SessionId, TerminalSpec, Timestamp, WorkerKind,
};
use abide_store::{StoreError, StoredDialectTerminal};
use tokio::sync::oneshot;

use super::registry::Entry;
use super::{Attachment, Found, Owner, Refusal, tidy_name};
use crate::runtimes::Terminal;
use crate::service::{ControlPlane, WorkspaceRequest, store_problem};

/// How exactly the last activity is known.
const ACTIVITY: Duration = Duration::from_secs(1);

impl ControlPlane {
    /// Starts a terminal. It is started even if whoever asked for it goes away.
    pub(crate) async fn dialect_create(
        self: &Arc<Self>,
        owner: Owner,
        request: DialectCreate,
        size: (u16, u16),
    ) -> Result<(Found, Attachment), Refusal> {
        self.dialect.check_id(&request.session_id)?;
        let id = Some(request.session_id);
        let (name, directory) = (request.name, request.work_dir);
        self.dialect_start(owner, id, name, directory, size).await
    }

    /// Starts one that belongs to a single connection: it is ended as soon as nobody looks at it.
    pub(crate) async fn dialect_create_single(
        self: &Arc<Self>,
        owner: Owner,
        size: (u16, u16),
    ) -> Result<(Found, Attachment), Refusal> {
        self.dialect_start(owner, None, None, None, size).await
    }

    async fn dialect_start(
        self: &Arc<Self>,
        owner: Owner,
        client_id: Option<String>,
        name: Option<String>,
        directory: Option<String>,
        size: (u16, u16),
    ) -> Result<(Found, Attachment), Refusal> {
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
        let removed = self
            .dialect
            .registry
            .lock()
            .reserve(session, entry, quotas)?;
        let (reply, started) = oneshot::channel();
        let this = Arc::clone(self);
        self.tasks.spawn("start a terminal", async move {
            for session in removed {
                this.dialect_release(session).await;
            }
            // Whoever asked looks at it from the beginning, until it is found to be gone.
            let attachment = this.dialect_attach(session).ok_or(Refusal::NotFound);
            let started = this.dialect_record(terminal, directory, size).await;
            if started.is_err() {
                this.dialect.registry.lock().remove(session);
                // There is none if it could not be recorded.
                let _ = this.delete_session(session, true).await;
            }
            let _ = reply.send(started.and_then(|found| Ok((found, attachment?))));
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
            }
        }
        self.dialect_follow(id, Arc::clone(&terminal));
        Ok(Found {
            session: id,
            directory,
            terminal,
        })
    }

    /// Follows a terminal to the end of its program.
    fn dialect_follow(self: &Arc<Self>, session: SessionId, terminal: Arc<dyn Terminal>) {
        let this = Arc::clone(self);
        self.tasks.spawn("follow a terminal", async move {
            let stopping = this.tasks.stopping();
            let mut changes = terminal.activity();
            let exit = tokio::select! {
                () = stopping.cancelled() => return,
                exit = terminal.ended() => exit,
                () = async {
                    while changes.changed().await.is_ok() {
                        this.dialect_active(session);
                        tokio::time::sleep(ACTIVITY).await;
                    }
                    // Nothing more is written; how it ended is on its way.
                    std::future::pending::<()>().await;
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

    /// Finds the terminals of the server before. Those that nobody can come back to are ended; of the
    /// others nobody looks at any now.
    pub(crate) async fn recover_dialect(self: &Arc<Self>) -> Result<(), StoreError> {
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
}
