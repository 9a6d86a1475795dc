//! What the planes say to each other: the wire shapes of the session agent's and the data plane's
//! internal APIs.
//!
//! The first fields of each are those that runtime-routing clients know (camelCase, `stepId`,
//! `exitCode`, …); what Abide adds stands after them and is left out where it says nothing.

mod frame;

use serde::{Deserialize, Serialize};

use crate::{
    Exit, NewStep, Runtime, SessionId, SizePolicy, Step, StepError, StepId, StepOutcome,
    StepResult, StepStatus, TerminalSpec, Timestamp, WorkerId, WorkerKind,
};

/// Carries a session's token to its session agent.
pub const SESSION_TOKEN_HEADER: &str = "x-session-token";
/// In an answer: the boot id of the session agent that gave it. In a request: the one it is meant
/// for; another one answers 409 `runtime_identity_mismatch` without doing anything.
pub const BOOT_ID_HEADER: &str = "x-abide-boot-id";
/// Media type of a stream of [`StepFrame`]s, one JSON object a line.
pub const STEP_FRAMES: &str = "application/vnd.abide.step-frames+json";

/// `GET /v1/health` of a session agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHealth {
    /// `ok`, or `stopping` while it drains.
    pub status: String,
    /// New with every start of the process.
    pub boot_id: String,
    /// Version of the program.
    pub version: String,
    /// Sessions registered.
    pub sessions: usize,
    /// Live interpreters that belong to sessions.
    pub interpreters: usize,
    /// Interpreters at work.
    pub running_steps: usize,
    /// Steps that wait behind others.
    pub queued_steps: usize,
    /// `enforced` or `bypass`.
    pub auth_mode: AuthMode,
}

crate::closed_set! {
    /// Whether a session agent asks for session tokens.
    AuthMode {
        /// Every request for a session carries its token.
        Enforced = "enforced",
        /// Anybody who can reach the agent may use every session. Refused in production.
        Bypass = "bypass",
    }
}

/// `POST /v1/sessions` of a session agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterSession {
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`; Abide's own are UUIDs.
    pub session_id: String,
    /// `python`, `python3`, `node` or `javascript`, in any case.
    pub runtime: String,
    /// The session's token; must agree with the header when both are there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Absolute path of the directory its steps run in; made if missing. Without it the agent
    /// makes one below its own root and removes it with the session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workspace_dir: String,
    /// Whether it is to have an interpreter; one that has none yet gets it by being registered again
    /// with one. Not asked for means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<bool>,
}

/// A session as its agent shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSession {
    /// See [`RegisterSession::session_id`].
    pub session_id: String,
    /// `registered`, `crashed` (its interpreter died) or, once, `terminated`.
    pub status: String,
    /// The normalised runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Its present interpreter; another one after a restart, and its variables with it. None while it
    /// has terminals only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<WorkerId>,
    /// How its interpreter ended, when `status` is `crashed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// `POST /v1/steps` of a session agent, and what the data plane makes of a client's step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStep {
    /// Whose interpreter.
    pub session_id: String,
    /// Chosen by the caller. The same id again waits for, or returns, the first execution.
    pub step_id: String,
    /// Source text.
    pub code: String,
    /// Stops the step after this many milliseconds of running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long it may wait for its turn, in milliseconds; then it is `interrupted` unrun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout_ms: Option<u64>,
    /// What the step reads from standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
}

/// How a step ended or stands, as a session agent says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStep {
    /// See [`RunStep::step_id`].
    pub step_id: String,
    /// `completed` when the code ran to its end or raised, `failed` when the interpreter did not
    /// survive it or it was stopped; `accepted` while it waits, `running` while it runs.
    pub status: String,
    /// Standard output: all, or head and tail with a line about what is missing.
    pub stdout: String,
    /// Standard error likewise, with the traceback of an exception at its end.
    pub stderr: String,
    /// 0 when it completed, 1 when it raised, 128 + signal or the interpreter's exit code when that
    /// died, 124 after its timeout, 130 when it was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The exact status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StepStatus>,
    /// The value of the last expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// Whether `stdout` or `stderr` left something out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Bytes written to standard output so far, where the step has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_bytes: Option<u64>,
    /// Bytes written to standard error so far, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_bytes: Option<u64>,
    /// From hand-over to end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// One line of a [`STEP_FRAMES`] answer: what the plane above needs to know of a step, exactly.
/// `started` at most once, then output if it was asked for, then `ended` last. A stream that breaks
/// off before `ended` says nothing about the step: ask again by its id.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum StepFrame {
    /// The interpreter has it.
    Started {
        /// When it was handed over.
        at: Timestamp,
        /// Which interpreter.
        worker_id: WorkerId,
        /// Output offset where its output begins.
        output_start: u64,
    },
    /// Output, in order.
    Output {
        /// From standard error rather than standard output.
        stderr: bool,
        /// The bytes, in base64 (RFC 4648 §4).
        data: String,
        /// Output offset after them.
        end: u64,
    },
    /// The output between these offsets has left the journal.
    Gap {
        /// First missing output offset.
        from: u64,
        /// First offset there is again.
        to: u64,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: Box<StepOutcome>,
        /// Which interpreter ran it; absent when none did.
        worker_id: Option<WorkerId>,
    },
}

/// `POST /v1/sessions/{id}/workers` of a session agent, and of a data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTerminal {
    /// Chosen by the caller. The same id again finds the terminal that was started.
    pub id: WorkerId,
    /// What is to be started.
    #[serde(flatten)]
    pub spec: TerminalSpec,
}

/// What befell a worker without the plane above having asked for it: an interpreter died by itself, a
/// terminal ended or was changed by one who is attached to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerNews {
    /// Grows with each of one session agent; those of a later start are higher.
    pub sequence: u64,
    /// Whose.
    pub session_id: String,
    /// Which worker.
    pub worker_id: WorkerId,
    /// What it is.
    #[serde(default = "interpreter")]
    pub kind: WorkerKind,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Whose size a terminal has from now on, if that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_policy: Option<SizePolicy>,
}

/// What every worker was that is told of without saying.
const fn interpreter() -> WorkerKind {
    WorkerKind::Interpreter
}

/// `GET /events` of a data plane: what befell sessions, for whoever keeps records of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaneNews {
    /// New with every start of the data plane, whose numbers begin anew then.
    pub epoch: String,
    /// Number of the first that is still told; what came before is to be looked up.
    pub earliest: u64,
    /// Number of the last.
    pub last: u64,
    /// Those asked for, in order.
    pub events: Vec<SessionNews>,
}

/// One of [`PlaneNews`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionNews {
    /// Grows by one with each, from 1.
    pub sequence: u64,
    /// Whose.
    pub session_id: String,
    /// How it stands from then on.
    pub status: RouteStatus,
    /// Its interpreter, or the one it had; or the terminal that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<WorkerId>,
    /// What that is.
    #[serde(default = "interpreter")]
    pub kind: WorkerKind,
    /// How that ended, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Whose size a terminal has from now on, if that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_policy: Option<SizePolicy>,
}

/// A session's way to its runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whose; unique.
    pub session_id: String,
    /// Which runtime holds it.
    pub runtime_id: String,
    /// The normalised runtime: from here, never from a request, comes what a step runs in.
    pub runtime: Runtime,
    /// Base URL of its session agent; empty for the one in this process.
    pub endpoint: String,
    /// The session's token; sealed wherever it rests.
    #[serde(skip)]
    pub token: String,
    /// See [`AuthMode`].
    pub auth_mode: AuthMode,
    /// Boot id of the session agent that holds it.
    pub boot_id: String,
    /// Its interpreter when the route was made or last confirmed.
    pub worker_id: Option<WorkerId>,
    /// See [`RouteStatus`].
    pub status: RouteStatus,
    /// Directory of its steps on the runtime's file system.
    pub workspace: String,
    /// The data plane made that directory and removes it.
    pub scratch: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a step or check last got through.
    pub last_seen_at: Timestamp,
    /// When the reaper ends it; none means never.
    pub expires_at: Option<Timestamp>,
    /// Seconds that `expires_at` moves on with each step; none means it does not.
    pub sliding_seconds: Option<i64>,
    /// Grows by one with every change; a change that names another one does nothing.
    pub generation: i64,
}

crate::closed_set! {
    /// ```text
    /// provisioning ──► ready ──► crashed | expired | terminated
    ///       └──► failed    └──► lost ──► crashed
    /// ```
    RouteStatus {
        /// Its runtime is being made ready.
        Provisioning = "provisioning",
        /// Steps go through.
        Ready = "ready",
        /// Its runtime could not be made.
        Failed = "failed",
        /// Its runtime was restarted without it. The first who is told so makes it crashed.
        Lost = "lost",
        /// Its interpreter is gone, and its variables with it.
        Crashed = "crashed",
        /// Its time is up.
        Expired = "expired",
        /// Ended on request.
        Terminated = "terminated",
    }
}

impl AgentStep {
    /// A step that ended.
    pub fn ended(outcome: &StepOutcome) -> Self {
        let error = outcome.error.as_ref();
        let mut stderr = outcome.stderr.text();
        if let Some(error) = error {
            let told = if error.traceback.is_empty() {
                &error.message
            } else {
                &error.traceback
            };
            stderr.push_str(told);
        }
        let duration = outcome
            .started_at
            .map(|at| (outcome.finished_at.as_micros() - at.as_micros()) as f64 / 1000.0);
        Self {
            step_id: outcome.id.to_string(),
            status: match outcome.status {
                StepStatus::Completed | StepStatus::Error => "completed",
                _ => "failed",
            }
            .to_owned(),
            stdout: outcome.stdout.text(),
            stderr,
            exit_code: Some(exit_code(outcome.status, outcome.exit.as_ref())),
            outcome: Some(outcome.status),
            result: outcome.result.clone(),
            error: outcome.error.clone(),
            truncated: outcome.stdout.omitted() + outcome.stderr.omitted() > 0,
            duration_ms: duration,
            ..Self::default()
        }
    }
}

impl From<Step> for AgentStep {
    /// A step that ended, from its record.
    fn from(step: Step) -> Self {
        let mut stderr = step.stderr;
        if let Some(error) = &step.error {
            let told = if error.traceback.is_empty() {
                &error.message
            } else {
                &error.traceback
            };
            stderr.push_str(told);
        }
        Self {
            step_id: step.id.to_string(),
            status: match step.status {
                StepStatus::Completed | StepStatus::Error => "completed",
                _ => "failed",
            }
            .to_owned(),
            stdout: step.stdout,
            stderr,
            exit_code: Some(exit_code(step.status, step.exit.as_ref())),
            outcome: Some(step.status),
            result: step.result,
            error: step.error,
            truncated: step.truncated,
            duration_ms: step.duration_ms,
            ..Self::default()
        }
    }
}

/// See [`AgentStep::exit_code`].
fn exit_code(status: StepStatus, exit: Option<&Exit>) -> i32 {
    match status {
        StepStatus::Completed => 0,
        StepStatus::Timeout => 124,
        StepStatus::Interrupted => 130,
        _ => match exit {
            Some(Exit {
                signal: Some(signal),
                ..
            }) => 128 + signal,
            Some(Exit {
                code: Some(code), ..
            }) => *code,
            _ => 1,
        },
    }
}

/// Whether a text may name a session: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. It is used in paths and in
/// names of pods, so nothing else gets through.
pub fn is_session_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= 128
        && text.bytes().all(allowed)
        && text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
}

/// The id under which Abide keeps a session that a client named: the UUID itself, or one derived
/// from the label (UUIDv5, RFC 9562 §5.5).
pub fn session_id_of_label(label: &str) -> SessionId {
    label.parse().map_or_else(
        |_| {
            SessionId(uuid::Uuid::new_v5(
                &uuid::Uuid::NAMESPACE_OID,
                label.as_bytes(),
            ))
        },
        SessionId,
    )
}

/// The same for a step of a session: two sessions may use the same label.
pub fn step_id_of_label(session: SessionId, label: &str) -> StepId {
    label.parse().map_or_else(
        |_| StepId(uuid::Uuid::new_v5(&session.0, label.as_bytes())),
        StepId,
    )
}

impl NewStep {
    /// A step as it goes to the plane below.
    pub fn to_run(&self) -> RunStep {
        RunStep {
            session_id: self.session_id.to_string(),
            step_id: self.id.to_string(),
            code: self.code.clone(),
            timeout_ms: self.timeout_ms,
            queue_timeout_ms: None,
            stdin: self.stdin.clone(),
        }
    }
}
