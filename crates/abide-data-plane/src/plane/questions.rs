//! Steps and output that are asked for, and steps that are stopped.

use std::time::Duration;

use abide_model::{AgentStep, Problem};

use super::problems::of_call;
use super::{DataPlane, caller};
use crate::link::{CallError, PassedOn};
use crate::routing::SEND_ATTEMPTS;
use crate::trace::TraceContext;

impl DataPlane {
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

fn named(found: Result<AgentStep, CallError>, label: &str) -> Result<AgentStep, Problem> {
    let step = found.map_err(|error| of_call(error, SEND_ATTEMPTS))?;
    Ok(AgentStep {
        step_id: label.to_owned(),
        ..step
    })
}
