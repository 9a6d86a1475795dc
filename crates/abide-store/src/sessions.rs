//! Sessions.

mod expiry;
mod list;

use abide_model::{
    AgentId, EventKind, NewSession, Runtime, RuntimeBackend, Session, SessionChanges,
    SessionFilter, SessionId, SessionStatus, Timestamp, Workspace, WorkspaceKind,
};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;

use crate::error::Failure;
use crate::events::Aggregate;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

/// Makes a repeated create find what the first one made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The client's `Idempotency-Key`, with whatever the caller adds to keep clients apart.
    pub key: String,
    /// A digest of the request: the same key with another fingerprint is a mistake.
    pub fingerprint: String,
}

/// The answer to a create with a [`RequestKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was created now.
    New(Session),
    /// An earlier request of this key created it; as it is today.
    Existing(Session),
}

const COLUMNS: &str = "id, agent_id, session_type, status, context, checkpoint, runtime_backend, \
                       runtime_metadata, created_at, updated_at, name, runtime, workspace_kind, \
                       workspace_path, ttl_seconds, expires_at, version, \
                       sliding";

impl Store {
    /// Creates a session: `active`, version 1. Event: `session.created`.
    ///
    /// Errors: [`StoreError::AgentMissing`], [`StoreError::IdTaken`], [`StoreError::NameTaken`].
    pub async fn create_session(&self, new: NewSession) -> Result<Session, StoreError> {
        self.write("create a session", move |change| create(change, new, None))
            .await
    }

    /// The same, once for each key while the session it made exists. Event when it is new:
    /// `session.created`.
    ///
    /// Errors: those of [`Self::create_session`], and [`StoreError::RequestKeyReused`].
    pub async fn create_session_idempotent(
        &self,
        request: RequestKey,
        new: NewSession,
    ) -> Result<Created, StoreError> {
        self.write("create a session", move |change| {
            match find_request(change.connection(), &request.key)? {
                None => create(change, new, Some(&request)).map(Created::New),
                Some((fingerprint, session)) if fingerprint == request.fingerprint => {
                    Ok(Created::Existing(session))
                }
                Some(_) => Err(StoreError::RequestKeyReused(request.key).into()),
            }
        })
        .await
    }

    /// One session.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let generation = match self.cache().get(id) {
            Ok(session) => return Ok(Some(session)),
            Err(generation) => generation,
        };
        let session = self.read("read a session", |connection| find(connection, id))?;
        if let Some(session) = &session {
            self.cache().keep(session, generation);
        }
        Ok(session)
    }

    /// The session of this name.
    pub async fn session_by_name(&self, name: &str) -> Result<Option<Session>, StoreError> {
        self.read("find a session", |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE name = ?1"))?
                .query_row([name], session)
                .optional()
        })
    }

    /// Sessions, newest first; those created in the same microsecond by descending id.
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
        let (sql, values) = list::query(filter);
        self.read("list sessions", |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement
                .query_map(params_from_iter(values), session)?
                .collect()
        })
    }

    /// Replaces the given fields; none given: nothing happens. `None`: no such session. Event:
    /// `session.updated`, which lists [`SessionChanges::named`], or when that is empty the
    /// given fields.
    pub async fn update_session(
        &self,
        id: SessionId,
        changes: SessionChanges,
    ) -> Result<Option<Session>, StoreError> {
        if changes.is_empty() {
            return self.session(id).await;
        }
        self.write("update a session", move |change| {
            update(change, id, changes)
        })
        .await
    }

    /// Removes a session with its steps and workers and returns what it was. `None`: no such
    /// session. Its events stay. Event: `session.deleted`.
    pub async fn delete_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.write("delete a session", move |change| {
            let Some(session) = find(change.connection(), id)? else {
                return Ok(None);
            };
            change.touch(id);
            change.execute("DELETE FROM sessions WHERE id = ?1", [id.0])?;
            change.affect(|effects| effects.sessions -= 1);
            #[derive(Serialize)]
            struct Payload {
                agent_id: AgentId,
                status: SessionStatus,
            }
            let payload = Payload {
                agent_id: session.agent_id,
                status: session.status,
            };
            let about = Aggregate::Session(id);
            change.record(
                EventKind::SessionDeleted,
                about,
                change.now(),
                &payload,
                None,
            )?;
            Ok(Some(session))
        })
        .await
    }
}

/// Whether the session exists.
pub(crate) fn exists(change: &Change<'_>, id: SessionId) -> rusqlite::Result<bool> {
    change.exists("SELECT 1 FROM sessions WHERE id = ?1", [id.0])
}

/// Moves a session from one status to another on Abide's own account; one that is not in `from`
/// stays as it is.
pub(crate) fn shift(
    change: &Change<'_>,
    id: SessionId,
    (from, to): (SessionStatus, SessionStatus),
    reason: &str,
) -> Result<(), Failure> {
    let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND +status = ?2";
    if change.exists(sql, params![id.0, from.as_str()])? {
        let changes = SessionChanges {
            status: Some(to),
            reason: Some(reason.to_owned()),
            ..SessionChanges::default()
        };
        update(change, id, changes)?;
    }
    Ok(())
}

/// Creates a session; see [`Store::create_session`].
pub(crate) fn create(
    change: &Change<'_>,
    new: NewSession,
    request: Option<&RequestKey>,
) -> Result<Session, Failure> {
    if !change.exists("SELECT 1 FROM agents WHERE id = ?1", [new.agent_id.0])? {
        return Err(StoreError::AgentMissing(new.agent_id).into());
    }
    if exists(change, new.id)? {
        return Err(StoreError::IdTaken(new.id.0).into());
    }
    if let Some(limit) = change.session_limit() {
        return Err(StoreError::SessionLimit(limit).into());
    }
    if let Some(name) = &new.name {
        let holder = change
            .statement("SELECT id FROM sessions WHERE name = ?1")?
            .query_row([name], |row| row.get(0).map(SessionId))
            .optional()?;
        if let Some(existing) = holder {
            return Err(StoreError::NameTaken {
                name: name.clone(),
                existing,
            }
            .into());
        }
    }
    let session = started(new, change.now());
    change.execute(
        "INSERT INTO sessions (id, agent_id, session_type, status, context, checkpoint, \
         runtime_backend, runtime_metadata, created_at, updated_at, name, runtime, \
         workspace_kind, workspace_path, ttl_seconds, expires_at, version, request_key, \
         request_fingerprint, sliding) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        params![
            session.id.0,
            session.agent_id.0,
            session.session_type,
            session.status.as_str(),
            session.context.as_str(),
            session.checkpoint.as_ref().map(|object| object.as_str()),
            session.runtime_backend.map(RuntimeBackend::as_str),
            session.runtime_metadata.as_str(),
            session.created_at.as_micros(),
            session.updated_at.as_micros(),
            session.name,
            session.runtime.as_str(),
            session.workspace.kind.as_str(),
            session.workspace.path,
            session.ttl_seconds,
            session.expires_at.map(Timestamp::as_micros),
            session.version,
            request.map(|request| &request.key),
            request.map(|request| &request.fingerprint),
            session.sliding,
        ],
    )?;
    change.affect(|effects| effects.sessions += 1);

    #[derive(Serialize)]
    struct Payload<'a> {
        agent_id: AgentId,
        session_type: &'a str,
        runtime_backend: Option<RuntimeBackend>,
    }
    let payload = Payload {
        agent_id: session.agent_id,
        session_type: &session.session_type,
        runtime_backend: session.runtime_backend,
    };
    let about = Aggregate::Session(session.id);
    change.record(
        EventKind::SessionCreated,
        about,
        session.created_at,
        &payload,
        None,
    )?;
    Ok(session)
}

fn started(new: NewSession, now: Timestamp) -> Session {
    Session {
        id: new.id,
        agent_id: new.agent_id,
        session_type: new.session_type,
        status: SessionStatus::Active,
        context: new.context,
        checkpoint: None,
        runtime_backend: new.runtime_backend,
        runtime_metadata: new.runtime_metadata,
        created_at: now,
        updated_at: now,
        name: new.name,
        runtime: new.runtime,
        workspace: new.workspace,
        ttl_seconds: new.ttl_seconds,
        expires_at: new.ttl_seconds.map(|seconds| now.plus_seconds(seconds)),
        sliding: new.sliding,
        version: 1,
    }
}

fn update(
    change: &Change<'_>,
    id: SessionId,
    changes: SessionChanges,
) -> Result<Option<Session>, Failure> {
    let Some(mut session) = find(change.connection(), id)? else {
        return Ok(None);
    };
    let given = [
        ("status", changes.status.is_some()),
        ("context", changes.context.is_some()),
        ("checkpoint", changes.checkpoint.is_some()),
        ("runtime_metadata", changes.runtime_metadata.is_some()),
    ];
    // Columns that keep their value are left out: `status` is in two indexes.
    let same_status = changes.status.is_none_or(|status| status == session.status);
    let mut sql = "UPDATE sessions SET updated_at = ?2, version = ?3".to_owned();
    for (place, (column, given)) in (4..).zip(given) {
        if given && !(column == "status" && same_status) {
            sql += &format!(", {column} = ?{place}");
        }
    }
    sql += " WHERE id = ?1";

    change.touch(id);
    session.updated_at = change.now();
    session.version += 1;
    session.status = changes.status.unwrap_or(session.status);
    session.context = changes.context.unwrap_or(session.context);
    session.checkpoint = changes.checkpoint.or(session.checkpoint);
    session.runtime_metadata = changes.runtime_metadata.unwrap_or(session.runtime_metadata);
    let mut statement = change.statement(&sql)?;
    statement.raw_bind_parameter(1, session.id.0)?;
    statement.raw_bind_parameter(2, session.updated_at.as_micros())?;
    statement.raw_bind_parameter(3, session.version)?;
    let values = [
        Some(session.status.as_str()),
        Some(session.context.as_str()),
        session.checkpoint.as_ref().map(|object| object.as_str()),
        Some(session.runtime_metadata.as_str()),
    ];
    for (place, value) in (4..).zip(values) {
        if place <= statement.parameter_count() {
            statement.raw_bind_parameter(place, value)?;
        }
    }
    statement.raw_execute()?;

    #[derive(Serialize)]
    struct Payload<'a> {
        agent_id: AgentId,
        status: SessionStatus,
        updates: &'a [&'static str],
    }
    let effective: Vec<_> = given
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(n, _)| n)
        .collect();
    let updates = if changes.named.is_empty() {
        &effective
    } else {
        &changes.named
    };
    let payload = Payload {
        agent_id: session.agent_id,
        status: session.status,
        updates,
    };
    let (about, reason) = (Aggregate::Session(id), changes.reason.as_deref());
    change.record(
        EventKind::SessionUpdated,
        about,
        session.updated_at,
        &payload,
        reason,
    )?;
    Ok(Some(session))
}

fn find(connection: &Connection, id: SessionId) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?
        .query_row([id.0], session)
        .optional()
}

/// What an idempotency key stands for: the request's fingerprint and the session it made.
fn find_request(connection: &Connection, key: &str) -> rusqlite::Result<Option<(String, Session)>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, request_fingerprint FROM sessions WHERE request_key = ?1"
        ))?
        .query_row([key], |row| {
            Ok((row.get("request_fingerprint")?, session(row)?))
        })
        .optional()
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: SessionId(row.get(0)?),
        agent_id: AgentId(row.get(1)?),
        session_type: row.get(2)?,
        status: rows::member(row, 3, SessionStatus::parse)?,
        context: rows::object(row, 4)?,
        checkpoint: rows::optional_object(row, 5)?,
        runtime_backend: rows::optional_member(row, 6, RuntimeBackend::parse)?,
        runtime_metadata: rows::object(row, 7)?,
        created_at: rows::time(row, 8)?,
        updated_at: rows::time(row, 9)?,
        name: row.get(10)?,
        runtime: rows::member(row, 11, Runtime::parse)?,
        workspace: Workspace {
            kind: rows::member(row, 12, WorkspaceKind::parse)?,
            path: row.get(13)?,
        },
        ttl_seconds: row.get(14)?,
        expires_at: rows::optional_time(row, 15)?,
        version: row.get(16)?,
        sliding: row.get(17)?,
    })
}
