//! One lock for each session.

use std::collections::HashMap;
use std::sync::Arc;

use abide_model::SessionId;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Entries above which those that nobody holds are dropped.
const TIDY_ABOVE: usize = 1024;

/// Hands out locks by session; as small as its use.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for its turn.
    pub(crate) async fn lock(&self, session: SessionId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            if locks.len() > TIDY_ABOVE {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(session).or_default())
        };
        lock.lock_owned().await
    }
}
