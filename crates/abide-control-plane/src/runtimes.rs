//! What the control plane asks of the planes below it, through one door with two ways behind it:
//! [`LocalRuntimes`] runs interpreters in this process's session agent, [`RemoteRuntimes`] asks
//! a data plane for them.

mod local;
mod remote;
mod terminal;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use abide_model::{
    Exit, NewStep, Problem, ProblemCode, ScreenState, Session, SessionId, StepId, TerminalSpec,
    Timestamp, Worker, WorkerId, Workspace,
};
use abide_session_agent::{
    Acceptance, AgentCounts, OutputReader, Refusal, RunHandle, StreamFilter,
};
use abide_store::StoreError;
use tokio::sync::Mutex;

pub(crate) use local::LocalRuntimes;
pub(crate) use remote::{RemoteConfig, RemoteRuntimes};
pub(crate) use terminal::{Eye, Hand, Look, Sight, Terminal};

use crate::service::{Outcome, WorkspaceRequest};

/// An answer that is on its way.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session's interpreter, as far as is known here.
#[derive(Debug, Clone)]
pub(crate) struct Interpreter {
    /// Which worker.
    pub(crate) id: WorkerId,
    /// Whether it would take a step now.
    pub(crate) readiness: Result<(), Box<Problem>>,
    /// No step waits or runs.
    pub(crate) idle: bool,
    /// Every step of before this process started is in the records; until then it takes no new ones.
    pub(crate) caught_up: bool,
    /// Held by whoever accepts a step, so that the order of acceptance is the order of running.
    /// Inside: the sequence number given to the last step that was accepted here.
    pub(crate) accepting: Arc<Mutex<Option<i64>>>,
}

/// What an unfinished step has printed so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glance {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Bytes written; more than the texts have where those leave something out.
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    pub(crate) truncated: bool,
    /// When it started.
    pub(crate) started_at: Option<Timestamp>,
    /// Steps before it.
    pub(crate) position: usize,
}

/// Which output of a session is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Whose journal; its present interpreter's if `None`.
    pub(crate) worker: Option<WorkerId>,
    pub(crate) filter: StreamFilter,
    /// First output offset; the earliest there is if `None`.
    pub(crate) from: Option<u64>,
    /// Instead of `from`: only the last so many bytes.
    pub(crate) tail: Option<u64>,
    /// Output offset at which to stop; what is there now if `None` and not followed.
    pub(crate) end: Option<u64>,
    pub(crate) follow: bool,
}

/// See the module.
///
/// Whatever is started and whatever ends is told to the [`abide_session_agent::Recorder`] that the
/// implementation was made with.
pub(crate) trait Runtimes: Send + Sync + std::fmt::Debug + 'static {
    /// Whether a step that was handed over is remembered on this host, so that its acceptance need
    /// not be recorded before: then [`Acceptance::Pending`] may be given to [`Self::submit`].
    fn vouches(&self) -> bool;

    /// The directory that a new session is to have.
    fn workspace(&self, session: SessionId, request: WorkspaceRequest) -> Outcome<Workspace>;

    /// The session's interpreter, alive or dead, without asking anybody; `None` if nothing is known
    /// of it.
    fn known(&self, session: SessionId) -> Option<Interpreter>;

    /// Gives the session an interpreter: the one it has, its first, or — with `fresh` — another one
    /// in place of what it had. Recorded before anything runs in it.
    fn open<'a>(&'a self, session: &'a Session, fresh: bool) -> Answer<'a, Outcome<Interpreter>>;

    /// Hands a step over, unless the session has another interpreter by now. With `hold_output` the
    /// program waits for the reader of [`RunHandle::output`]. Where it fails the step has ended, or
    /// will, and that is recorded.
    fn submit(
        &self,
        interpreter: &Interpreter,
        step: Arc<NewStep>,
        acceptance: Acceptance,
        hold_output: bool,
    ) -> Answer<'_, Outcome<RunHandle>>;

    /// A step that was handed over and whose end is not recorded.
    fn join(
        &self,
        session: SessionId,
        step: StepId,
        hold_output: bool,
    ) -> Answer<'_, Option<RunHandle>>;

    /// Why nobody can say at present what became of a step that is under way.
    fn trouble(&self, session: SessionId, step: StepId) -> Option<Problem>;

    /// What an unfinished step has printed so far.
    fn peek(&self, session: SessionId, step: StepId) -> Answer<'_, Option<Glance>>;

    /// Takes a step out of the queue, or interrupts it.
    fn cancel(&self, session: SessionId, step: StepId) -> Answer<'_, Outcome<()>>;

    /// Interrupts whatever runs.
    fn interrupt(&self, session: SessionId) -> Answer<'_, Outcome<()>>;

    /// Ends the session's interpreter, and removes all that belongs to the session below.
    fn delete<'a>(
        &'a self,
        session: &'a Session,
        workers: &'a [WorkerId],
    ) -> Answer<'a, Outcome<()>>;

    /// Reads output; `None` if there never was an interpreter or its journal is gone.
    fn output(
        &self,
        session: SessionId,
        wanted: Wanted,
    ) -> Answer<'_, Outcome<Option<OutputReader>>>;

    /// Starts a program on a terminal in the session's workspace. Recorded before it runs.
    fn start_terminal<'a>(
        &'a self,
        session: &'a Session,
        spec: TerminalSpec,
    ) -> Answer<'a, Outcome<Arc<dyn Terminal>>>;

    /// A terminal, whether its program lives or has ended, if it is known here.
    fn terminal(&self, worker: WorkerId) -> Option<Arc<dyn Terminal>>;

    /// A terminal that ended before this process started, if what it left can still be looked at.
    fn reopen_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Option<Arc<dyn Terminal>>>;

    /// What can be told of terminals without drawing them, as far as somebody can say.
    fn screens<'a>(
        &'a self,
        of: &'a [(SessionId, WorkerId)],
    ) -> Answer<'a, HashMap<WorkerId, ScreenState>>;

    /// Ends a terminal's whole process tree; what it left can still be looked at. Its end is recorded
    /// then.
    fn stop_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>>;

    /// Ends a terminal's whole process tree, and removes what it left on disk. Its end is recorded then.
    fn end_terminal<'a>(&'a self, worker: &'a Worker) -> Answer<'a, Outcome<()>>;

    /// Counts for status and metrics.
    fn counts(&self) -> AgentCounts;

    /// Takes over what the records say was left by the process before. Call it once.
    fn recover(&self) -> Answer<'_, Result<(), StoreError>>;

    /// Stops every interpreter of this host.
    fn end_all(&self) -> Answer<'_, ()>;
}

/// Why a step is not taken, as the API says it.
pub(crate) fn refused(session: SessionId, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Dead(exit) => runtime_crashed(session, &exit),
        Refusal::QueueFull(waiting) => Problem::new(
            ProblemCode::LimitReached,
            format!("{waiting} steps wait in this session already (queue_length); try again later"),
        )
        .with_details(serde_json::json!({ "queued": waiting })),
        Refusal::Stopping => Problem::new(ProblemCode::ShuttingDown, "the server is stopping"),
    }
}

/// 503 with how the interpreter ended and how to go on.
pub(crate) fn runtime_crashed(session: SessionId, exit: &Exit) -> Problem {
    Problem::new(
        ProblemCode::RuntimeCrashed,
        format!(
            "the session's interpreter is gone ({}), and its variables with it; \
             POST /sessions/{}/restart starts a fresh one",
            exit.reason, session
        ),
    )
    .with_details(serde_json::json!({ "session_id": session, "exit": exit }))
}
