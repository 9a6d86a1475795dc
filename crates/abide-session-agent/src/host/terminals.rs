//! Terminals of a session: recorded before they are started, found again by the next start.

use std::sync::Arc;

use abide_keeper::WindowSize;
use abide_model::{
    Exit, Problem, ProblemCode, SessionId, StartTerminal, TerminalState, Timestamp, Worker,
    WorkerId, WorkerKind, WorkerState,
};
use tracing::warn;

use super::{Credentials, Hosted, Outcome, SessionHost, session_not_found, storage_problem};
use crate::ledger::{Ledger, TerminalRecord};
use crate::recorder::Recorder;
use crate::terminal::{NewTerminal, TerminalHandle};

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
        if let Some(ended) = self
            .agent
            .room_for_terminal(hosted.id, self.config.max_live)?
        {
            self.remove_terminal(ledger, ended).await?;
        }
        let StartTerminal { id, spec } = new;
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

    /// Ends a terminal, if its program lives, and forgets it with its files.
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
        let record = hosted.registered().ok_or_else(session_not_found)?.record();
        let states = record.terminals.into_iter();
        Ok(states
            .map(|terminal| self.state_of(hosted.id, terminal))
            .collect())
    }

    /// A terminal as it stands.
    pub fn terminal(
        &self,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let hosted = self.authorized(label, credentials)?;
        self.terminal_state(&hosted, id)
    }

    /// A terminal that can be looked at.
    pub fn open_terminal(
        &self,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<TerminalHandle> {
        let hosted = self.authorized(label, credentials)?;
        let terminal = self.terminal_state(&hosted, id)?;
        self.agent.terminal(id).ok_or_else(|| {
            let exit = terminal.worker.exit.unwrap_or_default();
            Problem::new(
                ProblemCode::WorkerGone,
                format!(
                    "the terminal has ended ({}), and nothing of it is left to look at",
                    exit.reason
                ),
            )
        })
    }

    /// Ends a terminal with everything that was started in it.
    pub async fn end_terminal(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
        id: WorkerId,
    ) -> Outcome<()> {
        let hosted = self.authorized(label, credentials)?;
        let host = Arc::clone(self);
        self.to_the_end("end terminal", async move {
            let _changing = hosted.changing.lock().await;
            host.terminal_state(&hosted, id)?;
            let ledger = hosted.registered().ok_or_else(session_not_found)?;
            host.remove_terminal(ledger, id).await
        })
        .await
    }

    /// Ends every terminal of a session that is being removed.
    pub(super) async fn end_terminals(&self, session: SessionId) {
        for terminal in self.agent.terminals(session) {
            self.agent.end_terminal(terminal.id()).await;
        }
    }

    /// Takes over the session's terminals of before this start.
    pub(super) async fn adopt_terminals(&self, session: SessionId, ledger: &Arc<Ledger>) {
        for terminal in ledger.record().terminals {
            if let Some((exit, _)) = &terminal.ended {
                // The plane above may not have heard of it.
                ledger.tell(terminal.id, WorkerKind::Terminal, exit.clone());
            }
            let recorder: Arc<dyn Recorder> = Arc::clone(ledger) as _;
            let policy = terminal.spec.size_policy.unwrap_or_default();
            let adopted =
                self.agent
                    .adopt_terminal(terminal.id, session, policy, Arc::clone(&recorder));
            let Err(error) = adopted else { continue };
            warn!(session_id = %ledger.label, worker_id = %terminal.id, %error, "terminal is gone");
            let exit = Exit {
                reason: format!("its keeper is gone: {error}"),
                ..Exit::default()
            };
            let recorded = recorder.worker_exited(session, terminal.id, exit, false);
            if let Err(error) = recorded.await {
                warn!(session_id = %ledger.label, %error, "cannot record its end");
            }
        }
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
        let live = self.agent.terminal(terminal.id);
        crate::terminal::state(worker, live.as_ref())
    }
}

impl NewTerminal {
    /// What a request asks for.
    pub fn of_spec(
        id: WorkerId,
        session: SessionId,
        workspace: std::path::PathBuf,
        spec: &abide_model::TerminalSpec,
    ) -> Self {
        let (cols, rows) = crate::terminal::USUAL_SIZE;
        Self {
            id,
            session,
            command: spec.command.clone(),
            login: spec.login,
            workspace,
            size: WindowSize::new(spec.cols.unwrap_or(cols), spec.rows.unwrap_or(rows)),
            policy: spec.size_policy.unwrap_or_default(),
        }
    }
}
