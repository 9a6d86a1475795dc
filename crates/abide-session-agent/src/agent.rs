//! The workers of one host.

mod terminals;

use std::path::PathBuf;
use std::sync::Arc;

use abide_interpreter::ToHarness;
use abide_keeper::{ConnectError, JournalReader, KeeperClient, journal_path};
use abide_model::{NewStep, Runtime, SessionId, TerminalCounts, WorkerId};
use parking_lot::Mutex;
use tracing::warn;

pub use self::terminals::TerminalFailed;
use self::terminals::Terminals;
use crate::config::AgentConfig;
use crate::output::{JournalOutput, OutputReader, StreamFilter};
use crate::pool::{IdleInterpreter, LaunchFailed, Pool};
use crate::recorder::Recorder;
use crate::tasks::Tasks;
use crate::worker::{WorkerHandle, WorkerSetup, Workers, start};

/// A worker that the records say a session has.
#[derive(Debug)]
pub struct Adoption {
    /// Which worker.
    pub worker: WorkerId,
    /// Whose.
    pub session: SessionId,
    /// Which language.
    pub runtime: Runtime,
    /// The session's workspace.
    pub workspace: PathBuf,
    /// Its steps that have not ended, in order of acceptance.
    pub unfinished: Vec<NewStep>,
}

/// Runs the workers of one host. Shared by reference.
#[derive(Debug)]
pub struct SessionAgent {
    config: Arc<AgentConfig>,
    tasks: Tasks,
    python: Arc<Pool>,
    node: Arc<Pool>,
    workers: Workers,
    terminals: Terminals,
}

impl SessionAgent {
    /// Makes the directories. Nothing is started yet: adopt first, then [`Self::open`].
    pub fn new(config: AgentConfig, tasks: Tasks) -> std::io::Result<Self> {
        std::fs::create_dir_all(&config.workers_dir)?;
        std::fs::create_dir_all(&config.harness_dir)?;
        let config = Arc::new(config);
        Ok(Self {
            python: Arc::new(Pool::new(Runtime::Python, Arc::clone(&config))),
            node: Arc::new(Pool::new(Runtime::Node, Arc::clone(&config))),
            terminals: Terminals::new()?,
            config,
            tasks,
            workers: Mutex::default(),
        })
    }

    /// Ends every worker on disk that no session has, and starts filling the warm pools.
    /// Call it once, after every [`Self::adopt`].
    pub fn open(&self, known: &std::collections::HashSet<WorkerId>) {
        for (worker, dir) in self.directories() {
            if !known.contains(&worker) {
                end_stray(worker, &dir);
            }
        }
        self.python.keep_filled(&self.tasks);
        self.node.keep_filled(&self.tasks);
    }

    fn directories(&self) -> Vec<(WorkerId, PathBuf)> {
        let Ok(entries) = std::fs::read_dir(&self.config.workers_dir) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let worker = WorkerId::parse(entry.file_name().to_str()?).ok()?;
                Some((worker, entry.path()))
            })
            .collect()
    }

    fn dir(&self, worker: WorkerId) -> PathBuf {
        self.config.workers_dir.join(worker.to_string())
    }

    fn pool(&self, runtime: Runtime) -> &Arc<Pool> {
        match runtime {
            Runtime::Python => &self.python,
            Runtime::Node => &self.node,
        }
    }

    /// An interpreter for a session: a warm one, or one started now. Record its id as the
    /// session's before [`Self::bind`]: one that no record names is ended at the next start.
    pub async fn take(&self, runtime: Runtime) -> Result<IdleInterpreter, LaunchFailed> {
        self.pool(runtime).take().await
    }

    /// Gives an interpreter to a session.
    pub fn bind(
        &self,
        mut idle: IdleInterpreter,
        session: SessionId,
        workspace: PathBuf,
        recorder: Arc<dyn Recorder>,
    ) -> Result<WorkerHandle, LaunchFailed> {
        let runtime = idle.runtime;
        let fail = |reason: String| LaunchFailed { runtime, reason };
        let keeper = idle
            .take_keeper()
            .ok_or_else(|| fail("it was bound before".to_owned()))?;
        let journal = Arc::clone(keeper.journal());
        let setup = WorkerSetup {
            id: idle.id,
            session,
            runtime,
            next: journal.head_seq(),
            journal,
            keeper: Some(keeper),
            known_exit: None,
            configure: Some(self.configure(idle.id, session, &workspace)),
            unfinished: Vec::new(),
            queue_length: self.config.queue_length,
            interrupt_grace: self.config.interrupt_grace,
        };
        let handle =
            start(setup, recorder, &self.tasks).map_err(|error| fail(error.to_string()))?;
        self.workers.lock().insert(session, handle.clone());
        Ok(handle)
    }

    fn configure(
        &self,
        worker: WorkerId,
        session: SessionId,
        workspace: &std::path::Path,
    ) -> ToHarness {
        let mut env = self.config.environment.clone();
        env.push(("PWD".to_owned(), workspace.display().to_string()));
        // What the programs of user code inherit, so that none can be left over unseen.
        env.push((abide_keeper::WORKER_VARIABLE.to_owned(), worker.to_string()));
        env.push(("ABIDE_SESSION_ID".to_owned(), session.to_string()));
        ToHarness::Configure {
            cwd: workspace.display().to_string(),
            env,
        }
    }

    /// Takes over a worker that was started before the agent was: connects to its keeper, or —
    /// if that is gone — reads its journal to the end and reports how its steps ended.
    pub fn adopt(
        &self,
        adoption: Adoption,
        recorder: Arc<dyn Recorder>,
    ) -> std::io::Result<WorkerHandle> {
        let dir = self.dir(adoption.worker);
        let (keeper, known_exit, journal) = match KeeperClient::connect(&dir) {
            Ok(keeper) => {
                let journal = Arc::clone(keeper.journal());
                (Some(keeper), None, journal)
            }
            Err(error) => {
                let exit = match &error {
                    ConnectError::NotRunning { exit }
                    | ConnectError::ForeignProcess { exit, .. } => exit.clone(),
                    _ => None,
                };
                warn!(worker = %adoption.worker, %error, "worker is gone");
                (
                    None,
                    exit,
                    Arc::new(
                        JournalReader::open_after_crash(&journal_path(&dir))
                            .map_err(std::io::Error::other)?,
                    ),
                )
            }
        };
        let recorded = journal.recorded();
        let setup = WorkerSetup {
            id: adoption.worker,
            session: adoption.session,
            runtime: adoption.runtime,
            next: recorded,
            // Nothing recorded yet: its settings may not have reached it. The keeper drops a
            // repetition.
            configure: (recorded == 0 && keeper.is_some())
                .then(|| self.configure(adoption.worker, adoption.session, &adoption.workspace)),
            journal,
            keeper,
            known_exit,
            unfinished: adoption.unfinished,
            queue_length: self.config.queue_length,
            interrupt_grace: self.config.interrupt_grace,
        };
        let handle = start(setup, recorder, &self.tasks)?;
        self.workers.lock().insert(adoption.session, handle.clone());
        Ok(handle)
    }

    /// The session's worker, alive or dead, if this agent has had one since it started.
    pub fn worker(&self, session: SessionId) -> Option<WorkerHandle> {
        self.workers.lock().get(&session).cloned()
    }

    /// Stops the session's worker, waits until that is recorded and forgets it.
    pub async fn end(&self, session: SessionId, reason: &str) {
        let handle = self.workers.lock().remove(&session);
        if let Some(handle) = handle {
            handle.stop(reason).await;
        }
    }

    /// Stops every worker, terminals included, all at once.
    pub async fn end_all(&self, reason: &str) {
        let handles: Vec<_> = self
            .workers
            .lock()
            .drain()
            .map(|(_, handle)| handle)
            .collect();
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        for handle in handles {
            let (reason, done) = (reason.to_owned(), done.clone());
            self.tasks.spawn("end worker", async move {
                handle.stop(&reason).await;
                drop(done);
            });
        }
        for terminal in self.all_terminals() {
            let done = done.clone();
            self.tasks.spawn("end terminal", async move {
                terminal.stop().await;
                drop(done);
            });
        }
        drop(done);
        let _ = all_done.recv().await;
    }

    /// Removes what is left of a worker on disk.
    pub fn remove(&self, worker: WorkerId) {
        let _ = std::fs::remove_dir_all(self.dir(worker));
    }

    /// The output of a worker that this agent does not run (any more), while its journal is
    /// there.
    pub fn old_output(
        &self,
        worker: WorkerId,
        filter: StreamFilter,
        from: u64,
        end: Option<u64>,
    ) -> Option<OutputReader> {
        let journal =
            Arc::new(JournalReader::open_after_crash(&journal_path(&self.dir(worker))).ok()?);
        let (_, progress) = tokio::sync::watch::channel(0);
        let reader = JournalOutput::new(journal, progress, None, filter, from, end, false);
        Some(reader.into())
    }

    /// Live interpreters of one language that belong to sessions.
    pub(crate) fn interpreters(&self, runtime: Runtime) -> usize {
        let workers = self.workers.lock();
        let live = workers.values().filter(|worker| worker.exit().is_none());
        live.filter(|worker| worker.runtime() == runtime).count()
    }

    /// Counts for status and metrics.
    pub fn counts(&self) -> AgentCounts {
        let workers = self.workers.lock();
        let live = workers.values().filter(|worker| worker.exit().is_none());
        let (mut interpreters, mut unfinished, mut running) = (0, 0, 0);
        for worker in live {
            interpreters += 1;
            unfinished += worker.unfinished();
            running += usize::from(worker.unfinished() > 0);
        }
        AgentCounts {
            interpreters,
            running_steps: running,
            queued_steps: unfinished - running,
            warm_python: self.python.idle(),
            warm_node: self.node.idle(),
            terminals: self.terminal_counts(),
        }
    }
}

/// How much the agent has in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Live interpreters that belong to sessions.
    pub interpreters: usize,
    /// Interpreters at work.
    pub running_steps: usize,
    /// Steps that wait behind others.
    pub queued_steps: usize,
    /// Idle Python interpreters.
    pub warm_python: usize,
    /// Idle Node interpreters.
    pub warm_node: usize,
    /// Terminals, and who looks at them.
    pub terminals: TerminalCounts,
}

/// A worker that no session has: an idle one of an earlier start, or one whose assignment was
/// never recorded.
fn end_stray(worker: WorkerId, dir: &std::path::Path) {
    match KeeperClient::connect(dir) {
        Ok(keeper) => {
            let _ = keeper.kill();
        }
        Err(ConnectError::NotRunning { .. }) => {
            abide_keeper::kill_leftovers(worker.0);
        }
        // Not provably ours: never signalled.
        Err(error) => warn!(%worker, %error, "leaving a stray worker alone"),
    }
    let _ = std::fs::remove_dir_all(dir);
}
