//! Terminals of the multi-terminal dialect: which client's id stands for which session. What happens in
//! them is told by the events of their sessions and workers; there are none of their own.

use abide_model::{AgentId, NewSession, Session, SessionId};
use rusqlite::{Row, params};

use crate::{Store, StoreError, sessions};

/// A terminal of the dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDialectTerminal {
    /// The session that it is recorded as.
    pub session_id: SessionId,
    /// Whose.
    pub agent_id: AgentId,
    /// Of which tenant; empty for none.
    pub tenant: String,
    /// The client's id for it; none if nobody will come back to it.
    pub client_id: Option<String>,
    /// What people call it.
    pub name: Option<String>,
}

impl Store {
    /// Creates the session of a terminal, and records which terminal that is. Event:
    /// `session.created`.
    ///
    /// Errors: those of [`Self::create_session`]; [`StoreError::Database`] if the owner has another
    /// terminal of this id.
    pub async fn create_dialect_terminal(
        &self,
        session: NewSession,
        terminal: StoredDialectTerminal,
    ) -> Result<Session, StoreError> {
        self.write("create a terminal of the dialect", move |change| {
            let session = sessions::create(change, session, None)?;
            change.execute(
                "INSERT INTO dialect_terminals (session_id, agent_id, tenant, client_id, name) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    session.id.0,
                    terminal.agent_id.0,
                    terminal.tenant,
                    terminal.client_id,
                    terminal.name,
                ],
            )?;
            Ok(session)
        })
        .await
    }

    /// Gives a terminal another name; none takes it away.
    pub async fn rename_dialect_terminal(
        &self,
        session: SessionId,
        name: Option<String>,
    ) -> Result<(), StoreError> {
        self.write("rename a terminal of the dialect", move |change| {
            change.execute(
                "UPDATE dialect_terminals SET name = ?2 WHERE session_id = ?1",
                params![session.0, name],
            )?;
            Ok(())
        })
        .await
    }

    /// Records that a terminal is to be ended: its id is free from here on, and whoever finds it at the
    /// next start ends it.
    pub async fn release_dialect_terminal(&self, session: SessionId) -> Result<(), StoreError> {
        self.write("release a terminal of the dialect", move |change| {
            change.execute(
                "UPDATE dialect_terminals SET client_id = NULL WHERE session_id = ?1",
                params![session.0],
            )?;
            Ok(())
        })
        .await
    }

    /// Every terminal of the dialect.
    pub async fn dialect_terminals(&self) -> Result<Vec<StoredDialectTerminal>, StoreError> {
        self.read("list terminals of the dialect", |connection| {
            connection
                .prepare_cached(
                    "SELECT session_id, agent_id, tenant, client_id, name FROM dialect_terminals",
                )?
                .query_map([], terminal)?
                .collect()
        })
    }
}

fn terminal(row: &Row<'_>) -> rusqlite::Result<StoredDialectTerminal> {
    Ok(StoredDialectTerminal {
        session_id: SessionId(row.get(0)?),
        agent_id: AgentId(row.get(1)?),
        tenant: row.get(2)?,
        client_id: row.get(3)?,
        name: row.get(4)?,
    })
}
