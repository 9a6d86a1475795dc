//! Terminals: requests about a session's workers, handed on to its runtime.

use abide_model::{Problem, ProblemCode, TerminalState};
use axum::body::Body;
use hyper::{Method, Response};
use tracing::warn;

use super::problems::{mismatch, of_call};
use super::{DataPlane, caller};
use crate::forward::Forward;
use crate::routing::SEND_ATTEMPTS;
use crate::trace::TraceContext;

impl DataPlane {
    /// Hands on a request about a session's workers, to the runtime that the session is known to be on.
    ///
    /// # Errors
    /// 404 and 410 for the session; 409 `runtime_identity_mismatch` if its runtime has lost it; those of
    /// the runtime.
    pub(crate) async fn hand_on(
        &self,
        session: &str,
        forward: &Forward,
        trace: &TraceContext,
    ) -> Result<Response<Body>, Problem> {
        let route = self.open_session(session).await?;
        let link = self.link(&route);
        let mut boot_id = route.boot_id.clone();
        let mut is_another = false;
        loop {
            let answer = self
                .persist(forward.method == Method::GET, || {
                    link.forward(forward, &boot_id, &self.tasks, caller(&route, trace))
                })
                .await;
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.code() {
                Some("runtime_identity_mismatch") if !is_another => {
                    // Restarted: with the session and its terminals, or without.
                    let found = link.session(caller(&route, trace)).await;
                    let found = found.map_err(|error| of_call(error, SEND_ATTEMPTS))?;
                    boot_id = found.boot_id;
                    is_another = true;
                    // Whether it has the interpreter, too, is found out there.
                    self.compare_now.notify_one();
                }
                Some("session_not_found") => {
                    self.mark_lost(session, route.worker_id).await?;
                    return Err(mismatch());
                }
                _ => return Err(of_call(error, SEND_ATTEMPTS)),
            }
        }
    }

    /// The terminals of all sessions.
    ///
    /// # Errors
    /// 503 where a runtime cannot be asked: what is missing is not known to be gone.
    pub(crate) async fn terminals(&self) -> Result<Vec<TerminalState>, Problem> {
        let mut all = Vec::new();
        for runtime in self.driver.runtimes() {
            match runtime.link.terminals().await {
                Ok(answered) => all.extend(answered.value),
                Err(error) => {
                    warn!(runtime_id = %runtime.id, error = %error.chain(), "does not list terminals");
                    return Err(Problem::new(
                        ProblemCode::RuntimeUnreachable,
                        "a runtime does not tell which terminals it has",
                    ));
                }
            }
        }
        Ok(all)
    }
}
