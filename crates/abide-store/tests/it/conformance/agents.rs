//! Agents.

use abide_model::{AgentChanges, AgentId, AgentStatus, NewAgent};
use abide_store::{Store, StoreError};
use serde_json::json;

use crate::fixtures::{self, check_event, last_event, log, new_agent, new_session};

pub(crate) async fn create_answers_the_record(store: &Store) {
    let new = NewAgent {
        configuration: fixtures::json(json!({"a": 1})),
        ..new_agent("ada")
    };
    let agent = store.create_agent(new.clone()).await.unwrap();
    assert_eq!(agent.id, new.id);
    assert_eq!(agent.did, new.did);
    assert_eq!(agent.status, AgentStatus::Created);
    assert_eq!(agent.configuration, new.configuration);
    assert_eq!(agent.created_at, agent.updated_at);
    assert_eq!(store.agent(new.id).await.unwrap(), Some(agent.clone()));
    assert_eq!(store.agent(AgentId::new()).await.unwrap(), None);
    let payload = json!({"name": "ada", "agent_type": "general", "did": new.did});
    let event = last_event(store).await;
    check_event(&event, "agent.created", ("agent", new.id.0), payload);
    assert_eq!(event.created_at, agent.created_at);
}

pub(crate) async fn conflicts_are_named(store: &Store) {
    let agent = store.create_agent(new_agent("ada")).await.unwrap();
    let same_id = NewAgent {
        id: agent.id,
        ..new_agent("bob")
    };
    let error = store.create_agent(same_id).await.unwrap_err();
    assert!(
        matches!(error, StoreError::IdTaken(id) if id == agent.id.0),
        "{error}"
    );
    let same_did = NewAgent {
        did: agent.did.clone(),
        ..new_agent("bob")
    };
    let error = store.create_agent(same_did).await.unwrap_err();
    assert!(matches!(error, StoreError::DidTaken(did) if did == agent.did));
    assert_eq!(log(store).await.len(), 1);
}

pub(crate) async fn list_is_newest_first_by_status_with_offset(store: &Store) {
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.insert(0, store.create_agent(new_agent(name)).await.unwrap().id);
    }
    let busy = AgentChanges {
        status: Some(AgentStatus::Busy),
        ..AgentChanges::default()
    };
    store.update_agent(ids[2], busy).await.unwrap();
    let list = async |status, limit, offset| {
        let agents = store.agents(status, limit, offset).await.unwrap();
        agents.into_iter().map(|agent| agent.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10, 0).await, ids);
    assert_eq!(list(None, 2, 1).await, ids[1..3]);
    assert_eq!(list(None, 0, 0).await, []);
    assert_eq!(list(None, -1, -1).await, []);
    assert_eq!(list(Some(AgentStatus::Busy), 10, 0).await, [ids[2]]);
    assert_eq!(
        list(Some(AgentStatus::Created), 10, 1).await,
        [ids[1], ids[3]]
    );
    assert_eq!(list(Some(AgentStatus::Error), 10, 0).await, []);
}

pub(crate) async fn update_replaces_what_is_given(store: &Store) {
    let before = store.create_agent(new_agent("ada")).await.unwrap();
    let changes = AgentChanges {
        name: Some("eve".to_owned()),
        agent_type: Some("coder".to_owned()),
        metadata: Some(fixtures::json(json!({"team": "x"}))),
        ..AgentChanges::default()
    };
    let after = store
        .update_agent(before.id, changes.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (after.name.as_str(), after.agent_type.as_str()),
        ("eve", "coder")
    );
    assert_eq!(Some(&after.metadata), changes.metadata.as_ref());
    assert_eq!(
        (after.status, &after.configuration),
        (before.status, &before.configuration)
    );
    assert_eq!(after.created_at, before.created_at);
    assert!(after.updated_at > before.updated_at);
    assert_eq!(store.agent(before.id).await.unwrap(), Some(after));
    let updates = json!({"name": "eve", "agent_type": "coder", "metadata": {"team": "x"}});
    let about = ("agent", before.id.0);
    let event = last_event(store).await;
    check_event(&event, "agent.updated", about, json!({"updates": updates}));
    assert_eq!(
        store.update_agent(AgentId::new(), changes).await.unwrap(),
        None
    );
}

pub(crate) async fn empty_update_changes_nothing(store: &Store) {
    let agent = store.create_agent(new_agent("ada")).await.unwrap();
    let answer = store
        .update_agent(agent.id, AgentChanges::default())
        .await
        .unwrap();
    assert_eq!(answer, Some(agent));
    let unknown = store
        .update_agent(AgentId::new(), AgentChanges::default())
        .await
        .unwrap();
    assert_eq!(unknown, None);
    assert_eq!(log(store).await.len(), 1);
}

pub(crate) async fn delete_spares_owners_of_sessions(store: &Store) {
    let agent = store.create_agent(new_agent("ada")).await.unwrap();
    let session = store.create_session(new_session(agent.id)).await.unwrap();
    let error = store.delete_agent(agent.id).await.unwrap_err();
    assert!(
        matches!(error, StoreError::AgentInUse(id) if id == agent.id),
        "{error}"
    );
    store.delete_session(session.id).await.unwrap();
    assert!(store.delete_agent(agent.id).await.unwrap());
    assert_eq!(store.agent(agent.id).await.unwrap(), None);
    check_event(
        &last_event(store).await,
        "agent.deleted",
        ("agent", agent.id.0),
        json!({}),
    );
    let events = log(store).await.len();
    assert!(!store.delete_agent(agent.id).await.unwrap());
    assert_eq!(log(store).await.len(), events);
}

pub(crate) async fn ensure_finds_the_oldest_or_creates(store: &Store) {
    let first = store.ensure_agent(new_agent("default")).await.unwrap();
    assert_eq!(
        store.ensure_agent(new_agent("default")).await.unwrap(),
        first
    );
    assert_eq!(log(store).await.len(), 1);
    store.create_agent(new_agent("default")).await.unwrap();
    assert_eq!(
        store.ensure_agent(new_agent("default")).await.unwrap(),
        first
    );
    assert_eq!(store.agent_by_name("default").await.unwrap(), Some(first));
    assert_eq!(store.agent_by_name("Default").await.unwrap(), None);

    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        racers.spawn(async move { store.ensure_agent(new_agent("raced")).await.unwrap().id });
    }
    let mut ids = racers.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
