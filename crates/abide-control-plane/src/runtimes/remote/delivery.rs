//! Getting a step to its runtime, once, and following it to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use abide_data_plane::client::as_problem;
use abide_data_plane::link::{CallError, Frames};
use abide_data_plane::trace::TraceContext;
use abide_model::{Problem, ProblemCode, StepFrame, StepOutcome, StepStatus, WorkerId};
use abide_session_agent::{OutputChunk, Phase};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Span, debug, debug_span, warn};

use super::Remote;
use super::sessions::Known;
use super::steps::Way;
use crate::service::Outcome;

/// How long a step may show no sign of life before the data plane is asked for one.
const PROBE_AFTER: Duration = Duration::from_secs(10);
/// How long the data plane may be out of reach before those who wait for a step are told so.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between questions that came to nothing, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long one question for a step's end waits; and one for its start.
const WAIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(2));
/// Pauses between questions for a step that was sent and is not there: its bytes may be under way.
const NOT_THERE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
];
/// A reader who takes nothing for so long is served by a task of its own, so that the step's end is
/// recorded without it.
const STALLED: Duration = Duration::from_secs(1);

/// One step and where it goes.
#[derive(Debug)]
pub(super) struct Delivery {
    remote: Arc<Remote>,
    known: Arc<Known>,
    way: Arc<Way>,
    /// The interpreter that it is meant for.
    worker: WorkerId,
    trace: TraceContext,
}

/// What a failed exchange about a step means.
enum Failed {
    /// Nothing was done, because nobody was there.
    Nobody(Problem),
    /// It may be under way; who knows is out of reach.
    Unknown(Problem),
    /// The runtime does not have it.
    NotThere,
    /// It will not run any more.
    Refused(Problem),
}

/// How reading frames came to an end.
enum Read {
    Ended(Box<StepOutcome>),
    Broke,
    /// The reader of the output is slow.
    Stalled(Frames, OutputChunk),
}

/// The data plane gave no sign of life.
struct Silent;

impl Delivery {
    pub(super) fn new(
        remote: &Arc<Remote>,
        known: &Arc<Known>,
        way: &Arc<Way>,
        trace: TraceContext,
    ) -> Self {
        Self {
            remote: Arc::clone(remote),
            known: Arc::clone(known),
            way: Arc::clone(way),
            worker: known.worker(),
            trace,
        }
    }

    /// The step's way through this plane, for whoever records traces.
    pub(super) fn span(&self) -> Span {
        debug_span!(
            "deliver_step",
            session_id = self.way.session(),
            step_id = self.way.id(),
            request_id = %self.trace.request_id,
            trace_id = %self.trace.trace_id,
            span_id = self.trace.recorded(),
            parent_id = self.trace.parent(),
        )
    }

    /// Sends the step and follows it to its recorded end. `accepted` hears once a runtime has it, or
    /// why none will.
    pub(super) async fn send(
        self,
        output: Option<mpsc::Sender<OutputChunk>>,
        accepted: oneshot::Sender<Outcome<()>>,
    ) {
        // Whoever submitted it may be gone.
        let tell = |answer| {
            let _ = accepted.send(answer);
        };
        match self.sent(output.is_some()).await {
            Ok(frames) => {
                tell(Ok(()));
                self.cancel_if_asked().await;
                self.follow(Some(frames), output).await;
            }
            Err(Failed::Refused(problem) | Failed::Nobody(problem)) => {
                tell(Err(self.refused(problem).await));
            }
            Err(Failed::Unknown(problem)) if problem.code == "runtime_unreachable" => {
                // The data plane has tried for as long as the step allows.
                self.way.tell_trouble(problem.clone());
                tell(Err(problem));
                self.follow(None, output).await;
            }
            Err(Failed::Unknown(_) | Failed::NotThere) => {
                tell(Ok(()));
                self.follow(None, output).await;
            }
        }
    }

    /// The same for a step that may have been sent before: as often as it takes.
    pub(super) async fn send_again(self, accepted: oneshot::Sender<Outcome<()>>) {
        let mut pause = ASK_AGAIN.0;
        loop {
            match self.sent(false).await {
                Ok(frames) => {
                    self.way.trouble_is_over();
                    let _ = accepted.send(Ok(()));
                    self.cancel_if_asked().await;
                    return self.follow(Some(frames), None).await;
                }
                Err(Failed::Refused(problem)) => {
                    let _ = accepted.send(Err(self.refused(problem).await));
                    return;
                }
                Err(Failed::Nobody(problem) | Failed::Unknown(problem)) => {
                    self.way.tell_trouble(problem);
                }
                Err(Failed::NotThere) => {}
            }
            if !self.paused(&mut pause).await {
                return;
            }
        }
    }

    /// Sends it, and waits until a runtime has it.
    async fn sent(&self, output: bool) -> Result<Frames, Failed> {
        let run = self.way.step.to_run();
        let client = &self.remote.client;
        self.way.attempts.fetch_add(1, Ordering::Relaxed);
        match self.watched(client.run(&run, output, &self.trace)).await {
            Ok(Ok(frames)) => Ok(frames),
            Ok(Err(error)) => Err(failed(error)),
            Err(Silent) => Err(Failed::Unknown(silent())),
        }
    }

    async fn refused(&self, problem: Problem) -> Problem {
        let problem = self.remote.learn(&self.known, self.worker, problem).await;
        let status = match problem.code.as_str() {
            "runtime_crashed" | "runtime_identity_mismatch" => StepStatus::Crashed,
            _ => StepStatus::Interrupted,
        };
        self.remote
            .refuse(&self.known, &self.way, status, &problem)
            .await;
        problem
    }

    async fn cancel_if_asked(&self) {
        if self.way.is_cancelled()
            && let Err(problem) = self.remote.cancel(&self.way).await
        {
            warn!(step = %self.way.step.id, message = %problem.message, "cannot cancel it");
        }
    }

    /// Follows it to its recorded end.
    async fn follow(
        self,
        mut frames: Option<Frames>,
        mut output: Option<mpsc::Sender<OutputChunk>>,
    ) {
        let (mut pause, mut not_there) = (ASK_AGAIN.0, 0);
        let mut contact = Instant::now();
        loop {
            let begun = Instant::now();
            if let Some(stream) = frames.take() {
                contact = Instant::now();
                match self.read(stream, output.as_ref()).await {
                    Read::Ended(outcome) => {
                        // Its readers are at the end, too.
                        drop(output);
                        return self.remote.ended(&self.known, &self.way, *outcome).await;
                    }
                    // Of one that is stopping, perhaps: it answers at once, and with nothing.
                    Read::Broke if begun.elapsed() < ASK_AGAIN.0 => {
                        if !self.paused(&mut pause).await {
                            return;
                        }
                    }
                    Read::Broke => pause = ASK_AGAIN.0,
                    Read::Stalled(rest, chunk) => {
                        if let Some(chunks) = output.take() {
                            self.leave_to_itself(rest, chunk, chunks);
                        }
                    }
                }
            }
            let failed = match self.ask(output.is_some()).await {
                Ok(stream) => {
                    self.way.trouble_is_over();
                    (frames, not_there) = (Some(stream), 0);
                    if self.remote.config.tasks.stopping().is_cancelled() {
                        return;
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            match failed {
                Failed::NotThere => {
                    let Some(&next) = NOT_THERE.get(not_there) else {
                        return self.lost().await;
                    };
                    (contact, pause) = (Instant::now(), next);
                    not_there += 1;
                }
                Failed::Refused(problem) => {
                    self.refused(problem).await;
                    return;
                }
                Failed::Nobody(problem) | Failed::Unknown(problem) => {
                    if contact.elapsed() >= PATIENCE || self.way.trouble().is_some() {
                        self.way.tell_trouble(sent(problem, &self.way));
                    }
                }
            }
            if !self.paused(&mut pause).await {
                return;
            }
        }
    }

    /// Nobody has it, though it was sent.
    async fn lost(&self) {
        let problem = Problem::new(
            ProblemCode::RuntimeUnreachable,
            "the step was sent and never came to its runtime, as far as anybody can tell",
        );
        let (known, way) = (&self.known, &self.way);
        self.remote
            .refuse(known, way, StepStatus::Lost, &problem)
            .await;
    }

    /// Asks for the step's frames.
    async fn ask(&self, output: bool) -> Result<Frames, Failed> {
        let (session, step) = (self.way.session(), self.way.id());
        let wait = match self.way.phase() {
            Phase::Queued => WAIT.1,
            _ => WAIT.0,
        };
        let client = &self.remote.client;
        self.way.attempts.fetch_add(1, Ordering::Relaxed);
        let asked = client.follow(&session, &step, output, wait, &self.trace);
        match self.watched(asked).await {
            Ok(answer) => answer.map_err(failed),
            Err(Silent) => Err(Failed::Unknown(silent())),
        }
    }

    /// Reads frames to the end, or as far as they go.
    async fn read(&self, mut frames: Frames, output: Option<&mpsc::Sender<OutputChunk>>) -> Read {
        loop {
            let line = match self.watched(frames.next()).await {
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(error))) => {
                    debug!(step = %self.way.step.id, error = %error.chain(), "asking for it");
                    return Read::Broke;
                }
                Ok(None) | Err(Silent) => return Read::Broke,
            };
            match line.frame {
                StepFrame::Started {
                    at, output_start, ..
                } => self.way.started(at, output_start),
                StepFrame::Ended { outcome, .. } => return Read::Ended(outcome),
                frame => {
                    let (Some(chunk), Some(output)) = (chunk_of(frame), output) else {
                        continue;
                    };
                    // Who went away misses nothing.
                    if let Err(mpsc::error::SendTimeoutError::Timeout(chunk)) =
                        output.send_timeout(chunk, STALLED).await
                    {
                        return Read::Stalled(frames, chunk);
                    }
                }
            }
        }
    }

    /// Serves a slow reader aside.
    fn leave_to_itself(&self, rest: Frames, chunk: OutputChunk, chunks: mpsc::Sender<OutputChunk>) {
        let aside = Self::new(&self.remote, &self.known, &self.way, self.trace.clone());
        self.remote.config.tasks.spawn("step output", async move {
            if chunks.send(chunk).await.is_ok() {
                aside.relay(Some(rest), chunks).await;
            }
        });
    }

    /// Hands the step's output on, to its end. Where a stream breaks the next one begins at the
    /// first byte again; the reader leaves out what it has.
    pub(super) async fn relay(self, mut frames: Option<Frames>, chunks: mpsc::Sender<OutputChunk>) {
        let mut pause = ASK_AGAIN.0;
        if frames.is_none() {
            // Before it has begun, the runtime may not have heard of it yet.
            let mut phase = self.way.watch();
            tokio::select! {
                () = chunks.closed() => return,
                begun = phase.wait_for(|phase| !matches!(phase, Phase::Queued)) => {
                    if begun.is_err() {
                        return;
                    }
                }
            }
        }
        loop {
            let stream = match frames.take() {
                Some(stream) => Ok(stream),
                None => self.ask(true).await,
            };
            match stream {
                Ok(mut stream) => {
                    pause = ASK_AGAIN.0;
                    while let Some(Ok(line)) = stream.next().await {
                        if let StepFrame::Ended { .. } = line.frame {
                            return;
                        }
                        if let Some(chunk) = chunk_of(line.frame)
                            && chunks.send(chunk).await.is_err()
                        {
                            return;
                        }
                    }
                }
                Err(Failed::Refused(_) | Failed::NotThere) => return,
                Err(Failed::Nobody(_) | Failed::Unknown(_)) => {}
            }
            tokio::select! {
                () = chunks.closed() => return,
                goes_on = self.paused(&mut pause) => if !goes_on { return },
            }
        }
    }

    /// Waits for something from the data plane, as long as that shows signs of life.
    async fn watched<T>(&self, what: impl Future<Output = T>) -> Result<T, Silent> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                biased;
                got = &mut what => return Ok(got),
                () = tokio::time::sleep(PROBE_AFTER) => tokio::select! {
                    biased;
                    got = &mut what => return Ok(got),
                    health = self.remote.client.health() => if let Err(error) = health {
                        warn!(error = %error.chain(), "the data plane shows no sign of life");
                        return Err(Silent);
                    }
                }
            }
        }
    }

    /// Waits, and longer the next time. False: the server stops.
    async fn paused(&self, pause: &mut Duration) -> bool {
        let stopping = self.remote.config.tasks.stopping();
        let now = pause.mul_f64(1.0 + fastrand::f64() / 4.0);
        *pause = (*pause * 2).min(ASK_AGAIN.1);
        tokio::select! {
            () = stopping.cancelled() => false,
            () = tokio::time::sleep(now) => true,
        }
    }
}

fn failed(error: CallError) -> Failed {
    let nobody = matches!(error, CallError::Connect { .. });
    let broke = matches!(error, CallError::Broke { .. });
    let problem = as_problem(error);
    let sent = || {
        problem
            .details
            .as_ref()
            .and_then(|details| details["sent"].as_bool())
    };
    match problem.code.as_str() {
        _ if nobody => Failed::Nobody(problem),
        _ if broke => Failed::Unknown(problem),
        "runtime_unreachable" if sent() == Some(false) => Failed::Nobody(problem),
        // Somebody in between may have passed the step on before this.
        "runtime_unreachable" | "shutting_down" | "database_unavailable" | "internal_error" => {
            Failed::Unknown(problem)
        }
        "step_not_found" => Failed::NotThere,
        _ if matches!(problem.status, 502 | 504) => Failed::Unknown(problem),
        _ => Failed::Refused(problem),
    }
}

/// The problem for those who wait for a step that was sent.
fn sent(problem: Problem, way: &Way) -> Problem {
    Problem::new(
        ProblemCode::RuntimeUnreachable,
        format!(
            "the step was sent, and what became of it is not known yet; ask for it by its id ({})",
            problem.message
        ),
    )
    .with_details(json!({ "sent": true, "step_id": way.step.id }))
}

fn silent() -> Problem {
    Problem::new(
        ProblemCode::RuntimeUnreachable,
        "the data plane shows no sign of life",
    )
    .with_details(json!({ "attempts": 1, "sent": true }))
}

/// Output, if the frame is some.
pub(super) fn chunk_of(frame: StepFrame) -> Option<OutputChunk> {
    match frame {
        StepFrame::Output { stderr, data, end } => Some(OutputChunk::Bytes {
            stderr,
            data: STANDARD.decode(data).unwrap_or_default().into(),
            end,
        }),
        StepFrame::Gap { from, to } => Some(OutputChunk::Gap { from, to }),
        StepFrame::Started { .. } | StepFrame::Ended { .. } => None,
    }
}
