//! Terminals: started, found, ended.

use abide_model::{
    Problem, ProblemCode, SessionId, SessionStatus, TerminalSpec, TerminalState, Timestamp, Worker,
    WorkerId, WorkerKind,
};
use abide_session_agent::{TerminalHandle, WindowSize};

use super::{ControlPlane, Outcome, store_problem};
use crate::expiry::expired;

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
        Ok(state(worker, Some(&terminal)))
    }

    /// A session's worker, as it is recorded.
    pub(crate) async fn worker(&self, session: SessionId, id: WorkerId) -> Outcome<Worker> {
        let worker = self.store.worker(id).await.map_err(store_problem)?;
        worker
            .filter(|worker| worker.session_id == session)
            .ok_or_else(|| Problem::new(ProblemCode::WorkerNotFound, "Worker not found"))
    }

    /// A terminal that can be looked at.
    pub(crate) async fn terminal(
        &self,
        session: SessionId,
        id: WorkerId,
    ) -> Outcome<(Worker, TerminalHandle)> {
        let worker = self.worker(session, id).await?;
        if worker.kind != WorkerKind::Terminal {
            return Err(Problem::new(
                ProblemCode::InvalidInput,
                "this worker is an interpreter, not a terminal",
            ));
        }
        match self.runtimes.terminal(id) {
            Some(terminal) => Ok((worker, terminal)),
            None => Err(gone(&worker)),
        }
    }

    /// A terminal as it stands.
    pub(crate) async fn terminal_state(
        &self,
        session: SessionId,
        id: WorkerId,
    ) -> Outcome<TerminalState> {
        let worker = self.worker(session, id).await?;
        let terminal = self.runtimes.terminal(id);
        Ok(state(worker, terminal.as_ref()))
    }

    /// Ends a terminal's whole process tree.
    pub(crate) async fn end_terminal(&self, session: SessionId, id: WorkerId) -> Outcome<()> {
        let worker = self.worker(session, id).await?;
        if worker.kind != WorkerKind::Terminal {
            return Err(Problem::new(
                ProblemCode::InvalidInput,
                "an interpreter is ended with its session, or replaced: POST \
                 /sessions/{session_id}/restart",
            ));
        }
        self.runtimes.end_terminal(id).await;
        Ok(())
    }
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

fn state(worker: Worker, terminal: Option<&TerminalHandle>) -> TerminalState {
    let size = terminal.and_then(TerminalHandle::size);
    let size = size.unwrap_or(WindowSize::new(0, 0));
    let (output_start, output_end) = terminal.map_or((0, 0), TerminalHandle::output_range);
    TerminalState {
        worker,
        cols: size.columns,
        rows: size.rows,
        title: terminal.and_then(TerminalHandle::title),
        viewers: terminal.map_or(0, TerminalHandle::viewers),
        output_start,
        output_end,
    }
}
