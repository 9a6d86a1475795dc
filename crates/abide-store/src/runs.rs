//! A data plane's runs. There are no events of theirs.

use abide_model::{JobEnd, Run, RunStatus, Runtime, StepId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Failure;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

/// Runs that are remembered after their end; the oldest are forgotten first.
const REMEMBERED: i64 = 10_000;

const COLUMNS: &str = "id, job_id, session_id, step_id, runtime, code, stdin, timeout_ms, \
                       workspace_ref, created_at, status, finished_at, \"end\"";

/// The answer to [`Store::create_run`].
#[derive(Debug, Clone, PartialEq)]
pub enum CreatedRun {
    /// It was recorded now.
    New(Run),
    /// There is one of this id.
    Existing(Run),
}

impl Store {
    /// Records a run, once for each id, and once for each key while it is remembered. Its creation
    /// time is set here.
    ///
    /// Errors: [`StoreError::RequestKeyReused`] if the key named a run of another id.
    pub async fn create_run(
        &self,
        key: Option<String>,
        new: Run,
    ) -> Result<CreatedRun, StoreError> {
        self.write("create a run", move |change| {
            create(change, new, key.as_deref())
        })
        .await
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        self.read("read a run", |connection| find(connection, id))
    }

    /// Runs that have not ended, or whose sessions may be there yet; oldest first.
    pub async fn runs_under_way(&self) -> Result<Vec<Run>, StoreError> {
        self.read("list runs", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM runs WHERE cleaned = 0 ORDER BY created_at, id"
                ))?
                .query_map([], run)?
                .collect()
        })
    }

    /// Records how a run ended and what came of it; of each the first that is known counts. The run
    /// as it is then.
    pub async fn finish_run(
        &self,
        id: &str,
        status: RunStatus,
        end: Option<JobEnd>,
    ) -> Result<Option<Run>, StoreError> {
        let id = id.to_owned();
        self.write("finish a run", move |change| {
            let end = rows::json_text(end.as_ref())?;
            change.execute(
                "UPDATE runs SET status = CASE status WHEN 'running' THEN ?2 ELSE status END, \
                 finished_at = coalesce(finished_at, ?3), \"end\" = coalesce(\"end\", ?4) \
                 WHERE id = ?1",
                params![id, status.as_str(), change.now().as_micros(), end],
            )?;
            Ok(find(change.connection(), &id)?)
        })
        .await
    }

    /// Records that nothing of a run's session is left, and forgets the oldest of such runs if there
    /// are too many.
    pub async fn run_cleaned(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write("clean a run up", move |change| {
            change.execute("UPDATE runs SET cleaned = 1 WHERE id = ?1", [&id])?;
            change.execute(
                "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE cleaned = 1 \
                 ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?1)",
                [REMEMBERED],
            )?;
            Ok(())
        })
        .await
    }
}

fn create(change: &Change<'_>, mut new: Run, key: Option<&str>) -> Result<CreatedRun, Failure> {
    if let Some(key) = key {
        let named: Option<String> = change
            .connection()
            .prepare_cached("SELECT id FROM runs WHERE request_key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        if named.is_some_and(|named| named != new.id) {
            return Err(StoreError::RequestKeyReused(key.to_owned()).into());
        }
    }
    if let Some(existing) = find(change.connection(), &new.id)? {
        return Ok(CreatedRun::Existing(existing));
    }
    new.created_at = change.now();
    change.execute(
        "INSERT INTO runs (id, job_id, session_id, step_id, runtime, code, stdin, timeout_ms, \
                           workspace_ref, created_at, status, request_key) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            new.id,
            new.job_id,
            new.session_id,
            new.step_id.0,
            new.runtime.as_str(),
            new.code,
            new.stdin,
            new.timeout_ms.map(u64::cast_signed),
            new.workspace_ref,
            new.created_at.as_micros(),
            new.status.as_str(),
            key,
        ],
    )?;
    Ok(CreatedRun::New(new))
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Run>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE id = ?1"))?
        .query_row([id], run)
        .optional()
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        job_id: row.get(1)?,
        session_id: row.get(2)?,
        step_id: StepId(row.get(3)?),
        runtime: rows::member(row, 4, Runtime::parse)?,
        code: row.get(5)?,
        stdin: row.get(6)?,
        timeout_ms: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
        workspace_ref: row.get(8)?,
        created_at: rows::time(row, 9)?,
        status: rows::member(row, 10, RunStatus::parse)?,
        finished_at: rows::optional_time(row, 11)?,
        end: rows::json(row, 12)?,
    })
}
