//! The event log.

use abide_model::{AgentId, Event, EventId, EventKind, NewEvent, SessionId, Timestamp};
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

/// The types that most events are of; the index of types leaves them out.
const COMMON: [&str; 2] = [
    EventKind::StepAccepted.as_str(),
    EventKind::StepCompleted.as_str(),
];

const COLUMNS: &str = "sequence, event_type, aggregate_type, aggregate_id, payload, metadata, \
                       created_at, version";

impl Store {
    /// Adds a client's event to the log.
    pub async fn append_event(&self, event: NewEvent) -> Result<Event, StoreError> {
        self.write("append an event", move |change| change.append(event))
            .await
    }

    /// One event.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let Some(sequence) = sequence_of(id) else {
            return Ok(None);
        };
        self.settle().await?;
        let found = self.read("read an event", |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE sequence = ?1"))?
                .query_row([sequence], event)
                .optional()
        })?;
        Ok(found.filter(|event| event.id == id))
    }

    /// Events, newest first.
    pub async fn events(
        &self,
        filter: &EventFilter,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let (sql, values) = list(filter, Order::NewestFirst, limit, offset);
        self.settle().await?;
        self.read("list events", |connection| select(connection, &sql, values))
    }

    /// Events after `sequence`, oldest first: what a follower that has seen `sequence` misses.
    pub async fn events_after(
        &self,
        sequence: i64,
        filter: &EventFilter,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let (sql, values) = list(filter, Order::After(sequence), limit, 0);
        self.settle().await?;
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
        let created_at = self.now();
        let sequence = self.insert(InsertEvent {
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
            id: event_id(created_at, sequence),
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
                "INSERT INTO events (event_type, aggregate_type, aggregate_id, payload, \
                 metadata, created_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .insert(params![
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
    /// After this sequence number, oldest first.
    After(i64),
}

/// The query for a list, and its values.
///
/// The database has no statistics, so the query says which index to use: the one about what is
/// most selective. A `+` keeps a condition from being looked up in an index.
fn list(filter: &EventFilter, order: Order, limit: i64, offset: i64) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut place = |value: Value| {
        values.push(value);
        format!("?{}", values.len())
    };
    let (after, direction) = match order {
        Order::NewestFirst => (String::new(), "DESC"),
        Order::After(sequence) => (format!(" AND sequence > {}", place(sequence.into())), "ASC"),
    };
    let mut common = String::new();
    if let Some(id) = filter.aggregate_id {
        common += &format!(
            " AND aggregate_id = {}",
            place(id.as_bytes().to_vec().into())
        );
    }
    if let Some(text) = &filter.aggregate_type {
        let selective = filter.aggregate_id.is_none() && filter.event_types.is_empty();
        let place = place(text.clone().into());
        common += &if selective && text != "session" {
            // Says literally what the index is restricted to, or it would not be used.
            format!(" AND aggregate_type = {place} AND aggregate_type <> 'session'")
        } else {
            format!(" AND +aggregate_type = {place}")
        };
    }
    let types: Vec<String> = filter
        .event_types
        .iter()
        .map(|text| place(text.clone().into()))
        .collect();
    let (limit, offset) = (place(limit.max(0).into()), place(offset.max(0).into()));

    let branch = |condition: &str| {
        format!("SELECT {COLUMNS} FROM events WHERE true{after}{common}{condition}")
    };
    let body = if types.is_empty() {
        branch("")
    } else if filter.aggregate_id.is_some() {
        branch(&format!(" AND +event_type IN ({})", types.join(", ")))
    } else {
        // One ordered walk for each type, merged: no sort, however long the log.
        let branches = filter.event_types.iter().zip(&types).map(|(text, place)| {
            branch(&if COMMON.contains(&text.as_str()) {
                format!(" AND +event_type = {place}")
            } else {
                // As literal as above.
                let [accepted, completed] = COMMON;
                format!(
                    " AND event_type = {place} AND event_type <> '{accepted}' \
                     AND event_type <> '{completed}'"
                )
            })
        });
        branches.collect::<Vec<_>>().join(" UNION ALL ")
    };
    let sql = format!("{body} ORDER BY sequence {direction} LIMIT {limit} OFFSET {offset}");
    (sql, values)
}

fn select(connection: &Connection, sql: &str, values: Vec<Value>) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare_cached(sql)?
        .query_map(params_from_iter(values), event)?
        .collect()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let (sequence, created_at) = (row.get(0)?, rows::time(row, 6)?);
    Ok(Event {
        id: event_id(created_at, sequence),
        sequence,
        event_type: row.get(1)?,
        aggregate_type: row.get(2)?,
        aggregate_id: row.get(3)?,
        payload: rows::object(row, 4)?,
        metadata: rows::object(row, 5)?,
        created_at,
        version: row.get(7)?,
    })
}

/// Bits of an event's id that are its sequence number: the last field of a UUIDv7.
const SEQUENCE_BITS: u32 = 62;

/// An event's id: a UUIDv7 (RFC 9562) whose random bits are the microsecond and the sequence
/// number. Unique as the sequence is, and found by it: the log needs no index of ids, which
/// would be one more page that every change writes.
fn event_id(created_at: Timestamp, sequence: i64) -> EventId {
    let micros = created_at.as_micros().max(0).cast_unsigned();
    let (millis, fraction) = (u128::from(micros / 1_000), u128::from(micros % 1_000));
    let sequence = u128::from(sequence.cast_unsigned()) & ((1 << SEQUENCE_BITS) - 1);
    let (version, variant) = (7 << 76, 2 << SEQUENCE_BITS);
    EventId(Uuid::from_u128(
        (millis << 80) | version | (fraction << 64) | variant | sequence,
    ))
}

/// The sequence number in an id, if it can be one of ours.
fn sequence_of(id: EventId) -> Option<i64> {
    let (_, low) = id.0.as_u64_pair();
    (id.0.get_version_num() == 7).then_some((low & ((1 << SEQUENCE_BITS) - 1)).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &EventFilter, expected: &str) {
        for order in [Order::NewestFirst, Order::After(7)] {
            let plan = crate::open::plan(&list(filter, order, 50, 0).0);
            assert!(plan.contains(expected), "{expected} in:\n{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }

    #[test]
    fn ids_are_uuids_made_of_time_and_sequence() {
        let at = Timestamp::from_micros(1_795_000_000_123_456);
        let id = event_id(at, 42);
        assert_eq!(id.to_string(), "01a1ee56-5e7b-71c8-8000-00000000002a");
        assert_eq!(sequence_of(id), Some(42));
        assert!(id < event_id(Timestamp::from_micros(at.as_micros() + 1), 43));
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(sequence_of(EventId(Uuid::nil())), None);
    }

    #[test]
    fn every_list_walks_an_index_in_order() {
        let all = EventFilter::default();
        let about = EventFilter {
            aggregate_id: Some(Uuid::nil()),
            ..all.clone()
        };
        let of = EventFilter {
            aggregate_type: Some("agent".to_owned()),
            ..all.clone()
        };
        let typed = |filter: &EventFilter, count: usize| EventFilter {
            event_types: vec!["made".to_owned(); count],
            ..filter.clone()
        };
        check(&all, "events");
        check(&about, "INDEX events_by_aggregate ");
        check(&typed(&about, 1), "INDEX events_by_aggregate ");
        check(&typed(&about, 3), "INDEX events_by_aggregate ");
        check(&of, "INDEX events_by_aggregate_type ");
        let sessions = EventFilter {
            aggregate_type: Some("session".to_owned()),
            ..all.clone()
        };
        check(&sessions, "events");
        check(&typed(&of, 1), "INDEX events_by_type ");
        check(&typed(&all, 1), "INDEX events_by_type ");
        check(&typed(&all, 3), "INDEX events_by_type ");
        let common = EventFilter {
            event_types: COMMON.map(str::to_owned).to_vec(),
            ..all.clone()
        };
        check(&common, "events");
        let both = EventFilter {
            aggregate_type: of.aggregate_type.clone(),
            ..about
        };
        check(&both, "INDEX events_by_aggregate ");
    }
}
