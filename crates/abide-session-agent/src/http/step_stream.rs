//! One step as it happens: as frames for the plane above, or as server-sent events.

use abide_model::{STEP_FRAMES, StepFrame, StepOutcome};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::App;
use super::sse::{self, OutputEvents};
use super::steps::routed;
use crate::host::{HostedStep, StepState};
use crate::output::{OutputChunk, OutputReader};
use crate::worker::Phase;

/// How much of an answer is held back to go out whole.
const GATHER_BYTES: usize = 64 * 1024;

/// In which form a step is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines of [`StepFrame`].
    Frames {
        /// With the output.
        output: bool,
    },
    /// Server-sent events.
    Events,
}

impl Form {
    /// The program waits for this reader.
    pub(super) const fn reads_output(self) -> bool {
        matches!(self, Self::Events | Self::Frames { output: true })
    }
}

/// The answer that tells of `step` until it has ended.
pub(super) async fn answer(app: &App, session: String, step: HostedStep, form: Form) -> Response {
    let stopping = app.tasks.stopping();
    let telling = telling(app.clone(), session, step, form);
    match form {
        Form::Events => sse::response(telling, stopping),
        Form::Frames { .. } => {
            let late = app.gathering.begin(&app.tasks);
            frames_response(telling, late, stopping).await
        }
    }
}

/// What there is to tell of a step now, without output.
pub(super) async fn frames_so_far(step: &mut HostedStep) -> Response {
    let mut text = Vec::new();
    // Notices an end that came after the step was looked up.
    let _ = step.show().await;
    text.extend(started(step));
    if let StepState::Ended(outcome) = &step.state {
        text.extend(ended(step, outcome));
    }
    frames_head(Body::from(text))
}

fn frames_head(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, STEP_FRAMES),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

async fn frames_response(
    frames: impl Stream<Item = Bytes> + Send + 'static,
    mut late: oneshot::Receiver<()>,
    stopping: CancellationToken,
) -> Response {
    let mut frames = Box::pin(frames.take_until(stopping.cancelled_owned()));
    let mut gathered = Vec::new();
    while gathered.len() < GATHER_BYTES {
        tokio::select! {
            biased;
            frame = frames.next() => match frame {
                Some(frame) => gathered.extend_from_slice(&frame),
                None => return frames_head(Body::from(gathered)),
            },
            _ = &mut late => break,
        }
    }
    let first = (!gathered.is_empty()).then(|| Bytes::from(gathered));
    let all = futures_util::stream::iter(first).chain(frames);
    frames_head(Body::from_stream(
        all.map(Ok::<_, std::convert::Infallible>),
    ))
}

/// Where the telling of one step stands.
enum Stage {
    Begin,
    Output(Box<OutputReader>, OutputEvents),
    End,
    Over,
}

struct Telling {
    app: App,
    session: String,
    step: HostedStep,
    form: Form,
    stage: Stage,
    /// Of the request, which ends with the telling.
    span: Span,
}

/// `started`, then output if it is read, then how it ended.
fn telling(
    app: App,
    session: String,
    step: HostedStep,
    form: Form,
) -> impl Stream<Item = Bytes> + Send {
    let telling = Telling {
        app,
        session,
        step,
        form,
        stage: Stage::Begin,
        span: Span::current(),
    };
    futures_util::stream::unfold(telling, |mut telling| async {
        loop {
            let piece = telling.next().await?;
            // A chunk may hold nothing but the beginning of a character.
            if !piece.is_empty() {
                return Some((piece, telling));
            }
        }
    })
}

impl Telling {
    /// The next piece, which may be empty; `None` at the end, and when the agent stops.
    async fn next(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Begin => {
                let reader = self.begin().await;
                self.stage = reader.map_or(Stage::End, |reader| {
                    Stage::Output(Box::new(reader), OutputEvents::default())
                });
                Some(match self.form {
                    Form::Frames { .. } => started(&self.step),
                    Form::Events => sse::event("started", None, &self.step.show().await),
                })
            }
            Stage::Output(mut reader, mut events) => Some(match (reader.next().await, self.form) {
                (Some(chunk), form) => {
                    let piece = match form {
                        Form::Frames { .. } => output_frame(chunk),
                        Form::Events => events.encode(chunk),
                    };
                    self.stage = Stage::Output(reader, events);
                    piece
                }
                (None, Form::Frames { .. }) => {
                    self.stage = Stage::End;
                    Bytes::new()
                }
                (None, Form::Events) => {
                    self.stage = Stage::End;
                    events.finish()
                }
            }),
            Stage::End => {
                // The agent stops: the caller asks again by the step's id.
                let outcome = self.step.ended().await.ok()?;
                let worker = self.step.worker_id();
                routed(&self.app, worker, outcome.status.as_str(), &self.span);
                Some(match self.form {
                    Form::Frames { .. } => ended(&self.step, &outcome),
                    Form::Events => {
                        let mut bytes = Vec::new();
                        if let Some(result) = &outcome.result {
                            bytes.extend_from_slice(&sse::event("result", None, result));
                        }
                        let step = self.step.show_ended(&outcome);
                        bytes.extend_from_slice(&sse::event("completed", None, &step));
                        bytes.into()
                    }
                })
            }
            Stage::Over => None,
        }
    }

    /// Waits until the step starts; its output, if that is read.
    async fn begin(&mut self) -> Option<OutputReader> {
        let reads = self.form.reads_output();
        match &mut self.step.state {
            StepState::UnderWay { run, .. } if reads => run.output().await,
            StepState::UnderWay { run, .. } => {
                let _ = run.started().await;
                None
            }
            StepState::Ended(outcome) if reads => {
                self.app.host.ended_output(&self.session, outcome)
            }
            StepState::Ended(_) => None,
        }
    }
}

/// The `started` frame; nothing for a step that has not started.
fn started(step: &HostedStep) -> Bytes {
    let begun = |outcome: &StepOutcome| Some((outcome.started_at?, outcome.output_start));
    let at = match &step.state {
        StepState::Ended(outcome) => begun(outcome),
        StepState::UnderWay { run, .. } => match run.phase() {
            Phase::Queued => None,
            Phase::Running {
                started_at,
                output_start,
                ..
            } => Some((started_at, output_start)),
            Phase::Ended(end) => begun(&end.outcome),
        },
    };
    match (at, step.worker_id()) {
        (Some((at, output_start)), Some(worker_id)) => line(&StepFrame::Started {
            at,
            worker_id,
            output_start,
        }),
        _ => Bytes::new(),
    }
}

fn ended(step: &HostedStep, outcome: &StepOutcome) -> Bytes {
    line(&StepFrame::Ended {
        outcome: Box::new(outcome.clone()),
        worker_id: outcome.started_at.and(step.worker_id()),
    })
}

/// A piece of output as a frame.
pub(super) fn output_frame(chunk: OutputChunk) -> Bytes {
    line(&match chunk {
        OutputChunk::Bytes { stderr, data, end } => StepFrame::Output {
            stderr,
            data: STANDARD.encode(data),
            end,
        },
        OutputChunk::Gap { from, to } => StepFrame::Gap { from, to },
    })
}

fn line(frame: &StepFrame) -> Bytes {
    // Only maps with non-text keys can fail, and there are none.
    let mut text = serde_json::to_vec(frame).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
