//! Terminals: started, found, changed, ended.

use std::sync::Arc;

use abide_model::{
    Problem, ProblemCode, ScreenState, SessionId, SessionStatus, TerminalChanges, TerminalSpec,
    TerminalState, Timestamp, Worker, WorkerId, WorkerKind,
};
use abide_session_agent::{OutputReader, StreamFilter};
use abide_store::StoreError;

use super::{ControlPlane, Outcome, store_problem};
use crate::expiry::expired;
use crate::runtimes::{Terminal, Wanted};

impl ControlPlane {
    /// Starts a program on a terminal.
    pub(crate) async fn start_terminal(
        &self,
        id: SessionId,
        spec: TerminalSpec,
    ) -> Outcome<TerminalState> {
        let session = self.session(id).await?;
        if session.is_expired(Timestamp::now()) {
            return Err(expired());
        }
        if session.status == SessionStatus::Completed {
            return Err(Problem::new(
                ProblemCode::SessionNotActive,
                "the session is completed; set its status to active first",
            ));
        }
        let terminal = self.runtimes.start_terminal(&session, spec).await?;
        let worker = self.worker(id, terminal.id()).await?;
        let screen = terminal.shown().await;
        Ok(TerminalState { worker, screen })
    }

    /// A session's worker, as it is recorded.
    pub(crate) async fn worker(&self, session: SessionId, id: WorkerId) -> Outcome<Worker> {
        let worker = self.store.worker(id).await.map_err(store_problem)?;
        worker
            .filter(|worker| worker.session_id == session)
            .ok_or_else(|| Problem::new(ProblemCode::WorkerNotFound, "Worker not found"))
    }

    /// A session's workers as they stand, oldest first.
    pub(crate) async fn workers(&self, session: SessionId) -> Outcome<Vec<TerminalState>> {
        let session = self.session(session).await?;
        self.states(|| self.store.workers(session.id)).await
    }

    /// The workers of all sessions whose end is not recorded, oldest first.
    pub(crate) async fn live_workers(&self) -> Outcome<Vec<TerminalState>> {
        self.states(|| self.store.running_workers()).await
    }

    async fn states<F: Future<Output = Result<Vec<Worker>, StoreError>>>(
        &self,
        again: impl Fn() -> F,
    ) -> Outcome<Vec<TerminalState>> {
        let workers = again().await.map_err(store_problem)?;
        let terminals = workers.iter().filter(|it| it.kind == WorkerKind::Terminal);
        let terminals: Vec<_> = terminals.map(|it| (it.session_id, it.id)).collect();
        let mut screens = self.runtimes.screens(&terminals).await;
        // Who is asked how terminals stand may have told that some have ended.
        let workers = again().await.map_err(store_problem)?;
        let of = |worker: Worker| {
            let screen = screens.remove(&worker.id);
            TerminalState { worker, screen }
        };
        Ok(workers.into_iter().map(of).collect())
    }

    /// A terminal that can be looked at.
    pub(crate) async fn terminal(
        &self,
        session: SessionId,
        id: WorkerId,
    ) -> Outcome<(Worker, Arc<dyn Terminal>)> {
        let worker = self.worker(session, id).await?;
        if worker.kind != WorkerKind::Terminal {
            return Err(not_a_terminal(
                "this worker is an interpreter, not a terminal",
            ));
        }
        match self.find_terminal(&worker).await {
            Some(terminal) => Ok((worker, terminal)),
            None => Err(gone(&worker)),
        }
    }

    async fn find_terminal(&self, worker: &Worker) -> Option<Arc<dyn Terminal>> {
        match self.runtimes.terminal(worker.id) {
            None if worker.exit.is_some() => self.runtimes.reopen_terminal(worker).await,
            known => known,
        }
    }

    /// A worker as it stands.
    pub(crate) async fn terminal_state(
        &self,
        session: SessionId,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let worker = self.worker(session, id).await?;
        let terminal = match worker.kind {
            WorkerKind::Terminal => self.find_terminal(&worker).await,
            WorkerKind::Interpreter => None,
        };
        let screen = shown(terminal).await;
        // Who was asked may have told that it has ended.
        let worker = self.worker(session, id).await?;
        Ok(TerminalState { worker, screen })
    }

    /// Renames a terminal, or changes whose size it has.
    pub(crate) async fn update_terminal(
        &self,
        session: SessionId,
        id: WorkerId,
        changes: TerminalChanges,
    ) -> Outcome<TerminalState> {
        let worker = self.worker(session, id).await?;
        if worker.kind != WorkerKind::Terminal {
            let why = "an interpreter has no name and no size; PATCH /sessions/{session_id} \
                       changes its session";
            return Err(not_a_terminal(why));
        }
        let policy = changes.size_policy;
        let updated = self.store.update_terminal(id, changes).await;
        // Deleted since.
        let worker = updated.map_err(store_problem)?.unwrap_or(worker);
        let terminal = self.runtimes.terminal(id);
        if let (Some(terminal), Some(policy)) = (&terminal, policy) {
            terminal.set_size_policy(policy).await?;
        }
        let screen = shown(terminal).await;
        Ok(TerminalState { worker, screen })
    }

    /// Ends a terminal's whole process tree and starts the same program on another terminal, as large as
    /// the first was and called the same.
    pub(crate) async fn restart_terminal(
        &self,
        session: SessionId,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let worker = self.worker(session, id).await?;
        let Some(spec) = worker.terminal.clone() else {
            return Err(not_a_terminal(
                "an interpreter is replaced with POST /sessions/{session_id}/restart",
            ));
        };
        let shown = shown(self.runtimes.terminal(id)).await;
        self.runtimes.stop_terminal(&worker).await?;
        let spec = TerminalSpec {
            cols: shown.as_ref().map(|size| size.cols).or(spec.cols),
            rows: shown.as_ref().map(|size| size.rows).or(spec.rows),
            replaces: Some(id),
            ..spec
        };
        self.start_terminal(session, spec).await
    }

    /// What a worker wrote, from output offset `from` (the earliest there is by default) to `to`, or to
    /// what is there now, or with `follow` on as it writes; `None` if its journal is gone.
    pub(crate) async fn worker_output(
        &self,
        session: SessionId,
        id: WorkerId,
        (from, to): (Option<u64>, Option<u64>),
        follow: bool,
    ) -> Outcome<Option<OutputReader>> {
        let worker = self.worker(session, id).await?;
        if worker.kind == WorkerKind::Terminal {
            return match self.find_terminal(&worker).await {
                Some(terminal) => terminal.output(from, to, follow).await,
                None => Ok(None),
            };
        }
        let wanted = Wanted {
            worker: Some(id),
            filter: StreamFilter::All,
            from,
            tail: None,
            end: to,
            follow,
        };
        self.runtimes.output(session, wanted).await
    }

    /// Ends a terminal's whole process tree.
    pub(crate) async fn end_terminal(&self, session: SessionId, id: WorkerId) -> Outcome<()> {
        let worker = self.worker(session, id).await?;
        if worker.kind != WorkerKind::Terminal {
            return Err(not_a_terminal(
                "an interpreter is ended with its session, or replaced: POST \
                 /sessions/{session_id}/restart",
            ));
        }
        self.runtimes.end_terminal(&worker).await
    }
}

fn not_a_terminal(why: &str) -> Problem {
    Problem::new(ProblemCode::InvalidInput, why)
}

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

async fn shown(terminal: Option<Arc<dyn Terminal>>) -> Option<ScreenState> {
    match terminal {
        Some(terminal) => terminal.shown().await,
        None => None,
    }
}
