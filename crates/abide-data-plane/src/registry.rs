//! The routes: in the store, which several data planes may share, and in memory, where they may be
//! out of date.
//!
//! A copy in memory serves to take a way, never to refuse one: who is about to refuse looks into the
//! store first. Every change names the generation it was made from, so that a change made from an
//! old copy does nothing.

use std::collections::HashMap;
use std::sync::Arc;

use abide_model::{Route, RouteStatus, Timestamp};
use abide_store::{Inserted, Store, StoredRoute};
use parking_lot::RwLock;
use tracing::warn;

use crate::error::DataPlaneError;
use crate::seal::Sealer;

/// How often a change is made anew because the route moved meanwhile. Each round somebody else's
/// change came through, so this is never reached by the few that touch one route.
const ROUNDS: u32 = 32;
/// Routes read at once when all are gone through.
const PAGE: usize = 500;

/// What [`Registry::insert`] found.
#[derive(Debug, Clone)]
pub enum Entered {
    /// Nothing; the route is in.
    New(Arc<Route>),
    /// A route, which stays as it is.
    Existing(Arc<Route>),
}

/// A route, and whether it can be out of date.
#[derive(Debug, Clone)]
pub struct Found {
    /// The route; `None`: there is none.
    pub route: Option<Arc<Route>>,
    /// From the store rather than from memory.
    pub fresh: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    sealer: Sealer,
    known: RwLock<HashMap<String, Arc<Route>>>,
}

impl Registry {
    /// Over a store; tokens rest there as the sealer leaves them.
    pub fn new(store: Store, sealer: Sealer) -> Self {
        Self {
            store,
            sealer,
            known: RwLock::default(),
        }
    }

    /// A session's route from memory, else from the store.
    pub async fn find(&self, session: &str) -> Result<Found, DataPlaneError> {
        let known = self.known.read().get(session).cloned();
        match known {
            Some(route) => Ok(Found {
                route: Some(route),
                fresh: false,
            }),
            None => Ok(Found {
                route: self.load(session).await?,
                fresh: true,
            }),
        }
    }

    /// A session's route from the store.
    pub async fn load(&self, session: &str) -> Result<Option<Arc<Route>>, DataPlaneError> {
        let Some(stored) = self.store.route(session).await? else {
            self.known.write().remove(session);
            return Ok(None);
        };
        Ok(Some(self.note(self.open(stored)?)))
    }

    /// Enters a route unless the session has one, whatever its status.
    pub async fn insert(&self, route: Route) -> Result<Entered, DataPlaneError> {
        let token = route.token.clone();
        let sealed = self.seal(route)?;
        Ok(match self.store.insert_route(sealed).await? {
            Inserted::New(StoredRoute { mut route, .. }) => {
                route.token = token;
                Entered::New(self.note(route))
            }
            Inserted::Existing(stored) => Entered::Existing(self.note(self.open(stored)?)),
        })
    }

    /// Replaces a route if it has not moved since `changed` was copied from it; `None` if it has.
    pub async fn replace(&self, changed: Route) -> Result<Option<Arc<Route>>, DataPlaneError> {
        let token = changed.token.clone();
        let sealed = self.seal(changed)?;
        let Some(StoredRoute { mut route, .. }) = self.store.update_route(sealed).await? else {
            return Ok(None);
        };
        route.token = token;
        Ok(Some(self.note(route)))
    }

    /// Changes a route as it is now, again if it moves meanwhile. `change` answers whether there is
    /// something to change; the route as it then is comes back, or `None` if there is none.
    pub async fn change(
        &self,
        session: &str,
        mut change: impl FnMut(&mut Route) -> bool + Send,
    ) -> Result<Option<Arc<Route>>, DataPlaneError> {
        let mut found = self.find(session).await?.route;
        for _ in 0..ROUNDS {
            let Some(route) = found else { return Ok(None) };
            let mut changed = (*route).clone();
            if !change(&mut changed) {
                return Ok(Some(route));
            }
            if let Some(replaced) = self.replace(changed).await? {
                return Ok(Some(replaced));
            }
            found = self.load(session).await?;
        }
        Err(DataPlaneError::Contended {
            session: session.to_owned(),
        })
    }

    /// Removes a route that has not moved; whether it was there.
    pub async fn remove(&self, route: &Route) -> Result<bool, DataPlaneError> {
        let session = route.session_id.clone();
        let removed = self.store.remove_route(session, route.generation).await?;
        if removed {
            let mut known = self.known.write();
            if known
                .get(&route.session_id)
                .is_some_and(|known| known.generation <= route.generation)
            {
                known.remove(&route.session_id);
            }
        }
        Ok(removed)
    }

    /// Up to `limit` routes in the order of their session ids, after `after`, from the store.
    pub async fn list(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Arc<Route>>, DataPlaneError> {
        Ok(self.opened(self.store.routes(after, limit).await?))
    }

    /// Every route, from the store.
    pub async fn all(&self) -> Result<Vec<Arc<Route>>, DataPlaneError> {
        let mut all: Vec<Arc<Route>> = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.routes(after.take(), PAGE).await?;
            if page.len() == PAGE {
                after = page.last().map(|last| last.route.session_id.clone());
            }
            all.extend(self.opened(page));
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Up to `limit` routes whose time was up at `now` and that nobody has ended yet.
    pub async fn expired(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Arc<Route>>, DataPlaneError> {
        Ok(self.opened(self.store.expired_routes(now, limit).await?))
    }

    /// When the next route's time will be up.
    pub async fn next_expiry(&self) -> Result<Option<Timestamp>, DataPlaneError> {
        Ok(self.store.next_route_expiry().await?)
    }

    /// Forgets up to `limit` routes that ended and were last seen before `before`; how many.
    pub async fn forget(&self, before: Timestamp, limit: usize) -> Result<usize, DataPlaneError> {
        Ok(self.store.forget_ended_routes(before, limit).await?)
    }

    /// Where the routes are kept, and the runs beside them.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the store answers.
    pub async fn check(&self) -> Result<(), DataPlaneError> {
        Ok(self.store.check().await?)
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Keeps the newest copy of a route that can be taken, and drops the others.
    fn note(&self, route: Route) -> Arc<Route> {
        let route = Arc::new(route);
        let mut known = self.known.write();
        let newer = known
            .get(&route.session_id)
            .is_none_or(|known| known.generation <= route.generation);
        if newer {
            if route.status == RouteStatus::Ready {
                known.insert(route.session_id.clone(), Arc::clone(&route));
            } else {
                known.remove(&route.session_id);
            }
        }
        route
    }

    /// Those that can be opened: one that was sealed with another key must not hide the others.
    fn opened(&self, stored: Vec<StoredRoute>) -> Vec<Arc<Route>> {
        let opened = stored.into_iter().filter_map(|stored| {
            let session = stored.route.session_id.clone();
            self.open(stored)
                .inspect_err(|error| warn!(session_id = %session, %error, "unreadable route"))
                .ok()
        });
        opened.map(|route| self.note(route)).collect()
    }

    fn seal(&self, mut route: Route) -> Result<StoredRoute, DataPlaneError> {
        let sealed_token = self.sealer.seal(&route.session_id, &route.token)?;
        route.token.clear();
        Ok(StoredRoute {
            route,
            sealed_token,
        })
    }

    fn open(&self, stored: StoredRoute) -> Result<Route, DataPlaneError> {
        let mut route = stored.route;
        route.token = self.sealer.open(&route.session_id, &stored.sealed_token)?;
        Ok(route)
    }
}
