//! Following one step to its end, whatever happens to the connection.
//!
//! ```text
//! Submit ──answer──► Streaming ──completed──► Done
//!   │ outage           │ outage
//!   └──────► Away ◄────┘      Away: wait, locate the server, ask for the step by its id;
//!              │              a server that does not know the id never accepted it → Submit
//!              └──patience over──► error
//! ```

use std::time::Duration;

use abide_model::{ProblemCode, SessionId, StepId, SubmitStep};
use tokio::time::Instant;

use crate::{Client, Error, StepEvent, StepStream};

/// How long and how often to try again.
#[derive(Debug, Clone, Copy)]
pub struct ResumePolicy {
    /// Wait before the first new attempt; doubles with each.
    pub first_wait: Duration,
    /// Longest wait between two attempts.
    pub longest_wait: Duration,
    /// How long the server may be away in one go before following is given up.
    pub patience: Duration,
}

impl Default for ResumePolicy {
    /// From 50 ms up to 2 s apart, for a minute: a restart takes about a second, an upgrade some.
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
            patience: Duration::from_mins(1),
        }
    }
}

/// Finds the server again after an outage: it may have come back under another address or key.
pub type Locate = Box<dyn FnMut() -> Option<Client> + Send>;

/// A step that is followed to its end across outages.
///
/// The first submission is different: when the server cannot be reached at all, that is an error
/// at once.
pub struct ResumableStep {
    client: Client,
    session: SessionId,
    submit: SubmitStep,
    id: StepId,
    policy: ResumePolicy,
    locate: Option<Locate>,
    stream: Option<StepStream>,
    /// Offset after the last byte of output given out.
    position: Option<u64>,
    started: bool,
    /// The server may know the step.
    submitted: bool,
    /// The end was given out.
    done: bool,
    away_since: Option<Instant>,
    wait: Duration,
}

impl ResumableStep {
    /// Prepares a step; nothing is sent before [`Self::next`]. The step gets an id if it has none.
    pub fn new(
        client: Client,
        session: SessionId,
        mut submit: SubmitStep,
        policy: ResumePolicy,
    ) -> Self {
        let id = *submit.step_id.get_or_insert_with(StepId::new);
        Self {
            client,
            session,
            submit,
            id,
            policy,
            locate: None,
            stream: None,
            position: None,
            started: false,
            submitted: false,
            done: false,
            away_since: None,
            wait: policy.first_wait,
        }
    }

    /// Asks `locate` for the server before every new attempt.
    #[must_use]
    pub fn with_locate(mut self, locate: Locate) -> Self {
        self.locate = Some(locate);
        self
    }

    /// The step's id, known before it is sent.
    pub const fn id(&self) -> StepId {
        self.id
    }

    /// The client in use, which changes when the server came back elsewhere.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server is away and attempts are being made to find it again.
    pub const fn is_away(&self) -> bool {
        self.away_since.is_some()
    }

    /// The next event; `None` after the end or after an error. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Result<StepEvent, Error>> {
        while !self.done {
            let error = match self.advance().await {
                Ok(Some(StepEvent::Started(_))) if std::mem::replace(&mut self.started, true) => {
                    continue;
                }
                Ok(Some(event)) => {
                    self.done = matches!(event, StepEvent::Completed(_));
                    return Some(Ok(event));
                }
                Ok(None) => continue,
                Err(error) => error,
            };
            self.stream = None;
            if let Err(error) = self.bear(error) {
                self.done = true;
                return Some(Err(error));
            }
        }
        None
    }

    /// One event, or `None` when only the connection made progress.
    async fn advance(&mut self) -> Result<Option<StepEvent>, Error> {
        if let Some(stream) = &mut self.stream {
            let event = stream.next().await.transpose();
            self.position = stream.position();
            if matches!(event, Ok(Some(_))) {
                self.wait = self.policy.first_wait;
            }
            return event;
        }
        if self.away_since.is_some() {
            tokio::time::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(self.policy.longest_wait);
            if let Some(client) = self.locate.as_mut().and_then(|locate| locate()) {
                self.client = client;
            }
        }
        let stream = if self.submitted {
            match self
                .client
                .follow_step(self.session, self.id, self.position)
                .await
            {
                Err(error) if error.is(ProblemCode::StepNotFound) => {
                    self.submitted = false;
                    return Ok(None);
                }
                answer => answer?,
            }
        } else {
            // From here on nobody but the server can tell whether it has the step.
            self.submitted = true;
            self.client
                .run_step_stream(self.session, &self.submit)
                .await
                .inspect_err(|error| {
                    self.submitted = !matches!(error, Error::Unreachable { .. });
                })?
        };
        self.stream = Some(stream);
        // The wait starts anew only with the next event, so that a server that accepts connections
        // and drops them is not asked without pause.
        self.away_since = None;
        Ok(None)
    }

    /// Decides whether an error is worth another attempt.
    fn bear(&mut self, error: Error) -> Result<(), Error> {
        let first = !self.submitted && self.away_since.is_none();
        if !error.is_outage() || first {
            return Err(error);
        }
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.policy.patience {
            return Err(Error::GaveUp {
                step_id: self.id,
                source: Box::new(error),
            });
        }
        Ok(())
    }
}
