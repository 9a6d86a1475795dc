//! How long answers are held back to go out whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::tasks::Tasks;

/// A step that ends within this is answered whole, which spares both sides the pieces.
const GATHER: Duration = Duration::from_millis(2);

/// The answers that are held back, oldest first.
///
/// Most go out before their time is over. A timer for each would cost the runtime a system call and a
/// turn; here one task waits for the oldest that is still held back, and passes over those that went
/// out meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathering {
    held: Arc<Mutex<VecDeque<Held>>>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    /// Closed once the answer has gone out.
    tell: oneshot::Sender<()>,
}

impl Gathering {
    /// Holds an answer back: it goes out when it is whole, or when this resolves.
    pub(super) fn begin(&self, tasks: &Tasks) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let until = Instant::now() + GATHER;
        let first = {
            let mut held = self.held.lock();
            held.push_back(Held { until, tell });
            held.len() == 1
        };
        if first {
            tasks.spawn("gather", self.clone().tell_in_time());
        }
        told
    }

    /// Tells answers that their time is over, until none is held back.
    async fn tell_in_time(self) {
        while let Some(next) = self.next() {
            tokio::time::sleep_until(next).await;
        }
    }

    /// When the time of the oldest answer is over that is held back.
    fn next(&self) -> Option<Instant> {
        let mut held = self.held.lock();
        loop {
            let oldest = held.front()?;
            if oldest.until > Instant::now() && !oldest.tell.is_closed() {
                return Some(oldest.until);
            }
            if let Some(over) = held.pop_front() {
                // It may have gone out this moment.
                let _ = over.tell.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_answer_is_told_when_its_time_is_over() {
        let (gathering, tasks) = (Gathering::default(), Tasks::new());
        let begun = Instant::now();
        let first = gathering.begin(&tasks);
        tokio::time::advance(GATHER / 2).await;
        drop(gathering.begin(&tasks));
        let second = gathering.begin(&tasks);
        first.await.unwrap();
        assert_eq!(begun.elapsed(), GATHER);
        second.await.unwrap();
        assert_eq!(begun.elapsed(), GATHER * 3 / 2);
        assert!(gathering.held.lock().is_empty());

        let begun = Instant::now();
        gathering.begin(&tasks).await.unwrap();
        assert_eq!(begun.elapsed(), GATHER, "after a pause, too");
    }
}
