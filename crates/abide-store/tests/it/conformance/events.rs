//! The event log.

use abide_model::{AgentId, EventId, JsonObject, NewEvent, new_uuid};
use abide_store::{EventFilter, Store};
use uuid::Uuid;

use crate::fixtures::{log, new_session, session};

fn new_event(event_type: &str, aggregate_type: &str, aggregate_id: Uuid) -> NewEvent {
    NewEvent {
        event_type: event_type.to_owned(),
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id,
        payload: JsonObject::empty(),
        metadata: JsonObject::empty(),
        version: 1,
    }
}

pub(crate) async fn client_events_come_back_to_the_letter(store: &Store) {
    let text = r#"{"b": 1.10, "a": 123456789012345678901234567890}"#;
    let new = NewEvent {
        payload: JsonObject::from_text(text.to_owned()).unwrap(),
        version: 7,
        ..new_event("thing.happened", "thing", new_uuid())
    };
    let event = store.append_event(new.clone()).await.unwrap();
    assert_eq!(event.payload.as_str(), text);
    assert_eq!((event.sequence, event.version), (1, 7));
    assert_eq!(event.aggregate_id, new.aggregate_id);
    assert_eq!(store.event(event.id).await.unwrap(), Some(event.clone()));
    assert_eq!(store.event(EventId::new()).await.unwrap(), None);
    assert_eq!(log(store).await, [event]);
}

pub(crate) async fn lists_filter_and_page(store: &Store) {
    let things = [new_uuid(), new_uuid()];
    for n in 0..24_usize {
        let event_type = ["made", "moved", "gone"][n % 3];
        let aggregate_type = ["thing", "place"][n / 6 % 2];
        store
            .append_event(new_event(event_type, aggregate_type, things[n % 2]))
            .await
            .unwrap();
    }
    let log = log(store).await;
    assert_eq!(log.len(), 24);
    let mut shown = 0;
    for aggregate_id in [None, Some(things[1]), Some(new_uuid())] {
        for aggregate_type in [None, Some("place"), Some("else")] {
            for event_types in [
                &[][..],
                &["made"],
                &["gone", "made"],
                &["made", "x", "moved"],
            ] {
                let filter = EventFilter {
                    aggregate_id,
                    aggregate_type: aggregate_type.map(str::to_owned),
                    event_types: event_types.iter().map(ToString::to_string).collect(),
                };
                let matching: Vec<_> = log
                    .iter()
                    .filter(|e| aggregate_id.is_none_or(|id| e.aggregate_id == id))
                    .filter(|e| aggregate_type.is_none_or(|text| e.aggregate_type == text))
                    .filter(|e| {
                        event_types.is_empty() || event_types.contains(&e.event_type.as_str())
                    })
                    .cloned()
                    .collect();
                for (limit, offset) in [(100, 0), (3, 2), (0, 0)] {
                    let newest: Vec<_> = matching
                        .iter()
                        .rev()
                        .skip(offset)
                        .take(limit)
                        .cloned()
                        .collect();
                    shown += newest.len();
                    let (limit, offset) = (limit as i64, offset as i64);
                    let events = store.events(&filter, limit, offset).await.unwrap();
                    assert_eq!(events, newest, "{filter:?}");
                }
                for (after, limit) in [(0, 100), (9, 4), (24, 5)] {
                    let next: Vec<_> = matching
                        .iter()
                        .filter(|e| e.sequence > after)
                        .take(limit)
                        .cloned()
                        .collect();
                    shown += next.len();
                    let events = store
                        .events_after(after, &filter, limit as i64)
                        .await
                        .unwrap();
                    assert_eq!(events, next, "{filter:?}");
                }
            }
        }
    }
    assert!(
        shown > 100,
        "the filters should let something through: {shown}"
    );
}

pub(crate) async fn followers_miss_nothing(store: &Store) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..EACH {
                store
                    .append_event(new_event("tick", "thing", new_uuid()))
                    .await
                    .unwrap();
            }
        });
    }
    let mut last = store.watch_events();
    let mut seen = Vec::new();
    while seen.len() < WRITERS * EACH {
        let from = seen.last().copied().unwrap_or(0);
        let to = *last.wait_for(|sequence| *sequence > from).await.unwrap();
        let events = store
            .events_after(from, &EventFilter::default(), 1_000)
            .await
            .unwrap();
        seen.extend(events.iter().map(|event| event.sequence));
        assert!(
            seen.last() >= Some(&to),
            "what was announced is there to read"
        );
    }
    writers.join_all().await;
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert_eq!(log(store).await.len(), seen.len());
}

pub(crate) async fn watch_shows_the_last_commit(store: &Store) {
    let watch = store.watch_events();
    assert_eq!(*watch.borrow(), 0);
    for expected in 1..=3 {
        let event = store
            .append_event(new_event("tick", "thing", new_uuid()))
            .await
            .unwrap();
        assert_eq!((event.sequence, *watch.borrow()), (expected, expected));
    }
    let session = session(store).await;
    let written = log(store).await.last().unwrap().sequence;
    assert_eq!(*watch.borrow(), written);
    store.session(session.id).await.unwrap();
    assert_eq!(*watch.borrow(), written);
}

pub(crate) async fn refused_changes_leave_no_event(store: &Store) {
    let session = session(store).await;
    let before = log(store).await;
    let watch = store.watch_events();
    store
        .create_session(new_session(AgentId::new()))
        .await
        .unwrap_err();
    store.delete_agent(session.agent_id).await.unwrap_err();
    assert_eq!(log(store).await, before);
    assert_eq!(*watch.borrow(), before.last().unwrap().sequence);
}
