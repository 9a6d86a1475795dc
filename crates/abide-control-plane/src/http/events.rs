//! `/events`

use abide_model::{Event, EventId, NewEvent, Problem, ProblemCode};
use abide_store::EventFilter;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Fields, Whole, path_uuid};
use super::error::Answer;
use super::sse;

/// Events that one step of a stream sends at most.
const BATCH: i64 = 256;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(append, list))
        .routes(routes!(show))
}

/// What `POST /events` takes.
#[derive(utoipa::ToSchema)]
#[expect(
    dead_code,
    reason = "documents the fields that `append` reads one by one"
)]
struct EventBody {
    /// At most 255 characters.
    event_type: String,
    /// At most 100 characters.
    aggregate_type: String,
    /// What the event is about.
    aggregate_id: uuid::Uuid,
    /// `{}` by default.
    #[schema(value_type = Option<Object>)]
    payload: Option<()>,
    /// `{}` by default.
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
    /// 1 by default.
    version: Option<i64>,
}

/// Append an event of your own
#[utoipa::path(
    post, path = "/events", tag = "events",
    request_body(content = EventBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Stored", body = Event),
        (status = 422, description = "`invalid_input`, `invalid_json`", body = Problem),
    )
)]
async fn append(State(app): State<App>, Whole(body): Whole) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let event = NewEvent {
        event_type: fields
            .required("event_type", |f| f.string(&["event_type"], 255))
            .unwrap_or_default(),
        aggregate_type: fields
            .required("aggregate_type", |f| f.string(&["aggregate_type"], 100))
            .unwrap_or_default(),
        aggregate_id: fields
            .required("aggregate_id", |f| f.uuid(&["aggregate_id"]))
            .unwrap_or_default(),
        payload: fields.object_or_null("payload").unwrap_or_default(),
        metadata: fields.object_or_null("metadata").unwrap_or_default(),
        version: fields
            .integer(&["version"], i64::MIN, i64::MAX)
            .unwrap_or(1),
    };
    fields.done()?;
    Ok((
        StatusCode::CREATED,
        Json(app.store.append_event(event).await?),
    )
        .into_response())
}

/// List events, or follow them
///
/// Newest first; with `after_seq` oldest first from there on. With `Accept: text/event-stream`
/// the answer goes on with every new event: from `after_seq` or the `Last-Event-ID` header, or
/// only what comes from now on.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(
        ("after_seq" = Option<i64>, Query, description = "Only events after this sequence number, oldest first"),
        ("event_type" = Option<String>, Query, description = "Only these types, comma-separated"),
        ("aggregate_type" = Option<String>, Query, description = "Only events about things of this type"),
        ("aggregate_id" = Option<String>, Query, description = "Only events about this"),
        ("limit" = Option<i64>, Query, description = "At most this many; 100 by default, 10000 at most"),
        ("offset" = Option<i64>, Query, description = "Newest first only: leave out so many first"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Stream only: the last sequence number seen"),
    ),
    responses(
        (status = 200, description = "Events", body = Vec<Event>),
        (status = 422, description = "`invalid_input`", body = Problem),
    )
)]
async fn list(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let mut fields = Fields::of_query(query.as_deref());
    let filter = EventFilter {
        aggregate_id: fields.uuid(&["aggregate_id"]),
        aggregate_type: fields.string(&["aggregate_type"], 100),
        event_types: fields
            .string(&["event_type"], 4096)
            .map(|types| types.split(',').map(|t| t.trim().to_owned()).collect())
            .unwrap_or_default(),
    };
    let after = fields.integer(&["after_seq"], 0, i64::MAX);
    let limit = fields
        .integer(&["limit"], 0, i64::MAX)
        .unwrap_or(100)
        .min(10_000);
    let offset = fields.integer(&["offset"], 0, i64::MAX).unwrap_or(0);
    fields.done()?;
    if sse::wanted(&headers) {
        let last = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let from = last
            .or(after)
            .unwrap_or_else(|| *app.store.watch_events().borrow());
        let stopping = app.tasks.stopping();
        return Ok(sse::response(follow(app, filter, from), stopping));
    }
    let events = match after {
        Some(after) => app.store.events_after(after, &filter, limit).await?,
        None => app.store.events(&filter, limit, offset).await?,
    };
    Ok(Json(events).into_response())
}

/// Every event after `from` that the filter lets through, as it is committed.
fn follow(app: App, filter: EventFilter, from: i64) -> impl Stream<Item = Bytes> + Send {
    let news = app.store.watch_events();
    futures_util::stream::unfold(
        (app, filter, from, news),
        |(app, filter, mut from, mut news)| async move {
            loop {
                // Marked as seen before the look, so that a commit in between wakes us again.
                let head = *news.borrow_and_update();
                let events = app.store.events_after(from, &filter, BATCH).await.ok()?;
                let Some(last) = events.last() else {
                    from = from.max(head);
                    news.changed().await.ok()?;
                    continue;
                };
                from = last.sequence;
                let mut bytes = Vec::new();
                for event in &events {
                    let id = Some(event.sequence.to_string());
                    bytes.extend_from_slice(&sse::event(&event.event_type, id, event));
                }
                return Some((bytes.into(), (app, filter, from, news)));
            }
        },
    )
}

/// Show an event
#[utoipa::path(
    get, path = "/events/{event_id}", tag = "events",
    params(("event_id" = String, Path, description = "The event's id")),
    responses(
        (status = 200, description = "The event", body = Event),
        (status = 404, description = "`event_not_found`", body = Problem),
    )
)]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Answer<Response> {
    let event = app
        .store
        .event(EventId(path_uuid("event_id", &id)?))
        .await?;
    let missing = || Problem::new(ProblemCode::EventNotFound, "Event not found");
    Ok(Json(event.ok_or_else(missing)?).into_response())
}
