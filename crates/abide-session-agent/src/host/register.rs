//! Registering a session: once, whoever asks again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use abide_model::{
    AgentSession, AuthMode, FieldError, Problem, ProblemCode, RegisterSession, Runtime, SessionId,
    Timestamp, is_session_label, session_id_of_label,
};

use super::tokens::hash_token;
use super::{Credentials, Hosted, Outcome, SessionHost, session_not_found, storage_problem};
use crate::ledger::{Ledger, SessionRecord, remove_dir};

/// A request that was checked field by field.
#[derive(Debug)]
struct Registration {
    label: String,
    runtime: Runtime,
    token: Option<String>,
    /// `None`: the agent makes one.
    workspace: Option<PathBuf>,
    /// It is to have an interpreter.
    interpreter: bool,
}

impl SessionHost {
    /// Registers a session and answers when its interpreter is there; the same one again is found
    /// with its state, and another runtime refused.
    pub async fn register(
        self: &Arc<Self>,
        credentials: &Credentials,
        request: RegisterSession,
    ) -> Outcome<AgentSession> {
        self.require_token(credentials)?;
        let registration = check(request, credentials)?;
        self.check_open()?;
        let (host, credentials) = (Arc::clone(self), credentials.clone());
        self.to_the_end("register", async move {
            host.register_checked(&credentials, &registration).await
        })
        .await
    }

    async fn register_checked(
        &self,
        credentials: &Credentials,
        registration: &Registration,
    ) -> Outcome<AgentSession> {
        let id = session_id_of_label(&registration.label);
        loop {
            let hosted = self.place(id);
            let _changing = hosted.changing.lock().await;
            // Ended, or given up, while we waited.
            if hosted.is_gone() {
                continue;
            }
            if let Some(ledger) = hosted.registered() {
                let found = self.found_again(&hosted, credentials, registration)?;
                if !registration.interpreter || found.worker_id.is_some() {
                    return Ok(found);
                }
                // It has had terminals only so far.
                self.start_interpreter(id, ledger).await?;
                return self.show(&hosted).ok_or_else(session_not_found);
            }
            let created = self.create(&hosted, credentials, registration).await;
            if created.is_err() {
                self.forget(&hosted);
            }
            created?;
            return self.show(&hosted).ok_or_else(session_not_found);
        }
    }

    fn found_again(
        &self,
        hosted: &Hosted,
        credentials: &Credentials,
        registration: &Registration,
    ) -> Outcome<AgentSession> {
        // First of all: who has no token is told nothing.
        self.check_token_of(hosted, credentials)?;
        let session = self.show(hosted).ok_or_else(session_not_found)?;
        match session.runtime {
            Some(runtime) if runtime != registration.runtime => Err(Problem::new(
                ProblemCode::RuntimeMismatch,
                format!(
                    "session runtime mismatch: the session is there already with {runtime}, and \
                     keeps it; terminate it first, or choose another session id"
                ),
            )
            .with_details(serde_json::json!({ "runtime": runtime }))),
            _ => Ok(session),
        }
    }

    async fn create(
        &self,
        hosted: &Hosted,
        credentials: &Credentials,
        registration: &Registration,
    ) -> Outcome<()> {
        self.may_create(credentials)?;
        let limit = self.config.max_sessions;
        if self.health().sessions >= limit {
            return Err(Problem::new(
                ProblemCode::LimitReached,
                format!("{limit} sessions are registered, which is the limit (max_sessions)"),
            ));
        }
        let scratch = registration.workspace.is_none();
        let workspace = registration
            .workspace
            .clone()
            .unwrap_or_else(|| self.config.workspaces_dir.join(hosted.id.to_string()));
        make_workspace(&workspace, scratch)?;
        let record = SessionRecord {
            id: hosted.id,
            label: registration.label.clone(),
            runtime: registration.runtime,
            workspace: workspace.clone(),
            scratch,
            token_sha256: registration.token.as_deref().map(hash_token),
            worker: None,
            earlier_workers: Vec::new(),
            exit: None,
            bare: !registration.interpreter,
            terminals: Vec::new(),
            terminating: false,
            created_at: Timestamp::now(),
        };
        let dir = self.config.sessions_dir.join(hosted.id.to_string());
        // What a session of this id left behind is nothing of this one's.
        remove_dir(&dir);
        let made = Ledger::create(
            dir,
            record,
            Arc::clone(&self.news),
            Arc::clone(&self.metrics),
        );
        let ledger = made.map_err(|error| storage_problem(&error))?;
        if registration.interpreter
            && let Err(problem) = self.start_interpreter(hosted.id, &ledger).await
        {
            ledger.remove();
            if scratch {
                remove_dir(&workspace);
            }
            return Err(problem);
        }
        // Nobody else can have set it: we hold the lock.
        let _ = hosted.ledger.set(ledger);
        tracing::info!(session_id = %registration.label, runtime = %registration.runtime, "registered");
        Ok(())
    }

    /// The place of a label, made if there is none.
    fn place(&self, id: SessionId) -> Arc<Hosted> {
        let mut sessions = self.sessions.lock();
        let place = sessions
            .entry(id)
            .or_insert_with(|| Arc::new(Hosted::new(id)));
        Arc::clone(place)
    }

    /// Frees the place of a label.
    pub(super) fn forget(&self, hosted: &Hosted) {
        hosted.gone.store(true, Ordering::Release);
        self.sessions.lock().remove(&hosted.id);
    }

    /// Whether the effective token has to be there.
    pub(super) fn wants_tokens(&self) -> bool {
        self.config.auth_mode == AuthMode::Enforced
    }
}

fn check(request: RegisterSession, credentials: &Credentials) -> Outcome<Registration> {
    let label = request.session_id;
    if !is_session_label(&label) {
        return Err(invalid(
            "sessionId",
            "must be 1 to 128 of the characters A-Z a-z 0-9 . _ - and begin with a letter or digit",
            &label,
        ));
    }
    let runtime = Runtime::from_alias(&request.runtime)
        .map_err(|error| invalid("runtime", &error.to_string(), &request.runtime))?;
    let body = Some(request.token).filter(|token| !token.is_empty());
    let token = match (&credentials.token, body) {
        (Some(header), Some(body)) if *header != body => {
            return Err(Problem {
                status: 400,
                ..Problem::new(ProblemCode::InvalidInput, "session token mismatch")
            });
        }
        (header, body) => header.clone().or(body),
    };
    let workspace = match request.workspace_dir.as_str() {
        "" => None,
        dir if !Path::new(dir).is_absolute() || dir.contains('\0') => {
            return Err(invalid("workspaceDir", "must be an absolute path", dir));
        }
        dir => Some(PathBuf::from(dir)),
    };
    Ok(Registration {
        label,
        runtime,
        token,
        workspace,
        interpreter: request.interpreter.unwrap_or(true),
    })
}

/// 400, as runtime-routing clients expect, with the field that is wrong.
pub(crate) fn invalid(field: &str, wrong: &str, input: &str) -> Problem {
    let error = FieldError {
        kind: "value_error".to_owned(),
        loc: vec!["body".to_owned(), field.to_owned()],
        msg: wrong.to_owned(),
        input: input.chars().take(256).collect::<String>().into(),
    };
    Problem {
        status: 400,
        ..Problem::invalid(&[error])
    }
}

fn make_workspace(path: &Path, scratch: bool) -> Outcome<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Others of the same group may share one that was named.
    let mode = if scratch { 0o700 } else { 0o750 };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path);
    made.map_err(|error| {
        let shown = path.display();
        Problem::new(
            ProblemCode::RuntimeUnavailable,
            format!("cannot make the workspace {shown}: {error}"),
        )
    })
}
