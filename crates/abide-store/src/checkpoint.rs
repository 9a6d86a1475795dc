//! Moving the write-ahead log into the database file, off the writer's way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::{OpenError, open};

/// Pages that enter the log between two copies by the background thread (4 MB).
const CHECKPOINT_PAGES: i32 = 1_000;

/// Pages in the log from which the writer pauses to start it over (32 MB). Only reached when
/// changes come so fast, or a read lasts so long, that the background thread never quite
/// finishes; it has done most of the work by then.
const RESTART_PAGES: i32 = 8_000;

/// The thread, and the writer's side of it.
pub(crate) struct Checkpointer {
    /// `None` once stopping.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    overlong: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread and hooks `writer`, so that its commits tell how long the log is.
    pub(crate) fn start(path: &Path, writer: &mut Connection) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Database {
            operation: "prepare the checkpoint connection",
            source: Arc::new(error),
        };
        let connection = open::connect(path).map_err(failed)?;
        // One pending wake-up is enough: it covers whatever is in the log when it is handled.
        let (wake, woken) = sync_channel(1);
        let overlong = Arc::new(AtomicBool::new(false));

        let (signal, flag) = (wake.clone(), Arc::clone(&overlong));
        let mut due = CHECKPOINT_PAGES;
        writer
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
                if pages < CHECKPOINT_PAGES {
                    // It was started over.
                    due = CHECKPOINT_PAGES;
                }
                if pages >= RESTART_PAGES {
                    flag.store(true, Ordering::Relaxed);
                } else if pages >= due {
                    due = pages + CHECKPOINT_PAGES;
                    match signal.try_send(()) {
                        Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
                    }
                }
                Ok(())
            }))
            .map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("abide-checkpoint".to_owned())
            .spawn(move || run(&connection, &woken))
            .map_err(|source| OpenError::Thread {
                name: "checkpoint",
                source,
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            overlong,
        })
    }

    /// Whether [`Self::relieve`] has something to do.
    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong.load(Ordering::Relaxed)
    }

    /// Called by the writer's thread between transactions: if the log grew too long, copies the rest of it
    /// back, so that the next transaction can start it over. Does not wait for readers: one that
    /// still needs the log delays that to a later transaction.
    pub(crate) fn relieve(&self, writer: &Connection) {
        if self.overlong.swap(false, Ordering::Relaxed) {
            checkpoint(writer, "PASSIVE");
        }
    }

    /// Ends the thread and empties the log.
    pub(crate) fn finish(mut self, mut writer: Connection) {
        // The hook holds the other sender; without both the thread's receiver disconnects.
        let unhooked = writer.wal_hook(None::<fn(&mut rusqlite::hooks::Wal, i32) -> _>);
        if let Err(error) = unhooked {
            tracing::warn!(%error, "cannot remove the commit hook");
        }
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the checkpoint thread had panicked");
        }
        checkpoint(&writer, "TRUNCATE");
    }
}

fn run(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // Passive: copies what it can without making the writer or a reader wait.
        checkpoint(connection, "PASSIVE");
    }
}

/// Failing costs nothing but a longer log, so it is only logged.
fn checkpoint(connection: &Connection, mode: &str) {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    if let Err(error) = done {
        tracing::warn!(%error, mode, "checkpoint failed");
    }
}
