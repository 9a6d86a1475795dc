//! `/events`

use abide_model::{Event, EventId};
use reqwest::{Method, RequestBuilder};
use uuid::Uuid;

use crate::{Client, Error, EventStream};

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only events after this sequence number, oldest first; newest first without it.
    pub after: Option<i64>,
    /// At most this many (the server's default is 100). Not for following.
    pub limit: Option<u32>,
    /// Only these types; empty means all.
    pub types: Vec<String>,
    /// Only events about this thing.
    pub aggregate_id: Option<Uuid>,
}

impl EventQuery {
    fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        let mut pairs = Vec::new();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|v| (name, v)));
        add("after_seq", self.after.map(|n| n.to_string()));
        add("limit", self.limit.map(|n| n.to_string()));
        add(
            "event_type",
            Some(self.types.join(",")).filter(|t| !t.is_empty()),
        );
        add("aggregate_id", self.aggregate_id.map(|id| id.to_string()));
        request.query(&pairs)
    }
}

impl Client {
    /// Reads one page of the event log.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        self.json(
            "events",
            query.apply(self.request(Method::GET, &["events"])),
        )
        .await
    }

    /// One event.
    pub async fn event(&self, id: EventId) -> Result<Event, Error> {
        self.json(
            "event",
            self.request(Method::GET, &["events", &id.to_string()]),
        )
        .await
    }

    /// Follows the event log from `query.after` on, or only what is new without it.
    pub async fn follow_events(&self, query: &EventQuery) -> Result<EventStream, Error> {
        let mut request =
            Self::as_event_stream(query.apply(self.request(Method::GET, &["events"])));
        if let Some(after) = query.after {
            request = request.header("last-event-id", after);
        }
        let response = self.send(request).await?;
        Ok(EventStream::new(self.clone(), response, query.after))
    }
}
