//! How steps and the worker itself end: what is recorded, who is told, and in which order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use abide_model::{Exit, StepId, StepStatus};
use tokio::sync::watch;
use tracing::warn;

use super::WorkerTask;
use super::recordings::{End, Recorded, Retry};
use crate::crash_points;
use crate::schedule::Death;
use crate::worker::records::Finished;
use crate::worker::{Ended, Phase};

/// What a step may print if its end is to be told before it is durable: far less than the ring.
const MAX_VOUCHED_BYTES: u64 = 64 * 1024;

impl WorkerTask {
    pub(super) fn death(&self) -> Death {
        match &self.exit {
            _ if self.stop_reason.is_some() => Death::Stopped,
            Some(exit) if exit.oom || self.frames.last_words.say_out_of_memory() => {
                Death::OutOfMemory
            }
            Some(_) => Death::Crashed,
            None => Death::Unseen,
        }
    }

    /// The process, or its keeper, is gone.
    pub(super) async fn conclude_exit(&mut self) {
        self.take_left_hand_over();
        self.settle().await;
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
            if let Some(end) = self.end(id, status, None) {
                ends.extend(self.record(end).await);
            }
        }
        let mut retry = Retry::default();
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
                    if !retry.pause(worker, &self.stopping, &error).await {
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

    /// Hands in how a step ended and tells whoever waits, in the order that the recorder allows.
    pub(super) async fn conclude(
        &mut self,
        id: StepId,
        status: StepStatus,
        finished: Option<Finished>,
    ) {
        let Some(end) = self.end(id, status, finished) else {
            return;
        };
        let outcome = &end.outcome;
        // A step that printed much may have pushed its own hand-over out of the ring.
        let vouched = self.recorder.tells_before_durable()
            && outcome.output_end - outcome.output_start < MAX_VOUCHED_BYTES;
        let Some(sequence) = end.step.sequence.filter(|_| vouched) else {
            if let Some((phase, ended)) = self.record(end).await {
                phase.send_replace(ended);
            }
            return;
        };
        let outcome = Arc::clone(outcome);
        let phase = Arc::clone(&end.phase);
        self.shared.unfinished.fetch_sub(1, Ordering::Relaxed);
        phase.send_replace(Phase::Ended(Arc::new(Ended { sequence, outcome })));
        self.hand_in(end);
        if self.recordings.is_full() {
            let recorded = self.recordings.next().await;
            self.recorded(recorded);
        }
    }

    /// Takes a step that ended out of the books. `None`: there is no such step.
    fn end(&mut self, id: StepId, status: StepStatus, finished: Option<Finished>) -> Option<End> {
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
        self.nudge = self.nudge.filter(|_| self.grace.is_some());
        let exit = (finished.is_none() && entry.started.is_some() && self.link.is_none())
            .then(|| self.describe_exit());
        let (step, acceptance) = (Arc::clone(&entry.step), entry.acceptance);
        let phase = entry.phase.clone();
        let mut outcome = entry.outcome(status, finished, self.output_read, exit, self.shared.id);
        if outcome.error.is_none() {
            outcome.error = self.explain(status, step.timeout_ms);
        }
        crash_points::pass("step.before_record");
        Some(End {
            step,
            acceptance,
            outcome: Arc::new(outcome),
            phase,
        })
    }

    /// Records an end, after all those before it; whoever waits is still to be told. `None`: the
    /// agent is stopping.
    async fn record(&mut self, end: End) -> Option<(Arc<watch::Sender<Phase>>, Phase)> {
        self.settle().await;
        let (phase, outcome) = (Arc::clone(&end.phase), Arc::clone(&end.outcome));
        self.hand_in(end);
        let recorded = self.recordings.next().await;
        let sequence = recorded.sequence?;
        self.recorded(recorded);
        self.shared.unfinished.fetch_sub(1, Ordering::Relaxed);
        Some((phase, Phase::Ended(Arc::new(Ended { sequence, outcome }))))
    }

    /// An end is durable.
    pub(super) fn recorded(&mut self, recorded: Recorded) {
        if recorded.sequence.is_none() {
            return;
        }
        crash_points::pass("step.after_record");
        if let Some(up_to) = recorded.up_to {
            self.shared.journal.set_recorded(up_to);
        }
        self.turn_ring();
    }

    fn hand_in(&mut self, end: End) {
        // With a step at work, entries before `next` may be its own.
        let up_to = self.schedule.running().is_none().then_some(self.next);
        let context = (self.shared.id, self.stopping.clone());
        self.recordings
            .push(end, &self.recorder, up_to, self.passed, context);
    }

    /// Waits until every end that was told is durable.
    pub(super) async fn settle(&mut self) {
        while !self.recordings.is_empty() {
            let recorded = self.recordings.next().await;
            self.recorded(recorded);
        }
    }
}
