//! Errors as the API shows them: RFC 9457 problem details with a stable code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $status:literal, $number:literal, $retryable:literal;)+) => {
        /// Why a request failed; stable, safe to match on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The stable text.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            /// What it means: the documentation of the code, in Markdown.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
            /// HTTP status.
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status),+ } }
            /// The session service's error number for the same thing; empty where it has none.
            pub const fn number(self) -> &'static str { match self { $(Self::$variant => $number),+ } }
            /// Whether the same request may succeed later, unchanged.
            pub const fn retryable(self) -> bool { match self { $(Self::$variant => $retryable),+ } }
        }
    };
}

problem_codes! {
    /// No key was sent.
    AuthenticationRequired = "authentication_required", 401, "", false;
    /// The key is not one of ours.
    InvalidApiKey = "invalid_api_key", 401, "", false;
    /// The `Host` or `Origin` header does not name this server.
    ForbiddenOrigin = "forbidden_origin", 403, "", false;
    /// Nobody may do this here.
    Forbidden = "forbidden", 403, "", false;
    /// No such route.
    NotFound = "not_found", 404, "", false;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, "", false;
    /// No such session.
    SessionNotFound = "session_not_found", 404, "E1309", false;
    /// No such agent.
    AgentNotFound = "agent_not_found", 404, "E1300", false;
    /// No such event.
    EventNotFound = "event_not_found", 404, "E1307", false;
    /// No such step in this session.
    StepNotFound = "step_not_found", 404, "", false;
    /// No such job.
    JobNotFound = "job_not_found", 404, "", false;
    /// No such worker in this session.
    WorkerNotFound = "worker_not_found", 404, "", false;
    /// A session of this id or name exists.
    SessionExists = "session_exists", 409, "E1403", false;
    /// An agent that owns sessions cannot be deleted.
    AgentInUse = "agent_in_use", 409, "E1403", false;
    /// The step id or idempotency key was used for another request.
    IdempotencyConflict = "idempotency_conflict", 409, "E1403", false;
    /// An active session is deleted only with `force=true`.
    SessionActive = "session_active", 409, "", false;
    /// The session is paused or completed and takes no steps.
    SessionNotActive = "session_not_active", 409, "", false;
    /// The worker has ended, and nothing of it is left to look at.
    WorkerGone = "worker_gone", 410, "", false;
    /// The session's `expires_at` has passed.
    SessionExpired = "session_expired", 410, "", false;
    /// The bytes asked for have left the journal.
    OutputExpired = "expired", 416, "", false;
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large", 413, "E1200", false;
    /// A field is missing or has a wrong value.
    InvalidInput = "invalid_input", 422, "E1200", false;
    /// The body is not JSON.
    InvalidJson = "invalid_json", 422, "E1204", false;
    /// The session's queue, or the server's number of sessions, is full.
    LimitReached = "limit_reached", 429, "", true;
    /// Something of ours failed; the log has the details under the request id.
    Internal = "internal_error", 500, "", false;
    /// The server is stopping.
    ShuttingDown = "shutting_down", 503, "E1500", true;
    /// The session's interpreter is dead; restart it.
    RuntimeCrashed = "runtime_crashed", 503, "", false;
    /// The session's runtime could not be reached, and nothing was run; see `details.attempts`.
    RuntimeUnreachable = "runtime_unreachable", 503, "", false;
    /// The session's runtime was restarted without the session: its variables are gone.
    RuntimeIdentityMismatch = "runtime_identity_mismatch", 409, "", false;
    /// The session is there already, with another runtime.
    RuntimeMismatch = "runtime_mismatch", 409, "", false;
    /// The session's token is missing or not the right one.
    InvalidSessionToken = "invalid_session_token", 401, "", false;
    /// No such run.
    RunNotFound = "run_not_found", 404, "", false;
    /// No interpreter of this language could be started.
    RuntimeUnavailable = "runtime_unavailable", 503, "", false;
    /// The disk is full: nothing was stored.
    StorageFull = "storage_full", 507, "E1001", false;
    /// The database failed.
    DatabaseUnavailable = "database_unavailable", 503, "E1501", true;
}

/// One field that was wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Stable kind: `missing`, `uuid_parsing`, `enum`, `dict_type`, `string_type`,
    /// `int_parsing`, `json_invalid`, `value_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where: `body`, `path` or `query`, then the field.
    pub loc: Vec<String>,
    /// What is wrong and what would be right.
    pub msg: String,
    /// The offending value.
    pub input: serde_json::Value,
}

/// The body of every error answer (`application/problem+json`).
///
/// `detail` is the sentence older session-service clients read, or the list of [`FieldError`]s
/// for status 422; `error`, `message` and `retryable` are what runtime-routing clients read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `https://abide.dev/problems/{code}`; an identifier, not a page to fetch.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// HTTP status, repeated.
    pub status: u16,
    /// A sentence, or a list of field errors.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// Stable code.
    pub code: String,
    /// The same as `code`.
    pub error: String,
    /// A sentence for people: what is wrong and what to do.
    pub message: String,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// The session service's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// More, by code: `supported_methods`, `earliest`, `exit`, `session_id`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<serde_json::Value>,
    /// To find the request in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem whose `detail` and `message` are one sentence.
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind: format!("https://abide.dev/problems/{}", code.as_str()),
            title: code.as_str().replace('_', " "),
            status: code.status(),
            detail: serde_json::Value::String(message.clone()),
            code: code.as_str().to_owned(),
            error: code.as_str().to_owned(),
            message,
            retryable: code.retryable(),
            error_code: Some(code.number())
                .filter(|n| !n.is_empty())
                .map(str::to_owned),
            details: None,
            request_id: None,
        }
    }

    /// 422 with the fields that were wrong.
    pub fn invalid(errors: &[FieldError]) -> Self {
        let message = errors
            .iter()
            .map(|e| format!("{}: {}", e.loc.join("."), e.msg))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            detail: serde_json::to_value(errors).unwrap_or_default(),
            ..Self::new(ProblemCode::InvalidInput, message)
        }
    }

    /// Adds machine-readable details.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }
}
