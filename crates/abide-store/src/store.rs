//! The door: opening, closing, and the two ways in, one for reads and one for changes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::checkpoint::Checkpointer;
use crate::error::Failure;
use crate::readers::Readers;
use crate::writer::{self, Change, Job, Message, Pen, Pending, QUEUE, Writer};
use crate::{OpenError, StoreError, StoreOptions, Synchronous, open};

/// Records and the event log. Cheap to clone; all clones share one writer.
///
/// Every method answers [`StoreError::Database`] when the database fails and
/// [`StoreError::Closed`] after [`Store::close`]; methods that change something also
/// [`StoreError::Busy`] and [`StoreError::Full`]. Their own documentation names what else.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    readers: Readers,
    pen: Arc<Pen>,
    /// Commits do not wait for the disk, so callers may write on their own threads.
    write_here: bool,
    writer: SyncSender<Message>,
    sequence: watch::Receiver<i64>,
    sessions: Arc<AtomicI64>,
}

impl Store {
    /// Opens the database at `path`, creating it with mode 0600 if need be, checks it, brings
    /// its schema up to [`crate::SCHEMA_VERSION`] and starts the writer.
    ///
    /// A file that is damaged, foreign or newer than this program is left as it is.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let failed = |operation| {
            move |error| OpenError::Database {
                operation,
                source: Arc::new(error),
            }
        };
        let mut connection = open::open(path, &options)?;
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let last = number("SELECT coalesce(max(sequence), 0) FROM events")
            .map_err(failed("read the last event"))?;
        let sessions = number("SELECT count(*) FROM sessions").map_err(failed("count sessions"))?;

        let readers = Readers::open(path).map_err(failed("open a connection for reads"))?;
        let checkpointer = Checkpointer::start(path, &mut connection)?;
        let (sequence, followers) = watch::channel(last);
        let sessions = Arc::new(AtomicI64::new(sessions));
        let (writer, queue) = sync_channel(QUEUE);
        let write_here = options.synchronous == Synchronous::Normal;
        let pen = Arc::new(Pen::new(Some(Writer {
            connection,
            clock: options.clock,
            checkpointer,
            sequence,
            sessions: Arc::clone(&sessions),
        })));
        let pen_of_thread = Arc::clone(&pen);
        std::thread::Builder::new()
            .name("abide-writer".to_owned())
            .spawn(move || writer::run(&pen_of_thread, queue))
            .map_err(|source| OpenError::Thread {
                name: "writer",
                source,
            })?;
        let shared = Shared {
            readers,
            pen,
            write_here,
            writer,
            sequence: followers,
            sessions,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Commits what was asked for before, empties the write-ahead log into the database file
    /// and closes it. Later calls on any clone answer [`StoreError::Closed`].
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        let mut message = Message::Close(reply);
        // A full queue must not keep the store from closing. The writer works it off without
        // waiting for anything, so this ends soon.
        while let Err(TrySendError::Full(back)) = self.shared.writer.try_send(message) {
            message = back;
            tokio::task::yield_now().await;
        }
        self.shared.readers.close();
        // An error means that the writer has ended already.
        closed.await.ok();
    }

    /// Passes through the writer and a reader: an error means that the store is of no use.
    pub async fn check(&self) -> Result<(), StoreError> {
        let operation = "check the store";
        self.write(operation, |_| Ok(())).await?;
        self.read(operation, |connection| {
            connection
                .prepare_cached("SELECT 1")?
                .query_row([], |_| Ok(()))
        })
    }

    /// Reads every page and returns up to 100 problems; none means the database is sound. Takes
    /// about two seconds per gigabyte, on the calling thread.
    pub async fn verify(&self) -> Result<Vec<String>, StoreError> {
        self.read("check the database", |connection| {
            open::quick_check(connection, 100)
        })
    }

    /// The sequence number of the last committed event, now and after every commit. It has
    /// moved by the time a change is answered, and never shows what is not committed.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.shared.sequence.clone()
    }

    /// How many sessions there are; does not touch the database.
    pub async fn count_sessions(&self) -> Result<u64, StoreError> {
        // Counts of committed changes only, so it is never below zero.
        Ok(self
            .shared
            .sessions
            .load(Ordering::Relaxed)
            .max(0)
            .cast_unsigned())
    }

    /// Reads, on the calling thread.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        match self.shared.readers.with(work) {
            None => Err(StoreError::Closed { operation }),
            Some(result) => result.map_err(|error| StoreError::from_sql(operation, error)),
        }
    }

    /// Has the writer make a change; answers after the commit that contains it.
    pub(crate) async fn write<T, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Change<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending {
            operation,
            work: Some(work),
            result: None,
            reply,
        });
        self.hand_in(operation, job)?;
        answer
            .await
            .unwrap_or(Err(StoreError::Closed { operation }))
    }

    /// Has the job done here and now if the pen is free, and queued if not.
    fn hand_in(&self, operation: &'static str, job: Box<dyn Job>) -> Result<(), StoreError> {
        let mut job = job;
        if self.shared.write_here
            && let Some(pen) = self.shared.pen.try_lock()
            && let Some(writer) = &*pen
        {
            match writer.write_now(job) {
                Ok(overlong) => {
                    if overlong {
                        // Full: then the thread is about to do it anyway.
                        self.shared.writer.try_send(Message::Relieve).ok();
                    }
                    return Ok(());
                }
                Err(back) => job = back,
            }
        }
        match self.shared.writer.try_send(Message::Change(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy { operation }),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed { operation }),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
