//! `/sessions/{id}/steps`

use abide_model::{SessionId, Step, StepId, SubmitStep};
use reqwest::{Method, RequestBuilder};

use crate::client::is_event_stream;
use crate::{Client, Error, Output, StepStream};

impl Client {
    /// Runs a step and waits for its end, however long that takes.
    pub async fn run_step(&self, session: SessionId, step: &SubmitStep) -> Result<Step, Error> {
        self.json(
            "step",
            self.on_session(Method::POST, session, &["steps"])
                .json(step),
        )
        .await
    }

    /// Submits a step and returns as soon as it is accepted.
    pub async fn submit_step(&self, session: SessionId, step: &SubmitStep) -> Result<Step, Error> {
        let request = self
            .on_session(Method::POST, session, &["steps"])
            .query(&[("wait", 0)]);
        self.json("step", request.json(step)).await
    }

    /// Runs a step and tells what it does as it happens. See [`crate::ResumableStep`] for one
    /// that survives a lost connection.
    pub async fn run_step_stream(
        &self,
        session: SessionId,
        step: &SubmitStep,
    ) -> Result<StepStream, Error> {
        let request = self
            .on_session(Method::POST, session, &["steps"])
            .json(step);
        self.step_stream(request, None).await
    }

    /// Follows a step that was submitted before. Output up to `resume_from` (an offset, see
    /// [`StepStream::position`]) is not given out again.
    pub async fn follow_step(
        &self,
        session: SessionId,
        step: StepId,
        resume_from: Option<u64>,
    ) -> Result<StepStream, Error> {
        let mut request = self.on_step(Method::GET, session, step);
        if let Some(offset) = resume_from {
            request = request.header("last-event-id", offset);
        }
        self.step_stream(request, resume_from).await
    }

    /// A step as it stands.
    pub async fn step(&self, session: SessionId, step: StepId) -> Result<Step, Error> {
        self.json("step", self.on_step(Method::GET, session, step))
            .await
    }

    /// A step once it has ended, or as it stands after `seconds`.
    pub async fn wait_step(
        &self,
        session: SessionId,
        step: StepId,
        seconds: u32,
    ) -> Result<Step, Error> {
        let request = self
            .on_step(Method::GET, session, step)
            .query(&[("wait", seconds)]);
        self.json("step", request).await
    }

    /// Steps of a session after a sequence number, oldest first.
    pub async fn list_steps(
        &self,
        session: SessionId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Step>, Error> {
        let request = self
            .on_session(Method::GET, session, &["steps"])
            .query(&[("after", after), ("limit", i64::from(limit))]);
        self.json("steps", request).await
    }

    /// Interrupts a running step, or takes a waiting one out of the queue.
    pub async fn cancel_step(&self, session: SessionId, step: StepId) -> Result<Step, Error> {
        self.json("step", self.on_step(Method::DELETE, session, step))
            .await
    }

    /// The step's output (standard output and error) from an offset on.
    pub async fn step_output(
        &self,
        session: SessionId,
        step: StepId,
        from: u64,
    ) -> Result<Output, Error> {
        let id = step.to_string();
        let request = self
            .on_session(Method::GET, session, &["steps", &id, "output"])
            .query(&[("from", from)]);
        let response = self.send(request).await?;
        self.read_output(response).await
    }

    async fn step_stream(
        &self,
        request: RequestBuilder,
        resume_from: Option<u64>,
    ) -> Result<StepStream, Error> {
        let response = self.send(Self::as_event_stream(request)).await?;
        if is_event_stream(&response) {
            return Ok(StepStream::new(self.clone(), response, resume_from));
        }
        let step: Step = self.read_json("step", response).await?;
        if !step.status.is_terminal() {
            return Err(Error::Protocol {
                what: "neither an event stream nor a finished step",
            });
        }
        Ok(StepStream::finished(self.clone(), step, resume_from))
    }

    fn on_step(&self, method: Method, session: SessionId, step: StepId) -> RequestBuilder {
        self.on_session(method, session, &["steps", &step.to_string()])
    }
}
