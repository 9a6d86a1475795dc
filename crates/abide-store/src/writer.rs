//! The one writer: changes that wait together are committed together.
//!
//! There is one [`Writer`], and whoever holds its lock writes: a caller who finds it free makes
//! its change at once, on its own thread, which spares two thread switches; everybody else queues
//! for the writer's thread. Where a commit waits for the disk, all changes go through the queue.
//!
//! ```text
//! caller ── job ──► queue ──► BEGIN IMMEDIATE
//!                               SAVEPOINT, job 1, RELEASE         (or roll back to it alone)
//!                               SAVEPOINT, job 2, RELEASE
//!                             COMMIT ──► publish sequence ──► answer job 1, job 2
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use abide_model::Timestamp;
use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, Params};
use tokio::sync::{oneshot, watch};

use crate::checkpoint::Checkpointer;
use crate::error::Failure;
use crate::{Clock, StoreError, open};

/// Changes in one transaction. Bounds how long the first of them waits for the others.
const BATCH: usize = 256;

/// Changes that may wait; more are refused as [`StoreError::Busy`].
pub(crate) const QUEUE: usize = 8_192;

/// What reaches the writer.
pub(crate) enum Message {
    /// A change to make.
    Change(Box<dyn Job>),
    /// The log grew too long while callers wrote by themselves.
    Relieve,
    /// Commit what came before, tidy up, answer, end.
    Close(oneshot::Sender<()>),
}

/// A change that can be run and, once its transaction has ended, answered.
pub(crate) trait Job: Send {
    /// Makes the change; false if it is to be undone.
    fn run(&mut self, change: &Change<'_>) -> bool;
    /// Answers the caller, who may have gone.
    fn answer(self: Box<Self>, transaction: Result<(), StoreError>);
}

/// [`Job`] for a closure.
pub(crate) struct Pending<T, W> {
    pub(crate) operation: &'static str,
    /// Taken when it runs.
    pub(crate) work: Option<W>,
    /// Set when it has run.
    pub(crate) result: Option<Result<T, StoreError>>,
    pub(crate) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Job for Pending<T, W>
where
    T: Send,
    W: FnOnce(&Change<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, change: &Change<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let result = work(change).map_err(|failure| failure.during(self.operation));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, transaction: Result<(), StoreError>) {
        let answer = match (self.result, transaction) {
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(failed)) => Err(failed),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed {
                operation: self.operation,
            }),
        };
        // A caller that has gone does not want the answer.
        self.reply.send(answer).ok();
    }
}

/// What a job works with: the open transaction, and the time.
pub(crate) struct Change<'a> {
    connection: &'a Connection,
    clock: &'a Clock,
    effects: Cell<Effects>,
}

/// A job's failure took the changes that shared its transaction with it.
#[derive(Debug, thiserror::Error)]
#[error("another change of the same transaction failed and ended it")]
struct TransactionLost;

/// What becomes visible outside the database once the transaction has committed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Effects {
    /// The last event written; 0 for none.
    pub(crate) last_sequence: i64,
    /// Sessions created less sessions deleted.
    pub(crate) sessions: i64,
}

impl Change<'_> {
    /// The time of the change.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// A statement, prepared once.
    pub(crate) fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// Runs a statement, prepared once; returns the rows it touched.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.statement(sql)?.execute(params)
    }

    /// Whether the query finds a row.
    pub(crate) fn exists(&self, sql: &str, params: impl Params) -> rusqlite::Result<bool> {
        self.statement(sql)?.exists(params)
    }

    /// Reads, and sees what this transaction has written.
    pub(crate) const fn connection(&self) -> &Connection {
        self.connection
    }

    /// Notes what to tell the outside after the commit.
    pub(crate) fn affect(&self, affect: impl FnOnce(&mut Effects)) {
        let mut effects = self.effects.get();
        affect(&mut effects);
        self.effects.set(effects);
    }
}

/// What it takes to write.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) clock: Clock,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) sequence: watch::Sender<i64>,
    pub(crate) sessions: Arc<AtomicI64>,
}

/// The writer, until the store is closed.
pub(crate) type Pen = Mutex<Option<Writer>>;

/// The writer's thread: serves until told to close, or until the last [`crate::Store`] is gone.
pub(crate) fn run(pen: &Pen, queue: Receiver<Message>) {
    let mut batch = VecDeque::new();
    let mut closing = None;
    while closing.is_none() {
        let Ok(mut message) = queue.recv() else { break };
        loop {
            match message {
                Message::Change(job) => batch.push_back(job),
                Message::Relieve => {}
                Message::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
            if batch.len() == BATCH {
                break;
            }
            match queue.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        if let Some(writer) = &*pen.lock() {
            while !batch.is_empty() {
                writer.transact(&mut batch);
            }
            writer.checkpointer.relieve(&writer.connection);
        }
    }
    // Whoever waits in the queue now is answered `Closed` by the drop of its reply.
    drop(queue);
    if let Some(writer) = pen.lock().take() {
        writer.checkpointer.finish(writer.connection);
    }
    if let Some(reply) = closing {
        reply.send(()).ok();
    }
}

impl Writer {
    /// Runs one job in a transaction of its own and answers it, unless another program holds the
    /// database: then the job comes back, to be queued for a thread that may wait. `true`: the
    /// log has grown too long, which is for the writer's thread to deal with, too.
    pub(crate) fn write_now(&self, job: Box<dyn Job>) -> Result<bool, Box<dyn Job>> {
        let patience = |limit| self.connection.busy_timeout(limit).is_ok();
        let begun = patience(Duration::ZERO) && self.begin().is_ok();
        if !patience(open::BUSY_TIMEOUT) || !begun {
            return Err(job);
        }
        self.finish_transaction(&mut VecDeque::from([job]));
        Ok(self.checkpointer.is_overlong())
    }

    fn begin(&self) -> Result<(), StoreError> {
        self.command("BEGIN IMMEDIATE", "begin a transaction")
    }

    fn command(&self, sql: &str, operation: &'static str) -> Result<(), StoreError> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([]));
        done.map(drop)
            .map_err(|error| StoreError::from_sql(operation, error))
    }

    /// Runs jobs from the front of `batch` in one transaction and answers those it took.
    fn transact(&self, batch: &mut VecDeque<Box<dyn Job>>) {
        match self.begin() {
            Ok(()) => self.finish_transaction(batch),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "transaction failed"
                );
                for job in batch.drain(..) {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }

    /// The rest of [`Self::transact`], once the transaction has begun.
    fn finish_transaction(&self, batch: &mut VecDeque<Box<dyn Job>>) {
        let mut taken = Vec::with_capacity(batch.len());
        let outcome = self.apply(batch, &mut taken);
        let outcome = match outcome {
            Ok(effects) => {
                self.publish(effects);
                Ok(())
            }
            Err(error) => {
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "cannot roll back");
                }
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "transaction failed"
                );
                Err(error)
            }
        };
        for job in taken {
            job.answer(outcome.clone());
        }
    }

    fn apply(
        &self,
        batch: &mut VecDeque<Box<dyn Job>>,
        taken: &mut Vec<Box<dyn Job>>,
    ) -> Result<Effects, StoreError> {
        let change = Change {
            connection: &self.connection,
            clock: &self.clock,
            effects: Cell::default(),
        };
        // A job that has the transaction to itself needs no savepoint.
        let shared = batch.len() > 1;
        while let Some(mut job) = batch.pop_front() {
            let before = change.effects.get();
            let marked = if shared {
                self.command("SAVEPOINT job", "set a savepoint")
            } else {
                Ok(())
            };
            let keep = marked.is_ok() && job.run(&change);
            taken.push(job);
            marked?;
            // Some failures (a full disk, for one) end the whole transaction by themselves.
            if self.connection.is_autocommit() {
                let source = Arc::new(TransactionLost);
                return Err(StoreError::Database {
                    operation: "commit",
                    source,
                });
            }
            match (shared, keep) {
                (true, true) => self.command("RELEASE job", "release a savepoint")?,
                (true, false) => {
                    self.command("ROLLBACK TO job", "roll back to a savepoint")?;
                    self.command("RELEASE job", "release a savepoint")?;
                    change.effects.set(before);
                }
                (false, true) => {}
                (false, false) => {
                    self.command("ROLLBACK", "roll back")?;
                    return Ok(before);
                }
            }
        }
        self.command("COMMIT", "commit")?;
        Ok(change.effects.get())
    }

    fn publish(&self, effects: Effects) {
        if effects.sessions != 0 {
            self.sessions.fetch_add(effects.sessions, Ordering::Relaxed);
        }
        if effects.last_sequence != 0 {
            self.sequence.send_replace(effects.last_sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    type Answer = oneshot::Receiver<Result<usize, StoreError>>;

    fn fill(bytes: usize) -> (Box<dyn Job>, Answer) {
        let (reply, answer) = oneshot::channel();
        let work = move |change: &Change<'_>| {
            change.affect(|effects| effects.sessions += 1);
            Ok(change.execute("INSERT INTO filling VALUES (?1)", [vec![0_u8; bytes]])?)
        };
        (
            Box::new(Pending {
                operation: "fill",
                work: Some(work),
                result: None,
                reply,
            }),
            answer,
        )
    }

    #[test]
    fn a_full_disk_refuses_what_it_took_along_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abide.db");
        let options = StoreOptions::default();
        let mut connection = open::open(&path, &options).unwrap();
        connection
            .execute_batch("CREATE TABLE filling (body BLOB)")
            .unwrap();
        let pages: i64 = connection
            .pragma_query_value(None, "page_count", |r| r.get(0))
            .unwrap();
        connection
            .pragma_update(None, "max_page_count", pages + 20)
            .unwrap();
        let writer = Writer {
            checkpointer: Checkpointer::start(&path, &mut connection).unwrap(),
            connection,
            clock: options.clock,
            sequence: watch::channel(0).0,
            sessions: Arc::default(),
        };

        let (jobs, mut answers): (VecDeque<_>, Vec<Answer>) =
            [10, 10, 1_000_000, 10, 10].into_iter().map(fill).unzip();
        let mut batch = jobs;
        while !batch.is_empty() {
            writer.transact(&mut batch);
        }
        let answers: Vec<_> = answers
            .iter_mut()
            .map(|answer| answer.try_recv().unwrap())
            .collect();
        assert!(
            matches!(answers[2], Err(StoreError::Full { .. })),
            "{answers:?}"
        );
        assert!(answers[3].is_ok() && answers[4].is_ok(), "{answers:?}");
        // Whether the first two went with the third is SQLite's choice; the answers must say so.
        let granted = answers.iter().filter(|answer| answer.is_ok()).count() as i64;
        let stored: i64 = writer
            .connection
            .query_row("SELECT count(*) FROM filling", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, granted);
        assert_eq!(writer.sessions.load(Ordering::Relaxed), granted);
    }
}
