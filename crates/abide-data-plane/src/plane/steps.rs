//! A step's way to its runtime and back: does what [`StepRouting`] decides.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{AgentStep, Problem, Route, RouteStatus, RunStep, StepFrame, StepOutcome};
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::DataPlane;
use super::problems::{exit_of, of_verdict};
use super::streams::StepSink;
use crate::link::FrameLine;
use crate::registry::Found;
use crate::routing::{Action, Event, Patience, RouteState, StepRouting, Verdict};
use crate::trace::TraceContext;

/// How old a route's last sign of life may get before it is written down again.
const TOUCH_AFTER_SECONDS: i64 = 10;

/// A step to run.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Session and step by the names the client gave them, and what is to be run. Its queue
    /// deadline is set.
    pub run: RunStep,
    /// Names of the request.
    pub trace: TraceContext,
}

/// What the caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The step's end.
    End,
    /// That it was accepted.
    Acceptance,
    /// Its frames, with or without output.
    Frames {
        /// With it; then the program waits for whoever reads.
        output: bool,
    },
}

/// What became of a step.
#[derive(Debug, Clone)]
pub enum StepReply {
    /// It ended; the frame that says so.
    Ended(FrameLine),
    /// It was accepted, and nobody waits for its end.
    Accepted(Box<AgentStep>),
}

impl StepReply {
    /// The step as clients see it, under the name the client gave it.
    pub fn into_step(self, label: &str) -> AgentStep {
        let step = match self {
            Self::Accepted(step) => *step,
            Self::Ended(line) => match line.frame {
                StepFrame::Ended { outcome, .. } => AgentStep::ended(&outcome),
                _ => AgentStep::default(),
            },
        };
        AgentStep {
            step_id: label.to_owned(),
            ..step
        }
    }

    fn outcome(&self) -> Option<&StepOutcome> {
        match self {
            Self::Ended(FrameLine {
                frame: StepFrame::Ended { outcome, .. },
                ..
            }) => Some(outcome),
            _ => None,
        }
    }

    fn word(&self) -> &'static str {
        self.outcome()
            .map_or("accepted", |outcome| outcome.status.as_str())
    }
}

/// What is known so far of a step under way.
pub(super) struct Progress<'a, S> {
    pub(super) request: &'a StepRequest,
    pub(super) want: Want,
    pub(super) sink: &'a mut S,
    pub(super) route: Option<Arc<Route>>,
    pub(super) reply: Option<StepReply>,
    pub(super) refusal: Option<Problem>,
    /// `started` has been handed on.
    pub(super) started: bool,
    /// Output offset up to which output has been handed on, once it started.
    pub(super) output_at: Option<u64>,
}

impl DataPlane {
    /// Gets a step to its runtime, once, and hands `sink` what comes back.
    ///
    /// # Errors
    /// Whatever keeps it from its end: see [`Verdict`].
    pub(super) async fn drive<S: StepSink>(
        &self,
        request: &StepRequest,
        want: Want,
        sink: &mut S,
    ) -> Result<StepReply, Problem> {
        let run = &request.run;
        let span = info_span!(
            "route_step",
            session_id = %run.session_id,
            step_id = %run.step_id,
            request_id = %request.trace.request_id,
            trace_id = %request.trace.trace_id,
            span_id = request.trace.recorded(),
            parent_id = request.trace.parent(),
        );
        let _under_way = self.step_begins(&run.session_id);
        let begun = Instant::now();
        let mut progress = Progress {
            request,
            want,
            sink,
            route: None,
            reply: None,
            refusal: None,
            started: false,
            output_at: None,
        };
        let answer = self.route_step(&mut progress, begun).instrument(span).await;
        let word = match &answer {
            Ok(reply) => reply.word(),
            Err(problem) => known_code(problem),
        };
        self.metrics
            .step_answered(word, answer.is_ok(), begun.elapsed().as_secs_f64());
        answer
    }

    async fn route_step<S: StepSink>(
        &self,
        progress: &mut Progress<'_, S>,
        begun: Instant,
    ) -> Result<StepReply, Problem> {
        let run = &progress.request.run;
        let mut routing = StepRouting::new(self.patience(run));
        let mut event = self.looked_up(self.registry.find(&run.session_id).await?, progress);
        loop {
            let action = routing.next(event.clone(), begun.elapsed());
            let attempt = routing.attempts();
            match &action {
                Action::Answer(verdict) => {
                    let verdict = self.unless_recorded(*verdict, progress).await?;
                    return self.answered(verdict, attempt, progress).await;
                }
                // The plain way is told of once, with its outcome.
                _ if matches!(event, Event::Route { .. } | Event::Unfinished) => {}
                _ => {
                    self.metrics.retried();
                    log(progress, attempt, &format!("{event:?}"), &action);
                }
            }
            event = match action {
                Action::Reload => {
                    let found = Found {
                        route: self.registry.load(&run.session_id).await?,
                        fresh: true,
                    };
                    self.looked_up(found, progress)
                }
                Action::Send { pause } => {
                    self.pause(pause).await;
                    self.send(progress).await?
                }
                Action::AskStep { pause } => {
                    self.pause(pause).await;
                    self.ask_step(progress).await?
                }
                Action::AskSession { pause } => {
                    self.pause(pause).await;
                    self.ask_session(progress).await
                }
                Action::Rebind { boot_id } => self.rebind(&boot_id, progress).await?,
                // Answered above.
                Action::Answer(_) => continue,
            };
        }
    }

    /// A session whose interpreter is dead runs no steps, but its runtime still knows those that
    /// ended before, or with it: whoever submits one of them again gets its outcome.
    async fn unless_recorded<S: StepSink>(
        &self,
        verdict: Verdict,
        progress: &mut Progress<'_, S>,
    ) -> Result<Verdict, Problem> {
        if verdict != Verdict::Crashed || progress.refusal.is_some() {
            return Ok(verdict);
        }
        let recorded = self.ask_step(progress).await? == Event::Ended;
        Ok(if recorded { Verdict::Ended } else { verdict })
    }

    /// The step's deadlines, with what they need to take effect.
    fn patience(&self, run: &RunStep) -> Patience {
        let limits = run.timeout_ms.map(|execution| {
            let queue = run.queue_timeout_ms.unwrap_or_default();
            Duration::from_millis(execution.saturating_add(queue)).saturating_add(self.config.grace)
        });
        Patience {
            deadline: limits,
            silence: match limits {
                Some(_) => self.config.grace.min(self.config.silence),
                None => self.config.silence,
            },
        }
    }

    pub(super) fn looked_up<S>(&self, found: Found, progress: &mut Progress<'_, S>) -> Event {
        let Found { route, fresh } = found;
        self.metrics.looked_up(match (&route, fresh) {
            (None, _) => "nowhere",
            (Some(_), true) => "store",
            (Some(_), false) => "memory",
        });
        let state = match &route {
            None => RouteState::Unknown,
            Some(route) if self.is_overdue(route) => RouteState::Gone,
            Some(route) => match route.status {
                RouteStatus::Ready => RouteState::Ready {
                    endpoint: self.link(route).endpoint().to_owned(),
                    boot_id: route.boot_id.clone(),
                    worker: route.worker_id,
                },
                RouteStatus::Provisioning => RouteState::Provisioning,
                RouteStatus::Failed => RouteState::Failed,
                RouteStatus::Lost => RouteState::Lost,
                RouteStatus::Crashed => RouteState::Crashed,
                RouteStatus::Expired | RouteStatus::Terminated => RouteState::Gone,
            },
        };
        progress.route = route;
        Event::Route { state, fresh }
    }

    /// Ends a step's way.
    async fn answered<S: StepSink>(
        &self,
        verdict: Verdict,
        attempts: u32,
        progress: &mut Progress<'_, S>,
    ) -> Result<StepReply, Problem> {
        let reply = progress.reply.take().filter(|_| verdict == Verdict::Ended);
        let word = reply.as_ref().map_or(verdict.as_str(), StepReply::word);
        log_outcome(progress, attempts, word);
        if let Some(route) = progress.route.clone() {
            if verdict.ends_session() {
                let exit = progress.refusal.as_ref().and_then(exit_of);
                self.mark_crashed(&route.session_id, route.worker_id, exit)
                    .await?;
            } else if reply.is_some() {
                let age = self.now().as_micros() - route.last_seen_at.as_micros();
                if route.sliding_seconds.is_some() || age > TOUCH_AFTER_SECONDS * 1_000_000 {
                    self.touch(&route).await?;
                }
            }
        }
        reply.ok_or_else(|| {
            let refusal = progress.refusal.take();
            of_verdict(verdict, refusal, attempts, &progress.request.run.step_id)
        })
    }
}

/// The problem's code if it is one of ours: a label of a metric must not be anything.
fn known_code(problem: &Problem) -> &'static str {
    let mut known = abide_model::ProblemCode::ALL.iter();
    known
        .find(|code| code.as_str() == problem.code)
        .map_or("other", |code| code.as_str())
}

fn log<S>(progress: &Progress<'_, S>, attempt: u32, outcome: &str, next: &Action) {
    let (runtime, endpoint, auth_mode) = target(progress);
    let run = &progress.request.run;
    warn!(
        session_id = %run.session_id, runtime_id = runtime, target_endpoint = endpoint,
        auth_mode, step_id = %run.step_id, attempt, outcome, ?next, "step not through yet"
    );
}

fn log_outcome<S>(progress: &Progress<'_, S>, attempt: u32, outcome: &str) {
    let (runtime, endpoint, auth_mode) = target(progress);
    let run = &progress.request.run;
    info!(
        session_id = %run.session_id, runtime_id = runtime, target_endpoint = endpoint,
        auth_mode, step_id = %run.step_id, attempt, outcome, "step routed"
    );
}

fn target<'a, S>(progress: &'a Progress<'_, S>) -> (&'a str, &'a str, &'static str) {
    progress.route.as_ref().map_or(("", "", ""), |route| {
        (
            route.runtime_id.as_str(),
            route.endpoint.as_str(),
            route.auth_mode.as_str(),
        )
    })
}
