//! Terminals of this process's session agent: started, taken over, ended.

use std::sync::Arc;

use abide_model::{Exit, NewWorker, Session, TerminalSpec, Worker, WorkerId};
use abide_session_agent::{NewTerminal, TerminalHandle};
use abide_store::StoreError;
use tracing::{debug, warn};

use super::terminal::LocalTerminal;
use super::{LocalRuntimes, unavailable, workspace_dir};
use crate::service::{Outcome, store_problem};

impl LocalRuntimes {
    pub(super) fn here(&self, handle: TerminalHandle) -> LocalTerminal {
        LocalTerminal {
            handle,
            tasks: self.tasks.clone(),
        }
    }

    /// Takes over a terminal, or records that it is gone.
    pub(super) async fn adopt_terminal(&self, worker: &Worker) -> Result<(), StoreError> {
        let spec = worker.terminal.as_ref();
        let policy = spec.and_then(|spec| spec.size_policy);
        let adopted = self.agent.adopt_terminal(
            worker.id,
            worker.session_id,
            policy.unwrap_or_default(),
            spec.and_then(|spec| spec.output_bytes),
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
            let spec = worker.terminal.as_ref()?;
            let policy = spec.size_policy.unwrap_or_default();
            let output_bytes = spec.output_bytes;
            // Its journal is read through to see how much of it is whole.
            let adopting = tokio::task::spawn_blocking(move || {
                agent.adopt_terminal(id, session, policy, output_bytes, recorder)
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
        let room = self.agent.room_for_terminal(session.id, self.max_live);
        if let Some(ended) = room? {
            self.agent.end_terminal(ended).await;
        }
        let (id, workspace) = (WorkerId::new(), workspace_dir(session)?);
        let new = NewTerminal::of_spec(id, session.id, workspace, &spec);
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
