//! How steps and the worker itself end: recorded first, then told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use abide_model::{Exit, StepId, StepStatus};
use tokio::sync::watch;
use tracing::warn;

use super::WorkerTask;
use crate::crash_points;
use crate::recorder::RecordFailed;
use crate::schedule::Death;
use crate::worker::records::Finished;
use crate::worker::{Ended, Phase};

/// Between attempts to write a record that the store refused.
const RECORD_RETRY: Duration = Duration::from_millis(200);

impl WorkerTask {
    pub(super) fn death(&self) -> Death {
        match &self.exit {
            _ if self.stop_reason.is_some() => Death::Stopped,
            Some(exit) if exit.oom || self.frames.last_stderr_says_out_of_memory() => {
                Death::OutOfMemory
            }
            Some(_) => Death::Crashed,
            None => Death::Unseen,
        }
    }

    /// The process, or its keeper, is gone.
    pub(super) async fn conclude_exit(&mut self) {
        let death = self.death();
        if self.exit.is_none() {
            let worker = self.shared.id.0;
            let killed =
                tokio::task::spawn_blocking(move || abide_keeper::kill_leftovers(worker)).await;
            warn!(worker = %self.shared.id, killed = killed.unwrap_or(0), "keeper gone");
        }
        let exit = self.describe_exit();
        let mut ends = Vec::new();
        for (id, status) in self.schedule.exited(death) {
            ends.extend(self.record_end(id, status, None).await);
        }
        loop {
            let (session, worker) = (self.shared.session, self.shared.id);
            let crashed = death != Death::Stopped;
            match self
                .recorder
                .worker_exited(session, worker, exit.clone(), crashed)
                .await
            {
                Ok(()) => break,
                Err(error) => {
                    if !self.retry(&error).await {
                        return;
                    }
                }
            }
        }
        self.shared.exit.send_replace(Some(exit));
        // Last: who hears of the end finds the crash recorded, and the next step refused.
        for (phase, ended) in ends {
            phase.send_replace(ended);
        }
    }

    pub(in crate::worker) fn describe_exit(&self) -> Exit {
        let name = self.shared.runtime;
        let (code, signal) = self
            .exit
            .as_ref()
            .map_or((None, None), |exit| (exit.code, exit.signal));
        let reason = match (&self.stop_reason, code, signal) {
            (Some(reason), ..) => reason.clone(),
            _ if self.death() == Death::OutOfMemory => format!("{name} ran out of memory"),
            _ if self.killed => format!("{name} ignored an interrupt and was killed"),
            (None, Some(code), _) => format!("{name} exited with code {code}"),
            (None, None, Some(signal)) => format!("{name} was killed by signal {signal}"),
            (None, None, None) => {
                format!(
                    "the keeper of {name} was killed, or the machine restarted; its state is gone"
                )
            }
        };
        Exit {
            code,
            signal,
            reason,
        }
    }

    pub(super) async fn conclude_all(&mut self, ends: Vec<(StepId, StepStatus)>) {
        for (id, status) in ends {
            self.conclude(id, status, None).await;
        }
    }

    /// Records how a step ended, then tells whoever waits.
    pub(super) async fn conclude(
        &mut self,
        id: StepId,
        status: StepStatus,
        finished: Option<Finished>,
    ) {
        if let Some((phase, ended)) = self.record_end(id, status, finished).await {
            phase.send_replace(ended);
        }
    }

    /// Records how a step ended; whoever waits is still to be told. `None`: there is no such
    /// step, or the agent is stopping.
    async fn record_end(
        &mut self,
        id: StepId,
        status: StepStatus,
        finished: Option<Finished>,
    ) -> Option<(Arc<watch::Sender<Phase>>, Phase)> {
        let entry = self.entries.remove(&id)?;
        self.timeout = self
            .timeout
            .filter(|(_, generation)| *generation != entry.generation);
        self.accept = self
            .accept
            .filter(|(_, generation)| *generation != entry.generation);
        self.grace = self
            .grace
            .filter(|(_, generation)| *generation != entry.generation);
        let end = self.output_read;
        let exit = (finished.is_none() && entry.started.is_some() && self.link.is_none())
            .then(|| self.describe_exit());
        let (step, acceptance) = (Arc::clone(&entry.step), entry.acceptance);
        let phase = entry.phase.clone();
        let limit = entry.step.timeout_ms;
        let mut outcome = entry.outcome(status, finished, end, exit);
        if outcome.error.is_none() {
            outcome.error = self.explain(status, limit);
        }
        let outcome = Arc::new(outcome);
        crash_points::pass("step.before_record");
        let sequence = loop {
            match self
                .recorder
                .step_finished(Arc::clone(&step), acceptance, Arc::clone(&outcome))
                .await
            {
                Ok(sequence) => break sequence,
                Err(error) => {
                    if !self.retry(&error).await {
                        return None;
                    }
                }
            }
        };
        crash_points::pass("step.after_record");
        if self.schedule.running().is_none() {
            self.shared.journal.set_recorded(self.next);
        }
        self.shared.unfinished.fetch_sub(1, Ordering::Relaxed);
        Some((phase, Phase::Ended(Arc::new(Ended { sequence, outcome }))))
    }

    /// `false` when the agent is stopping: the step is concluded again after the restart.
    async fn retry(&self, error: &RecordFailed) -> bool {
        {
            let error = error as &(dyn std::error::Error + 'static);
            warn!(worker = %self.shared.id, error, "cannot record; trying again");
        }
        tokio::select! {
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep(RECORD_RETRY) => true,
        }
    }
}
