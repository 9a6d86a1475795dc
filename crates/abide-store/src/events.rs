//! The event log.

use abide_model::{AgentId, Event, EventId, EventKind, JsonObject, NewEvent, SessionId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;
use uuid::Uuid;

use crate::error::Failure;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

/// Which events a list shows; everything by default.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only events about this.
    pub aggregate_id: Option<Uuid>,
    /// Only events about things of this type.
    pub aggregate_type: Option<String>,
    /// Only these types; empty means all.
    pub event_types: Vec<String>,
}

const COLUMNS: &str = "sequence, id, event_type, aggregate_type, aggregate_id, payload, metadata, \
                       created_at, version";

impl Store {
    /// Adds a client's event to the log.
    pub async fn append_event(&self, event: NewEvent) -> Result<Event, StoreError> {
        self.write("append an event", move |change| change.append(event))
            .await
    }

    /// One event.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.read("read an event", |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE id = ?1"))?
                .query_row([id.0], event)
                .optional()
        })
    }

    /// Events, newest first.
    pub async fn events(
        &self,
        filter: &EventFilter,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let (sql, mut values) = list(filter, Order::NewestFirst);
        values.extend([Value::Null, limit.max(0).into(), offset.max(0).into()]);
        self.read("list events", |connection| select(connection, &sql, values))
    }

    /// Events after `sequence`, oldest first: what a follower that has seen `sequence` misses.
    pub async fn events_after(
        &self,
        sequence: i64,
        filter: &EventFilter,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let (sql, mut values) = list(filter, Order::After);
        values.extend([sequence.into(), limit.max(0).into(), 0.into()]);
        self.read("follow events", |connection| {
            select(connection, &sql, values)
        })
    }
}

/// What one of Abide's own events is about.
#[derive(Clone, Copy)]
pub(crate) enum Aggregate {
    Session(SessionId),
    Agent(AgentId),
}

impl Change<'_> {
    /// Writes one of Abide's own events; `reason` goes into its metadata.
    pub(crate) fn record(
        &self,
        kind: EventKind,
        about: Aggregate,
        at: Timestamp,
        payload: &impl Serialize,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Metadata<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
        }
        let (aggregate_type, aggregate_id) = match about {
            Aggregate::Session(id) => ("session", id.0),
            Aggregate::Agent(id) => ("agent", id.0),
        };
        let payload = serde_json::to_string(payload)?;
        let metadata = serde_json::to_string(&Metadata { reason })?;
        self.insert(InsertEvent {
            id: EventId::new(),
            event_type: kind.as_str(),
            aggregate_type,
            aggregate_id,
            payload: &payload,
            metadata: &metadata,
            created_at: at,
            version: 1,
        })?;
        Ok(())
    }

    fn append(&self, new: NewEvent) -> Result<Event, Failure> {
        let (id, created_at) = (EventId::new(), self.now());
        let sequence = self.insert(InsertEvent {
            id,
            event_type: &new.event_type,
            aggregate_type: &new.aggregate_type,
            aggregate_id: new.aggregate_id,
            payload: new.payload.as_str(),
            metadata: new.metadata.as_str(),
            created_at,
            version: new.version,
        })?;
        let NewEvent {
            event_type,
            aggregate_type,
            aggregate_id,
            payload,
            metadata,
            version,
        } = new;
        Ok(Event {
            id,
            sequence,
            event_type,
            aggregate_type,
            aggregate_id,
            payload,
            metadata,
            created_at,
            version,
        })
    }

    fn insert(&self, event: InsertEvent<'_>) -> Result<i64, Failure> {
        let sequence = self
            .statement(
                "INSERT INTO events (id, event_type, aggregate_type, aggregate_id, payload, \
                 metadata, created_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .insert(params![
                event.id.0,
                event.event_type,
                event.aggregate_type,
                event.aggregate_id,
                event.payload,
                event.metadata,
                event.created_at.as_micros(),
                event.version,
            ])?;
        self.affect(|effects| effects.last_sequence = sequence);
        Ok(sequence)
    }
}

struct InsertEvent<'a> {
    id: EventId,
    event_type: &'a str,
    aggregate_type: &'a str,
    aggregate_id: Uuid,
    payload: &'a str,
    metadata: &'a str,
    created_at: Timestamp,
    version: i64,
}

#[derive(Clone, Copy)]
enum Order {
    NewestFirst,
    After,
}

/// The query for a list and the values of its filters; three more are to follow: the sequence
/// (null when it does not matter), limit and offset.
///
/// The database has no statistics, so the query says which index to use: the one about what is
/// most selective. A `+` keeps a condition from being looked up in an index.
fn list(filter: &EventFilter, order: Order) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut place = |value: Value| {
        values.push(value);
        values.len()
    };
    let mut common = String::new();
    if let Some(id) = filter.aggregate_id {
        common += &format!(
            " AND aggregate_id = ?{}",
            place(id.as_bytes().to_vec().into())
        );
    }
    if let Some(text) = &filter.aggregate_type {
        let selective = filter.aggregate_id.is_none() && filter.event_types.is_empty();
        let plus = if selective { "" } else { "+" };
        common += &format!(
            " AND {plus}aggregate_type = ?{}",
            place(text.clone().into())
        );
    }
    let types: Vec<usize> = filter
        .event_types
        .iter()
        .map(|text| place(text.clone().into()))
        .collect();
    let next = types.len() + usize::from(filter.aggregate_id.is_some());
    let next = next + usize::from(filter.aggregate_type.is_some()) + 1;
    let (after, direction) = match order {
        Order::NewestFirst => (String::new(), "DESC"),
        Order::After => (format!(" AND sequence > ?{next}"), "ASC"),
    };

    let branch = |condition: &str| {
        format!("SELECT {COLUMNS} FROM events WHERE true{common}{condition}{after}")
    };
    let body = if types.is_empty() {
        branch("")
    } else if filter.aggregate_id.is_some() {
        let list = types
            .iter()
            .map(|n| format!("?{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        branch(&format!(" AND +event_type IN ({list})"))
    } else {
        // One ordered walk for each type, merged: no sort, however long the log.
        let branches = types
            .iter()
            .map(|n| branch(&format!(" AND event_type = ?{n}")));
        branches.collect::<Vec<_>>().join(" UNION ALL ")
    };
    let sql = format!(
        "{body} ORDER BY sequence {direction} LIMIT ?{} OFFSET ?{}",
        next + 1,
        next + 2
    );
    (sql, values)
}

fn select(connection: &Connection, sql: &str, values: Vec<Value>) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare_cached(sql)?
        .query_map(params_from_iter(values), event)?
        .collect()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let payload: JsonObject = rows::object(row, 5)?;
    Ok(Event {
        sequence: row.get(0)?,
        id: EventId(row.get(1)?),
        event_type: row.get(2)?,
        aggregate_type: row.get(3)?,
        aggregate_id: row.get(4)?,
        payload,
        metadata: rows::object(row, 6)?,
        created_at: rows::time(row, 7)?,
        version: row.get(8)?,
    })
}
