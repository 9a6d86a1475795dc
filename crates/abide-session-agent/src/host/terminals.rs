//! Terminals of a session: recorded before they are started, found again by the next start.

use std::sync::Arc;

use abide_model::{
    Exit, Problem, ProblemCode, SessionId, SizePolicy, StartTerminal, TerminalState, Timestamp,
    Worker, WorkerId, WorkerKind, WorkerState,
};
use tracing::{debug, warn};

use super::{Credentials, Hosted, Outcome, SessionHost, session_not_found, storage_problem};
use crate::agent::{SessionAgent, TerminalFailed};
use crate::ledger::{Ledger, TerminalRecord};
use crate::recorder::Recorder;
use crate::terminal::{NewTerminal, TerminalHandle, shown};

impl SessionHost {
    /// Starts a program on a terminal in the session's workspace; the same id again finds it.
    pub async fn start_terminal(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
        new: StartTerminal,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.check_open()?;
        let host = Arc::clone(self);
        self.to_the_end("start terminal", async move {
            let _changing = hosted.changing.lock().await;
            let ledger = hosted.registered().ok_or_else(session_not_found)?;
            let id = new.id;
            if ledger.with_record(|record| record.terminal(id).is_none()) {
                host.start_new(&hosted, ledger, new).await?;
            }
            host.terminal_state(&hosted, id)
        })
        .await
    }

    async fn start_new(
        &self,
        hosted: &Hosted,
        ledger: &Arc<Ledger>,
        new: StartTerminal,
    ) -> Outcome<()> {
        let StartTerminal { id, spec } = new;
        let room = self
            .agent
            .room_for_terminal(hosted.id, self.config.max_live);
        if let Some(ended) = room? {
            self.remove_terminal(ledger, ended).await?;
        }
        let workspace = ledger.with_record(|record| record.workspace.clone());
        let terminal = NewTerminal::of_spec(id, hosted.id, workspace, &spec);
        // Written down first: a worker that no session names is ended at the next start.
        let record = TerminalRecord {
            id,
            spec,
            created_at: Timestamp::now(),
            ended: None,
        };
        ledger
            .change(|session| session.terminals.push(record))
            .map_err(|error| storage_problem(&error))?;
        let recorder: Arc<dyn Recorder> = Arc::clone(ledger) as _;
        if let Err(error) = self.agent.start_terminal(terminal, recorder).await {
            self.remove_terminal(ledger, id).await?;
            return Err(Problem::new(
                ProblemCode::RuntimeUnavailable,
                format!("the terminal could not be started: {error}"),
            ));
        }
        Ok(())
    }

    /// Forgets a terminal that has ended, with its files.
    async fn remove_terminal(&self, ledger: &Arc<Ledger>, id: WorkerId) -> Outcome<()> {
        self.agent.end_terminal(id).await;
        self.agent.remove(id);
        ledger
            .change(|record| record.terminals.retain(|terminal| terminal.id != id))
            .map_err(|error| storage_problem(&error))
    }

    /// The session's terminals, oldest first.
    pub fn terminals(&self, label: &str, credentials: &Credentials) -> Outcome<Vec<TerminalState>> {
        let hosted = self.authorized(label, credentials)?;
        Ok(self.terminals_of(&hosted))
    }

    /// The terminals of all sessions, for the plane above.
    pub fn all_terminals(&self, credentials: &Credentials) -> Outcome<Vec<TerminalState>> {
        self.require_secret(credentials)?;
        let all: Vec<_> = self.sessions.lock().values().cloned().collect();
        Ok(all.iter().flat_map(|it| self.terminals_of(it)).collect())
    }

    fn terminals_of(&self, hosted: &Hosted) -> Vec<TerminalState> {
        let Some(ledger) = hosted.registered() else {
            return Vec::new();
        };
        let terminals = ledger.with_record(|record| record.terminals.clone());
        let all = terminals.into_iter();
        all.map(|terminal| self.state_of(hosted.id, terminal))
            .collect()
    }

    /// A terminal as it stands.
    pub async fn terminal(
        &self,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.reopen(&hosted, id).await;
        self.terminal_state(&hosted, id)
    }

    /// A terminal that can be looked at, and what is recorded of it.
    pub async fn open_terminal(
        &self,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<(Worker, TerminalHandle)> {
        let hosted = self.authorized(label, credentials)?;
        self.reopen(&hosted, id).await;
        let worker = self.terminal_state(&hosted, id)?.worker;
        match self.agent.terminal(id) {
            Some(terminal) => Ok((worker, terminal)),
            None => Err(gone(&worker)),
        }
    }

    /// Changes whose size a terminal has when several look at it, whoever asks for it.
    pub fn set_size_policy(
        &self,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
        policy: SizePolicy,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.terminal_state(&hosted, id)?;
        self.change_policy(&hosted, id, policy)?;
        self.terminal_state(&hosted, id)
    }

    /// The same, by one who is attached.
    pub(crate) fn policy_changed(
        &self,
        session: SessionId,
        id: WorkerId,
        policy: SizePolicy,
    ) -> Outcome<()> {
        let hosted = self.sessions.lock().get(&session).cloned();
        let hosted = hosted.ok_or_else(session_not_found)?;
        self.change_policy(&hosted, id, policy)
    }

    fn change_policy(&self, hosted: &Hosted, id: WorkerId, policy: SizePolicy) -> Outcome<()> {
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        ledger
            .change_policy(id, policy)
            .map_err(|error| storage_problem(&error))?;
        if let Some(terminal) = self.agent.terminal(id) {
            terminal.set_size_policy(policy);
        }
        Ok(())
    }

    /// Ends a terminal's whole process tree; what it left can still be looked at.
    pub async fn stop_terminal(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.terminal_state(&hosted, id)?;
        let host = Arc::clone(self);
        self.to_the_end("stop terminal", async move {
            host.agent.stop_terminal(id).await;
            host.terminal_state(&hosted, id)
        })
        .await
    }

    /// Ends a terminal with everything that was started in it, and forgets it; as it ended.
    pub async fn end_terminal(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.terminal_state(&hosted, id)?;
        let host = Arc::clone(self);
        self.to_the_end("end terminal", async move {
            // Before its turn: programs are given time to end, and nobody is to wait for that.
            host.agent.stop_terminal(id).await;
            let _changing = hosted.changing.lock().await;
            let ended = host.terminal_state(&hosted, id)?;
            let ledger = hosted.registered().ok_or_else(session_not_found)?;
            host.remove_terminal(ledger, id).await?;
            Ok(ended)
        })
        .await
    }

    /// Ends every terminal of a session that is being removed.
    pub(super) async fn end_terminals(&self, session: SessionId) {
        let terminals = self.agent.terminals(session);
        let ending = terminals.iter().map(|it| self.agent.end_terminal(it.id()));
        // Each has time to end: all of them the same.
        futures_util::future::join_all(ending).await;
    }

    /// Takes over the session's terminals of before this start: those whose programs lived, and those
    /// whose keepers still hold something.
    pub(super) async fn adopt_terminals(&self, session: SessionId, ledger: &Arc<Ledger>) {
        for terminal in ledger.record().terminals {
            if terminal.ended.is_some() && !self.agent.is_kept(terminal.id) {
                continue;
            }
            let Err(error) = adopt(&self.agent, session, ledger, &terminal) else {
                continue;
            };
            warn!(session_id = %ledger.label, worker_id = %terminal.id, %error, "terminal is gone");
            let exit = Exit {
                reason: format!("its keeper is gone: {error}"),
                ..Exit::default()
            };
            let recorded = ledger.worker_exited(session, terminal.id, exit, false);
            if let Err(error) = recorded.await {
                warn!(session_id = %ledger.label, %error, "cannot record its end");
            }
        }
    }

    /// Has what a terminal left at hand that ended before this start.
    async fn reopen(&self, hosted: &Hosted, id: WorkerId) {
        if self.agent.terminal(id).is_some() {
            return;
        }
        let _changing = hosted.changing.lock().await;
        let Some(ledger) = hosted.registered() else {
            return;
        };
        let known = ledger.with_record(|record| record.terminal(id).cloned());
        let Some(known) = known.filter(|_| self.agent.terminal(id).is_none()) else {
            return;
        };
        let (agent, session, ledger) = (Arc::clone(&self.agent), hosted.id, Arc::clone(ledger));
        // Its journal is read through to see how much of it is whole.
        let adopting = tokio::task::spawn_blocking(move || {
            if let Err(error) = adopt(&agent, session, &ledger, &known) {
                debug!(worker_id = %id, %error, "nothing is left");
            }
        });
        // Fails only when the runtime is shutting down.
        let _ = adopting.await;
    }

    fn terminal_state(&self, hosted: &Hosted, id: WorkerId) -> Outcome<TerminalState> {
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        let terminal = ledger.with_record(|record| record.terminal(id).cloned());
        let terminal = terminal
            .ok_or_else(|| Problem::new(ProblemCode::WorkerNotFound, "Worker not found"))?;
        Ok(self.state_of(hosted.id, terminal))
    }

    fn state_of(&self, session: SessionId, terminal: TerminalRecord) -> TerminalState {
        let (exit, ended_at) = terminal.ended.unzip();
        let worker = Worker {
            id: terminal.id,
            session_id: session,
            kind: WorkerKind::Terminal,
            runtime: None,
            terminal: Some(terminal.spec),
            state: match exit {
                None => WorkerState::Running,
                Some(_) => WorkerState::Exited,
            },
            generation: 1,
            exit,
            created_at: terminal.created_at,
            ended_at,
        };
        let screen = self.agent.terminal(terminal.id).map(|it| shown(&it));
        TerminalState { worker, screen }
    }
}

/// Takes over a terminal of an earlier start, or what it left.
fn adopt(
    agent: &SessionAgent,
    session: SessionId,
    ledger: &Arc<Ledger>,
    terminal: &TerminalRecord,
) -> Result<TerminalHandle, TerminalFailed> {
    let recorder: Arc<dyn Recorder> = Arc::clone(ledger) as _;
    let policy = terminal.spec.size_policy.unwrap_or_default();
    let output_bytes = terminal.spec.output_bytes;
    agent.adopt_terminal(terminal.id, session, policy, output_bytes, recorder)
}

/// 410 for a terminal of which nothing is left but its record.
fn gone(worker: &Worker) -> Problem {
    let how = worker
        .exit
        .as_ref()
        .map_or("nobody saw how", |exit| exit.reason.as_str());
    Problem::new(
        ProblemCode::WorkerGone,
        format!("the terminal has ended ({how}), and nothing of it is left to look at"),
    )
}
