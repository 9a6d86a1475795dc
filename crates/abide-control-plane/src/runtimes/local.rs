//! Interpreters and terminals of this process's session agent.

mod terminal;
mod terminals;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use abide_model::{
    Exit, FieldError, NewStep, NewWorker, Problem, ProblemCode, ScreenState, Session, SessionId,
    StepId, StepOutcome, TerminalSpec, Worker, WorkerId, Workspace, WorkspaceKind,
};
use abide_session_agent::{
    Acceptance, Adoption, AgentCounts, LEFT_NOTHING, OutputReader, Recorder, Refusal, RunHandle,
    SessionAgent, StreamFilter, Tasks, WorkerHandle, shown,
};
use abide_store::{Store, StoreError};
use tracing::{info, warn};

use super::{Answer, Glance, Interpreter, Runtimes, Terminal, Wanted, refused, runtime_crashed};
use crate::locks::Locks;
use crate::service::{Outcome, WorkspaceRequest, store_problem};
use crate::store_recorder::StoreRecorder;

/// See the module.
#[derive(Debug)]
pub(crate) struct LocalRuntimes {
    agent: Arc<SessionAgent>,
    store: Store,
    recorder: Arc<StoreRecorder>,
    tasks: Tasks,
    /// Interpreters that may live at once.
    max_live: usize,
    /// Holds the scratch workspaces, one per session.
    workspaces_dir: PathBuf,
    /// One session's interpreter is started, restarted or ended by one request at a time.
    locks: Locks,
}

impl LocalRuntimes {
    pub(crate) fn new(
        agent: Arc<SessionAgent>,
        store: Store,
        recorder: Arc<StoreRecorder>,
        tasks: Tasks,
        max_live: usize,
        workspaces_dir: PathBuf,
    ) -> Self {
        Self {
            agent,
            store,
            recorder,
            tasks,
            max_live,
            workspaces_dir,
            locks: Locks::default(),
        }
    }

    async fn start(&self, session: &Session, fresh: bool) -> Outcome<WorkerHandle> {
        if self.agent.counts().interpreters >= self.max_live {
            let limit = self.max_live;
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{limit} interpreters are running, which is the limit (max_live)"),
            ));
        }
        let workspace = workspace_dir(session)?;
        let idle = self
            .agent
            .take(session.runtime)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let new = NewWorker::interpreter(idle.id, session.id, session.runtime);
        // Recorded first: a worker that no record names is ended at the next start.
        let recorded = if fresh {
            self.store.restart_worker(new).await
        } else {
            self.store.assign_worker(new).await
        };
        recorded.map_err(store_problem)?;
        self.agent
            .bind(idle, session.id, workspace, self.recorder.clone())
            .map_err(|error| unavailable(error.to_string()))
    }

    async fn open(&self, session: &Session, fresh: bool) -> Outcome<WorkerHandle> {
        let _lock = self.locks.lock(session.id).await;
        if fresh {
            self.agent.end(session.id, "restarted on request").await;
            return self.start(session, true).await;
        }
        if let Some(worker) = self.agent.worker(session.id) {
            worker.caught_up().await;
            return Ok(worker);
        }
        // Every live one was adopted at the start, so what the records have is dead.
        let last = self.store.current_worker(session.id).await;
        if let Some(worker) = last.map_err(store_problem)? {
            let exit = worker.exit.unwrap_or_default();
            return Err(runtime_crashed(session.id, &exit));
        }
        self.start(session, false).await
    }

    async fn recover(&self) -> Result<(), StoreError> {
        let mut unfinished: HashMap<SessionId, Vec<NewStep>> = HashMap::new();
        for step in self.store.unfinished_steps(None).await? {
            let step = step.step;
            unfinished.entry(step.session_id).or_default().push(step);
        }
        let recorder: Arc<dyn Recorder> = self.recorder.clone();
        for worker in self.store.running_workers().await? {
            let Some(session) = self.store.session(worker.session_id).await? else {
                continue;
            };
            let Some(runtime) = worker.runtime else {
                self.adopt_terminal(&worker).await?;
                continue;
            };
            let adoption = Adoption {
                worker: worker.id,
                session: session.id,
                runtime,
                workspace: session.workspace.path.into(),
                unfinished: unfinished.remove(&session.id).unwrap_or_default(),
            };
            let steps = adoption.unfinished.clone();
            if let Err(error) = self.agent.adopt(adoption, Arc::clone(&recorder)) {
                warn!(worker = %worker.id, session = %session.id, %error, "journal is gone");
                for step in steps {
                    self.conclude_lost(step).await;
                }
                let reason = format!("its keeper and journal are gone: {error}");
                let exit = Exit {
                    reason: reason.clone(),
                    ..Exit::default()
                };
                self.store.worker_crashed(worker.id, exit, reason).await?;
            }
        }
        self.adopt_what_ended_terminals_left().await?;
        // The worker had ended and the server died before it could say so for these.
        for step in unfinished.into_values().flatten() {
            self.conclude_lost(step).await;
        }
        // Dead workers keep their journals for readers until their session is deleted.
        let known: HashSet<_> = self.store.worker_ids().await?.into_iter().collect();
        info!(workers = known.len(), "recovered");
        self.agent.open(&known);
        Ok(())
    }

    async fn conclude_lost(&self, step: NewStep) {
        let outcome = StepOutcome::lost(step.id, LEFT_NOTHING);
        let (id, step) = (step.id, Arc::new(step));
        let ended = self
            .recorder
            .step_finished(step, Acceptance::Recorded, Arc::new(outcome));
        if let Err(error) = ended.await {
            warn!(step = %id, %error, "cannot record a lost step");
        }
    }

    async fn delete(&self, session: &Session, workers: &[WorkerId]) {
        let _lock = self.locks.lock(session.id).await;
        self.agent.end(session.id, "the session was deleted").await;
        for terminal in self.agent.terminals(session.id) {
            self.agent.end_terminal(terminal.id()).await;
        }
        for worker in workers {
            self.agent.remove(*worker);
        }
        if session.workspace.kind == WorkspaceKind::Scratch {
            let path = session.workspace.path.clone();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
            if let Ok(Err(error)) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!(session = %session.id, %error, "scratch workspace stays");
            }
        }
    }

    async fn output(&self, session: SessionId, wanted: Wanted) -> Outcome<Option<OutputReader>> {
        let live = self.agent.worker(session);
        let of = match wanted.worker {
            Some(worker) => Some(worker),
            None => match &live {
                Some(live) => Some(live.id()),
                None => {
                    let last = self.store.current_worker(session).await;
                    last.map_err(store_problem)?.map(|worker| worker.id)
                }
            },
        };
        let reader = match (of, live) {
            (Some(of), Some(live)) if live.id() == of => {
                Some(live.output(StreamFilter::All, 0, wanted.end, wanted.follow))
            }
            (Some(of), _) => self.agent.old_output(of, StreamFilter::All, 0, wanted.end),
            (None, _) => None,
        };
        Ok(reader.map(|reader| {
            let earliest = reader.earliest();
            let from = match (wanted.from, wanted.tail) {
                (Some(from), _) => from,
                (None, Some(tail)) => reader.head().saturating_sub(tail).max(earliest),
                (None, None) => earliest,
            };
            reader.starting_at(from, wanted.filter)
        }))
    }
}

impl Runtimes for LocalRuntimes {
    fn vouches(&self) -> bool {
        true
    }

    fn workspace(&self, session: SessionId, request: WorkspaceRequest) -> Outcome<Workspace> {
        match request {
            WorkspaceRequest::Scratch => Ok(Workspace {
                kind: WorkspaceKind::Scratch,
                path: self
                    .workspaces_dir
                    .join(session.to_string())
                    .display()
                    .to_string(),
            }),
            WorkspaceRequest::Directory(path) => existing_directory(&path),
        }
    }

    fn known(&self, session: SessionId) -> Option<Interpreter> {
        let worker = self.agent.worker(session)?;
        Some(interpreter(session, &worker))
    }

    fn open<'a>(&'a self, session: &'a Session, fresh: bool) -> Answer<'a, Outcome<Interpreter>> {
        Box::pin(async move { Ok(interpreter(session.id, &self.open(session, fresh).await?)) })
    }

    fn submit(
        &self,
        interpreter: &Interpreter,
        step: Arc<NewStep>,
        acceptance: Acceptance,
        hold_output: bool,
    ) -> Answer<'_, Outcome<RunHandle>> {
        let session = step.session_id;
        let worker = self.agent.worker(step.session_id);
        let run = match worker.filter(|worker| worker.id() == interpreter.id) {
            Some(worker) => worker.submit(step, acceptance, hold_output),
            // Deleted, or about to be restarted, since it was looked at.
            None => Err(Refusal::Dead(Exit {
                reason: "it was stopped".to_owned(),
                ..Exit::default()
            })),
        };
        let run = run.map_err(|refusal| refused(session, refusal));
        Box::pin(std::future::ready(run))
    }

    fn join(
        &self,
        session: SessionId,
        step: StepId,
        hold_output: bool,
    ) -> Answer<'_, Option<RunHandle>> {
        let worker = self.agent.worker(session);
        Box::pin(async move { worker?.attach(step, hold_output).await })
    }

    fn trouble(&self, _session: SessionId, _step: StepId) -> Option<Problem> {
        None
    }

    fn peek(&self, session: SessionId, step: StepId) -> Answer<'_, Option<Glance>> {
        let worker = self.agent.worker(session);
        Box::pin(async move {
            let peek = worker?.peek(step).await?;
            Some(Glance {
                stdout: peek.stdout.text(),
                stderr: peek.stderr.text(),
                stdout_bytes: peek.stdout.bytes,
                stderr_bytes: peek.stderr.bytes,
                truncated: peek.stdout.omitted() + peek.stderr.omitted() > 0,
                started_at: peek.started_at,
                position: peek.position,
            })
        })
    }

    fn cancel(&self, session: SessionId, step: StepId) -> Answer<'_, Outcome<()>> {
        if let Some(worker) = self.agent.worker(session) {
            worker.cancel(step);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn interrupt(&self, session: SessionId) -> Answer<'_, Outcome<()>> {
        if let Some(worker) = self.agent.worker(session) {
            worker.interrupt();
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a>(
        &'a self,
        session: &'a Session,
        workers: &'a [WorkerId],
    ) -> Answer<'a, Outcome<()>> {
        Box::pin(async move {
            self.delete(session, workers).await;
            Ok(())
        })
    }

    fn output(
        &self,
        session: SessionId,
        wanted: Wanted,
    ) -> Answer<'_, Outcome<Option<OutputReader>>> {
        Box::pin(self.output(session, wanted))
    }

    fn start_terminal<'a>(
        &'a self,
        session: &'a Session,
        spec: TerminalSpec,
    ) -> Answer<'a, Outcome<Arc<dyn Terminal>>> {
        Box::pin(async move {
            let terminal = self.start_terminal(session, spec).await?;
            Ok(Arc::new(self.here(terminal)) as _)
        })
    }

    fn terminal(&self, worker: WorkerId) -> Option<Arc<dyn Terminal>> {
        Some(Arc::new(self.here(self.agent.terminal(worker)?)))
    }

    fn reopen_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Option<Arc<dyn Terminal>>> {
        Box::pin(async move {
            let terminal = self.reopen_terminal(worker).await?;
            Some(Arc::new(self.here(terminal)) as _)
        })
    }

    fn screens<'a>(
        &'a self,
        of: &'a [(SessionId, WorkerId)],
    ) -> Answer<'a, HashMap<WorkerId, ScreenState>> {
        let all = of.iter().filter_map(|(_, id)| {
            let terminal = self.agent.terminal(*id)?;
            Some((*id, shown(&terminal)))
        });
        Box::pin(std::future::ready(all.collect()))
    }

    fn stop_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>> {
        Box::pin(async move {
            self.agent.stop_terminal(worker.id).await;
            Ok(())
        })
    }

    fn end_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>> {
        Box::pin(async move {
            self.agent.end_terminal(worker.id).await;
            Ok(())
        })
    }

    fn counts(&self) -> AgentCounts {
        self.agent.counts()
    }

    fn recover(&self) -> Answer<'_, Result<(), StoreError>> {
        Box::pin(self.recover())
    }

    fn end_all(&self) -> Answer<'_, ()> {
        Box::pin(self.agent.end_all("stopped by `abide down`"))
    }
}

fn interpreter(session: SessionId, worker: &WorkerHandle) -> Interpreter {
    Interpreter {
        id: worker.id(),
        readiness: worker
            .check()
            .map_err(|refusal| Box::new(refused(session, refusal))),
        idle: worker.unfinished() == 0,
        caught_up: worker.has_caught_up(),
        accepting: Arc::clone(&worker.accepting),
    }
}

/// The session's directory, which is made if it is one of ours.
fn workspace_dir(session: &Session) -> Outcome<PathBuf> {
    let workspace = PathBuf::from(&session.workspace.path);
    if session.workspace.kind == WorkspaceKind::Scratch {
        make_private_dir(&workspace).map_err(|error| {
            unavailable(format!(
                "cannot make the workspace {}: {error}",
                workspace.display()
            ))
        })?;
    }
    Ok(workspace)
}

fn unavailable(message: String) -> Problem {
    Problem::new(ProblemCode::RuntimeUnavailable, message)
}

fn existing_directory(path: &Path) -> Outcome<Workspace> {
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

fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
