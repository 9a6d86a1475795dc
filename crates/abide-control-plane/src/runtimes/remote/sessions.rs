//! Sessions: what is known of each, and how each gets and loses its interpreter.

use std::sync::Arc;

use abide_data_plane::CreateSession;
use abide_data_plane::client::{RemoteSession, mismatch};
use abide_model::{
    Exit, NewStep, NewWorker, Problem, ProblemCode, Session, SessionId, StepId, Timestamp,
    WorkerId, WorkerState, WorkspaceKind,
};
use abide_session_agent::{AgentCounts, Phase, Recorder as _, Refusal};
use abide_store::StoreError;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use super::super::{Interpreter, refused};
use super::ends::STEPS_END_WITHIN;
use super::steps::Way;
use super::{Remote, runtime_crashed};
use crate::service::{Outcome, store_problem};
use crate::store_recorder::StoreRecorder;
use crate::trace;

/// What a session may live longer below than its records say, in seconds.
const EXPIRY_GRACE_SECONDS: i64 = 10;
/// Sessions that are ended at once.
const AT_ONCE: usize = 8;

/// A session that has, or had, an interpreter.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) session: SessionId,
    queue_length: usize,
    /// See [`Interpreter::accepting`].
    accepting: Arc<tokio::sync::Mutex<Option<i64>>>,
    state: Mutex<State>,
    /// Told whenever a step has ended.
    step_ended: Notify,
}

/// How an interpreter ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) worker: WorkerId,
    pub(super) exit: Exit,
    /// By itself.
    pub(super) crashed: bool,
}

#[derive(Debug)]
struct State {
    worker: WorkerId,
    /// Why it takes no more steps.
    dead: Option<Box<Problem>>,
    /// An end that is recorded once the steps that ended with it are.
    ending: Option<Ending>,
    /// Steps that have not ended, in the order in which they run.
    steps: Vec<Arc<Way>>,
}

impl Ending {
    /// Of an interpreter that was ended on purpose.
    pub(super) fn on_purpose(worker: WorkerId, reason: &str) -> Self {
        Self {
            worker,
            exit: Exit {
                reason: reason.to_owned(),
                ..Exit::default()
            },
            crashed: false,
        }
    }
}

impl Known {
    pub(super) fn new(session: SessionId, worker: WorkerId, queue_length: usize) -> Arc<Self> {
        Arc::new(Self {
            session,
            queue_length,
            accepting: Arc::default(),
            state: Mutex::new(State {
                worker,
                dead: None,
                ending: None,
                steps: Vec::new(),
            }),
            step_ended: Notify::new(),
        })
    }

    pub(super) fn interpreter(&self) -> Interpreter {
        let state = self.state.lock();
        // Some have ended and are only not durable yet.
        let waiting = state.steps.iter().filter(|way| !way.has_ended()).count();
        let readiness = match &state.dead {
            Some(problem) => Err(problem.clone()),
            None if waiting >= self.queue_length => {
                let refusal = Refusal::QueueFull(waiting);
                Err(Box::new(refused(self.session, refusal)))
            }
            None => Ok(()),
        };
        Interpreter {
            id: state.worker,
            readiness,
            idle: waiting == 0,
            // Every step of before is in the records.
            caught_up: true,
            accepting: Arc::clone(&self.accepting),
        }
    }

    /// Its turn to have a step accepted.
    pub(super) fn accepting(&self) -> Arc<tokio::sync::Mutex<Option<i64>>> {
        Arc::clone(&self.accepting)
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.state.lock().worker
    }

    /// Why it takes no more steps.
    pub(super) fn death(&self) -> Option<Problem> {
        self.state.lock().dead.as_deref().cloned()
    }

    /// Adds a step at the end of the queue.
    pub(super) fn begin(&self, step: Arc<NewStep>) -> Arc<Way> {
        let way = Arc::new(Way::new(step));
        self.state.lock().steps.push(Arc::clone(&way));
        way
    }

    /// Takes a step out whose end is recorded. With the last one comes what is to be recorded next.
    pub(super) fn end(&self, step: StepId) -> Option<Ending> {
        let mut state = self.state.lock();
        state.steps.retain(|way| way.step.id != step);
        self.step_ended.notify_waiters();
        if state.steps.is_empty() {
            state.ending.take()
        } else {
            None
        }
    }

    /// What is to be recorded of its interpreter's end, whatever becomes of the steps.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.state.lock().ending.take()
    }

    /// A step that has not ended.
    pub(super) fn way(&self, step: StepId) -> Option<Arc<Way>> {
        let state = self.state.lock();
        state.steps.iter().find(|way| way.step.id == step).cloned()
    }

    /// Nobody here tells any more how its steps end.
    pub(super) fn let_go(&self) {
        self.state.lock().steps.iter().for_each(|way| way.let_go());
    }

    /// How many steps are before one.
    pub(super) fn position(&self, step: StepId) -> Option<usize> {
        let state = self.state.lock();
        let mut waiting = state.steps.iter().filter(|way| !way.has_ended());
        waiting.position(|way| way.step.id == step)
    }

    /// Notes that its interpreter is gone, and why; false if that was known, or it has another one
    /// by now.
    pub(super) fn die(&self, ending: Ending, problem: Problem) -> bool {
        let mut state = self.state.lock();
        let news = state.worker == ending.worker && state.dead.is_none();
        if news {
            state.dead = Some(Box::new(problem));
            state.ending = Some(ending);
        }
        news
    }

    /// Until nothing waits or runs.
    async fn until_idle(&self) {
        loop {
            let ended = self.step_ended.notified();
            if self.is_idle() {
                return;
            }
            ended.await;
        }
    }

    /// Nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().steps.is_empty()
    }

    /// Gives it another interpreter.
    fn renew(&self, worker: WorkerId) {
        let mut state = self.state.lock();
        state.worker = worker;
        state.dead = None;
    }

    pub(super) fn count(&self, counts: &mut AgentCounts) {
        let state = self.state.lock();
        counts.interpreters += usize::from(state.dead.is_none());
        for way in &state.steps {
            match way.phase() {
                Phase::Queued => counts.queued_steps += 1,
                Phase::Running { .. } => counts.running_steps += 1,
                Phase::Ended(_) => {}
            }
        }
    }
}

impl Remote {
    /// The session's interpreter: the one it has, its first, or another one.
    pub(super) async fn open(
        self: &Arc<Self>,
        session: &Session,
        fresh: bool,
    ) -> Outcome<Arc<Known>> {
        let (this, session) = (Arc::clone(self), session.clone());
        // Whoever asked may go away; what was made below is recorded all the same.
        self.finish("open session", async move {
            this.open_now(&session, fresh).await
        })
        .await
    }

    async fn open_now(self: &Arc<Self>, session: &Session, fresh: bool) -> Outcome<Arc<Known>> {
        let _turn = self.locks.lock(session.id).await;
        if let Some(known) = self.find(session.id) {
            if !fresh {
                return Ok(known);
            }
            self.record_ending(session.id, known.ending()).await;
        }
        let store = &self.config.store;
        let last = store.current_worker(session.id).await;
        let last = last.map_err(store_problem)?;
        if !fresh && let Some(worker) = &last {
            // Every live one is known since the start, so what the records have is dead.
            let exit = worker.exit.clone().unwrap_or_default();
            return Err(runtime_crashed(session.id, &exit));
        }
        let remote = self.make(session, last.is_some()).await?;
        let Some(id) = remote.worker_id else {
            return Err(Problem::new(
                ProblemCode::RuntimeUnavailable,
                "the data plane did not say which interpreter the session got",
            ));
        };
        let before = last.filter(|worker| worker.state == WorkerState::Running);
        if let Some(before) = before.filter(|before| before.id != id) {
            let ending = Ending::on_purpose(before.id, "restarted on request");
            self.record_ending(session.id, Some(ending)).await;
        }
        let new = NewWorker::interpreter(id, session.id, session.runtime);
        let recorded = if fresh {
            store.restart_worker(new).await
        } else {
            store.assign_worker(new).await
        };
        match recorded {
            // The data plane had nothing to do.
            Ok(_) | Err(StoreError::IdTaken(_)) => {}
            Err(error) => return Err(store_problem(error)),
        }
        let known = self.renew(session.id, id);
        match remote.status.as_str() {
            "lost" => self.lost(&known, id, mismatch()).await,
            "crashed" => self.crashed(&known, id, None).await,
            _ => {}
        }
        Ok(known)
    }

    /// Has the data plane make the session, or give it another interpreter if it `has` had one.
    async fn make(&self, session: &Session, has: bool) -> Outcome<RemoteSession> {
        let trace = trace::current();
        let label = session.id.to_string();
        if has {
            match self.client.restart(&label, &trace).await {
                // It is not there any more: another one in its place.
                Err(problem) if matches!(problem.status, 404 | 410) => {}
                other => return other,
            }
        }
        self.client.create(&blueprint(session, true), &trace).await
    }

    /// Has the data plane make the session, if it has none such, with nothing in it yet.
    pub(super) async fn make_without_interpreter(&self, session: &Session) -> Outcome<()> {
        let new = blueprint(session, false);
        self.client.create(&new, &trace::current()).await.map(drop)
    }

    /// Notes that a session has this interpreter from now on.
    pub(super) fn renew(&self, session: SessionId, worker: WorkerId) -> Arc<Known> {
        let mut sessions = self.sessions.write();
        let known = sessions
            .entry(session)
            .or_insert_with(|| Known::new(session, worker, self.config.queue_length));
        known.renew(worker);
        Arc::clone(known)
    }

    /// Ends a session below. `had` says whether it ever had an interpreter.
    pub(super) async fn delete(self: &Arc<Self>, session: SessionId, had: bool) -> Outcome<()> {
        let this = Arc::clone(self);
        self.finish("end session", async move {
            let _turn = this.locks.lock(session).await;
            let label = session.to_string();
            let had = had || this.find(session).is_some();
            match this.client.terminate(&label, &trace::current()).await {
                Ok(()) => {}
                Err(problem) if matches!(problem.status, 404 | 410) => {}
                // Nothing of it was ever made, as far as anybody knows.
                Err(problem) if !had => {
                    warn!(%session, message = %problem.message, "cannot ask for its end");
                }
                Err(problem) => return Err(problem),
            }
            let reason = "it was ended with its session";
            this.terminals_gone(session, reason, false).await;
            if let Some(known) = this.find(session) {
                // Its steps' ends come first.
                let idle = known.until_idle();
                if tokio::time::timeout(STEPS_END_WITHIN, idle).await.is_err() {
                    warn!(%session, "steps of an ended session have not ended");
                }
                this.sessions.write().remove(&session);
                let ending = Ending::on_purpose(known.worker(), "the session was deleted");
                let problem = runtime_crashed(session, &ending.exit);
                known.die(ending, problem);
                this.record_ending(session, known.ending()).await;
            }
            Ok(())
        })
        .await
    }

    /// Ends every session's interpreter and terminals.
    pub(super) async fn end_all(self: &Arc<Self>) {
        let mut sessions = self.sessions_with_terminals();
        for known in self.sessions.read().values() {
            if known.death().is_none() {
                sessions.insert(known.session);
            }
        }
        futures_util::stream::iter(sessions)
            .for_each_concurrent(AT_ONCE, async |session| {
                let label = session.to_string();
                if let Err(problem) = self.client.terminate(&label, &trace::current()).await {
                    warn!(session = label, message = %problem.message, "cannot end it");
                    return;
                }
                let reason = "stopped by `abide down`";
                self.terminals_gone(session, reason, false).await;
                if let Some(known) = self.find(session) {
                    let ending = Ending::on_purpose(known.worker(), reason);
                    let problem = runtime_crashed(session, &ending.exit);
                    known.die(ending, problem);
                    self.record_ending(session, known.ending()).await;
                }
            })
            .await;
    }

    /// Does work to its end, whether or not somebody waits for it.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = trace::carried(work);
        self.config.tasks.spawn(name, async move {
            // Nobody may be waiting any more.
            let _ = tell.send(work.await);
        });
        told.await.unwrap_or_else(|_| {
            Err(Problem::new(
                ProblemCode::ShuttingDown,
                "the server is stopping",
            ))
        })
    }

    /// Writes down what is left to be recorded of an interpreter's end.
    pub(super) async fn record_ending(&self, session: SessionId, ending: Option<Ending>) {
        if let Some(ending) = ending {
            record_exit(&self.config.recorder, session, ending).await;
        }
    }
}

/// What the data plane is to make of a session.
fn blueprint(session: &Session, interpreter: bool) -> CreateSession {
    // Ended there only if nobody here does it.
    let left = |expires: Timestamp| {
        let micros = expires.as_micros() - Timestamp::now().as_micros();
        (micros / 1_000_000 + 1).max(1) + EXPIRY_GRACE_SECONDS
    };
    let whole = session.ttl_seconds.filter(|_| session.sliding);
    let whole = whole.map(|seconds| seconds.saturating_add(EXPIRY_GRACE_SECONDS));
    CreateSession {
        session_id: session.id.to_string(),
        runtime: session.runtime,
        workspace_ref: Some(session.workspace.path.clone()),
        scratch: session.workspace.kind == WorkspaceKind::Scratch,
        ttl_seconds: whole.or(session.expires_at.map(left)),
        sliding: session.sliding,
        interpreter,
    }
}

/// Writes down that an interpreter ended.
pub(super) async fn record_exit(recorder: &StoreRecorder, session: SessionId, ending: Ending) {
    let Ending {
        worker,
        exit,
        crashed,
    } = ending;
    if let Err(error) = recorder.worker_exited(session, worker, exit, crashed).await {
        // The records say that it lives; the next start asks the data plane.
        warn!(%session, %worker, error = &error as &dyn std::error::Error, "end not recorded");
    }
}
