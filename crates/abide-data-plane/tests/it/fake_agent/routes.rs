//! The requests a fake agent answers.

use std::collections::HashMap;

use abide_model::{
    AgentHealth, AgentSession, AuthMode, BOOT_ID_HEADER, Problem, ProblemCode, RegisterSession,
    RunStep, Runtime, SESSION_TOKEN_HEADER, STEP_FRAMES, StepFrame, StepStatus, WorkerId,
    WorkerNews,
};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use bytes::Bytes;

use super::frames::{ended_frame, line, started};
use super::{FakeSession, Fault, Memory, Shared};

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/sessions", get(list).post(register))
        .route("/v1/sessions/{session}", get(show))
        .route("/v1/sessions/{session}/restart", post(restart))
        .route("/v1/sessions/{session}/interrupt", post(interrupt))
        .route("/v1/sessions/{session}/terminate", post(terminate))
        .route("/v1/sessions/{session}/output", get(output))
        .route(
            "/v1/sessions/{session}/steps/{step}",
            get(step).delete(cancel),
        )
        .route("/v1/steps", post(run))
        .route("/v1/news", get(news))
        .layer(from_fn_with_state(shared.clone(), note))
        .with_state(shared)
}

async fn note(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let boot = {
        let mut memory = shared.memory.lock();
        let line = format!("{} {}", request.method(), request.uri());
        memory.requests.push(line);
        memory.headers.push(request.headers().clone());
        memory.boot_id.clone()
    };
    shared.changed.send_modify(|n| *n += 1);
    let meant = request.headers().get(BOOT_ID_HEADER);
    let mut response = if meant.is_some_and(|meant| meant != boot.as_str()) {
        refuse(ProblemCode::RuntimeIdentityMismatch)
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(BOOT_ID_HEADER, boot.parse().unwrap());
    response
}

fn refuse(code: ProblemCode) -> Response {
    let problem = Problem::new(code, "refused by the fake agent");
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, Json(problem)).into_response()
}

impl Shared {
    /// The session, if the token is right.
    fn session(&self, label: &str, headers: &HeaderMap) -> Result<FakeSession, Response> {
        let memory = self.memory.lock();
        let session = memory
            .sessions
            .get(label)
            .ok_or_else(|| refuse(ProblemCode::SessionNotFound))?;
        let token = headers
            .get(SESSION_TOKEN_HEADER)
            .and_then(|t| t.to_str().ok());
        let right = !memory.enforced || token == Some(session.token.as_str());
        if right {
            Ok(session.clone())
        } else {
            Err(refuse(ProblemCode::InvalidSessionToken))
        }
    }

    pub(super) fn changed(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Memory {
    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get("authorization").and_then(|v| v.to_str().ok());
        match (&self.secret, sent) {
            (Some(secret), Some(sent)) => sent == format!("Bearer {secret}"),
            _ => false,
        }
    }

    fn view(&self, label: &str) -> AgentSession {
        let session = &self.sessions[label];
        AgentSession {
            session_id: label.to_owned(),
            status: if session.dead {
                "crashed"
            } else {
                "registered"
            }
            .to_owned(),
            runtime: Some(session.runtime),
            worker_id: Some(session.worker),
            exit: None,
        }
    }
}

async fn health(State(shared): State<Shared>) -> Json<AgentHealth> {
    let memory = shared.memory.lock();
    Json(AgentHealth {
        status: "ok".to_owned(),
        boot_id: memory.boot_id.clone(),
        version: "fake".to_owned(),
        sessions: memory.sessions.len(),
        interpreters: memory.sessions.len(),
        running_steps: 0,
        queued_steps: 0,
        auth_mode: if memory.enforced {
            AuthMode::Enforced
        } else {
            AuthMode::Bypass
        },
    })
}

async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let memory = shared.memory.lock();
    if !memory.knows_secret(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let all: Vec<AgentSession> = memory.sessions.keys().map(|l| memory.view(l)).collect();
    Json(all).into_response()
}

async fn register(State(shared): State<Shared>, Json(new): Json<RegisterSession>) -> Response {
    let mut memory = shared.memory.lock();
    if let Some(problem) = memory.refuse_registration.clone() {
        return (StatusCode::from_u16(problem.status).unwrap(), Json(problem)).into_response();
    }
    let runtime = Runtime::from_alias(&new.runtime).unwrap();
    if let Some(known) = memory.sessions.get(&new.session_id) {
        if memory.enforced && known.token != new.token {
            return refuse(ProblemCode::InvalidSessionToken);
        }
        if known.runtime != runtime {
            return refuse(ProblemCode::RuntimeMismatch);
        }
    } else {
        let session = FakeSession {
            token: new.token,
            runtime,
            worker: WorkerId::new(),
            dead: false,
            workspace: new.workspace_dir,
        };
        memory.sessions.insert(new.session_id.clone(), session);
    }
    let view = memory.view(&new.session_id);
    drop(memory);
    shared.changed();
    Json(view).into_response()
}

async fn show(
    State(shared): State<Shared>,
    Path(label): Path<String>,
    headers: HeaderMap,
) -> Response {
    match shared.session(&label, &headers) {
        Ok(_) => Json(shared.memory.lock().view(&label)).into_response(),
        Err(refusal) => refusal,
    }
}

async fn restart(
    State(shared): State<Shared>,
    Path(label): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = shared.session(&label, &headers) {
        return refusal;
    }
    let mut memory = shared.memory.lock();
    let session = memory.sessions.get_mut(&label).unwrap();
    session.worker = WorkerId::new();
    session.dead = false;
    Json(memory.view(&label)).into_response()
}

async fn interrupt(
    State(shared): State<Shared>,
    Path(label): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = shared.session(&label, &headers) {
        return refusal;
    }
    shared.end_all(&label, StepStatus::Interrupted);
    Json(shared.memory.lock().view(&label)).into_response()
}

async fn terminate(
    State(shared): State<Shared>,
    Path(label): Path<String>,
    headers: HeaderMap,
) -> Response {
    // The secret does as well, but an unknown session stays unknown.
    match shared.session(&label, &headers) {
        Ok(_) => {}
        Err(refusal) if refusal.status() == 404 => return refusal,
        Err(_) if shared.memory.lock().knows_secret(&headers) => {}
        Err(refusal) => return refusal,
    }
    shared.end_all(&label, StepStatus::Crashed);
    shared.memory.lock().sessions.remove(&label);
    shared.changed();
    Json(AgentSession {
        session_id: label,
        status: "terminated".to_owned(),
        runtime: None,
        worker_id: None,
        exit: None,
    })
    .into_response()
}

async fn output(
    State(shared): State<Shared>,
    Path(label): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = shared.session(&label, &headers) {
        return refusal;
    }
    let text = format!("from {}", query["from"]);
    let frame = StepFrame::Output {
        stderr: false,
        data: base64::engine::general_purpose::STANDARD.encode(text),
        end: query["end"].parse().unwrap(),
    };
    let headers = [("content-type", STEP_FRAMES), ("x-output-head", "7")];
    (headers, line(&frame)).into_response()
}

async fn cancel(
    State(shared): State<Shared>,
    Path((label, step)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = shared.session(&label, &headers) {
        return refusal;
    }
    if !shared
        .memory
        .lock()
        .steps
        .contains_key(&(label.clone(), step.clone()))
    {
        return refuse(ProblemCode::StepNotFound);
    }
    shared.end_all(&label, StepStatus::Interrupted);
    let answer = shared.stands(&label, &step);
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

async fn step(
    State(shared): State<Shared>,
    Path((label, step)): Path<(String, String)>,
    Query(query): Query<HashMap<String, u64>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = shared.session(&label, &headers) {
        return refusal;
    }
    let found = {
        let memory = shared.memory.lock();
        memory.steps.get(&(label.clone(), step.clone())).cloned()
    };
    let Some(found) = found else {
        return refuse(ProblemCode::StepNotFound);
    };
    let wait = query.get("wait_ms").copied().unwrap_or(0);
    let mut outcome = found.outcome.subscribe();
    let ended = outcome.wait_for(Option::is_some);
    let _ = tokio::time::timeout(std::time::Duration::from_millis(wait), ended).await;
    let wants_frames = headers.get("accept").is_some_and(|a| a == STEP_FRAMES);
    if !wants_frames {
        return Json(shared.stands(&label, &step)).into_response();
    }
    let mut text = line(&started(found.worker)).to_vec();
    if let Some(outcome) = &*found.outcome.borrow() {
        text.extend_from_slice(&line(&ended_frame(outcome, found.worker)));
    }
    text.into_response()
}

async fn news(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, u64>>,
    headers: HeaderMap,
) -> Response {
    if !shared.memory.lock().knows_secret(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let after = query["after"];
    let newer = |memory: &Memory| -> Vec<WorkerNews> {
        let news = memory.news.iter().filter(|exit| exit.sequence > after);
        news.cloned().collect()
    };
    let mut changed = shared.changed.subscribe();
    let found = async {
        loop {
            let found = newer(&shared.memory.lock());
            if !found.is_empty() {
                return found;
            }
            let _ = changed.changed().await;
        }
    };
    let wait = std::time::Duration::from_millis(query["wait_ms"]);
    let found = tokio::time::timeout(wait, found).await.unwrap_or_default();
    Json(found).into_response()
}

async fn run(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    Json(new): Json<RunStep>,
) -> Response {
    let fault = {
        let mut memory = shared.memory.lock();
        memory.limits.push((new.timeout_ms, new.queue_timeout_ms));
        memory.faults.pop_front()
    };
    match fault {
        Some(Fault::CutBefore) => panic!("cut before the step was looked at"),
        Some(Fault::Draining) => return refuse(ProblemCode::ShuttingDown),
        _ => {}
    }
    let session = match shared.session(&new.session_id, &headers) {
        Ok(session) if session.dead => return refuse(ProblemCode::RuntimeCrashed),
        Ok(session) => session,
        Err(refusal) => return refusal,
    };
    let step = shared.execute(&new, session.worker);
    if fault == Some(Fault::CutAfter) {
        panic!("cut after the step was executed");
    }
    if query.get("wait").is_some_and(|wait| wait == "0") {
        let answer = shared.stands(&new.session_id, &new.step_id);
        return (StatusCode::ACCEPTED, Json(answer)).into_response();
    }
    let with_output = query.get("output").is_some_and(|output| output == "1");
    let first = line(&started(step.worker));
    if fault == Some(Fault::CutMiddle) {
        let lines = vec![Ok(first), Err(std::io::Error::other("cut"))];
        return Body::from_stream(futures_util::stream::iter(lines)).into_response();
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    #[expect(clippy::disallowed_methods, reason = "a runtime of its own")]
    tokio::spawn(async move {
        let mut outcome = step.outcome.subscribe();
        let _ = sender.send(Ok(first)).await;
        let outcome = outcome.wait_for(Option::is_some).await.unwrap().clone();
        let outcome = outcome.unwrap();
        if with_output {
            let frame = StepFrame::Output {
                stderr: false,
                data: base64::engine::general_purpose::STANDARD.encode(&outcome.stdout.head),
                end: outcome.output_end,
            };
            let _ = sender.send(Ok(line(&frame))).await;
        }
        let _ = sender
            .send(Ok(line(&ended_frame(&outcome, step.worker))))
            .await;
    });
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    Body::from_stream(lines).into_response()
}
