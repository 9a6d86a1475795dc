//! Terminals of the multi-terminal dialect.

use abide_model::{AgentId, SessionId};
use abide_store::{Store, StoreError, StoredDialectTerminal};

use crate::fixtures::{new_session, session};

fn terminal(agent_id: AgentId, tenant: &str, client_id: &str) -> StoredDialectTerminal {
    StoredDialectTerminal {
        session_id: SessionId::new(),
        agent_id,
        tenant: tenant.to_owned(),
        client_id: Some(client_id.to_owned()),
        name: Some("build".to_owned()),
    }
}

async fn create(store: &Store, terminal: &StoredDialectTerminal) -> Result<(), StoreError> {
    let mut new = new_session(terminal.agent_id);
    new.id = terminal.session_id;
    let created = store.create_dialect_terminal(new, terminal.clone()).await;
    created.map(|created| assert_eq!(created.id, terminal.session_id))
}

pub(crate) async fn an_id_is_its_owners(store: &Store) {
    let agent = session(store).await.agent_id;
    let first = terminal(agent, "", "t");
    create(store, &first).await.unwrap();
    // The same id of the same owner leaves nothing behind; that of another tenant is another.
    let second = terminal(agent, "", "t");
    assert!(create(store, &second).await.is_err());
    assert_eq!(store.session(second.session_id).await.unwrap(), None);
    let elsewhere = terminal(agent, "elsewhere", "t");
    create(store, &elsewhere).await.unwrap();
    let mut all = store.dialect_terminals().await.unwrap();
    all.sort_by_key(|it| it.tenant.clone());
    assert_eq!(all, [first, elsewhere]);
}

pub(crate) async fn a_released_id_can_be_had_again(store: &Store) {
    let agent = session(store).await.agent_id;
    let mut first = terminal(agent, "", "t");
    create(store, &first).await.unwrap();
    let renamed = store.rename_dialect_terminal(first.session_id, None);
    renamed.await.unwrap();
    let released = store.release_dialect_terminal(first.session_id);
    released.await.unwrap();
    (first.client_id, first.name) = (None, None);
    assert_eq!(store.dialect_terminals().await.unwrap(), [first.clone()]);
    let second = terminal(agent, "", "t");
    create(store, &second).await.unwrap();
    // They go with their sessions.
    store.delete_session(first.session_id).await.unwrap();
    assert_eq!(store.dialect_terminals().await.unwrap(), [second]);
}
