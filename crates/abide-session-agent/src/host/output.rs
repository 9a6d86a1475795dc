//! What a session's interpreters wrote, by offset.

use abide_model::{Problem, ProblemCode, StepOutcome, WorkerId};

use super::{Credentials, Outcome, SessionHost, session_not_found};
use crate::output::{OutputReader, StreamFilter};

/// A reader, and what there is to read.
#[derive(Debug)]
pub struct HostedOutput {
    /// Positioned at the first byte asked for.
    pub reader: OutputReader,
    /// The earliest offset that is still there.
    pub earliest: u64,
    /// Offset after the last byte written.
    pub head: u64,
}

impl SessionHost {
    /// The output of one of the session's workers, the present interpreter unless another is named,
    /// from `from` (the earliest there is by default) up to `end` or to what is there, or on as it
    /// writes.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one parameter of the route"
    )]
    pub fn output(
        &self,
        label: &str,
        credentials: &Credentials,
        worker: Option<WorkerId>,
        filter: StreamFilter,
        from: Option<u64>,
        end: Option<u64>,
        follow: bool,
    ) -> Outcome<HostedOutput> {
        let hosted = self.authorized(label, credentials)?;
        let record = hosted.registered().ok_or_else(session_not_found)?.record();
        let id = worker.or(record.worker).ok_or_else(worker_not_found)?;
        if !record.workers().any(|known| known == id) {
            return Err(worker_not_found());
        }
        let terminal = self.agent.terminal(id);
        let live = self
            .agent
            .worker(hosted.id)
            .filter(|worker| worker.id() == id);
        let reader = match (live, terminal) {
            (Some(worker), _) => Some(worker.output(filter, 0, end, follow)),
            (None, Some(terminal)) => Some(terminal.output(0, end, follow)),
            (None, None) => self.agent.old_output(id, filter, 0, end),
        };
        let reader = reader.ok_or_else(worker_not_found)?;
        let (earliest, head) = (reader.earliest(), reader.head());
        Ok(HostedOutput {
            reader: reader.starting_at(from.unwrap_or(earliest), filter),
            earliest,
            head,
        })
    }

    /// The output of a step that ended earlier; none where its journal is gone or it wrote nothing
    /// because it never started.
    pub fn ended_output(&self, label: &str, outcome: &StepOutcome) -> Option<OutputReader> {
        let id = outcome.worker?;
        let hosted = self.find(label).ok()?;
        let (start, end) = (outcome.output_start, Some(outcome.output_end));
        match self.agent.worker(hosted.id) {
            Some(worker) if worker.id() == id => {
                Some(worker.output(StreamFilter::All, start, end, false))
            }
            _ => self.agent.old_output(id, StreamFilter::All, start, end),
        }
    }
}

fn worker_not_found() -> Problem {
    Problem::new(
        ProblemCode::WorkerNotFound,
        "the session has no such worker, or its output is gone",
    )
}
