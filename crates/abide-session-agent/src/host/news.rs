//! What befalls workers without the plane above having asked for it.

use std::collections::VecDeque;
use std::time::Duration;

use abide_model::{Timestamp, WorkerNews};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How many are remembered. Who misses more than that has to list sessions and terminals.
const REMEMBERED: usize = 1024;

/// The latest news, in order.
#[derive(Debug)]
pub(crate) struct News {
    latest: Mutex<VecDeque<WorkerNews>>,
    /// Sequence number of the last one.
    head: watch::Sender<u64>,
}

impl News {
    /// Sequence numbers begin with the time, so that those of a later start are higher: who asks
    /// for what comes after news of an earlier start gets all there are.
    pub(crate) fn new() -> Self {
        let begin = u64::try_from(Timestamp::now().as_micros()).unwrap_or(0);
        Self {
            latest: Mutex::default(),
            head: watch::channel(begin).0,
        }
    }

    /// Adds one, with the next number, and wakes whoever waits for it.
    pub(crate) fn push(&self, news: WorkerNews) {
        let mut latest = self.latest.lock();
        let sequence = *self.head.borrow() + 1;
        if latest.len() == REMEMBERED {
            latest.pop_front();
        }
        latest.push_back(WorkerNews { sequence, ..news });
        self.head.send_replace(sequence);
    }

    /// Those after `after`; if there are none, waits that long for one.
    pub(crate) async fn after(&self, after: u64, wait: Duration) -> Vec<WorkerNews> {
        let mut head = self.head.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            head.borrow_and_update();
            let found: Vec<_> = {
                let latest = self.latest.lock();
                latest
                    .iter()
                    .filter(|it| it.sequence > after)
                    .cloned()
                    .collect()
            };
            if !found.is_empty() || wait.is_zero() {
                return found;
            }
            match tokio::time::timeout_at(deadline, head.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Vec::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use abide_model::{Exit, WorkerId, WorkerKind};

    use super::*;

    fn exit(session: &str) -> WorkerNews {
        WorkerNews {
            sequence: 0,
            session_id: session.to_owned(),
            worker_id: WorkerId::new(),
            kind: WorkerKind::Interpreter,
            exit: Some(Exit::default()),
            size_policy: None,
        }
    }

    #[tokio::test]
    async fn news_come_in_order_and_wake_who_waits() {
        let news = News::new();
        let none = news.after(0, Duration::ZERO).await;
        assert!(none.is_empty());
        let waiting = news.after(0, Duration::from_secs(600));
        let pushing = async { news.push(exit("s1")) };
        let (found, ()) = tokio::join!(waiting, pushing);
        assert_eq!(found.len(), 1);
        for n in 0..REMEMBERED {
            news.push(exit(&format!("s{n}")));
        }
        let all = news.after(0, Duration::ZERO).await;
        assert_eq!(all.len(), REMEMBERED);
        assert!(all.is_sorted_by_key(|exit| exit.sequence));
        let last = all[REMEMBERED - 1].sequence;
        let rest = news
            .after(all[REMEMBERED - 3].sequence, Duration::ZERO)
            .await;
        assert_eq!(rest.len(), 2);
        assert!(news.after(last, Duration::ZERO).await.is_empty());
    }
}
