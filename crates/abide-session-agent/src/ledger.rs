//! What lets a session agent that stands alone survive its own death: one directory per session.
//!
//! `session.json` says what the session is and which interpreter it has; `steps.jsonl` which steps
//! it accepted and how they ended. Writes go to the page cache and not to the disk: a kill loses
//! nothing, and a power failure takes the interpreters along as well.

mod digest;
mod lines;
mod older;
mod record;
mod steps;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use abide_model::{
    Exit, NewStep, SessionId, SizePolicy, StepId, StepOutcome, Timestamp, WorkerId, WorkerKind,
    WorkerNews,
};
use parking_lot::Mutex;
use tracing::{info, warn};

pub(crate) use digest::CodeDigest;
pub(crate) use record::{SessionRecord, TerminalRecord};
use steps::Steps;
pub(crate) use steps::{KnownStep, Unfinished};

use crate::host::news::News;
use crate::metrics::AgentMetrics;
use crate::recorder::{RecordFailed, Recorder, Recording};

/// What is written of one session, and what is known from it.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    /// What the client calls the session.
    pub(crate) label: String,
    record: Mutex<SessionRecord>,
    steps: Mutex<Steps>,
    news: Arc<News>,
    metrics: Arc<AgentMetrics>,
}

impl Ledger {
    /// The files of a new session.
    pub(crate) fn create(
        dir: PathBuf,
        record: SessionRecord,
        news: Arc<News>,
        metrics: Arc<AgentMetrics>,
    ) -> std::io::Result<Arc<Self>> {
        crate::host::make_private_dir(&dir)?;
        record.save(&dir)?;
        Self::with(dir, record, news, metrics)
    }

    /// The files of a session of an earlier start.
    pub(crate) fn open(
        dir: PathBuf,
        news: Arc<News>,
        metrics: Arc<AgentMetrics>,
    ) -> std::io::Result<Arc<Self>> {
        let record = SessionRecord::load(&dir)?;
        Self::with(dir, record, news, metrics)
    }

    fn with(
        dir: PathBuf,
        record: SessionRecord,
        news: Arc<News>,
        metrics: Arc<AgentMetrics>,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            label: record.label.clone(),
            steps: Mutex::new(Steps::open(&dir)?),
            record: Mutex::new(record),
            dir,
            news,
            metrics,
        }))
    }

    /// The session as it stands.
    pub(crate) fn record(&self) -> SessionRecord {
        self.record.lock().clone()
    }

    /// Looks at the session as it stands.
    pub(crate) fn with_record<T>(&self, look: impl FnOnce(&SessionRecord) -> T) -> T {
        look(&self.record.lock())
    }

    /// Changes the session; nothing is changed where that cannot be written.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut SessionRecord) -> T,
    ) -> std::io::Result<T> {
        let mut record = self.record.lock();
        let mut new = record.clone();
        let answer = change(&mut new);
        new.save(&self.dir)?;
        *record = new;
        Ok(answer)
    }

    /// What is known of a step, and the digest of its code.
    pub(crate) fn step(&self, id: StepId) -> std::io::Result<Option<(CodeDigest, KnownStep)>> {
        self.steps.lock().find(id)
    }

    /// See [`Steps::accept`].
    pub(crate) fn accept(
        &self,
        step: NewStep,
        queue_timeout_ms: Option<u64>,
    ) -> std::io::Result<Unfinished> {
        self.steps.lock().accept(step, queue_timeout_ms)
    }

    /// See [`Steps::unfinished`].
    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        self.steps.lock().unfinished()
    }

    /// Removes the files.
    pub(crate) fn remove(&self) {
        remove_dir(&self.dir);
    }

    /// Tells the plane above how a worker ended.
    fn tell_end(&self, worker_id: WorkerId, kind: WorkerKind, exit: Exit) {
        self.news.push(WorkerNews {
            sequence: 0,
            session_id: self.label.clone(),
            worker_id,
            kind,
            exit: Some(exit),
            size_policy: None,
        });
    }

    /// Notes whose size a terminal has from now on, and tells the plane above.
    pub(crate) fn change_policy(
        &self,
        terminal: WorkerId,
        policy: SizePolicy,
    ) -> std::io::Result<()> {
        self.change(|record| {
            if let Some(terminal) = record.terminal_mut(terminal) {
                terminal.spec.size_policy = Some(policy);
            }
        })?;
        self.news.push(WorkerNews {
            sequence: 0,
            session_id: self.label.clone(),
            worker_id: terminal,
            kind: WorkerKind::Terminal,
            exit: None,
            size_policy: Some(policy),
        });
        Ok(())
    }

    /// Notes how a worker ended; what it was, if that is news.
    fn ended(&self, worker: WorkerId, exit: &Exit) -> std::io::Result<Option<WorkerKind>> {
        let kind = self.with_record(|record| {
            if record.worker == Some(worker) && record.exit.is_none() {
                return Some(WorkerKind::Interpreter);
            }
            let terminal = record.terminal(worker)?;
            terminal.ended.is_none().then_some(WorkerKind::Terminal)
        });
        match kind {
            None => {}
            Some(WorkerKind::Interpreter) => {
                self.change(|record| record.exit = Some(exit.clone()))?;
            }
            Some(WorkerKind::Terminal) => self.change(|record| {
                if let Some(terminal) = record.terminal_mut(worker) {
                    terminal.ended = Some((exit.clone(), Timestamp::now()));
                }
            })?,
        }
        Ok(kind)
    }

    fn finish(&self, step: &NewStep, outcome: &StepOutcome) -> std::io::Result<i64> {
        let (first, sequence) = self.steps.lock().finish(step, outcome)?;
        if first {
            self.metrics.step_ended(outcome);
            let took = outcome
                .started_at
                .map_or(0, |at| outcome.finished_at.as_micros() - at.as_micros());
            info!(
                session_id = %self.label,
                step_id = %step.id,
                outcome = %outcome.status,
                duration_us = took,
                "step ended"
            );
        }
        Ok(sequence)
    }
}

impl Recorder for Ledger {
    fn step_accepted(&self, _: Arc<NewStep>) -> Recording<'_> {
        // Every step was recorded as accepted before it was submitted.
        Box::pin(std::future::ready(Ok(())))
    }

    fn step_finished(
        &self,
        step: Arc<NewStep>,
        _: crate::Acceptance,
        outcome: Arc<StepOutcome>,
    ) -> Recording<'static, i64> {
        let recorded = self.finish(&step, &outcome).map_err(failed);
        Box::pin(std::future::ready(recorded))
    }

    fn worker_exited(
        &self,
        _: SessionId,
        worker: WorkerId,
        exit: Exit,
        crashed: bool,
    ) -> Recording<'_> {
        let recorded = self.ended(worker, &exit);
        if let Ok(Some(kind)) = recorded {
            let is_interpreter = kind == WorkerKind::Interpreter;
            if is_interpreter && crashed {
                warn!(session_id = %self.label, worker_id = %worker, reason = exit.reason, "crashed");
            }
            // An interpreter that was ended was ended by whoever would hear of it.
            if !is_interpreter || crashed {
                self.tell_end(worker, kind, exit);
            }
        }
        Box::pin(std::future::ready(recorded.map(drop).map_err(failed)))
    }
}

fn failed(error: std::io::Error) -> RecordFailed {
    RecordFailed(error.into())
}

/// Removes a directory of ours; what stays is told to whoever reads the log.
pub(crate) fn remove_dir(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(dir = %dir.display(), %error, "cannot remove");
    }
}
