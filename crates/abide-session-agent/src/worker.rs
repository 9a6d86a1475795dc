//! One interpreter: the handle others hold, and the task that owns it.

mod alarm;
mod last_words;
mod records;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abide_interpreter::ToHarness;
use abide_keeper::{JournalReader, KeeperClient};
use abide_model::{
    Exit, NewStep, OutputView, Runtime, SessionId, StepId, StepOutcome, Timestamp, WorkerId,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::output::{
    JournalOutput, OutputChunk, OutputReader, StreamFilter, Tap, TapStarter, Taps,
};
use crate::recorder::Recorder;
use crate::tasks::Tasks;

/// Whether the record says that a step was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It does.
    Recorded,
    /// Not yet: the agent sees to it together with the outcome, or soon after the hand-over if
    /// the step takes longer. Should the server die in between, the journal tells of the step.
    Pending,
}

/// Why a step is lost whose worker was found without keeper and journal.
pub const LEFT_NOTHING: &str = "nobody saw how the step ended: its worker left nothing behind";

/// Where a step stands.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Waits for the steps before it.
    Queued,
    /// The interpreter has it.
    Running {
        /// When it was handed over.
        started_at: Timestamp,
        /// Sequence number of the first journal entry after the hand-over.
        start_seq: u64,
        /// Output offset there.
        output_start: u64,
    },
    /// It ended, and that is recorded, or handed in where the recorder tells before it is durable.
    Ended(Arc<Ended>),
}

/// A step's end, as it is recorded.
#[derive(Debug)]
pub struct Ended {
    /// The step's position in its session.
    pub sequence: i64,
    /// How it ended.
    pub outcome: Arc<StepOutcome>,
}

/// Why a step was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The interpreter is dead.
    #[error("the interpreter is dead: {}", .0.reason)]
    Dead(Exit),
    /// Too many steps wait already.
    #[error("{0} steps wait already")]
    QueueFull(usize),
    /// The agent is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// One step's way through its interpreter.
#[derive(Debug)]
pub struct RunHandle {
    phase: watch::Receiver<Phase>,
    source: Source,
}

/// Where a step's output comes from.
#[derive(Debug)]
enum Source {
    /// The journal on this host.
    Journal {
        worker: WorkerHandle,
        tap: Option<Tap>,
    },
    /// Another host, which sends it.
    Relayed(Option<mpsc::Receiver<OutputChunk>>),
}

impl RunHandle {
    /// A step that runs on another host: `phase` ends with its end, `output` brings its output from
    /// the first byte on and is empty if nobody asked for it.
    pub const fn relayed(
        phase: watch::Receiver<Phase>,
        output: Option<mpsc::Receiver<OutputChunk>>,
    ) -> Self {
        Self {
            phase,
            source: Source::Relayed(output),
        }
    }

    /// Where it stands now.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits for its end; `None` if the agent stops first (the step goes on).
    pub async fn ended(&mut self) -> Option<Arc<Ended>> {
        match &*self
            .phase
            .wait_for(|phase| matches!(phase, Phase::Ended(_)))
            .await
            .ok()?
        {
            Phase::Ended(ended) => Some(Arc::clone(ended)),
            Phase::Queued | Phase::Running { .. } => None,
        }
    }

    /// Waits until it starts, or ends without; `None` if the agent stops first.
    pub async fn started(&mut self) -> Option<Phase> {
        let started = self
            .phase
            .wait_for(|phase| !matches!(phase, Phase::Queued))
            .await;
        started.ok().map(|phase| phase.clone())
    }

    /// Waits until it starts, then reads its output from the first byte to its end. `None` if
    /// it ended without starting, or the agent stops.
    pub async fn output(&mut self) -> Option<OutputReader> {
        let phase = self
            .phase
            .wait_for(|phase| !matches!(phase, Phase::Queued))
            .await
            .ok()?
            .clone();
        let (shared, tap) = match &mut self.source {
            Source::Journal { worker, tap } => (&worker.shared, tap),
            Source::Relayed(chunks) => {
                let start = match phase {
                    Phase::Running { output_start, .. } => output_start,
                    Phase::Ended(ended) if ended.outcome.started_at.is_some() => {
                        ended.outcome.output_start
                    }
                    Phase::Ended(_) | Phase::Queued => return None,
                };
                return Some(OutputReader::relayed(chunks.take()?, start, (start, start)));
            }
        };
        match phase {
            Phase::Running {
                start_seq,
                output_start,
                ..
            } => {
                let reader = JournalOutput::of_step(
                    Arc::clone(&shared.journal),
                    shared.progress.subscribe(),
                    self.phase.clone(),
                    tap.take(),
                    (start_seq, output_start),
                );
                Some(reader.into())
            }
            Phase::Ended(ended) if ended.outcome.started_at.is_some() => Some(shared.output(
                StreamFilter::All,
                ended.outcome.output_start,
                Some(ended.outcome.output_end),
                false,
            )),
            Phase::Ended(_) | Phase::Queued => None,
        }
    }
}

/// A partial look at a running step.
#[derive(Debug, Clone, Default)]
pub struct Peek {
    /// Standard output so far.
    pub stdout: OutputView,
    /// Standard error so far.
    pub stderr: OutputView,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// Steps before it.
    pub position: usize,
}

/// What the owner task is asked to do.
#[derive(Debug)]
enum Command {
    Submit {
        step: Arc<NewStep>,
        acceptance: Acceptance,
        phase: watch::Sender<Phase>,
        tap: Option<TapStarter>,
    },
    Attach {
        id: StepId,
        tap: Option<TapStarter>,
        reply: oneshot::Sender<Option<watch::Receiver<Phase>>>,
    },
    Peek {
        id: StepId,
        reply: oneshot::Sender<Option<Peek>>,
    },
    Cancel {
        id: StepId,
    },
    Withdraw {
        id: StepId,
    },
    InterruptRunning,
    Stop {
        reason: String,
    },
}

/// What the task and its handles share.
#[derive(Debug)]
struct Shared {
    id: WorkerId,
    session: SessionId,
    runtime: Runtime,
    journal: Arc<JournalReader>,
    taps: Arc<Taps>,
    /// Sequence number of the entry the task will read next; the sender lives as long as the task.
    progress: watch::Sender<u64>,
    exit: watch::Sender<Option<Exit>>,
    unfinished: AtomicUsize,
    queue_length: usize,
    caught_up: watch::Sender<bool>,
}

impl Shared {
    fn output(
        &self,
        filter: StreamFilter,
        from: u64,
        end: Option<u64>,
        follow: bool,
    ) -> OutputReader {
        JournalOutput::new(
            Arc::clone(&self.journal),
            self.progress.subscribe(),
            Some(self.exit.subscribe()),
            filter,
            from,
            end,
            follow,
        )
        .into()
    }
}

/// Speaks to one interpreter; cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedSender<Command>,
    /// Held by whoever accepts a step, so that the order of acceptance is the order of running.
    /// Inside: the sequence number given to the last step that was accepted here.
    pub accepting: Arc<tokio::sync::Mutex<Option<i64>>>,
}

impl WorkerHandle {
    /// Which worker.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// Which language.
    pub fn runtime(&self) -> Runtime {
        self.shared.runtime
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        self.shared.exit.borrow().clone()
    }

    /// Whether every step that was handed over before the agent came to this worker is known and
    /// recorded as accepted.
    pub fn has_caught_up(&self) -> bool {
        *self.shared.caught_up.borrow()
    }

    /// Waits for that. Accepting a step sooner could give it the place of one that was told
    /// already.
    pub async fn caught_up(&self) {
        let mut caught_up = self.shared.caught_up.subscribe();
        // An error means that the agent stops, and takes no step anyway.
        let _ = caught_up.wait_for(|done| *done).await;
    }

    /// Steps that wait or run.
    pub fn unfinished(&self) -> usize {
        self.shared.unfinished.load(Ordering::Relaxed)
    }

    /// Whether a step would be taken now.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(exit) = self.exit() {
            return Err(Refusal::Dead(exit));
        }
        if self.unfinished() >= self.shared.queue_length {
            return Err(Refusal::QueueFull(self.unfinished()));
        }
        Ok(())
    }

    /// Queues a step. With `hold_output` the program waits for the reader that
    /// [`RunHandle::output`] gives, so that it gets every byte.
    ///
    /// From here on the recorder will be told how it ended, also if the interpreter turns out to
    /// be dead.
    pub fn submit(
        &self,
        step: Arc<NewStep>,
        acceptance: Acceptance,
        hold_output: bool,
    ) -> Result<RunHandle, Refusal> {
        let (sender, phase) = watch::channel(Phase::Queued);
        let tap = hold_output.then(|| self.shared.taps.tap());
        let starter = tap.as_ref().map(Tap::starter);
        self.shared.unfinished.fetch_add(1, Ordering::Relaxed);
        self.inbox
            .send(Command::Submit {
                step,
                acceptance,
                phase: sender,
                tap: starter,
            })
            .map_err(|_| Refusal::Stopping)?;
        Ok(self.handle(phase, tap))
    }

    /// Joins a step that was submitted earlier; `None` if it is not here (any more). With
    /// `hold_output` the program waits for the reader, as in [`Self::submit`].
    pub async fn attach(&self, id: StepId, hold_output: bool) -> Option<RunHandle> {
        let (reply, answer) = oneshot::channel();
        let tap = hold_output.then(|| self.shared.taps.tap());
        let starter = tap.as_ref().map(Tap::starter);
        self.inbox
            .send(Command::Attach {
                id,
                tap: starter,
                reply,
            })
            .ok()?;
        let phase = answer.await.ok()??;
        Some(self.handle(phase, tap))
    }

    fn handle(&self, phase: watch::Receiver<Phase>, tap: Option<Tap>) -> RunHandle {
        let worker = self.clone();
        RunHandle {
            phase,
            source: Source::Journal { worker, tap },
        }
    }

    /// What an unfinished step has printed so far.
    pub async fn peek(&self, id: StepId) -> Option<Peek> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Command::Peek { id, reply }).ok()?;
        answer.await.ok()?
    }

    /// Takes a step out of the queue, or interrupts it.
    pub fn cancel(&self, id: StepId) {
        let _ = self.inbox.send(Command::Cancel { id });
    }

    /// Takes a step out of the queue; one whose turn has come goes on.
    pub fn withdraw(&self, id: StepId) {
        let _ = self.inbox.send(Command::Withdraw { id });
    }

    /// Interrupts whatever runs.
    pub fn interrupt(&self) {
        let _ = self.inbox.send(Command::InterruptRunning);
    }

    /// Ends the whole process tree and waits until that is recorded.
    pub async fn stop(&self, reason: &str) {
        let _ = self.inbox.send(Command::Stop {
            reason: reason.to_owned(),
        });
        let mut exit = self.shared.exit.subscribe();
        let _ = exit.wait_for(Option::is_some).await;
    }

    /// The worker's output from `from` up to `end` or what is there; see [`OutputReader`].
    pub fn output(
        &self,
        filter: StreamFilter,
        from: u64,
        end: Option<u64>,
        follow: bool,
    ) -> OutputReader {
        self.shared.output(filter, from, end, follow)
    }

    /// Output offset after the last byte written.
    pub fn output_end(&self) -> u64 {
        self.shared.journal.output_end()
    }
}

/// Everything a worker's task needs.
pub(crate) struct WorkerSetup {
    pub(crate) id: WorkerId,
    pub(crate) session: SessionId,
    pub(crate) runtime: Runtime,
    pub(crate) journal: Arc<JournalReader>,
    /// `None`: its keeper is gone; the journal is read to its end and the rest concluded.
    pub(crate) keeper: Option<KeeperClient>,
    /// How the keeper said its process ended, for a worker without one.
    pub(crate) known_exit: Option<abide_keeper::ExitRecord>,
    /// Where to start reading.
    pub(crate) next: u64,
    /// Sent before the first step.
    pub(crate) configure: Option<ToHarness>,
    /// Steps accepted before a restart of the agent, in order.
    pub(crate) unfinished: Vec<NewStep>,
    pub(crate) queue_length: usize,
    pub(crate) interrupt_grace: std::time::Duration,
}

/// Starts the owner task.
pub(crate) fn start(
    setup: WorkerSetup,
    recorder: Arc<dyn Recorder>,
    tasks: &Tasks,
) -> std::io::Result<WorkerHandle> {
    let (inbox, commands) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        id: setup.id,
        session: setup.session,
        runtime: setup.runtime,
        taps: Arc::new(Taps::new(Arc::clone(&setup.journal))),
        journal: Arc::clone(&setup.journal),
        progress: watch::channel(setup.next).0,
        exit: watch::channel(None).0,
        unfinished: AtomicUsize::new(setup.unfinished.len()),
        queue_length: setup.queue_length,
        caught_up: watch::channel(setup.next >= setup.journal.head_seq()).0,
    });
    let task = task::WorkerTask::new(setup, Arc::clone(&shared), commands, recorder)?;
    tasks.spawn("worker", task.run(tasks.stopping()));
    Ok(WorkerHandle {
        shared,
        inbox,
        accepting: Arc::default(),
    })
}

/// The live workers by session.
pub(crate) type Workers = Mutex<std::collections::HashMap<SessionId, WorkerHandle>>;
