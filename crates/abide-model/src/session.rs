//! The durable unit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AgentId, JsonObject, Runtime, SessionId, Timestamp};

crate::closed_set! {
    /// Where a session stands. Clients may set any status at any time (compatibility); Abide
    /// itself moves `active → crashed` when the session's worker dies and `crashed → active`
    /// when it is restarted.
    SessionStatus {
        /// In use.
        Active = "active",
        /// Set aside by its owner.
        Paused = "paused",
        /// Ended by its owner.
        Completed = "completed",
        /// Its worker died; see the `session.updated` event for the reason.
        Crashed = "crashed",
    }
}

crate::closed_set! {
    /// Where a client says the session runs; informative.
    RuntimeBackend {
        /// This host.
        Local = "local",
        /// A pod.
        Kubernetes = "kubernetes",
        /// Not known.
        Unknown = "unknown",
    }
}

crate::closed_set! {
    /// How a session got its directory.
    WorkspaceKind {
        /// Made for the session, removed with it.
        Scratch = "scratch",
        /// An existing directory; never removed.
        Directory = "directory",
    }
}

/// The directory a session's workers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// How it came to be.
    pub kind: WorkspaceKind,
    /// Absolute path.
    pub path: String,
}

/// A durable record plus the live workers that belong to it.
///
/// The first ten fields are the session service's contract, in its order; the rest is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Server-made unless the client brought its own.
    pub id: SessionId,
    /// Owner.
    pub agent_id: AgentId,
    /// Free text, at most 100 characters; `conversation` by default.
    pub session_type: String,
    /// See [`SessionStatus`].
    pub status: SessionStatus,
    /// Free-form; replaced whole by an update.
    #[schema(value_type = Object)]
    pub context: JsonObject,
    /// What a client saved to recover from.
    #[schema(value_type = Option<Object>)]
    pub checkpoint: Option<JsonObject>,
    /// See [`RuntimeBackend`].
    pub runtime_backend: Option<RuntimeBackend>,
    /// Free-form.
    #[schema(value_type = Object)]
    pub runtime_metadata: JsonObject,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a field last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,

    /// A unique name to address the session by; `[A-Za-z0-9._-]{1,100}`.
    pub name: Option<String>,
    /// Which interpreter its steps run in.
    pub runtime: Runtime,
    /// The directory its workers share.
    pub workspace: Workspace,
    /// Seconds after creation at which it expires; none means never.
    pub ttl_seconds: Option<i64>,
    /// `created_at + ttl_seconds`, or later if it slides. The session is ended then: its interpreter
    /// and scratch workspace go, its record stays, and steps answer 410 `session_expired`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Whether each step moves `expires_at` to `ttl_seconds` from then, give or take an eighth.
    pub sliding: bool,
    /// Grows by one with every change of the record; starts at 1.
    pub version: i64,
}

impl Session {
    /// Whether the session has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What to create a session with (`POST /sessions`); everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CreateSession {
    /// A registered agent; the tenant's default agent if absent. Alias `agentId`, which may also
    /// be a label of the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Free text, at most 100 characters; `conversation` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_type: Option<String>,
    /// `{}` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<JsonObject>,
    /// Where the client says the session runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_backend: Option<RuntimeBackend>,
    /// `{}` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub runtime_metadata: Option<JsonObject>,
    /// `python` (default, alias `python3`) or `node` (alias `javascript`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// A unique name to address the session by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds until it expires; never by default. Alias `ttlSeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// Whether steps put its end off; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding: Option<bool>,
    /// An absolute path of an existing directory, or `{"kind": "scratch"}` (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub workspace: Option<String>,
    /// The client's own id for the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// What to change in a session (`PATCH /sessions/{id}`); what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UpdateSession {
    /// Any status may follow any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<SessionStatus>,
    /// Replaces the stored context whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<JsonObject>,
    /// Replaces the stored checkpoint whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub checkpoint: Option<JsonObject>,
    /// Replaces the stored metadata whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub runtime_metadata: Option<JsonObject>,
}

/// What the store needs to create a session.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Chosen by the caller.
    pub id: SessionId,
    /// Must be registered.
    pub agent_id: AgentId,
    /// See [`Session::session_type`].
    pub session_type: String,
    /// See [`Session::context`].
    pub context: JsonObject,
    /// See [`Session::runtime_backend`].
    pub runtime_backend: Option<RuntimeBackend>,
    /// See [`Session::runtime_metadata`].
    pub runtime_metadata: JsonObject,
    /// See [`Session::name`].
    pub name: Option<String>,
    /// See [`Session::runtime`].
    pub runtime: Runtime,
    /// See [`Session::workspace`].
    pub workspace: Workspace,
    /// See [`Session::ttl_seconds`].
    pub ttl_seconds: Option<i64>,
    /// See [`Session::sliding`].
    pub sliding: bool,
}

/// An update: what is `None` stays as it is, what is given replaces the stored value whole.
#[derive(Debug, Clone, Default)]
pub struct SessionChanges {
    /// New status.
    pub status: Option<SessionStatus>,
    /// New context.
    pub context: Option<JsonObject>,
    /// New checkpoint.
    pub checkpoint: Option<JsonObject>,
    /// New metadata.
    pub runtime_metadata: Option<JsonObject>,
    /// The recognised fields the request named, also those sent as `null`, in the contract's
    /// fixed order; what the `session.updated` event lists as `updates`.
    pub named: Vec<&'static str>,
    /// Why Abide itself changes the status (`{"reason": …}`); goes into the event's `metadata`.
    pub reason: Option<String>,
}

impl SessionChanges {
    /// Nothing would change.
    pub const fn is_empty(&self) -> bool {
        self.status.is_none()
            && self.context.is_none()
            && self.checkpoint.is_none()
            && self.runtime_metadata.is_none()
    }
}

/// Which sessions a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only this owner's.
    pub agent_id: Option<AgentId>,
    /// Only these statuses; empty means all.
    pub statuses: Vec<SessionStatus>,
    /// Only the session of this name.
    pub name: Option<String>,
    /// Only sessions after this one in list order (created earlier).
    pub after: Option<(Timestamp, SessionId)>,
    /// At most this many.
    pub limit: i64,
}
