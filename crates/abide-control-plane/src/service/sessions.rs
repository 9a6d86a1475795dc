//! Creating, ending and restarting sessions and their interpreters.

use std::path::PathBuf;

use abide_model::{
    AgentId, JsonObject, NewSession, Problem, ProblemCode, Runtime, RuntimeBackend, Session,
    SessionId, SessionStatus, Timestamp,
};
use abide_store::{Created, RequestKey, StoreError};

use crate::expiry::expired;
use crate::runtimes::Interpreter;

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
    pub(crate) sliding: bool,
}

impl ControlPlane {
    /// Creates the record; an interpreter is started by the first step.
    pub(crate) async fn create_session(
        &self,
        request: CreateSession,
        key: Option<RequestKey>,
    ) -> Outcome<Session> {
        let agent_id = self.owner(request.owner).await?;
        let workspace = self.runtimes.workspace(request.id, request.workspace)?;
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
            sliding: request.sliding,
        };
        let expires = new.ttl_seconds.is_some();
        let created = match key {
            None => self.store.create_session(new).await,
            Some(key) => {
                let created = self.store.create_session_idempotent(key, new).await;
                created.map(|created| match created {
                    Created::New(session) | Created::Existing(session) => session,
                })
            }
        }
        .map_err(store_problem)?;
        if expires {
            self.expiry_moved.notify_one();
        }
        Ok(created)
    }

    /// The agent that is to own something; whether it is there is looked at where it is needed.
    pub(super) async fn owner(&self, owner: OwnerRequest) -> Outcome<AgentId> {
        match owner {
            OwnerRequest::Default => self.default_agent().await,
            OwnerRequest::Named(name) => self.agent_named(&name).await,
            OwnerRequest::Id(id) => {
                if self.config.auto_register_agents {
                    self.register_if_missing(id).await?;
                }
                Ok(id)
            }
        }
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
        let session = self.session(id).await?;
        if session.status == SessionStatus::Active && !force {
            return Err(Problem::new(
                ProblemCode::SessionActive,
                "the session is active; set its status to completed first, or add force=true",
            ));
        }
        let workers = self.store.workers(id).await.map_err(store_problem)?;
        let workers: Vec<_> = workers.iter().map(|worker| worker.id).collect();
        self.runtimes.delete(&session, &workers).await?;
        self.store.delete_session(id).await.map_err(store_problem)?;
        if self.runtimes.known(id).is_some() {
            // A step that came in between had another one started.
            self.runtimes.delete(&session, &[]).await?;
        }
        Ok(())
    }

    /// The session's interpreter, alive or dead, started if it never had one.
    pub(crate) async fn interpreter(&self, session: &Session) -> Outcome<Interpreter> {
        match self.runtimes.known(session.id) {
            Some(interpreter) if interpreter.caught_up => Ok(interpreter),
            _ => self.runtimes.open(session, false).await,
        }
    }

    /// Ends the session's interpreter, if it has one, and gives it a fresh one.
    pub(crate) async fn restart(&self, id: SessionId) -> Outcome<Session> {
        let session = self.session(id).await?;
        if session.is_expired(Timestamp::now()) {
            return Err(expired());
        }
        self.runtimes.open(&session, true).await?;
        self.session(id).await
    }

    /// Interrupts whatever runs in the session.
    pub(crate) async fn interrupt(&self, id: SessionId) -> Outcome<()> {
        let id = self.session(id).await?.id;
        self.runtimes.interrupt(id).await
    }
}
