//! Terminals of this process's session agent.

use std::sync::Arc;

use abide_model::{
    Exit, NewWorker, Problem, ProblemCode, Session, SessionId, TerminalSpec, Worker, WorkerId,
};
use abide_session_agent::{NewTerminal, TerminalHandle, WindowSize};
use abide_store::StoreError;
use tracing::{debug, warn};

use super::{LocalRuntimes, unavailable, workspace_dir};
use crate::service::{Outcome, store_problem};

/// Size of a terminal that nobody looks at yet: columns and rows.
const USUAL: (u16, u16) = (80, 24);

/// Terminals that a session may have, those included that have ended and can still be looked at.
const MAX_TERMINALS: usize = 64;

impl LocalRuntimes {
    /// Makes room for one more terminal: the one that ended longest ago goes.
    async fn make_room(&self, session: SessionId) -> Outcome<()> {
        let live = self.agent.live_terminals();
        if live >= self.max_live {
            return Err(limit_reached(format!(
                "{live} terminals are running, which is the limit (max_live)"
            )));
        }
        let mut terminals = self.agent.terminals(session);
        if terminals.len() < MAX_TERMINALS {
            return Ok(());
        }
        // Ids begin with the time.
        terminals.sort_by_key(|terminal| terminal.id().0);
        let Some(ended) = terminals.iter().find(|terminal| terminal.exit().is_some()) else {
            return Err(limit_reached(format!(
                "the session has {MAX_TERMINALS} terminals already; end one first"
            )));
        };
        self.agent.end_terminal(ended.id()).await;
        Ok(())
    }

    /// Takes over a terminal, or records that it is gone.
    pub(super) async fn adopt_terminal(&self, worker: &Worker) -> Result<(), StoreError> {
        let policy = worker.terminal.as_ref().and_then(|spec| spec.size_policy);
        let adopted = self.agent.adopt_terminal(
            worker.id,
            worker.session_id,
            policy.unwrap_or_default(),
            self.recorder.clone(),
        );
        if let Err(error) = adopted {
            warn!(worker = %worker.id, session = %worker.session_id, %error, "terminal is gone");
            let exit = Exit {
                reason: format!("its keeper is gone: {error}"),
                ..Exit::default()
            };
            self.store.worker_exited(worker.id, exit).await?;
        }
        Ok(())
    }

    /// A terminal whose program has ended may have programs left that go on under its keeper.
    pub(super) async fn adopt_what_ended_terminals_left(&self) -> Result<(), StoreError> {
        for worker in self.store.ended_terminals().await? {
            if self.agent.is_kept(worker.id) {
                self.adopt_terminal(&worker).await?;
            }
        }
        Ok(())
    }

    /// What a terminal left that ended before this process started.
    pub(super) async fn reopen_terminal(&self, worker: &Worker) -> Option<TerminalHandle> {
        let _lock = self.locks.lock(worker.session_id).await;
        if self.agent.terminal(worker.id).is_none() {
            let (agent, recorder) = (Arc::clone(&self.agent), self.recorder.clone());
            let (id, session) = (worker.id, worker.session_id);
            let policy = worker.terminal.as_ref()?.size_policy.unwrap_or_default();
            // Its journal is read through to see how much of it is whole.
            let adopting = tokio::task::spawn_blocking(move || {
                agent.adopt_terminal(id, session, policy, recorder)
            });
            let adopted = adopting.await.ok()?;
            adopted
                .inspect_err(|error| debug!(worker = %id, %error, "nothing is left"))
                .ok()?;
        }
        self.agent.terminal(worker.id)
    }

    pub(super) async fn start_terminal(
        &self,
        session: &Session,
        spec: TerminalSpec,
    ) -> Outcome<TerminalHandle> {
        let _lock = self.locks.lock(session.id).await;
        self.make_room(session.id).await?;
        let workspace = workspace_dir(session)?;
        let new = NewTerminal {
            id: WorkerId::new(),
            session: session.id,
            command: spec.command.clone(),
            login: spec.login,
            workspace,
            size: WindowSize::new(spec.cols.unwrap_or(USUAL.0), spec.rows.unwrap_or(USUAL.1)),
            policy: spec.size_policy.unwrap_or_default(),
        };
        let id = new.id;
        // Recorded first: a worker that no record names is ended at the next start.
        let recorded = NewWorker::terminal(id, session.id, spec);
        self.store
            .assign_worker(recorded)
            .await
            .map_err(store_problem)?;
        let started = self.agent.start_terminal(new, self.recorder.clone()).await;
        match started {
            Ok(terminal) => Ok(terminal),
            Err(error) => {
                let exit = Exit {
                    reason: format!("it could not be started: {error}"),
                    ..Exit::default()
                };
                self.store
                    .worker_exited(id, exit)
                    .await
                    .map_err(store_problem)?;
                self.agent.remove(id);
                Err(unavailable(format!(
                    "the terminal could not be started: {error}"
                )))
            }
        }
    }
}

fn limit_reached(message: String) -> Problem {
    Problem::new(ProblemCode::LimitReached, message)
}
