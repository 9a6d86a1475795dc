//! Starting, restarting, interrupting and ending a session's interpreter.

use std::sync::Arc;

use abide_model::{AgentSession, AuthMode, Exit, Problem, ProblemCode, SessionId};

use super::register::invalid;
use super::tokens::hash_token;
use super::{Credentials, Hosted, Outcome, SessionHost, session_not_found, storage_problem};
use crate::ledger::{Ledger, remove_dir};
use crate::recorder::Recorder;

impl SessionHost {
    /// Gives the session another token; whoever asks has the old one.
    pub fn rotate_token(
        &self,
        label: &str,
        credentials: &Credentials,
        token: &str,
    ) -> Outcome<AgentSession> {
        let hosted = self.authorized(label, credentials)?;
        if token.trim().is_empty() && self.wants_tokens() {
            return Err(invalid("token", "must not be empty", token));
        }
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        let hash = Some(token)
            .filter(|token| !token.is_empty())
            .map(hash_token);
        // Compared again under the record's lock: of two rotations with one old token one counts.
        ledger
            .change(|record| {
                self.check_token(credentials, record.token_sha256.as_deref())?;
                record.token_sha256 = hash;
                Ok::<(), Problem>(())
            })
            .map_err(|error| storage_problem(&error))??;
        tracing::info!(session_id = %label, "token rotated");
        self.show(&hosted).ok_or_else(session_not_found)
    }

    /// Ends the session's interpreter, if it lives, and gives it a fresh one.
    pub async fn restart(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
    ) -> Outcome<AgentSession> {
        let hosted = self.authorized(label, credentials)?;
        self.check_open()?;
        let host = Arc::clone(self);
        self.to_the_end("restart", async move {
            let _changing = hosted.changing.lock().await;
            let ledger = hosted.registered().ok_or_else(session_not_found)?;
            host.agent.end(hosted.id, "restarted on request").await;
            host.start_interpreter(hosted.id, ledger).await?;
            tracing::info!(session_id = %ledger.label, "restarted");
            host.show(&hosted).ok_or_else(session_not_found)
        })
        .await
    }

    /// Interrupts whatever the session runs.
    pub fn interrupt(&self, label: &str, credentials: &Credentials) -> Outcome<AgentSession> {
        let hosted = self.authorized(label, credentials)?;
        if let Some(worker) = self.agent.worker(hosted.id) {
            worker.interrupt();
        }
        self.show(&hosted).ok_or_else(session_not_found)
    }

    /// Ends the session at once, whatever it runs, with its processes, files and scratch
    /// workspace. The plane above needs no token for it, and without authentication a session that
    /// is not there counts as ended.
    pub async fn terminate(
        self: &Arc<Self>,
        label: &str,
        credentials: &Credentials,
    ) -> Outcome<AgentSession> {
        let found = if self.is_privileged(credentials) {
            self.find(label)
        } else {
            self.authorized(label, credentials)
        };
        let hosted = match found {
            Ok(hosted) => hosted,
            Err(problem) if problem.status == 404 && self.config.auth_mode == AuthMode::Bypass => {
                return Ok(terminated(label));
            }
            Err(problem) => return Err(problem),
        };
        let host = Arc::clone(self);
        self.to_the_end("terminate", async move {
            let _changing = hosted.changing.lock().await;
            // Somebody else was faster: just as well.
            if hosted.registered().is_some() {
                host.remove(&hosted).await?;
            }
            Ok(())
        })
        .await?;
        Ok(terminated(label))
    }

    async fn remove(&self, hosted: &Arc<Hosted>) -> Outcome<()> {
        let ledger = hosted.registered().ok_or_else(session_not_found)?;
        // Killed from here on, the next start does the rest.
        let marked = ledger.change(|record| record.terminating = true);
        marked.map_err(|error| storage_problem(&error))?;
        self.agent
            .end(hosted.id, "the session was terminated")
            .await;
        self.end_terminals(hosted.id).await;
        self.remove_files(ledger).await;
        tracing::info!(session_id = %ledger.label, "terminated");
        self.forget(hosted);
        Ok(())
    }

    /// Removes everything that a session without a live interpreter has on disk.
    pub(super) async fn remove_files(&self, ledger: &Arc<Ledger>) {
        let record = ledger.record();
        for worker in record.workers() {
            self.agent.remove(worker);
        }
        let ledger = Arc::clone(ledger);
        let removed = tokio::task::spawn_blocking(move || {
            if record.scratch {
                remove_dir(&record.workspace);
            }
            // Last: it names the rest.
            ledger.remove();
        });
        let _ = removed.await;
    }

    /// Takes an interpreter, writes down that it is the session's, and gives it to it.
    pub(super) async fn start_interpreter(
        &self,
        id: SessionId,
        ledger: &Arc<Ledger>,
    ) -> Outcome<()> {
        let limit = self.config.max_live;
        if self.agent.counts().interpreters >= limit {
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{limit} interpreters are running, which is the limit (max_live)"),
            ));
        }
        let (runtime, workspace) =
            ledger.with_record(|record| (record.runtime, record.workspace.clone()));
        let unavailable = |reason: String| Problem::new(ProblemCode::RuntimeUnavailable, reason);
        let idle = self
            .agent
            .take(runtime)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        // Written down first: a worker that no session names is ended at the next start.
        let surplus = ledger
            .change(|record| record.assign(idle.id))
            .map_err(|error| storage_problem(&error))?;
        for worker in surplus {
            self.agent.remove(worker);
        }
        let recorder: Arc<dyn Recorder> = Arc::clone(ledger) as _;
        if let Err(error) = self.agent.bind(idle, id, workspace, recorder) {
            let reason = error.to_string();
            let exit = Exit {
                reason: reason.clone(),
                ..Exit::default()
            };
            let _ = ledger.change(|record| record.exit = Some(exit));
            return Err(unavailable(reason));
        }
        Ok(())
    }
}

fn terminated(label: &str) -> AgentSession {
    AgentSession {
        session_id: label.to_owned(),
        status: "terminated".to_owned(),
        runtime: None,
        worker_id: None,
        exit: None,
    }
}
