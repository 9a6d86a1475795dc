//! Agents.

use abide_model::{Agent, AgentChanges, AgentId, AgentStatus, EventKind, NewAgent};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::error::Failure;
use crate::events::Aggregate;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

const COLUMNS: &str = "id, did, name, agent_type, status, configuration, metadata, \
                       resource_limits, created_at, updated_at";

impl Store {
    /// Registers an agent. Event: `agent.created`.
    ///
    /// Errors: [`StoreError::IdTaken`], [`StoreError::DidTaken`].
    pub async fn create_agent(&self, new: NewAgent) -> Result<Agent, StoreError> {
        self.write("create an agent", move |change| create(change, new))
            .await
    }

    /// One agent.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        self.read("read an agent", |connection| find(connection, id))
    }

    /// The oldest agent of this name.
    pub async fn agent_by_name(&self, name: &str) -> Result<Option<Agent>, StoreError> {
        self.read("find an agent", |connection| find_name(connection, name))
    }

    /// Agents, newest first.
    pub async fn agents(
        &self,
        status: Option<AgentStatus>,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Agent>, StoreError> {
        let condition = match status {
            None => String::new(),
            Some(status) => format!("WHERE status = '{status}'"),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM agents {condition} \
             ORDER BY created_at DESC, id DESC LIMIT ?1 OFFSET ?2"
        );
        self.read("list agents", |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement
                .query_map([limit.max(0), offset.max(0)], agent)?
                .collect()
        })
    }

    /// The oldest agent of `new`'s name, or `new` registered now; atomic, so that callers who
    /// race get the same one. Event when it is new: `agent.created`.
    ///
    /// Errors: [`StoreError::IdTaken`], [`StoreError::DidTaken`].
    pub async fn ensure_agent(&self, new: NewAgent) -> Result<Agent, StoreError> {
        // Almost always it is there, and then the writer need not hear of it.
        if let Some(agent) = self.agent_by_name(&new.name).await? {
            return Ok(agent);
        }
        self.write("register an agent", move |change| {
            match find_name(change.connection(), &new.name)? {
                Some(agent) => Ok(agent),
                None => create(change, new),
            }
        })
        .await
    }

    /// Replaces the given fields; none given: nothing happens. `None`: no such agent. Event:
    /// `agent.updated`.
    pub async fn update_agent(
        &self,
        id: AgentId,
        changes: AgentChanges,
    ) -> Result<Option<Agent>, StoreError> {
        if changes.is_empty() {
            return self.agent(id).await;
        }
        self.write("update an agent", move |change| update(change, id, changes))
            .await
    }

    /// Removes an agent; false: no such agent. Event: `agent.deleted`.
    ///
    /// Errors: [`StoreError::AgentInUse`].
    pub async fn delete_agent(&self, id: AgentId) -> Result<bool, StoreError> {
        self.write("delete an agent", move |change| {
            if change.exists("SELECT 1 FROM sessions WHERE agent_id = ?1", [id.0])? {
                return Err(StoreError::AgentInUse(id).into());
            }
            if change.execute("DELETE FROM agents WHERE id = ?1", [id.0])? == 0 {
                return Ok(false);
            }
            #[derive(Serialize)]
            struct Payload {}
            let about = Aggregate::Agent(id);
            change.record(
                EventKind::AgentDeleted,
                about,
                change.now(),
                &Payload {},
                None,
            )?;
            Ok(true)
        })
        .await
    }
}

fn create(change: &Change<'_>, new: NewAgent) -> Result<Agent, Failure> {
    if change.exists("SELECT 1 FROM agents WHERE id = ?1", [new.id.0])? {
        return Err(StoreError::IdTaken(new.id.0).into());
    }
    if change.exists("SELECT 1 FROM agents WHERE did = ?1", [&new.did])? {
        return Err(StoreError::DidTaken(new.did).into());
    }
    let now = change.now();
    let agent = Agent {
        id: new.id,
        did: new.did,
        name: new.name,
        agent_type: new.agent_type,
        status: AgentStatus::Created,
        configuration: new.configuration,
        metadata: new.metadata,
        resource_limits: new.resource_limits,
        created_at: now,
        updated_at: now,
    };
    change.execute(
        "INSERT INTO agents (id, did, name, agent_type, status, configuration, metadata, \
         resource_limits, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            agent.id.0,
            agent.did,
            agent.name,
            agent.agent_type,
            agent.status.as_str(),
            agent.configuration.as_str(),
            agent.metadata.as_str(),
            agent.resource_limits.as_str(),
            agent.created_at.as_micros(),
            agent.updated_at.as_micros(),
        ],
    )?;

    #[derive(Serialize)]
    struct Payload<'a> {
        name: &'a str,
        agent_type: &'a str,
        did: &'a str,
    }
    let payload = Payload {
        name: &agent.name,
        agent_type: &agent.agent_type,
        did: &agent.did,
    };
    change.record(
        EventKind::AgentCreated,
        Aggregate::Agent(agent.id),
        now,
        &payload,
        None,
    )?;
    Ok(agent)
}

fn update(
    change: &Change<'_>,
    id: AgentId,
    changes: AgentChanges,
) -> Result<Option<Agent>, Failure> {
    let Some(mut agent) = find(change.connection(), id)? else {
        return Ok(None);
    };
    #[derive(Serialize)]
    struct Payload<'a> {
        updates: &'a AgentChanges,
    }
    let now = change.now();
    let about = Aggregate::Agent(id);
    change.record(
        EventKind::AgentUpdated,
        about,
        now,
        &Payload { updates: &changes },
        None,
    )?;

    let AgentChanges {
        name,
        agent_type,
        status,
        configuration,
        metadata,
        resource_limits,
    } = changes;
    agent.name = name.unwrap_or(agent.name);
    agent.agent_type = agent_type.unwrap_or(agent.agent_type);
    agent.status = status.unwrap_or(agent.status);
    agent.configuration = configuration.unwrap_or(agent.configuration);
    agent.metadata = metadata.unwrap_or(agent.metadata);
    agent.resource_limits = resource_limits.unwrap_or(agent.resource_limits);
    agent.updated_at = now;
    change.execute(
        "UPDATE agents SET name = ?2, agent_type = ?3, status = ?4, configuration = ?5, \
         metadata = ?6, resource_limits = ?7, updated_at = ?8 WHERE id = ?1",
        params![
            id.0,
            agent.name,
            agent.agent_type,
            agent.status.as_str(),
            agent.configuration.as_str(),
            agent.metadata.as_str(),
            agent.resource_limits.as_str(),
            now.as_micros(),
        ],
    )?;
    Ok(Some(agent))
}

fn find(connection: &Connection, id: AgentId) -> rusqlite::Result<Option<Agent>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM agents WHERE id = ?1"))?
        .query_row([id.0], agent)
        .optional()
}

fn find_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<Agent>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM agents WHERE name = ?1 ORDER BY created_at, id LIMIT 1"
        ))?
        .query_row([name], agent)
        .optional()
}

fn agent(row: &Row<'_>) -> rusqlite::Result<Agent> {
    Ok(Agent {
        id: AgentId(row.get(0)?),
        did: row.get(1)?,
        name: row.get(2)?,
        agent_type: row.get(3)?,
        status: rows::member(row, 4, AgentStatus::parse)?,
        configuration: rows::object(row, 5)?,
        metadata: rows::object(row, 6)?,
        resource_limits: rows::object(row, 7)?,
        created_at: rows::time(row, 8)?,
        updated_at: rows::time(row, 9)?,
    })
}
