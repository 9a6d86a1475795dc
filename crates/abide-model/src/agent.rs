//! Who the work belongs to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AgentId, JsonObject, Timestamp};

crate::closed_set! {
    /// Where an agent stands; informative, no transition is refused.
    AgentStatus {
        /// Registered, not seen yet.
        Created = "created",
        /// In use.
        Active = "active",
        /// In use, nothing to do.
        Idle = "idle",
        /// In use, at work.
        Busy = "busy",
        /// Held back by its owner.
        Suspended = "suspended",
        /// Ended.
        Terminated = "terminated",
        /// Failed.
        Error = "error",
    }
}

/// A registered identity that owns sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Server-made.
    pub id: AgentId,
    /// `did:agent:{name}:{8 hex digits}`, unique.
    pub did: String,
    /// At most 255 characters.
    pub name: String,
    /// Free text, at most 100 characters.
    pub agent_type: String,
    /// See [`AgentStatus`].
    pub status: AgentStatus,
    /// Free-form settings.
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    /// Free-form notes.
    #[schema(value_type = Object)]
    pub metadata: JsonObject,
    /// Free-form limits.
    #[schema(value_type = Object)]
    pub resource_limits: JsonObject,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What the store needs to register an agent.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Chosen by the caller.
    pub id: AgentId,
    /// See [`Agent::did`].
    pub did: String,
    /// See [`Agent::name`].
    pub name: String,
    /// See [`Agent::agent_type`].
    pub agent_type: String,
    /// See [`Agent::configuration`].
    pub configuration: JsonObject,
    /// See [`Agent::metadata`].
    pub metadata: JsonObject,
    /// See [`Agent::resource_limits`].
    pub resource_limits: JsonObject,
}

/// An update: what is `None` stays as it is, what is given replaces the stored value whole.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AgentChanges {
    /// New name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<String>,
    /// New status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<AgentStatus>,
    /// New configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<JsonObject>,
    /// New metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonObject>,
    /// New limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<JsonObject>,
}

impl AgentChanges {
    /// Nothing would change.
    pub const fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.agent_type.is_none()
            && self.status.is_none()
            && self.configuration.is_none()
            && self.metadata.is_none()
            && self.resource_limits.is_none()
    }
}
