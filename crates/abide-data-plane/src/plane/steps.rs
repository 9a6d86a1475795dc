//! A step's way to its runtime and back: does what [`StepRouting`] decides.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{AgentStep, Problem, Route, RouteStatus, RunStep, StepFrame, StepOutcome};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::problems::{of_call, of_verdict};
use super::sessions::has_ended;
use super::streams::StepSink;
use super::{DataPlane, caller};
use crate::link::{AgentLink, CallError, FrameLine, Frames, PassedOn};
use crate::registry::Found;
use crate::routing::{Action, Event, Patience, RouteState, SEND_ATTEMPTS, StepRouting, Verdict};
use crate::trace::TraceContext;

/// How long one question for a step waits for its end.
const FOLLOW: Duration = Duration::from_secs(60);
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
struct Progress<'a, S> {
    request: &'a StepRequest,
    want: Want,
    sink: &'a mut S,
    route: Option<Arc<Route>>,
    reply: Option<StepReply>,
    refusal: Option<Problem>,
    /// `started` has been handed on.
    started: bool,
    /// Output offset up to which output has been handed on, once it started.
    output_at: Option<u64>,
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
            span_id = %request.trace.span_id,
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
                    return self.answered(*verdict, attempt, progress).await;
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

    fn looked_up<S>(&self, found: Found, progress: &mut Progress<'_, S>) -> Event {
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
                RouteStatus::Crashed => RouteState::Crashed,
                RouteStatus::Expired | RouteStatus::Terminated => RouteState::Gone,
            },
        };
        progress.route = route;
        Event::Route { state, fresh }
    }

    /// Sends the step to the route's runtime, and follows it while the connection lasts.
    async fn send<S: StepSink>(&self, progress: &mut Progress<'_, S>) -> Result<Event, Problem> {
        // Activity begins the session's time anew, and before the step may be under way: whoever
        // ends overdue sessions then finds it moved.
        let Some(route) = self.renewed(progress).await? else {
            return Ok(Event::Route {
                state: RouteState::Gone,
                fresh: true,
            });
        };
        let link = self.link(&route);
        let request = progress.request;
        let from = caller(&route, &request.trace);
        if progress.want == Want::Acceptance {
            let accepted = link.hand_over(&request.run, &route.boot_id, from).await;
            return Ok(match accepted {
                Ok(accepted) => {
                    progress.reply = Some(StepReply::Accepted(Box::new(accepted.value)));
                    Event::Ended
                }
                Err(error) => self.failed(error, progress),
            });
        }
        let output = progress.want == Want::Frames { output: true };
        let answer = self
            .watched(
                &*link,
                &route,
                link.run(&request.run, output, &route.boot_id, from),
            )
            .await;
        match answer {
            Ok(Ok(answered)) => {
                progress.sink.accepted().await?;
                self.read(answered.value, &*link, &route, progress).await
            }
            Ok(Err(error)) => Ok(self.failed(error, progress)),
            Err(Silent) => Ok(Event::Broke),
        }
    }

    /// Asks what became of the step, and follows it.
    async fn ask_step<S: StepSink>(
        &self,
        progress: &mut Progress<'_, S>,
    ) -> Result<Event, Problem> {
        let Some(route) = progress.route.clone() else {
            return Ok(Event::NoSession);
        };
        let link = self.link(&route);
        let request = progress.request;
        let step = &request.run.step_id;
        let from = caller(&route, &request.trace);
        if progress.want == Want::Acceptance {
            return Ok(match link.step(step, Duration::ZERO, from).await {
                Ok(found) => {
                    progress.reply = Some(StepReply::Accepted(Box::new(found.value)));
                    Event::Ended
                }
                Err(error) => self.failed(error, progress),
            });
        }
        let answer = self
            .watched(&*link, &route, link.follow(step, FOLLOW, from))
            .await;
        match answer {
            Ok(Ok(answered)) => {
                progress.sink.accepted().await?;
                let event = self.read(answered.value, &*link, &route, progress).await?;
                if event == Event::Ended {
                    self.catch_up(&*link, &route, progress).await?;
                }
                Ok(event)
            }
            Ok(Err(error)) => Ok(self.failed(error, progress)),
            Err(Silent) => Ok(Event::Broke),
        }
    }

    async fn ask_session<S>(&self, progress: &mut Progress<'_, S>) -> Event {
        let Some(route) = progress.route.clone() else {
            return Event::NoSession;
        };
        let link = self.link(&route);
        match link.session(caller(&route, &progress.request.trace)).await {
            Ok(answered) => Event::Session {
                boot_id: answered.boot_id,
                worker: answered.value.worker_id,
                dead: answered.value.status != "registered",
            },
            Err(error) => self.failed(error, progress),
        }
    }

    /// Reads frames until the step ends or the stream does.
    async fn read<S: StepSink>(
        &self,
        mut frames: Frames,
        link: &dyn AgentLink,
        route: &Route,
        progress: &mut Progress<'_, S>,
    ) -> Result<Event, Problem> {
        loop {
            let line = match self.watched(link, route, frames.next()).await {
                Err(Silent) => return Ok(Event::Broke),
                Ok(None) => return Ok(Event::Unfinished),
                Ok(Some(Err(error))) => return Ok(self.failed(error, progress)),
                Ok(Some(Ok(line))) => line,
            };
            match &line.frame {
                StepFrame::Ended { .. } => {
                    progress.reply = Some(StepReply::Ended(line));
                    return Ok(Event::Ended);
                }
                StepFrame::Started { output_start, .. } => {
                    if !std::mem::replace(&mut progress.started, true) {
                        progress.output_at = Some(*output_start);
                        progress.sink.line(line).await?;
                    }
                }
                StepFrame::Output { end, .. } => {
                    progress.output_at = Some(*end);
                    progress.sink.line(line).await?;
                }
                StepFrame::Gap { to, .. } => {
                    progress.output_at = Some(*to);
                    progress.sink.line(line).await?;
                }
            }
        }
    }

    /// Hands on what a step printed after its stream broke.
    async fn catch_up<S: StepSink>(
        &self,
        link: &dyn AgentLink,
        route: &Route,
        progress: &mut Progress<'_, S>,
    ) -> Result<(), Problem> {
        let Some(StepReply::Ended(line)) = &progress.reply else {
            return Ok(());
        };
        let StepFrame::Ended {
            outcome,
            worker_id: Some(worker),
        } = &line.frame
        else {
            return Ok(());
        };
        let from = progress.output_at.unwrap_or(outcome.output_start);
        if progress.want != (Want::Frames { output: true }) || from >= outcome.output_end {
            return Ok(());
        }
        let query = format!("worker={worker}&from={from}&end={}", outcome.output_end);
        let frames = link.output_frames(&query, caller(route, &progress.request.trace));
        let mut frames = match frames.await {
            Ok(frames) => frames,
            Err(error) => {
                warn!(error = %error.chain(), "output that followed a broken stream is not shown");
                return Ok(());
            }
        };
        while let Some(Ok(line)) = frames.next().await {
            progress.sink.line(line).await?;
        }
        Ok(())
    }

    /// What a failed exchange means.
    fn failed<S>(&self, error: CallError, progress: &mut Progress<'_, S>) -> Event {
        match error {
            CallError::Connect { .. } => Event::Unreached,
            CallError::Broke { .. } => Event::Broke,
            CallError::Refused(problem) => match problem.code.as_str() {
                "runtime_identity_mismatch" => Event::OtherBoot,
                "session_not_found" => Event::NoSession,
                "step_not_found" => Event::NoStep,
                "shutting_down" => Event::Unreached,
                "runtime_crashed" => {
                    progress.refusal = Some(*problem);
                    Event::Dead
                }
                _ if problem.status == 401 => Event::WrongToken,
                // Of somebody in between, who does not know either.
                _ if matches!(problem.status, 502 | 504) => Event::Broke,
                _ => {
                    progress.refusal = Some(*problem);
                    Event::Refused
                }
            },
        }
    }

    /// Binds the route to the boot id under which its runtime came back.
    async fn rebind<S>(
        &self,
        boot_id: &str,
        progress: &mut Progress<'_, S>,
    ) -> Result<Event, Problem> {
        let Some(route) = progress.route.clone() else {
            return Ok(Event::NoSession);
        };
        let endpoint = self.link(&route).endpoint().to_owned();
        let mut ours = true;
        let changed = self
            .registry
            .change(&route.session_id, |latest| {
                ours = latest.status == RouteStatus::Ready && latest.worker_id == route.worker_id;
                let moved = latest.boot_id != boot_id || latest.endpoint != endpoint;
                if ours && moved {
                    boot_id.clone_into(&mut latest.boot_id);
                    latest.endpoint.clone_from(&endpoint);
                }
                ours && moved
            })
            .await?;
        let found = Found {
            route: changed,
            fresh: true,
        };
        let event = self.looked_up(found, progress);
        Ok(if ours { Event::Rebound } else { event })
    }

    /// The route, with its time begun anew where steps do that; `None` if it ended meanwhile.
    async fn renewed<S>(
        &self,
        progress: &mut Progress<'_, S>,
    ) -> Result<Option<Arc<Route>>, Problem> {
        let Some(route) = progress.route.clone() else {
            return Ok(None);
        };
        if route.sliding_seconds.is_none() {
            return Ok(Some(route));
        }
        let renewed = self.touch(&route).await?;
        progress.route.clone_from(&renewed);
        Ok(renewed)
    }

    /// Notes that a session is alive, and begins its time anew if it slides. `None` if it ended.
    async fn touch(&self, route: &Route) -> Result<Option<Arc<Route>>, Problem> {
        let now = self.now();
        let touched = self
            .registry
            .change(&route.session_id, |latest| {
                if latest.status != RouteStatus::Ready || self.is_overdue(latest) {
                    return false;
                }
                latest.last_seen_at = latest.last_seen_at.max(now);
                if let Some(seconds) = latest.sliding_seconds {
                    latest.expires_at = latest.expires_at.max(Some(now.plus_seconds(seconds)));
                }
                true
            })
            .await?;
        Ok(touched.filter(|route| !has_ended(route.status) && !self.is_overdue(route)))
    }

    /// Waits for something from a runtime, as long as that shows signs of life.
    async fn watched<T>(
        &self,
        link: &dyn AgentLink,
        route: &Route,
        what: impl Future<Output = T>,
    ) -> Result<T, Silent> {
        let mut what = std::pin::pin!(what);
        let sliding = route
            .sliding_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        // A step that runs is activity, however long it runs.
        let every = sliding.map_or(self.config.probe_after, |seconds| {
            self.config
                .probe_after
                .min(Duration::from_millis(seconds.saturating_mul(333)))
        });
        loop {
            tokio::select! {
                biased;
                got = &mut what => return Ok(got),
                () = tokio::time::sleep(every) => {
                    if sliding.is_some() && let Err(problem) = self.touch(route).await {
                        warn!(code = %problem.code, "cannot renew the session");
                    }
                    let health = link.health();
                    tokio::select! {
                        biased;
                        got = &mut what => return Ok(got),
                        health = health => if let Err(error) = health {
                            warn!(error = %error.chain(), "the runtime shows no sign of life");
                            return Err(Silent);
                        }
                    }
                }
            }
        }
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
                self.mark_crashed(&route.session_id, route.worker_id)
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

    /// A step as it stands, or as it ended within `wait`.
    ///
    /// # Errors
    /// 404 and 410 for the session, 404 `step_not_found`, those of the runtime.
    pub async fn step(
        &self,
        session: &str,
        step: &str,
        wait: Duration,
        trace: &TraceContext,
    ) -> Result<AgentStep, Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let found = self
            .persist(true, || link.step(step, wait, caller(&route, trace)))
            .await;
        named(found.map(|found| found.value), step)
    }

    /// A step as its runtime tells of it in the form `accept`, from where it stands to its end.
    ///
    /// # Errors
    /// Those of [`Self::step`].
    pub(crate) async fn step_as_it_happens(
        &self,
        session: &str,
        step: &str,
        query: &str,
        accept: &str,
        trace: &TraceContext,
    ) -> Result<PassedOn, Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let told = self
            .persist(true, || {
                link.tell_step(step, query, accept, caller(&route, trace))
            })
            .await;
        told.map_err(|error| of_call(error, SEND_ATTEMPTS))
    }

    /// Output of a session's worker, as its runtime tells it.
    ///
    /// # Errors
    /// 404 and 410 for the session, those of the runtime.
    pub(crate) async fn output(
        &self,
        session: &str,
        query: &str,
        trace: &TraceContext,
    ) -> Result<PassedOn, Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let output = self
            .persist(true, || link.output(query, caller(&route, trace)))
            .await;
        output.map_err(|error| of_call(error, SEND_ATTEMPTS))
    }

    /// Takes a step out of its queue, or interrupts it.
    ///
    /// # Errors
    /// Those of [`Self::step`].
    pub async fn cancel(
        &self,
        session: &str,
        step: &str,
        trace: &TraceContext,
    ) -> Result<AgentStep, Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let cancelled = self
            .persist(true, || link.cancel(step, caller(&route, trace)))
            .await;
        named(cancelled.map(|cancelled| cancelled.value), step)
    }
}

/// The runtime gave no sign of life.
struct Silent;

fn named(found: Result<AgentStep, CallError>, label: &str) -> Result<AgentStep, Problem> {
    let step = found.map_err(|error| of_call(error, SEND_ATTEMPTS))?;
    Ok(AgentStep {
        step_id: label.to_owned(),
        ..step
    })
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
