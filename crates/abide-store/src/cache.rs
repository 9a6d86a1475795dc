//! The sessions that were read last, as the database has them.

use std::collections::HashMap;

use abide_model::{Session, SessionId};
use parking_lot::Mutex;

/// Sessions kept; when there are more, all are forgotten and read anew.
const CAPACITY: usize = 4096;
/// Sessions with more context, checkpoint and metadata than this are not kept, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Only this process writes to the database, so what the writer did not change stays true.
#[derive(Debug, Default)]
pub(crate) struct SessionCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<SessionId, Session>,
    /// Grows with every change, so that what was read before one is not kept after it.
    generation: u64,
}

/// The state of the cache before a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generation(u64);

impl SessionCache {
    /// The session, or what [`Self::keep`] wants to know after reading it.
    pub(crate) fn get(&self, id: SessionId) -> Result<Session, Generation> {
        let inner = self.inner.lock();
        inner
            .sessions
            .get(&id)
            .cloned()
            .ok_or(Generation(inner.generation))
    }

    /// Keeps what was read, unless something changed since [`Self::get`].
    pub(crate) fn keep(&self, session: &Session, read_at: Generation) {
        let checkpoint = session.checkpoint.as_ref();
        let bytes = session.context.as_str().len()
            + session.runtime_metadata.as_str().len()
            + checkpoint.map_or(0, |checkpoint| checkpoint.as_str().len());
        let mut inner = self.inner.lock();
        if bytes > MAX_BYTES || inner.generation != read_at.0 {
            return;
        }
        if inner.sessions.len() == CAPACITY {
            inner.sessions.clear();
        }
        inner.sessions.insert(session.id, session.clone());
    }

    /// These have changed or gone, and that is committed.
    pub(crate) fn forget(&self, changed: &[SessionId]) {
        if changed.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.generation += 1;
        for id in changed {
            inner.sessions.remove(id);
        }
    }
}
