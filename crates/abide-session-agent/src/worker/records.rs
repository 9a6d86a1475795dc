//! From journal entries to what they mean for the steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use abide_interpreter::{FromHarness, ToHarness};
use abide_keeper::{ExitRecord, FrameAssembler, Lifecycle, Record, Tag, split_input};
use abide_model::{
    Exit, NewStep, OutputView, StepError, StepId, StepOutcome, StepResult, StepStatus, Timestamp,
    VIEW_TAIL_BYTES, WorkerId,
};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use super::last_words::LastWords;
use super::task::WorkerTask;
use super::{Acceptance, Phase};
use crate::crash_points;
use crate::output::TapStarter;

/// A step that has not ended.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) step: Arc<NewStep>,
    pub(super) acceptance: Acceptance,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    /// Readers for whom the program waits, from the step's start on.
    taps: Vec<TapStarter>,
    pub(super) generation: u64,
    pub(super) started: Option<Started>,
    pub(super) stdout: OutputView,
    pub(super) stderr: OutputView,
}

/// The hand-over of a step, as the journal has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) at: Timestamp,
    time_ns: u64,
    output_start: u64,
    start_seq: u64,
}

impl Entry {
    pub(super) fn new(
        step: Arc<NewStep>,
        acceptance: Acceptance,
        phase: watch::Sender<Phase>,
        tap: Option<TapStarter>,
    ) -> Self {
        Self {
            step,
            acceptance,
            phase: Arc::new(phase),
            taps: tap.into_iter().collect(),
            generation: 0,
            started: None,
            stdout: OutputView::default(),
            stderr: OutputView::default(),
        }
    }

    /// Has the program wait for one more reader.
    pub(super) fn hold(&mut self, tap: Option<TapStarter>) {
        let Some(tap) = tap else { return };
        if let Some(started) = &self.started {
            tap.hold_from(started.start_seq);
        }
        self.taps.push(tap);
    }

    pub(super) fn outcome(
        self,
        status: StepStatus,
        finished: Option<Finished>,
        output_end: u64,
        exit: Option<Exit>,
        worker: WorkerId,
    ) -> StepOutcome {
        let time_ns = finished.as_ref().map(|said| said.time_ns);
        let (result, error) = finished.map_or((None, None), |said| (said.result, said.error));
        // One clock for both ends, so that the duration is exact whatever the wall clock does.
        let finished_at = match (self.started, time_ns) {
            (Some(started), Some(end_ns)) => {
                let micros = end_ns.saturating_sub(started.time_ns) / 1000;
                let micros = i64::try_from(micros).unwrap_or(i64::MAX);
                Timestamp::from_micros(started.at.as_micros().saturating_add(micros))
            }
            _ => Timestamp::now(),
        };
        StepOutcome {
            id: self.step.id,
            status,
            stdout: self.stdout,
            stderr: self.stderr,
            result,
            error,
            exit,
            started_at: self.started.map(|started| started.at),
            finished_at,
            output_start: self
                .started
                .map_or(output_end, |started| started.output_start),
            output_end,
            worker: self.started.map(|_| worker),
        }
    }
}

/// What the interpreter says about the end of a step.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: StepId,
    pub(super) status: StepStatus,
    result: Option<StepResult>,
    error: Option<StepError>,
    /// When the keeper had it: `CLOCK_BOOTTIME`, nanoseconds.
    pub(super) time_ns: u64,
}

/// A journal entry that means something for the steps.
#[derive(Debug)]
pub(super) enum Frame {
    /// A message of ours reached the interpreter.
    Delivered(StepId),
    /// A step ended.
    Finished(Box<Finished>),
    /// The process ended.
    Exited(ExitRecord),
}

/// Puts chunked payloads together again and keeps the end of standard error.
#[derive(Debug, Default)]
pub(super) struct Frames {
    control: FrameAssembler,
    input: FrameAssembler,
    pub(super) last_words: LastWords,
}

impl WorkerTask {
    /// How much of the end of an entry's payload there is use for, in bytes.
    pub(super) fn wanted(&self, tag: Tag) -> u32 {
        const TAIL: u32 = VIEW_TAIL_BYTES as u32;
        let running = || self.entries.get(&self.schedule.running()?);
        let (kept, otherwise) = match tag {
            Tag::Stdout => (running().map(|entry| &entry.stdout), 0),
            Tag::Stderr => (running().map(|entry| &entry.stderr), TAIL),
            Tag::Control | Tag::Input | Tag::Lifecycle => return u32::MAX,
            // An interpreter has none.
            Tag::Terminal => return 0,
        };
        match kept {
            Some(view) if view.is_head_full() => TAIL,
            Some(_) => u32::MAX,
            None => otherwise,
        }
    }

    /// Accounts for one entry; `data` is its payload, or what was wanted of it.
    pub(super) fn take_record(&mut self, record: &Record, data: &[u8]) -> Option<Frame> {
        match record.tag {
            Tag::Stdout | Tag::Stderr => {
                self.output_read = record.output_offset + u64::from(record.len);
                if record.tag == Tag::Stderr {
                    self.frames.last_words.push(data);
                }
                if let Some(entry) = self
                    .schedule
                    .running()
                    .and_then(|id| self.entries.get_mut(&id))
                {
                    let view = match record.tag {
                        Tag::Stderr => &mut entry.stderr,
                        Tag::Stdout
                        | Tag::Terminal
                        | Tag::Control
                        | Tag::Input
                        | Tag::Lifecycle => &mut entry.stdout,
                    };
                    view.push_end(u64::from(record.len) - data.len() as u64, data);
                    crash_points::pass("step.during_output");
                }
                None
            }
            Tag::Input => {
                let (_, frame) = self.frames.input.push(record, data)?;
                let (id, message) = split_input(frame)?;
                let id = StepId(Uuid::from_bytes(id));
                if !self.entries.contains_key(&id) {
                    let step = ToHarness::decode_step(message);
                    self.remember(id, step, record.time_ns);
                }
                self.started(id, record).then_some(Frame::Delivered(id))
            }
            Tag::Control => {
                let (_, frame) = self.frames.control.push(record, data)?;
                match FromHarness::decode(frame) {
                    Ok(FromHarness::Finished {
                        id,
                        status,
                        result,
                        error,
                    }) => {
                        let time_ns = record.time_ns;
                        Some(Frame::Finished(Box::new(Finished {
                            id,
                            status,
                            result,
                            error,
                            time_ns,
                        })))
                    }
                    Ok(FromHarness::Ready { .. }) => None,
                    Err(error) => {
                        warn!(worker = %self.shared.id, %error, "unreadable frame");
                        None
                    }
                }
            }
            Tag::Lifecycle => match serde_json::from_slice(data) {
                Ok(Lifecycle::Exited(exit)) => Some(Frame::Exited(exit)),
                _ => None,
            },
            Tag::Terminal => None,
        }
    }

    /// A step that was handed over before the agent was restarted, and of which the records did
    /// not know at the restart: it had ended and been recorded, or it was about to be accepted.
    fn remember(&mut self, id: StepId, step: Option<ToHarness>, time_ns: u64) {
        let Some(ToHarness::Step { code, stdin, .. }) = step.filter(|_| !self.is_probe(id)) else {
            return;
        };
        let step = NewStep {
            id,
            session_id: self.shared.session,
            code,
            stdin,
            timeout_ms: None,
            created_at: wall_clock(time_ns),
            sequence: None,
        };
        self.shared.unfinished.fetch_add(1, Ordering::Relaxed);
        let phase = watch::channel(Phase::Queued).0;
        self.enqueue(Arc::new(step), Acceptance::Pending, phase, None);
    }

    /// The journal says that `id` was handed over here.
    fn started(&mut self, id: StepId, record: &Record) -> bool {
        self.output_read = record.output_offset;
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        let at = wall_clock(record.time_ns);
        entry.started = Some(Started {
            at,
            time_ns: record.time_ns,
            output_start: record.output_offset,
            start_seq: self.next,
        });
        for tap in &entry.taps {
            tap.hold_from(self.next);
        }
        entry.phase.send_replace(Phase::Running {
            started_at: at,
            start_seq: self.next,
            output_start: record.output_offset,
        });
        // Handed over before the agent was restarted: the schedule still has it queued.
        let limit = entry.step.timeout_ms;
        if let Some(generation) = self.schedule.was_delivered(id) {
            entry.generation = generation;
            if let Some(limit) = limit {
                self.rearm(limit, at, generation);
            }
        }
        true
    }

    /// An error for an end that the interpreter itself did not explain.
    pub(super) fn explain(&self, status: StepStatus, timeout_ms: Option<u64>) -> Option<StepError> {
        let (kind, message) = match status {
            StepStatus::Queued
            | StepStatus::Running
            | StepStatus::Completed
            | StepStatus::Error => {
                return None;
            }
            StepStatus::Timeout => (
                "Timeout",
                format!(
                    "the step was stopped after its timeout_ms of {}",
                    timeout_ms.unwrap_or(0)
                ),
            ),
            StepStatus::Interrupted => ("Interrupted", "the step was interrupted".to_owned()),
            StepStatus::OutOfMemory => (
                "OutOfMemory",
                "the interpreter ran out of memory".to_owned(),
            ),
            StepStatus::Crashed => ("RuntimeCrashed", self.describe_exit().reason),
            StepStatus::Lost => (
                "Lost",
                "nobody saw how the step ended: its keeper or the machine went down".to_owned(),
            ),
        };
        let quoted = matches!(status, StepStatus::Crashed | StepStatus::OutOfMemory)
            .then(|| self.frames.last_words.quoted())
            .unwrap_or_default();
        Some(StepError {
            kind: kind.to_owned(),
            message,
            traceback: quoted,
        })
    }
}

/// The wall-clock time of a `CLOCK_BOOTTIME` reading of this boot.
fn wall_clock(time_ns: u64) -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now_ns = now
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec);
    let ago_ns = now_ns.saturating_sub(i64::try_from(time_ns).unwrap_or(i64::MAX));
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(ago_ns / 1000))
}
