//! Terminals of a data plane: started, ended, and what befalls them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use abide_model::{
    Exit, NewWorker, Problem, ScreenState, Session, SessionId, SessionNews, StartTerminal,
    TerminalChanges, TerminalCounts, TerminalSpec, TerminalState, Worker, WorkerId, WorkerKind,
};
use abide_session_agent::Recorder as _;
use tracing::{info, warn};

use super::Remote;
use super::terminal::{KnownTerminal, RemoteTerminal, is_gone};
use crate::service::{Outcome, store_problem};
use crate::trace;

impl Remote {
    /// A terminal that is known here.
    pub(super) fn terminal(self: &Arc<Self>, id: WorkerId) -> Option<RemoteTerminal> {
        let known = self.terminals.read().get(&id).cloned()?;
        Some(self.handle(known))
    }

    fn handle(self: &Arc<Self>, known: Arc<KnownTerminal>) -> RemoteTerminal {
        RemoteTerminal {
            remote: Arc::clone(self),
            known,
        }
    }

    /// Has a terminal known from now on.
    pub(super) fn remember(
        &self,
        id: WorkerId,
        session: SessionId,
        exit: Option<Exit>,
    ) -> Arc<KnownTerminal> {
        let mut terminals = self.terminals.write();
        let known = terminals.entry(id);
        Arc::clone(known.or_insert_with(|| KnownTerminal::new(id, session, exit)))
    }

    fn forget_terminal(&self, id: WorkerId) {
        self.terminals.write().remove(&id);
    }

    /// A terminal that ended before this process started, if something of it is left below.
    pub(super) async fn reopen_terminal(
        self: &Arc<Self>,
        worker: &Worker,
    ) -> Option<RemoteTerminal> {
        let (session, trace) = (worker.session_id.to_string(), trace::current());
        let asked = self.client.terminal(&session, worker.id, &trace);
        asked.await.ok()?.screen?;
        let known = self.remember(worker.id, worker.session_id, worker.exit.clone());
        Some(self.handle(known))
    }

    /// Starts a program on a terminal: recorded first.
    pub(super) async fn start_terminal(
        self: &Arc<Self>,
        session: &Session,
        spec: TerminalSpec,
    ) -> Outcome<RemoteTerminal> {
        let (this, session) = (Arc::clone(self), session.clone());
        // Whoever asked may go away; what was started below is recorded all the same.
        self.finish("start terminal", async move {
            let _turn = this.locks.lock(session.id).await;
            let known = this.start_terminal_now(&session, spec).await?;
            Ok(this.handle(known))
        })
        .await
    }

    async fn start_terminal_now(
        self: &Arc<Self>,
        session: &Session,
        spec: TerminalSpec,
    ) -> Outcome<Arc<KnownTerminal>> {
        let store = &self.config.store;
        let before = store.workers(session.id).await.map_err(store_problem)?;
        if before.is_empty() {
            // Its interpreter comes with its first step.
            self.make_without_interpreter(session).await?;
        }
        let id = WorkerId::new();
        let recorded = NewWorker::terminal(id, session.id, spec.clone());
        store.assign_worker(recorded).await.map_err(store_problem)?;
        let known = self.remember(id, session.id, None);
        let new = StartTerminal { id, spec };
        let mut started = self.start_below(session.id, &new).await;
        if !before.is_empty()
            && let Err(problem) = &started
            && matches!(problem.status, 404 | 410)
        {
            // It has expired below, or was terminated there.
            started = match self.make_without_interpreter(session).await {
                Ok(()) => self.start_below(session.id, &new).await,
                Err(problem) => Err(problem),
            };
        }
        match started {
            Ok(state) => {
                if let Some(exit) = state.worker.exit {
                    self.terminal_ended(id, session.id, exit).await;
                }
                Ok(known)
            }
            Err(problem) => {
                let exit = Exit {
                    reason: format!("it could not be started: {}", problem.message),
                    ..Exit::default()
                };
                // Should it run all the same, it is found to be nobody's and ended.
                self.terminal_ended(id, session.id, exit).await;
                self.forget_terminal(id);
                Err(problem)
            }
        }
    }

    async fn start_below(&self, session: SessionId, new: &StartTerminal) -> Outcome<TerminalState> {
        let session = session.to_string();
        let trace = trace::current();
        self.client.start_terminal(&session, new, &trace).await
    }

    /// Ends a terminal's whole process tree, and with `forget` removes what it left.
    pub(super) async fn end_terminal(
        self: &Arc<Self>,
        worker: &Worker,
        forget: bool,
    ) -> Outcome<()> {
        let this = Arc::clone(self);
        let (id, session) = (worker.id, worker.session_id);
        self.finish("end terminal", async move {
            let label = session.to_string();
            let ended = this
                .client
                .end_terminal(&label, id, forget, &trace::current())
                .await;
            let exit = match ended {
                Ok(state) => state.worker.exit.unwrap_or_default(),
                Err(problem) if is_gone(&problem) => Exit {
                    reason: "nothing of it is left below this server".to_owned(),
                    ..Exit::default()
                },
                Err(problem) => return Err(problem),
            };
            this.terminal_ended(id, session, exit).await;
            if forget {
                this.forget_terminal(id);
            }
            Ok(())
        })
        .await
    }

    /// Records how a terminal's program ended, if that is news, and tells whoever waits for it.
    pub(super) async fn terminal_ended(&self, id: WorkerId, session: SessionId, exit: Exit) {
        self.record_terminal(id, session, exit, false).await;
    }

    async fn record_terminal(&self, id: WorkerId, session: SessionId, exit: Exit, crashed: bool) {
        let recorded = self
            .config
            .recorder
            .worker_exited(session, id, exit.clone(), crashed);
        if let Err(error) = recorded.await {
            // The records say that it lives; a comparison finds that it does not.
            warn!(%session, worker = %id, error = &error as &dyn std::error::Error, "end not recorded");
            return;
        }
        if let Some(known) = self.terminals.read().get(&id) {
            known.exit.send_if_modified(|known| {
                let is_news = known.is_none();
                if is_news {
                    *known = Some(exit);
                }
                is_news
            });
        }
    }

    /// The terminals of a session are gone with what held them; `crashed`: nobody asked for that.
    pub(super) async fn terminals_gone(&self, session: SessionId, reason: &str, crashed: bool) {
        for known in self.terminals_of(session) {
            if known.exit.borrow().is_none() {
                let exit = Exit {
                    reason: reason.to_owned(),
                    ..Exit::default()
                };
                self.record_terminal(known.id, session, exit, crashed).await;
            }
            self.forget_terminal(known.id);
        }
    }

    fn terminals_of(&self, session: SessionId) -> Vec<Arc<KnownTerminal>> {
        let all = self.terminals.read();
        let of_session = all.values().filter(|known| known.session == session);
        of_session.cloned().collect()
    }

    /// Hears what befell a terminal.
    pub(super) async fn hear_of_terminal(&self, session: SessionId, news: &SessionNews) {
        let Some(id) = news.worker_id else { return };
        if let Some(exit) = &news.exit {
            self.terminal_ended(id, session, exit.clone()).await;
        }
        if let Some(policy) = news.size_policy {
            let changes = TerminalChanges {
                name: None,
                size_policy: Some(policy),
            };
            if let Err(error) = self.config.store.update_terminal(id, changes).await {
                warn!(%session, worker = %id, error = &error as &dyn std::error::Error, "not recorded");
            }
        }
    }

    /// Holds every terminal against what the runtimes have.
    pub(super) async fn compare_terminals(self: &Arc<Self>) -> Outcome<()> {
        let store = &self.config.store;
        let running = store.running_workers().await.map_err(store_problem)?;
        let is_terminal = |worker: &Worker| worker.kind == WorkerKind::Terminal;
        let mut running: HashMap<_, _> = running
            .into_iter()
            .filter(is_terminal)
            .map(|worker| (worker.id, worker))
            .collect();
        let listed = match self.client.terminals(&trace::current()).await {
            Ok(listed) => listed,
            // Nothing is known of them, and nothing is to be feared for.
            Err(_) if running.is_empty() => return Ok(()),
            Err(problem) => return Err(problem),
        };
        for TerminalState { worker: found, .. } in listed {
            let (id, session) = (found.id, found.session_id);
            match (running.remove(&id), found.exit) {
                (Some(_), Some(exit)) => {
                    self.remember(id, session, None);
                    self.terminal_ended(id, session, exit).await;
                }
                (Some(recorded), None) => {
                    let policy = |worker: &Worker| worker.terminal.as_ref()?.size_policy;
                    let theirs = found.terminal.as_ref().and_then(|spec| spec.size_policy);
                    if let Some(policy) = theirs.filter(|it| policy(&recorded) != Some(*it)) {
                        let changes = TerminalChanges {
                            name: None,
                            size_policy: Some(policy),
                        };
                        let updated = store.update_terminal(id, changes).await;
                        updated.map_err(store_problem)?;
                    }
                }
                (None, exit) => {
                    let recorded = store.worker(id).await.map_err(store_problem)?;
                    // Who is deleted meanwhile is ended by whoever does it.
                    let Some(recorded) = recorded.filter(|it| it.exit.is_some()) else {
                        continue;
                    };
                    if exit.is_some() {
                        self.remember(id, session, recorded.exit);
                    } else {
                        info!(%session, worker = %id, "ending a terminal that could not be started");
                        self.end_terminal(&recorded, true).await?;
                    }
                }
            }
        }
        for worker in running.into_values() {
            self.look_terminal_up(worker.id, worker.session_id);
        }
        Ok(())
    }

    /// Looks at the terminals of a session whose runtime may have lost them.
    pub(super) fn look_terminals_up(self: &Arc<Self>, session: SessionId) {
        for known in self.terminals_of(session) {
            if known.exit.borrow().is_none() {
                self.look_terminal_up(known.id, session);
            }
        }
    }

    /// Looks at a terminal once nobody starts any in its session.
    pub(super) fn look_terminal_up(self: &Arc<Self>, id: WorkerId, session: SessionId) {
        let this = Arc::clone(self);
        self.config.tasks.spawn("look up terminal", async move {
            let _turn = this.locks.lock(session).await;
            let label = session.to_string();
            match this.client.terminal(&label, id, &trace::current()).await {
                Ok(state) => {
                    if let Some(exit) = state.worker.exit {
                        this.terminal_ended(id, session, exit).await;
                    }
                }
                Err(problem) if is_gone(&problem) => {
                    let exit = Exit {
                        reason: problem.message,
                        ..Exit::default()
                    };
                    this.record_terminal(id, session, exit, true).await;
                    this.forget_terminal(id);
                }
                Err(problem) => {
                    warn!(session = label, worker = %id, message = %problem.message, "cannot look it up");
                }
            }
        });
    }

    /// What can be told of terminals without drawing them.
    pub(super) async fn screens(
        &self,
        of: &[(SessionId, WorkerId)],
    ) -> HashMap<WorkerId, ScreenState> {
        let Some((first, _)) = of.first() else {
            return HashMap::new();
        };
        let trace = trace::current();
        let told = if of.iter().all(|(session, _)| session == first) {
            self.client.terminals_of(&first.to_string(), &trace).await
        } else {
            self.client.terminals(&trace).await
        };
        let told = told.inspect_err(|problem: &Problem| {
            warn!(message = %problem.message, "nobody says how terminals stand");
        });
        let mut screens = HashMap::new();
        for state in told.unwrap_or_default() {
            self.note_end(&state.worker).await;
            screens.extend(state.screen.map(|screen| (state.worker.id, screen)));
        }
        screens
    }

    /// Records the end of a terminal that is known to live, should it have ended.
    pub(super) async fn note_end(&self, worker: &Worker) {
        let known = self.terminals.read().get(&worker.id).cloned();
        let lives = known.is_some_and(|known| known.exit.borrow().is_none());
        if let Some(exit) = worker.exit.clone().filter(|_| lives) {
            self.terminal_ended(worker.id, worker.session_id, exit)
                .await;
        }
    }

    /// Sessions that have terminals whose programs live.
    pub(super) fn sessions_with_terminals(&self) -> HashSet<SessionId> {
        let all = self.terminals.read();
        let live = all.values().filter(|it| it.exit.borrow().is_none());
        live.map(|known| known.session).collect()
    }

    pub(super) fn count_terminals(&self) -> TerminalCounts {
        let mut counts = TerminalCounts::default();
        for known in self.terminals.read().values() {
            match *known.exit.borrow() {
                None => counts.live += 1,
                Some(_) => counts.ended += 1,
            }
            counts.viewers += known.viewers.load(std::sync::atomic::Ordering::Relaxed);
        }
        counts
    }
}
