//! When sessions end by themselves.

use abide_model::{AgentId, EventKind, SessionId, SessionStatus, Timestamp};
use rusqlite::params;
use serde::Serialize;

use super::{COLUMNS, find};
use crate::events::Aggregate;
use crate::{Store, StoreError, rows};

impl Store {
    /// When the next session's time will be up; `None` when none will.
    pub async fn next_session_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("find the next expiry", |connection| {
            connection
                .prepare_cached(
                    "SELECT min(expires_at) FROM sessions \
                     WHERE expires_at IS NOT NULL AND expired_at IS NULL",
                )?
                .query_row([], |row| rows::optional_time(row, 0))
        })
    }

    /// Up to `limit` sessions whose time was up at `now` and that are not expired yet, the longest
    /// overdue first.
    pub async fn overdue_sessions(
        &self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<abide_model::Session>, StoreError> {
        self.read("list overdue sessions", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM sessions \
                     WHERE expires_at IS NOT NULL AND expired_at IS NULL AND expires_at <= ?1 \
                     ORDER BY expires_at LIMIT ?2"
                ))?
                .query_map(params![now.as_micros(), limit], super::session)?
                .collect()
        })
    }

    /// Moves the end of a sliding session's time to its `ttl_seconds` from `now`; the record is
    /// otherwise unchanged. `false`: it does not slide, or is expired, or gone.
    pub async fn renew_session(&self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.write("renew a session", move |change| {
            change.touch(id);
            let renewed = change.execute(
                "UPDATE sessions SET expires_at = max(expires_at, ?2 + ttl_seconds * 1000000) \
                 WHERE id = ?1 AND sliding = 1 AND expired_at IS NULL AND expires_at > ?2",
                params![id.0, now.as_micros()],
            )?;
            Ok(renewed == 1)
        })
        .await
    }

    /// The same for one whose time is up already, because it is at work.
    pub async fn extend_session(&self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.write("extend a session", move |change| {
            change.touch(id);
            let extended = change.execute(
                "UPDATE sessions SET expires_at = ?2 + ttl_seconds * 1000000 \
                 WHERE id = ?1 AND sliding = 1 AND expired_at IS NULL",
                params![id.0, now.as_micros()],
            )?;
            Ok(extended == 1)
        })
        .await
    }

    /// Notes that a session's time was up at `now` and that it is ended for that; one that is active
    /// is completed from here on. `false`: it was renewed meanwhile, or is expired already, or gone.
    /// Event: `session.expired`.
    pub async fn expire_session(&self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.write("expire a session", move |change| {
            let expired = change.execute(
                "UPDATE sessions SET expired_at = ?2, updated_at = ?2, version = version + 1, \
                 status = CASE status WHEN ?3 THEN ?4 ELSE status END \
                 WHERE id = ?1 AND expired_at IS NULL AND expires_at <= ?2",
                params![
                    id.0,
                    now.as_micros(),
                    SessionStatus::Active.as_str(),
                    SessionStatus::Completed.as_str(),
                ],
            )?;
            if expired == 0 {
                return Ok(false);
            }
            change.touch(id);
            #[derive(Serialize)]
            struct Payload {
                agent_id: AgentId,
                status: SessionStatus,
            }
            if let Some(session) = find(change.connection(), id)? {
                let payload = Payload {
                    agent_id: session.agent_id,
                    status: session.status,
                };
                let about = Aggregate::Session(id);
                change.record(EventKind::SessionExpired, about, now, &payload, None)?;
            }
            Ok(true)
        })
        .await
    }
}
