//! Readers that the program waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abide_keeper::JournalReader;
use parking_lot::Mutex;

/// How far the ring may turn: what the agent itself has passed, and the readers that hold the
/// program back so that a client that streams a step gets every byte.
#[derive(Debug)]
pub(crate) struct Taps {
    journal: Arc<JournalReader>,
    inner: Mutex<TapsInner>,
}

#[derive(Debug, Default)]
struct TapsInner {
    own: u64,
    taps: Vec<Arc<TapState>>,
}

/// One such reader.
#[derive(Debug)]
struct TapState {
    /// Sequence number of the next journal entry it needs; `u64::MAX` until its step starts.
    next: AtomicU64,
    /// `next` when the stall guard last looked.
    seen: AtomicU64,
    /// Too slow for too long, or gone: the ring may turn past it.
    released: AtomicBool,
}

/// A hold on the journal; released when dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    taps: Arc<Taps>,
    state: Arc<TapState>,
}

impl Taps {
    pub(crate) fn new(journal: Arc<JournalReader>) -> Self {
        Self {
            journal,
            inner: Mutex::default(),
        }
    }

    /// A hold that begins once [`Tap::hold_from`] is called.
    pub(crate) fn tap(self: &Arc<Self>) -> Tap {
        let state = Arc::new(TapState {
            next: AtomicU64::new(u64::MAX),
            seen: AtomicU64::new(u64::MAX),
            released: AtomicBool::new(false),
        });
        self.inner.lock().taps.push(Arc::clone(&state));
        Tap {
            taps: Arc::clone(self),
            state,
        }
    }

    /// The agent itself has passed every entry before `own`.
    pub(crate) fn passed(&self, own: u64) {
        self.publish(Some(own));
    }

    /// Nobody streams.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().taps.is_empty()
    }

    /// Releases readers that have not moved since the last call though there was more to read.
    pub(crate) fn release_stalled(&self) {
        {
            let inner = self.inner.lock();
            for tap in &inner.taps {
                let next = tap.next.load(Ordering::Acquire);
                if next < inner.own && tap.seen.swap(next, Ordering::Relaxed) == next {
                    tap.released.store(true, Ordering::Relaxed);
                }
            }
        }
        self.publish(None);
    }

    /// Under the lock, so that an older, lower cursor never overwrites a newer one.
    fn publish(&self, own: Option<u64>) {
        {
            let mut inner = self.inner.lock();
            inner.own = own.unwrap_or(inner.own);
            inner
                .taps
                .retain(|tap| !tap.released.load(Ordering::Relaxed));
            let keep = inner
                .taps
                .iter()
                .map(|tap| tap.next.load(Ordering::Acquire))
                .fold(inner.own, u64::min);
            self.journal.set_cursor(keep);
        }
    }
}

impl Tap {
    /// The same hold for the worker's side, which says where it begins.
    pub(crate) fn starter(&self) -> TapStarter {
        TapStarter(Arc::clone(&self.state))
    }

    pub(super) fn moved_to(&self, next: u64) {
        self.state.next.store(next, Ordering::Release);
        self.taps.publish(None);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.state.released.store(true, Ordering::Relaxed);
        self.taps.publish(None);
    }
}

/// Says from which entry on a [`Tap`] holds.
#[derive(Debug)]
pub(crate) struct TapStarter(Arc<TapState>);

impl TapStarter {
    pub(crate) fn hold_from(&self, next: u64) {
        self.0.next.store(next, Ordering::Release);
    }
}
