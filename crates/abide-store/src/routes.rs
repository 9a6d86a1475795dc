//! Routes: the ways from sessions to their runtimes. The data plane's rows.
//!
//! Changes of routes write no events: what clients may hear of is the session's, and told there.
//! Several programs may share one database; every change is conditional and a transaction of its
//! own kind, so exactly one of two that race wins, and the other is told.

use abide_model::{AuthMode, Route, RouteStatus, Runtime, Timestamp, WorkerId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Failure;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

/// A route as it rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoute {
    /// The route. Its `token` is neither stored nor given back: it is empty in every answer.
    pub route: Route,
    /// The token, sealed by the caller. The store does not look into it.
    pub sealed_token: Vec<u8>,
}

/// The answer to [`Store::insert_route`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It was inserted now; with the generation it was given.
    New(StoredRoute),
    /// The session has a route, which may have ended; as it is now. Nothing was changed.
    Existing(StoredRoute),
}

const COLUMNS: &str = "session_id, runtime_id, runtime, endpoint, sealed_token, auth_mode, \
                       boot_id, worker_id, status, workspace, scratch, created_at, \
                       last_seen_at, expires_at, sliding_seconds, generation";

/// The condition of the index by expiry; what has ended has no expiry to wait for.
const WILL_EXPIRE: &str =
    "expires_at IS NOT NULL AND status <> 'expired' AND status <> 'terminated'";

/// The condition of the index of what has ended.
const ENDED: &str = "(status = 'expired' OR status = 'terminated')";

impl Store {
    /// A session's route, whatever its status.
    pub async fn route(&self, session: &str) -> Result<Option<StoredRoute>, StoreError> {
        self.read("read a route", |connection| find(connection, session))
    }

    /// Inserts a route unless the session has one. The generation is set here: above that of every
    /// route the session ever had.
    pub async fn insert_route(&self, new: StoredRoute) -> Result<Inserted, StoreError> {
        self.write("insert a route", move |change| insert(change, new))
            .await
    }

    /// Replaces a route if it still has the generation that `changed` carries, and gives it the
    /// next one; `session_id` and `created_at` stay. `None`: it has moved on or is gone, and
    /// nothing was changed.
    pub async fn update_route(
        &self,
        changed: StoredRoute,
    ) -> Result<Option<StoredRoute>, StoreError> {
        self.write("update a route", move |change| {
            Ok(update(change, &changed)?)
        })
        .await
    }

    /// Removes a route if it still has this generation; whether it did.
    pub async fn remove_route(&self, session: String, generation: i64) -> Result<bool, StoreError> {
        self.write("remove a route", move |change| {
            let removed = change.execute(
                "DELETE FROM routes WHERE session_id = ?1 AND generation = ?2",
                params![session, generation],
            )?;
            if removed > 0 {
                note_removed(change, generation)?;
            }
            Ok(removed > 0)
        })
        .await
    }

    /// Up to `limit` routes in the order of their session ids, from the first one after `after`.
    pub async fn routes(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<StoredRoute>, StoreError> {
        self.read("list routes", |connection| {
            // No session id is empty, so the empty text comes before all.
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM routes WHERE session_id > ?1 \
                     ORDER BY session_id LIMIT ?2"
                ))?
                .query_map(params![after.unwrap_or_default(), bound(limit)], stored)?
                .collect()
        })
    }

    /// Up to `limit` routes whose time was up at `now`, the longest overdue first. Those that are
    /// `expired` or `terminated` already are not among them.
    pub async fn expired_routes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredRoute>, StoreError> {
        self.read("list expired routes", |connection| {
            connection
                .prepare_cached(&expired_sql())?
                .query_map(params![now.as_micros(), bound(limit)], stored)?
                .collect()
        })
    }

    /// When the next route's time will be up; `None` when none will.
    pub async fn next_route_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("find the next expiry", |connection| {
            connection
                .prepare_cached(&next_expiry_sql())?
                .query_row([], |row| rows::optional_time(row, 0))
        })
    }

    /// Removes up to `limit` routes that are `expired` or `terminated` and were last seen before
    /// `seen_before`; how many. Their sessions are then as if never known.
    pub async fn forget_ended_routes(
        &self,
        seen_before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write("forget ended routes", move |change| {
            let generations = change
                .statement(&forget_sql())?
                .query_map(params![seen_before.as_micros(), bound(limit)], |row| {
                    row.get::<_, i64>(0)
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if let Some(highest) = generations.iter().max() {
                note_removed(change, *highest)?;
            }
            Ok(generations.len())
        })
        .await
    }
}

fn insert(change: &Change<'_>, new: StoredRoute) -> Result<Inserted, Failure> {
    if let Some(existing) = find(change.connection(), &new.route.session_id)? {
        return Ok(Inserted::Existing(existing));
    }
    let generation: i64 = change
        .statement("SELECT removed + 1 FROM route_generations")?
        .query_row([], |row| row.get(0))?;
    let route = &new.route;
    change.execute(
        &format!(
            "INSERT INTO routes ({COLUMNS}) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        ),
        params![
            route.session_id,
            route.runtime_id,
            route.runtime.as_str(),
            route.endpoint,
            new.sealed_token,
            route.auth_mode.as_str(),
            route.boot_id,
            route.worker_id.map(|id| id.0),
            route.status.as_str(),
            route.workspace,
            route.scratch,
            route.created_at.as_micros(),
            route.last_seen_at.as_micros(),
            route.expires_at.map(Timestamp::as_micros),
            route.sliding_seconds,
            generation,
        ],
    )?;
    let mut inserted = new;
    inserted.route.generation = generation;
    inserted.route.token.clear();
    Ok(Inserted::New(inserted))
}

fn update(change: &Change<'_>, changed: &StoredRoute) -> rusqlite::Result<Option<StoredRoute>> {
    let route = &changed.route;
    change
        .statement(&format!(
            "UPDATE routes SET runtime_id = ?3, runtime = ?4, endpoint = ?5, sealed_token = ?6, \
             auth_mode = ?7, boot_id = ?8, worker_id = ?9, status = ?10, workspace = ?11, \
             scratch = ?12, last_seen_at = ?13, expires_at = ?14, sliding_seconds = ?15, \
             generation = generation + 1 \
             WHERE session_id = ?1 AND generation = ?2 RETURNING {COLUMNS}"
        ))?
        .query_row(
            params![
                route.session_id,
                route.generation,
                route.runtime_id,
                route.runtime.as_str(),
                route.endpoint,
                changed.sealed_token,
                route.auth_mode.as_str(),
                route.boot_id,
                route.worker_id.map(|id| id.0),
                route.status.as_str(),
                route.workspace,
                route.scratch,
                route.last_seen_at.as_micros(),
                route.expires_at.map(Timestamp::as_micros),
                route.sliding_seconds,
            ],
            stored,
        )
        .optional()
}

/// Lets the next generation begin above this one.
fn note_removed(change: &Change<'_>, generation: i64) -> rusqlite::Result<()> {
    change.execute(
        "UPDATE route_generations SET removed = ?1 WHERE removed < ?1",
        [generation],
    )?;
    Ok(())
}

fn find(connection: &Connection, session: &str) -> rusqlite::Result<Option<StoredRoute>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM routes WHERE session_id = ?1"
        ))?
        .query_row([session], stored)
        .optional()
}

fn expired_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM routes WHERE {WILL_EXPIRE} AND expires_at <= ?1 \
         ORDER BY expires_at LIMIT ?2"
    )
}

fn next_expiry_sql() -> String {
    format!("SELECT min(expires_at) FROM routes WHERE {WILL_EXPIRE}")
}

fn forget_sql() -> String {
    format!(
        "DELETE FROM routes WHERE session_id IN (SELECT session_id FROM routes \
         WHERE {ENDED} AND last_seen_at < ?1 ORDER BY last_seen_at LIMIT ?2) \
         RETURNING generation"
    )
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRoute> {
    Ok(StoredRoute {
        route: Route {
            session_id: row.get(0)?,
            runtime_id: row.get(1)?,
            runtime: rows::member(row, 2, Runtime::parse)?,
            endpoint: row.get(3)?,
            token: String::new(),
            auth_mode: rows::member(row, 5, AuthMode::parse)?,
            boot_id: row.get(6)?,
            worker_id: row.get::<_, Option<_>>(7)?.map(WorkerId),
            status: rows::member(row, 8, RouteStatus::parse)?,
            workspace: row.get(9)?,
            scratch: row.get(10)?,
            created_at: rows::time(row, 11)?,
            last_seen_at: rows::time(row, 12)?,
            expires_at: rows::optional_time(row, 13)?,
            sliding_seconds: row.get(14)?,
            generation: row.get(15)?,
        },
        sealed_token: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::plan;

    #[test]
    fn what_the_reaper_asks_walks_an_index() {
        for (sql, index) in [
            (expired_sql(), "routes_by_expiry"),
            (next_expiry_sql(), "routes_by_expiry"),
            (forget_sql(), "routes_ended"),
        ] {
            let plan = plan(&sql);
            assert!(plan.contains(index), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
