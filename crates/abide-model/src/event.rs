//! Facts about changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{EventId, JsonObject, Timestamp};

crate::closed_set! {
    /// Events that Abide writes itself; `docs/events.md` is generated from this list. Clients may
    /// append events of other types.
    EventKind {
        /// A session was created. Payload: `agent_id`, `session_type`, `runtime_backend`.
        SessionCreated = "session.created",
        /// A session changed. Payload: `agent_id`, `status` after the change, `updates`.
        SessionUpdated = "session.updated",
        /// A session was deleted, with its steps. Payload: `agent_id`, `status` it had.
        SessionDeleted = "session.deleted",
        /// A session's time was up and it was ended. Payload: `agent_id`, `status` after the change.
        SessionExpired = "session.expired",
        /// An agent was registered. Payload: `name`, `agent_type`, `did`.
        AgentCreated = "agent.created",
        /// An agent changed. Payload: `updates`, the fields as sent.
        AgentUpdated = "agent.updated",
        /// An agent was deleted. Payload: empty.
        AgentDeleted = "agent.deleted",
        /// A step was accepted. Payload: `step_id`, `sequence`.
        StepAccepted = "step.accepted",
        /// A step ended. Payload: `step_id`, `sequence`, `status`, `stdout_bytes`, `stderr_bytes`.
        StepCompleted = "step.completed",
        /// A session was given a worker. Payload: `worker_id`, `kind`, `runtime`, `generation`.
        WorkerStarted = "worker.started",
        /// A terminal was renamed or its size policy changed. Payload: `worker_id`, `updates`.
        WorkerUpdated = "worker.updated",
        /// A worker's process ended. Payload: `worker_id`, `exit`.
        WorkerExited = "worker.exited",
    }
}

/// A fact about a change, written in the same transaction as the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Unique.
    pub id: EventId,
    /// Position in the log; grows, without gaps that could hide a later commit.
    pub sequence: i64,
    /// One of [`EventKind`], or a client's own.
    pub event_type: String,
    /// `session`, `agent`, or a client's own. Step and worker events belong to their session.
    pub aggregate_type: String,
    /// What it is about.
    pub aggregate_id: Uuid,
    /// See [`EventKind`].
    #[schema(value_type = Object)]
    pub payload: JsonObject,
    /// `{}` unless Abide has a reason to give.
    #[schema(value_type = Object)]
    pub metadata: JsonObject,
    /// When the change was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The client's version number; 1 for Abide's own.
    pub version: i64,
}

/// An event that a client appends.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// See [`Event::event_type`].
    pub event_type: String,
    /// See [`Event::aggregate_type`].
    pub aggregate_type: String,
    /// See [`Event::aggregate_id`].
    pub aggregate_id: Uuid,
    /// See [`Event::payload`].
    pub payload: JsonObject,
    /// See [`Event::metadata`].
    pub metadata: JsonObject,
    /// See [`Event::version`].
    pub version: i64,
}
