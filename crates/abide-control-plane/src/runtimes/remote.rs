//! Interpreters and terminals of a data plane.
//!
//! Each session's interpreter is known here by its id; the records say the same. A step is recorded
//! as accepted, sent once, and followed by a task of its own until its end is recorded, whoever
//! waits for it. Once its bytes may have got anywhere it is only asked for, by its id.

mod delivery;
mod ends;
mod news;
mod output;
mod sessions;
mod steps;
mod terminal;
mod terminals;
mod viewing;

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;

use abide_data_plane::client::DataPlaneClient;
use abide_model::{
    FieldError, NewStep, Problem, ScreenState, Session, SessionId, StepId, TerminalSpec, Worker,
    WorkerId, WorkerKind, Workspace, WorkspaceKind,
};
use abide_session_agent::{Acceptance, AgentCounts, OutputReader, RunHandle, Tasks};
use abide_store::{Store, StoreError};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::sessions::Known;
use self::terminal::KnownTerminal;
use super::{Answer, Glance, Interpreter, Runtimes, Terminal, Wanted, runtime_crashed};
use crate::locks::Locks;
use crate::service::{Outcome, WorkspaceRequest};
use crate::store_recorder::StoreRecorder;

/// Chunks of output that wait for a slow reader; then the data plane waits, and so does the program.
const WAITING_CHUNKS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct RemoteRuntimes(Arc<Remote>);

/// What it needs besides the data plane.
#[derive(Debug)]
pub(crate) struct RemoteConfig {
    pub(crate) store: Store,
    pub(crate) recorder: Arc<StoreRecorder>,
    pub(crate) tasks: Tasks,
    /// Steps that may wait in one session.
    pub(crate) queue_length: usize,
}

/// What its tasks share.
#[derive(Debug)]
struct Remote {
    client: DataPlaneClient,
    config: RemoteConfig,
    sessions: RwLock<HashMap<SessionId, Arc<Known>>>,
    terminals: RwLock<HashMap<WorkerId, Arc<KnownTerminal>>>,
    /// One session's interpreter is started, restarted, ended or looked at by one request at a time.
    locks: Locks,
}

impl RemoteRuntimes {
    pub(crate) fn new(client: DataPlaneClient, config: RemoteConfig) -> Self {
        Self(Arc::new(Remote {
            client,
            config,
            sessions: RwLock::default(),
            terminals: RwLock::default(),
            locks: Locks::default(),
        }))
    }
}

impl Remote {
    fn find(&self, session: SessionId) -> Option<Arc<Known>> {
        self.sessions.read().get(&session).cloned()
    }

    /// Has those who wait for steps hear when the server stops: the steps go on.
    fn let_go_at_the_end(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.config.tasks.spawn("let go", async move {
            this.config.tasks.stopping().cancelled().await;
            for known in this.sessions.read().values() {
                known.let_go();
            }
        });
    }

    async fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        let store = &self.config.store;
        for worker in store.running_workers().await? {
            if worker.kind == WorkerKind::Terminal {
                self.remember(worker.id, worker.session_id, None);
                continue;
            }
            self.sessions.write().insert(
                worker.session_id,
                Known::new(worker.session_id, worker.id, self.config.queue_length),
            );
        }
        let mut unfinished: HashMap<SessionId, Vec<NewStep>> = HashMap::new();
        for step in store.unfinished_steps(None).await? {
            let step = step.step;
            unfinished.entry(step.session_id).or_default().push(step);
        }
        let (workers, steps) = (self.sessions.read().len(), unfinished.len());
        info!(workers, sessions_at_work = steps, "recovered");
        for (session, steps) in unfinished {
            match self.find(session) {
                Some(known) => self.send_again(&known, steps),
                // It had ended, and the server died before it could say so for these.
                None => {
                    for step in steps {
                        self.conclude_lost(step).await;
                    }
                }
            }
        }
        // What ended meanwhile is known before anybody asks, unless nobody can say now.
        if let Err(problem) = self.compare_terminals().await {
            warn!(message = %problem.message, "cannot compare terminals with the data plane");
        }
        news::follow(self);
        self.let_go_at_the_end();
        Ok(())
    }
}

/// Whether a path can only lead to what is beneath the data plane's root; that it does so by links
/// is seen to there.
fn is_reference(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl Runtimes for RemoteRuntimes {
    fn vouches(&self) -> bool {
        false
    }

    fn workspace(&self, session: SessionId, request: WorkspaceRequest) -> Outcome<Workspace> {
        match request {
            // Beneath the data plane's root, wherever that is.
            WorkspaceRequest::Scratch => Ok(Workspace {
                kind: WorkspaceKind::Scratch,
                path: session.to_string(),
            }),
            WorkspaceRequest::Directory(path) if is_reference(&path) => Ok(Workspace {
                kind: WorkspaceKind::Directory,
                path: path.display().to_string(),
            }),
            WorkspaceRequest::Directory(path) => Err(Problem::invalid(&[FieldError {
                kind: "value_error".to_owned(),
                loc: vec!["body".to_owned(), "workspace".to_owned()],
                msg:
                    "must be a path beneath the workspaces of the data plane: sessions do not run \
                      on this server, so they cannot have a directory of its machine"
                        .to_owned(),
                input: path.display().to_string().into(),
            }])),
        }
    }

    fn known(&self, session: SessionId) -> Option<Interpreter> {
        Some(self.0.find(session)?.interpreter())
    }

    fn open<'a>(&'a self, session: &'a Session, fresh: bool) -> Answer<'a, Outcome<Interpreter>> {
        Box::pin(async move { Ok(self.0.open(session, fresh).await?.interpreter()) })
    }

    fn submit(
        &self,
        interpreter: &Interpreter,
        step: Arc<NewStep>,
        // Always recorded: nobody on this host would remember the step.
        _acceptance: Acceptance,
        hold_output: bool,
    ) -> Answer<'_, Outcome<RunHandle>> {
        let worker = interpreter.id;
        Box::pin(async move { self.0.submit(worker, step, hold_output).await })
    }

    fn join(
        &self,
        session: SessionId,
        step: StepId,
        hold_output: bool,
    ) -> Answer<'_, Option<RunHandle>> {
        let way = self.0.find(session).and_then(|known| known.way(step));
        let run = way.map(|way| {
            let output = hold_output.then(|| {
                let (chunks, reader) = mpsc::channel(WAITING_CHUNKS);
                self.0.relay_step(&way, chunks);
                reader
            });
            RunHandle::relayed(way.watch(), output)
        });
        Box::pin(std::future::ready(run))
    }

    fn trouble(&self, session: SessionId, step: StepId) -> Option<Problem> {
        self.0.find(session)?.way(step)?.trouble()
    }

    fn peek(&self, session: SessionId, step: StepId) -> Answer<'_, Option<Glance>> {
        Box::pin(self.0.peek(session, step))
    }

    fn cancel(&self, session: SessionId, step: StepId) -> Answer<'_, Outcome<()>> {
        Box::pin(async move {
            match self.0.find(session).and_then(|known| known.way(step)) {
                Some(way) => self.0.cancel(&way).await,
                None => Ok(()),
            }
        })
    }

    fn interrupt(&self, session: SessionId) -> Answer<'_, Outcome<()>> {
        Box::pin(async move {
            match self.0.find(session) {
                Some(known) if known.death().is_none() => {
                    let trace = crate::trace::current();
                    let session = session.to_string();
                    self.0.client.interrupt(&session, &trace).await
                }
                _ => Ok(()),
            }
        })
    }

    fn delete<'a>(
        &'a self,
        session: &'a Session,
        workers: &'a [WorkerId],
    ) -> Answer<'a, Outcome<()>> {
        Box::pin(self.0.delete(session.id, !workers.is_empty()))
    }

    fn output(
        &self,
        session: SessionId,
        wanted: Wanted,
    ) -> Answer<'_, Outcome<Option<OutputReader>>> {
        Box::pin(self.0.output(session, wanted))
    }

    fn start_terminal<'a>(
        &'a self,
        session: &'a Session,
        spec: TerminalSpec,
    ) -> Answer<'a, Outcome<Arc<dyn Terminal>>> {
        Box::pin(async move {
            let terminal = self.0.start_terminal(session, spec).await?;
            Ok(Arc::new(terminal) as _)
        })
    }

    fn terminal(&self, worker: WorkerId) -> Option<Arc<dyn Terminal>> {
        Some(Arc::new(self.0.terminal(worker)?))
    }

    fn reopen_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Option<Arc<dyn Terminal>>> {
        Box::pin(async move { Some(Arc::new(self.0.reopen_terminal(worker).await?) as _) })
    }

    fn screens<'a>(
        &'a self,
        of: &'a [(SessionId, WorkerId)],
    ) -> Answer<'a, HashMap<WorkerId, ScreenState>> {
        Box::pin(self.0.screens(of))
    }

    fn stop_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>> {
        Box::pin(self.0.end_terminal(worker, false))
    }

    fn end_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>> {
        Box::pin(self.0.end_terminal(worker, true))
    }

    fn counts(&self) -> AgentCounts {
        let mut counts = AgentCounts::default();
        for known in self.0.sessions.read().values() {
            known.count(&mut counts);
        }
        counts.terminals = self.0.count_terminals();
        counts
    }

    fn recover(&self) -> Answer<'_, Result<(), StoreError>> {
        Box::pin(self.0.recover())
    }

    fn end_all(&self) -> Answer<'_, ()> {
        Box::pin(self.0.end_all())
    }
}
