//! What may happen next in one interpreter: a pure state machine, no I/O, no clock.
//!
//! ```text
//!            submit                next()                 finished / exited
//!  (nothing) ─────► queued ───────────────► running ───────────────────────► concluded
//!                     │  cancel / exited       │ stop(cause) ──► interrupt sent ──► kill sent
//!                     └────────────────────────┴──────────────────────────────► concluded
//! ```
//!
//! At most one step runs; steps run in the order they were submitted; every submitted step is
//! concluded exactly once. Timers carry the generation of the run they were armed for, so that
//! a late one does nothing.

use std::collections::VecDeque;

use abide_model::{StepId, StepStatus};

/// Why a running step was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// Its `timeout_ms` passed.
    Timeout,
    /// Somebody asked.
    Requested,
}

/// How far stopping a running step has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Interrupted(StopCause),
    Killed(StopCause),
}

/// The step that the interpreter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    id: StepId,
    generation: u64,
    stopping: Stopping,
}

/// How the interpreter ended, as far as the steps care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// It ran out of memory.
    OutOfMemory,
    /// It died; its keeper saw how.
    Crashed,
    /// Its keeper went down too: nobody saw how.
    Unseen,
    /// It was stopped on purpose (session deleted or restarted, `abide down`).
    Stopped,
}

/// What the owner must do about a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAction {
    /// Nothing: no such step, or it is being stopped already.
    None,
    /// It was still queued and is out of the queue; conclude it as `interrupted`.
    Dequeued,
    /// Send the interrupt and arm the grace timer with this generation.
    Interrupt {
        /// To hand to [`Schedule::grace_over`].
        generation: u64,
    },
}

/// The steps of one interpreter that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: VecDeque<StepId>,
    running: Option<Running>,
    generations: u64,
}

impl Schedule {
    /// Adds a step at the end of the queue.
    pub(crate) fn submit(&mut self, id: StepId) {
        self.queue.push_back(id);
    }

    /// The step to hand to the interpreter now, if it is free; it counts as running from here
    /// on. The number is the run's generation, for its timeout.
    pub(crate) fn next(&mut self) -> Option<(StepId, u64)> {
        if self.running.is_some() {
            return None;
        }
        let id = self.queue.pop_front()?;
        Some((id, self.start(id)))
    }

    /// The journal shows that `id` was handed over earlier, before the owner was restarted.
    /// `None` if it is not a queued step.
    pub(crate) fn was_delivered(&mut self, id: StepId) -> Option<u64> {
        let at = self.queue.iter().position(|queued| *queued == id)?;
        self.queue.remove(at);
        Some(self.start(id))
    }

    fn start(&mut self, id: StepId) -> u64 {
        self.generations += 1;
        self.running = Some(Running {
            id,
            generation: self.generations,
            stopping: Stopping::No,
        });
        self.generations
    }

    /// The step that would run next.
    pub(crate) fn first_queued(&self) -> Option<StepId> {
        self.queue.front().copied()
    }

    /// The running step.
    pub(crate) fn running(&self) -> Option<StepId> {
        self.running.map(|running| running.id)
    }

    /// Steps waiting before `id`: 0 if it runs, `None` if it is not here.
    pub(crate) fn position(&self, id: StepId) -> Option<usize> {
        if self.running() == Some(id) {
            return Some(0);
        }
        let busy = usize::from(self.running.is_some());
        self.queue
            .iter()
            .position(|queued| *queued == id)
            .map(|at| at + busy)
    }

    /// The interpreter says `id` ended as `said`. `None` if `id` is not the running step (a
    /// stale or forged frame).
    pub(crate) fn finished(&mut self, id: StepId, said: StepStatus) -> Option<StepStatus> {
        let running = self.running.filter(|running| running.id == id)?;
        self.running = None;
        Some(match (said, running.stopping) {
            // It got through before the interrupt reached it.
            (StepStatus::Completed, _) | (_, Stopping::No) => said,
            (_, Stopping::Interrupted(cause) | Stopping::Killed(cause)) => cause.status(),
        })
    }

    /// The run of `generation` has used up its time.
    pub(crate) fn timed_out(&mut self, generation: u64) -> StopAction {
        match self.running {
            Some(running) if running.generation == generation => {
                self.stop_running(StopCause::Timeout)
            }
            _ => StopAction::None,
        }
    }

    /// Somebody wants `id` to end.
    pub(crate) fn cancel(&mut self, id: StepId) -> StopAction {
        if self.running() == Some(id) {
            return self.stop_running(StopCause::Requested);
        }
        match self.queue.iter().position(|queued| *queued == id) {
            Some(at) => {
                self.queue.remove(at);
                StopAction::Dequeued
            }
            None => StopAction::None,
        }
    }

    fn stop_running(&mut self, cause: StopCause) -> StopAction {
        match &mut self.running {
            Some(running) if running.stopping == Stopping::No => {
                running.stopping = Stopping::Interrupted(cause);
                StopAction::Interrupt {
                    generation: running.generation,
                }
            }
            _ => StopAction::None,
        }
    }

    /// The grace after an interrupt is over. `true`: the interpreter must be killed now.
    pub(crate) fn grace_over(&mut self, generation: u64) -> bool {
        match &mut self.running {
            Some(running) if running.generation == generation => match running.stopping {
                Stopping::Interrupted(cause) => {
                    running.stopping = Stopping::Killed(cause);
                    true
                }
                Stopping::No | Stopping::Killed(_) => false,
            },
            _ => false,
        }
    }

    /// The interpreter is gone: every step that had not ended, in order, with its end.
    pub(crate) fn exited(&mut self, death: Death) -> Vec<(StepId, StepStatus)> {
        let of_death = match death {
            Death::OutOfMemory => StepStatus::OutOfMemory,
            Death::Crashed => StepStatus::Crashed,
            Death::Unseen => StepStatus::Lost,
            Death::Stopped => StepStatus::Interrupted,
        };
        let queued = match death {
            Death::Stopped => StepStatus::Interrupted,
            Death::OutOfMemory | Death::Crashed | Death::Unseen => StepStatus::Crashed,
        };
        let running = self.running.take().map(|running| {
            let status = match running.stopping {
                Stopping::Interrupted(cause) | Stopping::Killed(cause) => cause.status(),
                Stopping::No => of_death,
            };
            (running.id, status)
        });
        running
            .into_iter()
            .chain(self.queue.drain(..).map(|id| (id, queued)))
            .collect()
    }
}

impl StopCause {
    const fn status(self) -> StepStatus {
        match self {
            Self::Timeout => StepStatus::Timeout,
            Self::Requested => StepStatus::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Input {
        Submit,
        Next,
        Finish(StepStatus),
        FinishStale,
        Cancel(usize),
        Timeout(u64),
        Grace(u64),
        Exit(Death),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => Just(Input::Submit),
            4 => Just(Input::Next),
            3 => prop_oneof![
                Just(StepStatus::Completed),
                Just(StepStatus::Error),
                Just(StepStatus::Interrupted)
            ].prop_map(Input::Finish),
            1 => Just(Input::FinishStale),
            2 => (0usize..8).prop_map(Input::Cancel),
            2 => (0u64..8).prop_map(Input::Timeout),
            2 => (0u64..8).prop_map(Input::Grace),
            1 => prop_oneof![
                Just(Death::Crashed), Just(Death::OutOfMemory), Just(Death::Unseen), Just(Death::Stopped)
            ].prop_map(Input::Exit),
        ]
    }

    proptest! {
        /// Every submitted step is concluded exactly once, in order of start, one at a time.
        #[test]
        fn each_step_is_concluded_once(inputs in prop::collection::vec(input(), 0..80)) {
            let mut schedule = Schedule::default();
            let mut submitted = Vec::new();
            let mut started = Vec::new();
            let mut concluded: HashMap<StepId, StepStatus> = HashMap::new();
            let mut conclude = |id: StepId, status: StepStatus| {
                assert!(status.is_terminal());
                assert_eq!(concluded.insert(id, status), None, "concluded twice");
            };
            for input in inputs {
                match input {
                    Input::Submit => {
                        let id = StepId::new();
                        submitted.push(id);
                        schedule.submit(id);
                    }
                    Input::Next => {
                        let was = schedule.running();
                        if let Some((id, _)) = schedule.next() {
                            prop_assert_eq!(was, None);
                            started.push(id);
                        }
                    }
                    Input::Finish(said) => {
                        if let Some(id) = schedule.running() {
                            let status = schedule.finished(id, said).expect("it runs");
                            prop_assert!(said != StepStatus::Completed || status == said);
                            conclude(id, status);
                        }
                    }
                    Input::FinishStale => {
                        prop_assert_eq!(schedule.finished(StepId::new(), StepStatus::Completed), None);
                    }
                    Input::Cancel(n) => {
                        if let Some(id) = submitted.get(n).copied()
                            && schedule.cancel(id) == StopAction::Dequeued
                        {
                            conclude(id, StepStatus::Interrupted);
                        }
                    }
                    Input::Timeout(generation) => { schedule.timed_out(generation); }
                    Input::Grace(generation) => { schedule.grace_over(generation); }
                    Input::Exit(death) => {
                        for (id, status) in schedule.exited(death) {
                            conclude(id, status);
                        }
                        prop_assert_eq!((schedule.running(), schedule.first_queued()), (None, None));
                    }
                }
            }
            for (id, status) in schedule.exited(Death::Crashed) {
                conclude(id, status);
            }
            prop_assert_eq!(concluded.len(), submitted.len());
            let order: Vec<_> = submitted.iter().filter(|id| started.contains(id)).copied().collect();
            prop_assert_eq!(order, started);
        }
    }

    #[test]
    fn a_late_timer_does_nothing() {
        let mut schedule = Schedule::default();
        let (first, second) = (StepId::new(), StepId::new());
        schedule.submit(first);
        schedule.submit(second);
        let (_, generation) = schedule.next().expect("free");
        schedule.finished(first, StepStatus::Completed);
        schedule.next().expect("free");
        assert_eq!(schedule.timed_out(generation), StopAction::None);
        assert!(!schedule.grace_over(generation));
        assert_eq!(schedule.running(), Some(second));
    }

    #[test]
    fn a_timeout_names_the_end() {
        let mut schedule = Schedule::default();
        let id = StepId::new();
        schedule.submit(id);
        let (_, generation) = schedule.next().expect("free");
        assert_eq!(
            schedule.timed_out(generation),
            StopAction::Interrupt { generation }
        );
        assert_eq!(schedule.cancel(id), StopAction::None);
        assert!(schedule.grace_over(generation));
        assert_eq!(
            schedule.exited(Death::Crashed),
            vec![(id, StepStatus::Timeout)]
        );
    }
}
