//! The task that owns one interpreter: one queue of commands in, one journal in, and what may
//! happen next decided by [`Schedule`].

mod ends;
mod recordings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_interpreter::ToHarness;
use abide_keeper::{Message, ReadError, SignalScope};
use abide_model::{NewStep, StepId, StepStatus, Timestamp};
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use recordings::Recordings;

use super::alarm::Alarm;
use super::records::{Entry, Finished, Frame, Frames};
use super::{Acceptance, Command, Peek, Phase, Shared, WorkerSetup};
use crate::crash_points;
use crate::link::Link;
use crate::output::TapStarter;
use crate::recorder::Recorder;
use crate::schedule::{Schedule, StopAction};

/// Journal entries handled before commands get a turn.
const BATCH: usize = 512;
/// A reader that holds the program back and does not move for two of these is let go.
const STALL_CHECK: Duration = Duration::from_secs(5);
/// A step that ends within this is recorded as accepted and ended in one change, which costs the
/// store half as much as two and the caller one wait less.
const ACCEPT_WITHIN: Duration = Duration::from_millis(2);
/// Ends a wait in which an interrupt was missed, and is nothing to an interpreter that has found it;
/// see `abide_interpreter`.
const NUDGE: Message<'_> = Message::Signal {
    signal: Signal::URG.as_raw(),
    scope: SignalScope::Leader,
};
/// Longer than an interrupt usually takes. Each further nudge comes after twice as long.
const FIRST_NUDGE: Duration = Duration::from_millis(50);
/// What a step's value and displays may take in a record, in bytes.
const MAX_RESULT_BYTES: u64 = 1024 * 1024;

pub(super) struct WorkerTask {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    recorder: Arc<dyn Recorder>,
    link: Option<Link>,
    pub(super) frames: Frames,
    pub(super) schedule: Schedule,
    pub(super) entries: HashMap<StepId, Entry>,
    /// Sequence number of the journal entry to read next.
    pub(super) next: u64,
    /// How far the ring may turn for all that this task needs.
    passed: u64,
    /// Where the journal ended when the task came to it.
    catch_up_to: u64,
    /// Output offset after the output read so far.
    pub(super) output_read: u64,
    buffer: Vec<u8>,
    timeout: Option<(Instant, u64)>,
    grace: Option<(Instant, u64)>,
    /// When to nudge a step that was interrupted, and how long after that again.
    nudge: Option<(Instant, Duration)>,
    /// When to have it entered and recorded that the running step was accepted, if it has not ended by then.
    accept: Option<(Instant, u64)>,
    accept_alarm: Alarm,
    interrupt_grace: Duration,
    stop_reason: Option<String>,
    /// It ignored an interrupt.
    killed: bool,
    /// After a gap: a step that was handed over or not, and the empty step behind it whose end
    /// will tell.
    probe: Option<(StepId, StepId)>,
    exit: Option<abide_keeper::ExitRecord>,
    /// Ends that were told and are not durable yet.
    recordings: Recordings,
    stopping: CancellationToken,
}

impl WorkerTask {
    pub(super) fn new(
        setup: WorkerSetup,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        recorder: Arc<dyn Recorder>,
    ) -> std::io::Result<Self> {
        let mut task = Self {
            shared,
            commands,
            recorder,
            link: setup.keeper.map(Link::new).transpose()?,
            frames: Frames::default(),
            schedule: Schedule::default(),
            entries: HashMap::new(),
            next: setup.next,
            passed: setup.next,
            catch_up_to: 0,
            output_read: 0,
            buffer: Vec::new(),
            timeout: None,
            grace: None,
            nudge: None,
            accept: None,
            accept_alarm: Alarm::default(),
            interrupt_grace: setup.interrupt_grace,
            stop_reason: None,
            killed: false,
            probe: None,
            exit: setup.known_exit,
            recordings: Recordings::default(),
            stopping: CancellationToken::new(),
        };
        if let Some(configure) = &setup.configure {
            task.deliver(task.shared.id.0, configure);
        }
        for step in setup.unfinished {
            let phase = watch::channel(Phase::Queued).0;
            task.enqueue(Arc::new(step), Acceptance::Recorded, phase, None);
        }
        task.find_gap();
        task.catch_up_to = task.shared.journal.head_seq();
        Ok(task)
    }

    pub(super) async fn run(mut self, stopping: CancellationToken) {
        self.stopping = stopping.clone();
        loop {
            let more = self.read_journal().await;
            if !*self.shared.caught_up.borrow() && self.next >= self.catch_up_to {
                // Now it is known which steps were handed over, and all that ended are recorded.
                self.record_acceptance().await;
                self.shared.caught_up.send_replace(true);
            }
            if !more {
                if self.link.is_none() {
                    self.conclude_exit().await;
                    break;
                }
                self.start_next();
            }
            if let Some(link) = &mut self.link {
                link.flush();
            }
            if more {
                if self.accept.is_some_and(|(due, _)| due <= Instant::now()) {
                    self.record_acceptance().await;
                }
                while let Ok(command) = self.commands.try_recv() {
                    self.handle(command).await;
                }
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    // Nobody can reach the worker any more: its session was deleted.
                    None => self.stop("nobody holds the worker any more".to_owned()),
                },
                recorded = self.recordings.next() => self.recorded(recorded),
                () = wait_for(&mut self.link, &self.shared.journal, self.next) => {}
                () = self.accept_alarm.until(self.accept.map(|(due, _)| due)) => self.record_acceptance().await,
                generation = at(self.timeout) => {
                    self.timeout = None;
                    let action = self.schedule.timed_out(generation);
                    self.interrupt_for(action);
                }
                generation = at(self.grace) => {
                    self.grace = None;
                    self.nudge = None;
                    if self.schedule.grace_over(generation) {
                        self.killed = true;
                        self.send(Message::Kill);
                    }
                }
                pause = at(self.nudge) => {
                    self.send(NUDGE);
                    self.nudge = Some((Instant::now() + pause, pause * 2));
                }
                () = tokio::time::sleep(STALL_CHECK), if !self.shared.taps.is_empty() => {
                    self.shared.taps.release_stalled();
                }
            }
        }
        self.serve_the_dead(stopping).await;
    }

    /// A dead interpreter still has readers, and steps that were accepted in the same moment.
    async fn serve_the_dead(&mut self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => return,
                },
            }
            let late = self.schedule.exited(self.death());
            self.conclude_all(late).await;
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Submit {
                step,
                acceptance,
                phase,
                tap,
            } => {
                self.enqueue(step, acceptance, phase, tap);
            }
            Command::Attach { id, tap, reply } => {
                let entry = self.entries.get_mut(&id);
                let phase = entry.map(|entry| {
                    entry.hold(tap);
                    entry.phase.subscribe()
                });
                let _ = reply.send(phase.or_else(|| self.recordings.phase(id)));
            }
            Command::Peek { id, reply } => {
                let _ = reply.send(self.entries.get(&id).map(|entry| Peek {
                    stdout: entry.stdout.clone(),
                    stderr: entry.stderr.clone(),
                    started_at: entry.started.as_ref().map(|started| started.at),
                    position: self.schedule.position(id).unwrap_or(0),
                }));
            }
            Command::Cancel { id } => {
                let action = self.schedule.cancel(id);
                if action == StopAction::Dequeued {
                    self.conclude(id, StepStatus::Interrupted, None).await;
                }
                self.interrupt_for(action);
            }
            Command::Withdraw { id } => {
                if self.schedule.running() != Some(id)
                    && self.schedule.cancel(id) == StopAction::Dequeued
                {
                    self.conclude(id, StepStatus::Interrupted, None).await;
                }
            }
            Command::InterruptRunning => {
                if let Some(id) = self.schedule.running() {
                    let action = self.schedule.cancel(id);
                    self.interrupt_for(action);
                }
            }
            Command::Stop { reason } => self.stop(reason),
        }
    }

    fn stop(&mut self, reason: String) {
        if self.stop_reason.is_none() {
            self.stop_reason = Some(reason);
            self.send(Message::Stop);
        }
    }

    pub(super) fn enqueue(
        &mut self,
        step: Arc<NewStep>,
        acceptance: Acceptance,
        phase: watch::Sender<Phase>,
        tap: Option<TapStarter>,
    ) {
        self.schedule.submit(step.id);
        self.entries
            .insert(step.id, Entry::new(step, acceptance, phase, tap));
    }

    /// The running step takes longer: from now on it is to be seen in the journal and in the records.
    async fn record_acceptance(&mut self) {
        self.accept = None;
        if let Some(link) = &self.link {
            link.enter_delivered();
        }
        let entry = self
            .schedule
            .running()
            .and_then(|id| self.entries.get_mut(&id));
        let Some(entry) = entry.filter(|entry| entry.acceptance == Acceptance::Pending) else {
            return;
        };
        entry.acceptance = Acceptance::Recorded;
        let step = Arc::clone(&entry.step);
        // Failing is no reason to wait: the outcome brings the step along.
        if let Err(error) = self.recorder.step_accepted(step).await {
            let error = &error as &dyn std::error::Error;
            warn!(worker = %self.shared.id, error, "cannot record a step as accepted");
        }
    }

    pub(super) fn is_probe(&self, id: StepId) -> bool {
        self.probe.is_some_and(|(_, probe)| probe == id)
    }

    /// Hands the next step to the interpreter if it is free.
    fn start_next(&mut self) {
        let Some((id, generation)) = self.schedule.next() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.generation = generation;
        let (code, stdin) = (entry.step.code.clone(), entry.step.stdin.clone());
        if let Some(limit) = entry.step.timeout_ms {
            self.timeout = Some((Instant::now() + Duration::from_millis(limit), generation));
        }
        self.accept = Some((Instant::now() + ACCEPT_WITHIN, generation));
        crash_points::pass("step.before_send");
        self.deliver_step(id, code, stdin);
        if let Some(link) = &mut self.link {
            link.flush();
        }
        crash_points::pass("step.after_send");
    }

    fn deliver_step(&mut self, id: StepId, code: String, stdin: Option<String>) {
        let max_result_bytes = MAX_RESULT_BYTES;
        self.deliver(
            id.0,
            &ToHarness::Step {
                id,
                code,
                stdin,
                max_result_bytes,
            },
        );
    }

    fn deliver(&mut self, id: Uuid, message: &ToHarness) {
        if let Some(link) = &mut self.link {
            link.deliver(id.into_bytes(), &message.encode());
        }
    }

    fn send(&mut self, message: Message<'_>) {
        if let Some(link) = &mut self.link {
            link.queue(message);
        }
    }

    fn interrupt_for(&mut self, action: StopAction) {
        if let StopAction::Interrupt { generation } = action {
            self.grace = Some((Instant::now() + self.interrupt_grace, generation));
            self.nudge = Some((Instant::now() + FIRST_NUDGE, FIRST_NUDGE * 2));
            self.interrupt();
        }
    }

    /// Ctrl-C: the interpreter and what it runs in the foreground. The step was handed over before
    /// this message, and the interpreter sorts out whether it has begun already.
    fn interrupt(&mut self) {
        if let Some(id) = self.schedule.running() {
            let payload = &ToHarness::Interrupt { id }.encode();
            self.send(Message::Interrupt { payload });
        }
    }

    /// If output has left the ring unread, the first unfinished step may have been handed over
    /// in the part that is gone. Assume so, hand it over again (the keeper drops a repetition)
    /// and let an empty step behind it tell whether it had ended in the gap.
    fn find_gap(&mut self) {
        let earliest = self.shared.journal.earliest().seq;
        if self.next >= earliest {
            return;
        }
        debug!(worker = %self.shared.id, from = self.next, to = earliest, "journal gap");
        self.next = earliest;
        let Some(first) = self.schedule.first_queued() else {
            return;
        };
        self.start_next();
        let probe = StepId::new();
        self.probe = Some((first, probe));
        self.deliver_step(probe, String::new(), None);
    }

    /// Reads what the journal has, at most a batch; `true` if there is more.
    async fn read_journal(&mut self) -> bool {
        let mut more = false;
        for n in 0.. {
            if n == BATCH {
                more = true;
                break;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let mut next = self.next;
            let read = self
                .shared
                .journal
                .next_ending(&mut next, &mut buffer, |tag| self.wanted(tag));
            self.next = next;
            let frame = match read {
                Ok(Some(record)) => self.take_record(&record, &buffer),
                Ok(None) => {
                    self.buffer = buffer;
                    break;
                }
                // Only before the keeper held back for us.
                Err(ReadError::Expired { earliest }) => {
                    self.next = earliest.seq;
                    None
                }
                Err(ReadError::Damaged { seq }) => {
                    warn!(worker = %self.shared.id, seq, "damaged journal entry");
                    self.next = seq + 1;
                    None
                }
            };
            self.buffer = buffer;
            match frame {
                None => {}
                Some(Frame::Finished(finished)) => self.finished(*finished).await,
                Some(Frame::Delivered(id)) => {
                    self.probe = self.probe.filter(|(suspect, _)| *suspect != id);
                }
                Some(Frame::Exited(exit)) => {
                    self.exit = Some(exit);
                }
            }
        }
        self.turn_ring();
        self.shared
            .progress
            .send_if_modified(|seen| std::mem::replace(seen, self.next) != self.next);
        // Whoever stops a worker waits for its whole tree, which the keeper ends before itself.
        let exited = self.exit.is_some() && self.stop_reason.is_none();
        if let Some(link) = &mut self.link
            && !more
            && (link.keeper_is_gone() || exited)
        {
            // One more look: what it wrote between our last read and its end.
            more = self.shared.journal.head_seq() > self.next;
            if !more {
                self.link = None;
            }
        }
        more
    }

    /// What was handed over before the keeper died has no entry.
    pub(super) fn take_left_hand_over(&mut self) {
        if let Some((record, bytes)) = self.shared.journal.left_hand_over() {
            self.take_record(&record, &bytes);
        }
    }

    /// Lets the ring turn up to what was read, except over ends that are durable nowhere else.
    pub(super) fn turn_ring(&mut self) {
        self.passed = self.recordings.held().unwrap_or(self.next);
        self.shared.taps.passed(self.passed);
    }

    /// The interpreter says that a step ended.
    async fn finished(&mut self, finished: Finished) {
        let id = finished.id;
        if let Some(link) = &mut self.link {
            link.answered(id.0.into_bytes());
        }
        if let Some((suspect, probe)) = self.probe
            && (id == suspect || id == probe)
        {
            self.probe = None;
            if id == probe && self.schedule.finished(suspect, StepStatus::Lost).is_some() {
                self.conclude(suspect, StepStatus::Lost, None).await;
            }
        }
        let Some(status) = self.schedule.finished(id, finished.status) else {
            debug!(step = %id, "a frame for a step that is not running");
            return;
        };
        self.conclude(id, status, Some(finished)).await;
        // Keep the interpreter busy before anything else.
        self.start_next();
    }

    /// Arms the rest of the timeout of a step that was handed over before the agent restarted.
    pub(super) fn rearm(&mut self, limit_ms: u64, started_at: Timestamp, generation: u64) {
        let gone = Timestamp::now()
            .as_micros()
            .saturating_sub(started_at.as_micros());
        let gone = Duration::from_micros(u64::try_from(gone).unwrap_or(0));
        let left = Duration::from_millis(limit_ms).saturating_sub(gone);
        self.timeout = Some((Instant::now() + left, generation));
    }
}

/// Until the journal has more, the keeper is gone, or queued bytes can be written.
async fn wait_for(link: &mut Option<Link>, journal: &abide_keeper::JournalReader, next: u64) {
    match link {
        Some(link) => link.wait(journal, next, false).await,
        None => std::future::pending().await,
    }
}

/// What belongs to a timer, at its time.
async fn at<T>(timer: Option<(Instant, T)>) -> T {
    match timer {
        Some((instant, what)) => {
            tokio::time::sleep_until(instant).await;
            what
        }
        None => std::future::pending().await,
    }
}
