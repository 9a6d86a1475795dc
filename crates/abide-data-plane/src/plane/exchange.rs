//! What the decisions about a step are made of: one exchange with its runtime each.

use std::sync::Arc;
use std::time::Duration;

use abide_model::{Problem, Route, RouteStatus, StepFrame};
use futures_util::StreamExt as _;
use tracing::warn;

use super::sessions::has_ended;
use super::steps::{Progress, StepReply, Want};
use super::streams::StepSink;
use super::{DataPlane, caller};
use crate::link::{AgentLink, CallError, Frames};
use crate::registry::Found;
use crate::routing::{Event, RouteState};

/// How long one question for a step waits for its end.
const FOLLOW: Duration = Duration::from_secs(60);

/// The runtime gave no sign of life.
struct Silent;

impl DataPlane {
    /// Sends the step to the route's runtime, and follows it while the connection lasts.
    pub(super) async fn send<S: StepSink>(
        &self,
        progress: &mut Progress<'_, S>,
    ) -> Result<Event, Problem> {
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
    pub(super) async fn ask_step<S: StepSink>(
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

    pub(super) async fn ask_session<S>(&self, progress: &mut Progress<'_, S>) -> Event {
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
            CallError::Refused { problem, boot_id } => match problem.code.as_str() {
                "runtime_identity_mismatch" => Event::OtherBoot,
                "session_not_found" => Event::NoSession,
                "step_not_found" => Event::NoStep { boot_id },
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
    pub(super) async fn rebind<S>(
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
    pub(super) async fn touch(&self, route: &Route) -> Result<Option<Arc<Route>>, Problem> {
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
}
