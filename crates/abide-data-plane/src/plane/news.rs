//! What befell sessions, numbered, for a plane above that asks what is new.

use std::collections::VecDeque;
use std::time::Duration;

use abide_model::{Exit, PlaneNews, Route, SessionNews, WorkerKind, WorkerNews, new_uuid};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How many are kept; who is further behind looks the sessions up.
const KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct News {
    epoch: String,
    kept: Mutex<VecDeque<SessionNews>>,
    last: watch::Sender<u64>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            epoch: new_uuid().to_string(),
            kept: Mutex::default(),
            last: watch::channel(0).0,
        }
    }
}

impl News {
    /// Notes how a session's route stands from now on.
    pub(super) fn add(&self, route: &Route, exit: Option<Exit>) {
        self.note(SessionNews {
            sequence: 0,
            session_id: route.session_id.clone(),
            status: route.status,
            worker_id: route.worker_id,
            kind: WorkerKind::Interpreter,
            exit,
            size_policy: None,
        });
    }

    /// Notes what befell a terminal of a session.
    pub(super) fn of_terminal(&self, route: &Route, told: &WorkerNews) {
        self.note(SessionNews {
            sequence: 0,
            session_id: route.session_id.clone(),
            status: route.status,
            worker_id: Some(told.worker_id),
            kind: WorkerKind::Terminal,
            exit: told.exit.clone(),
            size_policy: told.size_policy,
        });
    }

    /// Notes that something may have been missed: whoever asks finds a gap, and compares.
    pub(super) fn skip(&self) {
        let mut kept = self.kept.lock();
        kept.clear();
        self.last.send_modify(|last| *last += 1);
    }

    fn note(&self, news: SessionNews) {
        let mut kept = self.kept.lock();
        let sequence = *self.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(SessionNews { sequence, ..news });
        // Under the lock, so that the numbers come in order.
        self.last.send_replace(sequence);
    }

    /// See [`super::DataPlane::news`].
    pub(super) async fn after(&self, epoch: &str, after: Option<u64>, wait: Duration) -> PlaneNews {
        let after = after.filter(|_| epoch.is_empty() || epoch == self.epoch);
        if let Some(after) = after {
            let mut last = self.last.subscribe();
            // In time or not: what there is then is the answer.
            let _ = tokio::time::timeout(wait, last.wait_for(|last| *last > after)).await;
        }
        let kept = self.kept.lock();
        let last = *self.last.borrow();
        let after = after.unwrap_or(last);
        let events = kept.iter().filter(|news| news.sequence > after);
        PlaneNews {
            epoch: self.epoch.clone(),
            earliest: kept.front().map_or(last + 1, |first| first.sequence),
            last,
            events: events.cloned().collect(),
        }
    }
}
