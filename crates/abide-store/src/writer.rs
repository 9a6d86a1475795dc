//! The one writer: changes that wait together are committed together.
//!
//! There is one [`Writer`], and whoever holds its lock writes. A change is put in line; the first in
//! line leads: it lets everything else that is ready to run put its changes in line, too, and then
//! commits them all on its own thread, which spares two thread switches. If the writer is taken,
//! or where a commit waits for the disk, the writer's thread does it instead.
//!
//! A change may also be left behind: its caller goes on, and it is committed with the next
//! change, before the next read that could show it is missing, or at last after [`LINGER`].
//!
//! ```text
//! caller ── job ──► line ──► BEGIN IMMEDIATE
//!                              SAVEPOINT, job 1, RELEASE         (or roll back to it alone)
//!                              SAVEPOINT, job 2, RELEASE
//!                            COMMIT ──► publish sequence ──► answer job 1, job 2
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use abide_model::{SessionId, Timestamp};
use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, Params};
use tokio::sync::{oneshot, watch};

use crate::cache::SessionCache;
use crate::checkpoint::Checkpointer;
use crate::error::Failure;
use crate::{Clock, StoreError, open};

/// Changes in one transaction. Bounds how long the first of them waits for the others.
const BATCH: usize = 256;

/// Changes that may wait; more are refused as [`StoreError::Busy`].
pub(crate) const QUEUE: usize = 8_192;

/// How long a change that was left behind stays uncommitted at most, if the machine keeps up. The pages
/// of a commit are then shared by twenty short steps of one client; the writer's part of a step takes
/// 32 µs, and 41 with three milliseconds.
const LINGER: Duration = Duration::from_millis(8);

/// What the writer's thread is told.
pub(crate) enum Message {
    /// Commit what is in line now.
    Write,
    /// Commit what is in line after [`LINGER`].
    Linger,
    /// Commit what is in line, tidy up, answer, end.
    Close(oneshot::Sender<()>),
}

/// The changes that wait for their transaction.
#[derive(Default)]
pub(crate) struct Line {
    jobs: VecDeque<Box<dyn Job>>,
    /// Somebody is about to commit them.
    led: bool,
    /// The thread will look soon.
    lingering: bool,
    closed: bool,
}

/// What whoever puts a change in line has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// See to it that the line is committed.
    Lead,
    /// Somebody else does.
    Follow,
}

impl Line {
    /// Adds a change that its caller waits for.
    pub(crate) fn join(
        &mut self,
        operation: &'static str,
        job: Box<dyn Job>,
    ) -> Result<Duty, StoreError> {
        self.push(operation, job)?;
        Ok(if std::mem::replace(&mut self.led, true) {
            Duty::Follow
        } else {
            Duty::Lead
        })
    }

    /// Adds a change that nobody waits for; who leads tells the thread to look later.
    pub(crate) fn leave(
        &mut self,
        operation: &'static str,
        job: Box<dyn Job>,
    ) -> Result<Duty, StoreError> {
        self.push(operation, job)?;
        Ok(
            if self.led || std::mem::replace(&mut self.lingering, true) {
                Duty::Follow
            } else {
                Duty::Lead
            },
        )
    }

    fn push(&mut self, operation: &'static str, job: Box<dyn Job>) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Closed { operation });
        }
        if self.jobs.len() >= QUEUE {
            return Err(StoreError::Busy { operation });
        }
        self.jobs.push_back(job);
        Ok(())
    }

    /// Takes everything.
    fn take(&mut self) -> VecDeque<Box<dyn Job>> {
        self.led = false;
        self.lingering = false;
        std::mem::take(&mut self.jobs)
    }

    /// Puts back what could not be committed, before what came meanwhile; somebody leads.
    fn put_back(&mut self, mut jobs: VecDeque<Box<dyn Job>>) {
        jobs.append(&mut self.jobs);
        self.jobs = jobs;
        self.led = true;
    }
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
    /// Counts it while it is left behind.
    pub(crate) behind: Option<Arc<AtomicUsize>>,
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
        if let Some(behind) = &self.behind {
            behind.fetch_sub(1, Ordering::Release);
        }
        // A caller that has gone does not want the answer.
        self.reply.send(answer).ok();
    }
}

/// What a job works with: the open transaction, and the time.
pub(crate) struct Change<'a> {
    connection: &'a Connection,
    clock: &'a Clock,
    /// Sessions there were when the transaction began, and may be.
    sessions: (i64, Option<u64>),
    effects: Cell<Effects>,
    touched: RefCell<Vec<SessionId>>,
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

    /// The limit on sessions, if it is reached.
    pub(crate) fn session_limit(&self) -> Option<u64> {
        let (before, limit) = self.sessions;
        let now = (before + self.effects.get().sessions)
            .max(0)
            .cast_unsigned();
        limit.filter(|limit| now >= *limit)
    }

    /// Notes that a session's record changes or goes.
    pub(crate) fn touch(&self, session: SessionId) {
        self.touched.borrow_mut().push(session);
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
    pub(crate) cache: Arc<SessionCache>,
    pub(crate) max_sessions: Option<u64>,
}

/// The writer, until the store is closed.
pub(crate) type Pen = Mutex<Option<Writer>>;

/// The writer's thread: serves until told to close, or until the last [`crate::Store`] is gone.
pub(crate) fn run(pen: &Pen, line: &Mutex<Line>, messages: Receiver<Message>) {
    let mut linger = false;
    let closing = loop {
        let message = if linger {
            messages.recv_timeout(LINGER)
        } else {
            messages.recv().map_err(RecvTimeoutError::from)
        };
        linger = false;
        match message {
            Ok(Message::Linger) => {
                linger = true;
                continue;
            }
            Ok(Message::Write) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Close(reply)) => break Some(reply),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
        if let Some(writer) = &*pen.lock() {
            // Its own statement: nobody may wait for the line while this commits.
            let batch = line.lock().take();
            writer.write_all(batch);
            writer.checkpointer.relieve(&writer.connection);
        }
    };
    let last = {
        let mut line = line.lock();
        line.closed = true;
        line.take()
    };
    if let Some(writer) = pen.lock().take() {
        writer.write_all(last);
        writer.checkpointer.finish(writer.connection);
    }
    if let Some(reply) = closing {
        reply.send(()).ok();
    }
}

/// Commits the line on the calling thread; `false`: the writer's thread has to, because the writer
/// is taken, another program holds the database, or the log has grown too long.
pub(crate) fn write_here(pen: &Pen, line: &Mutex<Line>) -> bool {
    let Some(pen) = pen.try_lock() else {
        return false;
    };
    // Closed: the thread has answered everybody.
    let Some(writer) = &*pen else { return true };
    let mut batch = line.lock().take();
    if batch.is_empty() {
        return true;
    }
    let patience = |limit| writer.connection.busy_timeout(limit).is_ok();
    let begun = patience(Duration::ZERO) && writer.begin().is_ok();
    if !patience(open::BUSY_TIMEOUT) || !begun {
        line.lock().put_back(batch);
        return false;
    }
    writer.finish_transaction(&mut batch);
    writer.write_all(batch);
    !writer.checkpointer.is_overlong()
}

impl Writer {
    fn write_all(&self, mut batch: VecDeque<Box<dyn Job>>) {
        while !batch.is_empty() {
            self.transact(&mut batch);
        }
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
            sessions: (self.sessions.load(Ordering::Relaxed), self.max_sessions),
            effects: Cell::default(),
            touched: RefCell::default(),
        };
        // A job that has the transaction to itself needs no savepoint.
        let shared = batch.len() > 1;
        while taken.len() < BATCH
            && let Some(mut job) = batch.pop_front()
        {
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
        self.cache.forget(&change.touched.borrow());
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
    use std::sync::mpsc;

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
                behind: None,
            }),
            answer,
        )
    }

    /// A writer of its own, with a table to fill.
    fn writer(directory: &tempfile::TempDir) -> Writer {
        let path = directory.path().join("abide.db");
        let options = StoreOptions::default();
        let mut connection = open::open(&path, &options).unwrap();
        connection
            .execute_batch("CREATE TABLE filling (body BLOB)")
            .unwrap();
        Writer {
            checkpointer: Checkpointer::start(&path, &mut connection).unwrap(),
            connection,
            clock: options.clock,
            sequence: watch::channel(0).0,
            sessions: Arc::default(),
            cache: Arc::default(),
            max_sessions: None,
        }
    }

    /// While a commit waits for the disk, others can still put their changes in line.
    #[test]
    fn nobody_waits_for_the_line_while_something_is_committed() {
        let by_the_thread = |pen: &Pen, line: &Mutex<Line>| {
            let (messages, inbox) = mpsc::channel();
            messages.send(Message::Write).unwrap();
            drop(messages);
            run(pen, line, inbox);
        };
        let by_a_caller = |pen: &Pen, line: &Mutex<Line>| {
            write_here(pen, line);
            by_the_thread(pen, line);
        };
        for write in [
            &by_the_thread as &(dyn Fn(&Pen, &Mutex<Line>) + Sync),
            &by_a_caller,
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut writer = writer(&directory);
            let (committing, commits) = mpsc::channel();
            let (release, released) = mpsc::channel::<()>();
            writer
                .connection
                .commit_hook(Some(move || {
                    committing.send(()).unwrap();
                    // An error: the test has failed, and is over.
                    released.recv().ok();
                    false
                }))
                .unwrap();
            let (pen, line) = (Mutex::new(Some(writer)), Mutex::new(Line::default()));
            let (first, mut answer) = fill(10);
            line.lock().join("fill", first).unwrap();
            let (second, mut later) = fill(10);
            std::thread::scope(|scope| {
                scope.spawn(|| write(&pen, &line));
                commits.recv().unwrap();
                // Both are dropped when this fails, which lets the commit go on.
                let release = release;
                let mut line = line.try_lock().expect("the line is held during a commit");
                line.join("fill", second).unwrap();
                drop(line);
                assert!(answer.try_recv().is_err(), "not committed yet");
                release.send(()).unwrap();
                release.send(()).unwrap();
            });
            assert!(answer.try_recv().unwrap().is_ok());
            assert!(later.try_recv().unwrap().is_ok());
        }
    }

    #[test]
    fn a_full_disk_refuses_what_it_took_along_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(&directory);
        let pages: i64 = writer
            .connection
            .pragma_query_value(None, "page_count", |r| r.get(0))
            .unwrap();
        writer
            .connection
            .pragma_update(None, "max_page_count", pages + 20)
            .unwrap();

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
