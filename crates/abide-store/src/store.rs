//! The door: opening, closing, and the two ways in, one for reads and one for changes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::cache::SessionCache;
use crate::checkpoint::Checkpointer;
use crate::error::Failure;
use crate::readers::Readers;
use crate::writer::{self, Change, Duty, Line, Message, Pen, Pending, Writer};
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
    line: Arc<Mutex<Line>>,
    /// Commits do not wait for the disk, so callers may write on their own threads.
    write_here: bool,
    writer: Sender<Message>,
    sequence: watch::Receiver<i64>,
    sessions: Arc<AtomicI64>,
    cache: Arc<SessionCache>,
    /// Changes left behind and not committed yet.
    behind: Arc<AtomicUsize>,
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
        let (writer, messages) = channel();
        let (line, cache) = (
            Arc::<Mutex<Line>>::default(),
            Arc::<SessionCache>::default(),
        );
        let write_here = options.synchronous == Synchronous::Normal;
        let pen = Arc::new(Pen::new(Some(Writer {
            connection,
            clock: options.clock,
            checkpointer,
            sequence,
            sessions: Arc::clone(&sessions),
            cache: Arc::clone(&cache),
            max_sessions: options.max_sessions,
        })));
        let (pen_of_thread, line_of_thread) = (Arc::clone(&pen), Arc::clone(&line));
        std::thread::Builder::new()
            .name("abide-writer".to_owned())
            .spawn(move || writer::run(&pen_of_thread, &line_of_thread, messages))
            .map_err(|source| OpenError::Thread {
                name: "writer",
                source,
            })?;
        let shared = Shared {
            readers,
            pen,
            line,
            write_here,
            writer,
            sequence: followers,
            sessions,
            cache,
            behind: Arc::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Commits what was asked for before, empties the write-ahead log into the database file
    /// and closes it. Later calls on any clone answer [`StoreError::Closed`].
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        // An error, here and below, means that the writer has ended already.
        self.shared.writer.send(Message::Close(reply)).ok();
        self.shared.readers.close();
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

    /// Whether ends of steps are committed a moment after they were handed in; not where every
    /// commit is to survive a power failure.
    pub fn is_written_behind(&self) -> bool {
        self.shared.write_here
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

    /// The session of this id, from the cache if it was read lately.
    pub(crate) fn cache(&self) -> &SessionCache {
        &self.shared.cache
    }

    /// Waits until changes that were left behind are committed, so that a read shows them.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        if self.shared.behind.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let operation = "settle";
        match self.write(operation, |_| Ok(())).await {
            // Nothing of the reader's is lost; what it wants to see is not stored yet.
            Err(StoreError::Full { .. }) => Err(StoreError::Busy { operation }),
            settled => settled,
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
            behind: None,
        });
        let duty = self.shared.line.lock().join(operation, job)?;
        if duty == Duty::Lead {
            self.lead().await;
        }
        answer
            .await
            .unwrap_or(Err(StoreError::Closed { operation }))
    }

    /// Has the writer make a change soon; the answer comes after the commit that contains it.
    /// Where a commit waits for the disk, it is made as soon as any other.
    pub(crate) fn write_behind<T, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Change<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let behind = Arc::clone(&self.shared.behind);
        behind.fetch_add(1, Ordering::Relaxed);
        let job = Box::new(Pending {
            operation,
            work: Some(work),
            result: None,
            reply,
            behind: Some(Arc::clone(&behind)),
        });
        let duty = self.shared.line.lock().leave(operation, job);
        let message = if self.shared.write_here {
            Message::Linger
        } else {
            Message::Write
        };
        let refused = match duty {
            Ok(Duty::Lead) => {
                self.shared.writer.send(message).ok();
                None
            }
            Ok(Duty::Follow) => None,
            Err(error) => {
                behind.fetch_sub(1, Ordering::Relaxed);
                Some(error)
            }
        };
        async move {
            match refused {
                Some(error) => Err(error),
                None => answer
                    .await
                    .unwrap_or(Err(StoreError::Closed { operation })),
            }
        }
    }

    /// Commits the line, here if possible.
    async fn lead(&self) {
        /// Sees to it even if the caller goes away.
        struct Lead<'a>(&'a Shared);
        impl Drop for Lead<'_> {
            fn drop(&mut self) {
                if !(self.0.write_here && writer::write_here(&self.0.pen, &self.0.line)) {
                    // An error means that the thread has ended, and answered everybody.
                    self.0.writer.send(Message::Write).ok();
                }
            }
        }
        let lead = Lead(&self.shared);
        if self.shared.write_here {
            // Whatever else is ready to write now joins the line.
            tokio::task::yield_now().await;
        }
        drop(lead);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
