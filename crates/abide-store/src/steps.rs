//! Steps.
//!
//! The store knows a step as accepted or ended. Which step runs at the moment is known to who
//! runs it; until the outcome is recorded a step is `queued` here, and its queue position is the
//! number of unfinished steps before it.

use std::sync::{Arc, LazyLock};

use abide_model::{
    EventKind, NewStep, OutputView, SessionId, Step, StepFilter, StepId, StepOutcome, StepStatus,
    Timestamp, VIEW_TAIL_BYTES, WorkerId,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};
use serde::Serialize;
use uuid::Uuid;

use crate::error::Failure;
use crate::events::Aggregate;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

/// The answer to [`Store::accept_step`].
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It was recorded now.
    New(Step),
    /// It had been recorded before, and is as shown.
    Existing(Step),
}

/// The answer to [`Store::finish_step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// This outcome was recorded; `false`: an earlier one had been, and stays.
    pub first: bool,
    /// See [`Step::sequence`].
    pub sequence: i64,
}

/// A step that was accepted and has no outcome yet.
#[derive(Debug, Clone)]
pub struct UnfinishedStep {
    /// See [`Step::sequence`].
    pub sequence: i64,
    /// As it was accepted.
    pub step: NewStep,
}

/// Where a step's output is in its worker's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRange {
    /// Output offset of its first byte.
    pub start: u64,
    /// Output offset after its last byte.
    pub end: u64,
    /// Whose journal; `None` for a step that no worker was given.
    pub worker: Option<WorkerId>,
}

/// Ends with the bodies of the output, as the table does.
const COLUMNS: &str = "id, session_id, sequence, status, code, timeout_ms, created_at, started_at, \
                       finished_at, result, error, exit, stdout_bytes, stderr_bytes, \
                       CASE WHEN finished_at IS NULL THEN (\
                         SELECT count(*) FROM steps AS earlier \
                         WHERE earlier.session_id = steps.session_id \
                           AND earlier.sequence < steps.sequence \
                           AND earlier.finished_at IS NULL\
                       ) ELSE 0 END, \
                       stdout_head, stdout_tail, stderr_head, stderr_tail";

/// The position of a new step of session ?1: ?2 if it is given and free, else the next.
const SEQUENCE: &str = "coalesce(\
    CASE WHEN EXISTS (SELECT 1 FROM steps WHERE session_id = ?1 AND sequence = ?2) THEN NULL ELSE ?2 END, \
    (SELECT max(sequence) FROM steps WHERE session_id = ?1) + 1, 1)";

impl Store {
    /// Records a step at the end of its session's queue, or finds the one of the same id. Event
    /// when it is new: `step.accepted`.
    ///
    /// Errors: [`StoreError::SessionMissing`], [`StoreError::StepElsewhere`].
    pub async fn accept_step(&self, new: NewStep) -> Result<Accepted, StoreError> {
        self.write("accept a step", move |change| accept(change, &new))
            .await
    }

    /// Records how a step ended, and that it was accepted if that is not recorded yet, in one
    /// change. Events: `step.accepted` if so, `step.completed`. Right whatever `accepted` says;
    /// it is what the caller believes, and decides what is tried first.
    ///
    /// The change is handed in by the call; the answer comes once it is committed, which may be a
    /// few milliseconds later. Whatever reads steps or events meanwhile finds it committed.
    ///
    /// Errors: [`StoreError::NotTerminal`], and those of [`Self::accept_step`].
    pub fn finish_step(
        &self,
        step: Arc<NewStep>,
        outcome: Arc<StepOutcome>,
        accepted: bool,
    ) -> impl Future<Output = Result<Finished, StoreError>> + Send + use<> {
        self.write_behind("finish a step", move |change| {
            record_end(change, &step, &outcome, accepted)
        })
    }

    /// The same, committed as soon as any other change: for a caller who tells nobody before.
    pub async fn finish_step_now(
        &self,
        step: Arc<NewStep>,
        outcome: Arc<StepOutcome>,
        accepted: bool,
    ) -> Result<Finished, StoreError> {
        self.write("finish a step", move |change| {
            record_end(change, &step, &outcome, accepted)
        })
        .await
    }

    /// The position of a session's last step; 0 if it has none.
    pub async fn last_sequence(&self, session_id: SessionId) -> Result<i64, StoreError> {
        self.settle().await?;
        self.read("read a session's last step", |connection| {
            connection
                .prepare_cached(
                    "SELECT coalesce(max(sequence), 0) FROM steps WHERE session_id = ?1",
                )?
                .query_row([session_id.0], |row| row.get(0))
        })
    }

    /// One step of a session.
    pub async fn step(
        &self,
        session_id: SessionId,
        id: StepId,
    ) -> Result<Option<Step>, StoreError> {
        self.settle().await?;
        self.read("read a step", |connection| {
            Ok(find(connection, id)?.filter(|step| step.session_id == session_id))
        })
    }

    /// A session's steps, oldest first.
    pub async fn steps(
        &self,
        session_id: SessionId,
        filter: StepFilter,
    ) -> Result<Vec<Step>, StoreError> {
        self.settle().await?;
        self.read("list steps", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM steps WHERE session_id = ?1 AND sequence > ?2 \
                     ORDER BY sequence LIMIT ?3"
                ))?
                .query_map(
                    params![session_id.0, filter.after, filter.limit.max(0)],
                    step,
                )?
                .collect()
        })
    }

    /// Steps without an outcome, of one session or of all, in order within each session.
    pub async fn unfinished_steps(
        &self,
        session_id: Option<SessionId>,
    ) -> Result<Vec<UnfinishedStep>, StoreError> {
        let condition = if session_id.is_some() {
            "session_id = ?1"
        } else {
            "?1 IS NULL"
        };
        let sql = format!(
            "SELECT sequence, id, session_id, code, stdin, timeout_ms, created_at FROM steps \
             WHERE finished_at IS NULL AND {condition} ORDER BY session_id, sequence"
        );
        self.settle().await?;
        self.read("list unfinished steps", |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement
                .query_map([session_id.map(|id| id.0)], unfinished)?
                .collect()
        })
    }

    /// Where a step's output is; `None` until it has ended, and for an unknown step.
    pub async fn step_output_range(&self, id: StepId) -> Result<Option<OutputRange>, StoreError> {
        self.settle().await?;
        self.read("read a step's output range", |connection| {
            connection
                .prepare_cached(
                    "SELECT output_start, output_end, worker_id FROM steps \
                     WHERE id = ?1 AND finished_at IS NOT NULL",
                )?
                .query_row([id.0], |row| {
                    Ok(OutputRange {
                        start: rows::count(row, 0)?,
                        end: rows::count(row, 1)?,
                        worker: row.get::<_, Option<Uuid>>(2)?.map(WorkerId),
                    })
                })
                .optional()
        })
    }
}

fn accept(change: &Change<'_>, new: &NewStep) -> Result<Accepted, Failure> {
    let accepted = match place(change, new.session_id, new.sequence)? {
        Some((sequence, waiting)) if insert_accepted(change, new, sequence)? => {
            Some((sequence, waiting))
        }
        _ => None,
    };
    let Some((sequence, waiting)) = accepted else {
        return match find(change.connection(), new.id)? {
            Some(step) if step.session_id == new.session_id => Ok(Accepted::Existing(step)),
            Some(_) => Err(StoreError::StepElsewhere(new.id).into()),
            None => Err(StoreError::SessionMissing(new.session_id).into()),
        };
    };
    tell_accepted(change, new.session_id, new.id, sequence)?;
    Ok(Accepted::New(Step::accepted(
        new.clone(),
        sequence,
        waiting,
    )))
}

/// The sequence number that a step gets, and how many unfinished ones are before it; `None`: there is
/// no such session.
///
/// A query of its own: an `INSERT` that selects from the table it adds to, or returns what it added,
/// makes SQLite set up temporary tables each time, which costs as much as the rest of the statement.
fn place(
    change: &Change<'_>,
    session_id: SessionId,
    wanted: Option<i64>,
) -> rusqlite::Result<Option<(i64, u32)>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {SEQUENCE}, \
             (SELECT count(*) FROM steps WHERE session_id = ?1 AND finished_at IS NULL) \
             FROM sessions WHERE id = ?1"
        )
    });
    change
        .statement(&SQL)?
        .query_row(params![session_id.0, wanted], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

/// Whether there was no step of this id.
fn insert_accepted(change: &Change<'_>, new: &NewStep, sequence: i64) -> rusqlite::Result<bool> {
    let inserted = change.execute(
        "INSERT INTO steps (id, session_id, sequence, status, code, stdin, timeout_ms, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
        params![
            new.id.0,
            new.session_id.0,
            sequence,
            StepStatus::Queued.as_str(),
            new.code,
            new.stdin,
            new.timeout_ms.map(u64::cast_signed),
            new.created_at.as_micros(),
        ],
    )?;
    Ok(inserted == 1)
}

/// See [`Store::finish_step`].
fn record_end(
    change: &Change<'_>,
    step: &NewStep,
    outcome: &StepOutcome,
    accepted: bool,
) -> Result<Finished, Failure> {
    if !outcome.status.is_terminal() {
        return Err(StoreError::NotTerminal(outcome.id, outcome.status).into());
    }
    let first = |sequence| Finished {
        first: true,
        sequence,
    };
    if !accepted && let Some(sequence) = insert_ended(change, step, outcome)? {
        return Ok(first(sequence));
    }
    if let Some(sequence) = finish(change, step.session_id, outcome)? {
        return Ok(first(sequence));
    }
    match accept(change, step)? {
        // It had ended before: the first outcome stays.
        Accepted::Existing(step) => Ok(Finished {
            first: false,
            sequence: step.sequence,
        }),
        Accepted::New(step) => {
            finish(change, step.session_id, outcome)?;
            Ok(first(step.sequence))
        }
    }
}

/// The columns of an end, as both statements name their parameters.
const END: &[&str] = &[
    "status",
    "started_at",
    "finished_at",
    "result",
    "error",
    "exit",
    "stdout_bytes",
    "stderr_bytes",
    "output_start",
    "output_end",
    "stdout_head",
    "stdout_tail",
    "stderr_head",
    "stderr_tail",
    "worker_id",
];

/// Binds [`END`] from parameter `place` on.
fn bind_end(
    statement: &mut CachedStatement<'_>,
    place: usize,
    outcome: &StepOutcome,
) -> Result<(), Failure> {
    let exit = rows::json_text(outcome.exit.as_ref())?;
    let result = rows::json_text(outcome.result.as_ref())?;
    let error = rows::json_text(outcome.error.as_ref())?;
    let values: [&dyn ToSql; 15] = [
        &outcome.status.as_str(),
        &outcome.started_at.map(Timestamp::as_micros),
        &outcome.finished_at.as_micros(),
        &result,
        &error,
        &exit,
        &outcome.stdout.bytes.cast_signed(),
        &outcome.stderr.bytes.cast_signed(),
        &outcome.output_start.cast_signed(),
        &outcome.output_end.cast_signed(),
        &outcome.stdout.head,
        &kept_tail(&outcome.stdout),
        &outcome.stderr.head,
        &kept_tail(&outcome.stderr),
        &outcome.worker.map(|worker| worker.0),
    ];
    for (place, value) in (place..).zip(values) {
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

fn finish(
    change: &Change<'_>,
    session_id: SessionId,
    outcome: &StepOutcome,
) -> Result<Option<i64>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let ends: Vec<_> = (3..)
            .zip(END)
            .map(|(place, column)| format!("{column} = ?{place}"))
            .collect();
        format!(
            "UPDATE steps SET {} WHERE id = ?1 AND session_id = ?2 AND finished_at IS NULL",
            ends.join(", ")
        )
    });
    let mut statement = change.statement(&SQL)?;
    statement.raw_bind_parameter(1, outcome.id.0)?;
    statement.raw_bind_parameter(2, session_id.0)?;
    bind_end(&mut statement, 3, outcome)?;
    if statement.raw_execute()? == 0 {
        return Ok(None);
    }
    let sequence = change
        .statement("SELECT sequence FROM steps WHERE id = ?1")?
        .query_row([outcome.id.0], |row| row.get(0))?;
    tell_completed(change, session_id, outcome, sequence)?;
    Ok(Some(sequence))
}

/// Records a step that was not recorded as accepted, together with its end.
/// `None`: it was, or its session is gone.
fn insert_ended(
    change: &Change<'_>,
    new: &NewStep,
    outcome: &StepOutcome,
) -> Result<Option<i64>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let places: Vec<_> = (8..).zip(END).map(|(n, _)| format!("?{n}")).collect();
        format!(
            "INSERT INTO steps (session_id, sequence, id, code, stdin, timeout_ms, created_at, {}) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {}) ON CONFLICT (id) DO NOTHING",
            END.join(", "),
            places.join(", ")
        )
    });
    let Some((sequence, _)) = place(change, new.session_id, new.sequence)? else {
        return Ok(None);
    };
    let mut statement = change.statement(&SQL)?;
    statement.raw_bind_parameter(1, new.session_id.0)?;
    statement.raw_bind_parameter(2, sequence)?;
    statement.raw_bind_parameter(3, new.id.0)?;
    statement.raw_bind_parameter(4, &new.code)?;
    statement.raw_bind_parameter(5, &new.stdin)?;
    statement.raw_bind_parameter(6, new.timeout_ms.map(u64::cast_signed))?;
    statement.raw_bind_parameter(7, new.created_at.as_micros())?;
    bind_end(&mut statement, 8, outcome)?;
    if statement.raw_execute()? == 0 {
        return Ok(None);
    }
    tell_accepted(change, new.session_id, new.id, sequence)?;
    tell_completed(change, new.session_id, outcome, sequence)?;
    Ok(Some(sequence))
}

fn tell_accepted(
    change: &Change<'_>,
    session_id: SessionId,
    step_id: StepId,
    sequence: i64,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Payload {
        step_id: StepId,
        sequence: i64,
    }
    let payload = Payload { step_id, sequence };
    let about = Aggregate::Session(session_id);
    change.record(EventKind::StepAccepted, about, change.now(), &payload, None)?;
    Ok(())
}

fn tell_completed(
    change: &Change<'_>,
    session_id: SessionId,
    outcome: &StepOutcome,
    sequence: i64,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Payload {
        step_id: StepId,
        sequence: i64,
        status: StepStatus,
        stdout_bytes: u64,
        stderr_bytes: u64,
    }
    let payload = Payload {
        step_id: outcome.id,
        sequence,
        status: outcome.status,
        stdout_bytes: outcome.stdout.bytes,
        stderr_bytes: outcome.stderr.bytes,
    };
    let about = Aggregate::Session(session_id);
    change.record(
        EventKind::StepCompleted,
        about,
        change.now(),
        &payload,
        None,
    )?;
    Ok(())
}

/// A view's tail is trimmed lazily, so it may hold more than what is shown.
fn kept_tail(view: &OutputView) -> &[u8] {
    &view.tail[view.tail.len().saturating_sub(VIEW_TAIL_BYTES)..]
}

fn find(connection: &Connection, id: StepId) -> rusqlite::Result<Option<Step>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM steps WHERE id = ?1"))?
        .query_row([id.0], step)
        .optional()
}

fn unfinished(row: &Row<'_>) -> rusqlite::Result<UnfinishedStep> {
    Ok(UnfinishedStep {
        sequence: row.get(0)?,
        step: NewStep {
            id: StepId(row.get(1)?),
            session_id: SessionId(row.get(2)?),
            code: row.get(3)?,
            stdin: row.get(4)?,
            timeout_ms: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
            created_at: rows::time(row, 6)?,
            sequence: Some(row.get(0)?),
        },
    })
}

fn step(row: &Row<'_>) -> rusqlite::Result<Step> {
    let stdout = view(row, 12, 15)?;
    let stderr = view(row, 13, 17)?;
    let (started_at, finished_at) = (rows::optional_time(row, 7)?, rows::optional_time(row, 8)?);
    Ok(Step {
        id: StepId(row.get(0)?),
        session_id: SessionId(row.get(1)?),
        sequence: row.get(2)?,
        status: rows::member(row, 3, StepStatus::parse)?,
        code: row.get(4)?,
        stdout: stdout.text(),
        stderr: stderr.text(),
        stdout_bytes: stdout.bytes,
        stderr_bytes: stderr.bytes,
        truncated: stdout.omitted() > 0 || stderr.omitted() > 0,
        result: rows::json(row, 9)?,
        error: rows::json(row, 10)?,
        exit: rows::json(row, 11)?,
        timeout_ms: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        created_at: rows::time(row, 6)?,
        started_at,
        finished_at,
        duration_ms: started_at
            .zip(finished_at)
            .map(|(start, end)| (end.as_micros() - start.as_micros()) as f64 / 1_000.0),
        queue_position: row.get(14)?,
    })
}

/// Head and tail are in the columns `body` and the one after it.
fn view(row: &Row<'_>, bytes: usize, body: usize) -> rusqlite::Result<OutputView> {
    Ok(OutputView {
        head: row.get::<_, Option<Vec<u8>>>(body)?.unwrap_or_default(),
        tail: row.get::<_, Option<Vec<u8>>>(body + 1)?.unwrap_or_default(),
        bytes: rows::count(row, bytes)?,
    })
}
