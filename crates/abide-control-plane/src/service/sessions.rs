//! Creating, ending and restarting sessions and their interpreters.

use std::path::PathBuf;
use std::sync::Arc;

use abide_model::{
    AgentId, FieldError, JsonObject, NewSession, NewWorker, Problem, ProblemCode, Runtime,
    RuntimeBackend, Session, SessionId, SessionStatus, WorkerKind, WorkerState, Workspace,
    WorkspaceKind,
};
use abide_session_agent::{Recorder, WorkerHandle};
use abide_store::{Created, RequestKey, StoreError};

use super::{ControlPlane, Outcome, agents, session_not_found, store_problem};

/// Which directory a new session is to have.
#[derive(Debug, Clone)]
pub(crate) enum WorkspaceRequest {
    Scratch,
    Directory(PathBuf),
}

/// Who is to own a new session.
#[derive(Debug, Clone)]
pub(crate) enum OwnerRequest {
    Default,
    Id(AgentId),
    /// A label of the caller's own, as runtime-routing clients send.
    Named(String),
}

/// A request to create a session, checked field by field.
#[derive(Debug, Clone)]
pub(crate) struct CreateSession {
    pub(crate) id: SessionId,
    pub(crate) owner: OwnerRequest,
    pub(crate) session_type: String,
    pub(crate) context: JsonObject,
    pub(crate) runtime_backend: Option<RuntimeBackend>,
    pub(crate) runtime_metadata: JsonObject,
    pub(crate) name: Option<String>,
    pub(crate) runtime: Runtime,
    pub(crate) workspace: WorkspaceRequest,
    pub(crate) ttl_seconds: Option<i64>,
}

impl ControlPlane {
    /// Creates the record; an interpreter is started by the first step.
    pub(crate) async fn create_session(
        &self,
        request: CreateSession,
        key: Option<RequestKey>,
    ) -> Outcome<Session> {
        let agent_id = match request.owner {
            OwnerRequest::Default => self.default_agent().await?,
            OwnerRequest::Named(name) => self.agent_named(&name).await?,
            OwnerRequest::Id(id) => {
                if self.config.auto_register_agents {
                    self.register_if_missing(id).await?;
                }
                id
            }
        };
        let workspace = match request.workspace {
            WorkspaceRequest::Scratch => Workspace {
                kind: WorkspaceKind::Scratch,
                path: self
                    .config
                    .workspaces_dir
                    .join(request.id.to_string())
                    .display()
                    .to_string(),
            },
            WorkspaceRequest::Directory(path) => existing_directory(&path)?,
        };
        let new = NewSession {
            id: request.id,
            agent_id,
            session_type: request.session_type,
            context: request.context,
            runtime_backend: request.runtime_backend,
            runtime_metadata: request.runtime_metadata,
            name: request.name,
            runtime: request.runtime,
            workspace,
            ttl_seconds: request.ttl_seconds,
        };
        match key {
            None => self.store.create_session(new).await,
            Some(key) => {
                let created = self.store.create_session_idempotent(key, new).await;
                created.map(|created| match created {
                    Created::New(session) | Created::Existing(session) => session,
                })
            }
        }
        .map_err(store_problem)
    }

    async fn register_if_missing(&self, id: AgentId) -> Outcome<()> {
        if self.store.agent(id).await.map_err(store_problem)?.is_some() {
            return Ok(());
        }
        let name = format!("agent-{id}");
        match self.store.create_agent(agents::new_agent(id, &name)).await {
            // Somebody else was faster: just as good.
            Ok(_) | Err(StoreError::IdTaken(_)) => Ok(()),
            Err(error) => Err(store_problem(error)),
        }
    }

    pub(crate) async fn session(&self, id: SessionId) -> Outcome<Session> {
        self.store
            .session(id)
            .await
            .map_err(store_problem)?
            .ok_or_else(session_not_found)
    }

    /// Removes the record and everything that belongs to it: worker, journals, scratch workspace.
    pub(crate) async fn delete_session(&self, id: SessionId, force: bool) -> Outcome<()> {
        let _lock = self.lock(id).await;
        let session = self.session(id).await?;
        if session.status == SessionStatus::Active && !force {
            return Err(Problem::new(
                ProblemCode::SessionActive,
                "the session is active; set its status to completed first, or add force=true",
            ));
        }
        let workers = self.store.workers(id).await.map_err(store_problem)?;
        self.agent.end(id, "the session was deleted").await;
        self.store.delete_session(id).await.map_err(store_problem)?;
        for worker in workers {
            self.agent.remove(worker.id);
        }
        if session.workspace.kind == WorkspaceKind::Scratch {
            let path = session.workspace.path;
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
            if let Ok(Err(error)) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(session = %id, %error, "scratch workspace stays");
            }
        }
        Ok(())
    }

    /// The session's live interpreter, started if it never had one.
    pub(crate) async fn interpreter(&self, session: &Session) -> Outcome<WorkerHandle> {
        if let Some(worker) = self.agent.worker(session.id) {
            return Ok(worker);
        }
        let _lock = self.lock(session.id).await;
        if let Some(worker) = self.agent.worker(session.id) {
            return Ok(worker);
        }
        let last = self
            .store
            .current_worker(session.id)
            .await
            .map_err(store_problem)?;
        if let Some(worker) = last {
            let exit = worker.exit.unwrap_or_default();
            debug_assert_eq!(worker.state, WorkerState::Exited);
            return Err(runtime_crashed(session, &exit));
        }
        self.start_interpreter(session, false).await
    }

    /// Ends the session's interpreter, if it has one, and gives it a fresh one.
    pub(crate) async fn restart(&self, id: SessionId) -> Outcome<Session> {
        let _lock = self.lock(id).await;
        let session = self.session(id).await?;
        self.agent.end(id, "restarted on request").await;
        self.start_interpreter(&session, true).await?;
        self.session(id).await
    }

    async fn start_interpreter(&self, session: &Session, restart: bool) -> Outcome<WorkerHandle> {
        let limit = self.config.max_live;
        if self.agent.counts().interpreters >= limit {
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{limit} interpreters are running, which is the limit (max_live)"),
            ));
        }
        let workspace = PathBuf::from(&session.workspace.path);
        if session.workspace.kind == WorkspaceKind::Scratch {
            make_private_dir(&workspace).map_err(|error| {
                unavailable(format!(
                    "cannot make the workspace {}: {error}",
                    workspace.display()
                ))
            })?;
        }
        let idle = self
            .agent
            .take(session.runtime)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let new = NewWorker {
            id: idle.id,
            session_id: session.id,
            kind: WorkerKind::Interpreter,
            runtime: session.runtime,
        };
        // Recorded first: a worker that no record names is ended at the next start.
        let recorded = if restart {
            self.store.restart_worker(new).await
        } else {
            self.store.assign_worker(new).await
        };
        recorded.map_err(store_problem)?;
        let recorder: Arc<dyn Recorder> = self.recorder.clone();
        self.agent
            .bind(idle, session.id, workspace, recorder)
            .map_err(|error| unavailable(error.to_string()))
    }
}

/// 503 with how the interpreter ended and how to go on.
pub(crate) fn runtime_crashed(session: &Session, exit: &abide_model::Exit) -> Problem {
    Problem::new(
        ProblemCode::RuntimeCrashed,
        format!(
            "the session's interpreter is gone ({}), and its variables with it; \
             POST /sessions/{}/restart starts a fresh one",
            exit.reason, session.id
        ),
    )
    .with_details(serde_json::json!({ "session_id": session.id, "exit": exit }))
}

fn unavailable(message: String) -> Problem {
    Problem::new(ProblemCode::RuntimeUnavailable, message)
}

fn existing_directory(path: &std::path::Path) -> Outcome<Workspace> {
    let invalid = |message: String| {
        Problem::invalid(&[FieldError {
            kind: "value_error".to_owned(),
            loc: vec!["body".to_owned(), "workspace".to_owned()],
            msg: message,
            input: path.display().to_string().into(),
        }])
    };
    if !path.is_absolute() {
        return Err(invalid(
            "must be an absolute path on the server's machine".to_owned(),
        ));
    }
    let path = path
        .canonicalize()
        .map_err(|error| invalid(error.to_string()))?;
    if !path.is_dir() {
        return Err(invalid("is not a directory".to_owned()));
    }
    Ok(Workspace {
        kind: WorkspaceKind::Directory,
        path: path.display().to_string(),
    })
}

fn make_private_dir(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
