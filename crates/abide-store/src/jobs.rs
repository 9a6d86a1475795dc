//! Jobs. What happens in them is told by the events of their sessions and steps; there are none of
//! their own.

use abide_model::{AgentId, Job, JobEnd, JobId, Runtime, SessionId, StepId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Failure;
use crate::writer::Change;
use crate::{RequestKey, Store, StoreError, rows};

/// Jobs that are remembered after their end; the oldest are forgotten first.
const REMEMBERED: i64 = 10_000;

const COLUMNS: &str = "id, session_id, step_id, agent_id, runtime, code, stdin, timeout_ms, \
                       metadata, created_at, finished_at, \"end\"";

/// The answer to [`Store::create_job`].
#[derive(Debug, Clone, PartialEq)]
pub enum CreatedJob {
    /// It was recorded now.
    New(Job),
    /// The key had been used for it before.
    Existing(Job),
}

impl Store {
    /// Records a job, once for each key while it is remembered. Its creation time is set here.
    ///
    /// Errors: [`StoreError::IdTaken`], [`StoreError::RequestKeyReused`].
    pub async fn create_job(
        &self,
        request: Option<RequestKey>,
        new: Job,
    ) -> Result<CreatedJob, StoreError> {
        self.write("create a job", move |change| {
            create(change, new, request.as_ref())
        })
        .await
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.read("read a job", |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?
                .query_row([id.0], job)
                .optional()
        })
    }

    /// Jobs that have not ended, or whose sessions may be there yet; oldest first.
    pub async fn jobs_under_way(&self) -> Result<Vec<Job>, StoreError> {
        self.read("list jobs", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM jobs WHERE cleaned = 0 ORDER BY created_at, id"
                ))?
                .query_map([], job)?
                .collect()
        })
    }

    /// Records how a job ended; the first time counts.
    pub async fn finish_job(&self, id: JobId, end: JobEnd) -> Result<(), StoreError> {
        self.write("finish a job", move |change| {
            let end = rows::json_text(Some(&end))?;
            change.execute(
                "UPDATE jobs SET finished_at = ?2, \"end\" = ?3 \
                 WHERE id = ?1 AND finished_at IS NULL",
                params![id.0, change.now().as_micros(), end],
            )?;
            Ok(())
        })
        .await
    }

    /// Records that nothing of a job's session is left, and forgets the oldest of such jobs if there
    /// are too many.
    pub async fn job_cleaned(&self, id: JobId) -> Result<(), StoreError> {
        self.write("clean a job up", move |change| {
            change.execute("UPDATE jobs SET cleaned = 1 WHERE id = ?1", [id.0])?;
            change.execute(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE cleaned = 1 \
                 ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?1)",
                [REMEMBERED],
            )?;
            Ok(())
        })
        .await
    }
}

fn create(
    change: &Change<'_>,
    mut new: Job,
    request: Option<&RequestKey>,
) -> Result<CreatedJob, Failure> {
    if let Some(request) = request
        && let Some((fingerprint, job)) = find_request(change.connection(), &request.key)?
    {
        if fingerprint == request.fingerprint {
            return Ok(CreatedJob::Existing(job));
        }
        return Err(StoreError::RequestKeyReused(request.key.clone()).into());
    }
    if change.exists("SELECT 1 FROM jobs WHERE id = ?1", [new.id.0])? {
        return Err(StoreError::IdTaken(new.id.0).into());
    }
    new.created_at = change.now();
    change.execute(
        "INSERT INTO jobs (id, session_id, step_id, agent_id, runtime, code, stdin, timeout_ms, \
                           metadata, created_at, request_key, request_fingerprint) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            new.id.0,
            new.session_id.0,
            new.step_id.0,
            new.agent_id.0,
            new.runtime.as_str(),
            new.code,
            new.stdin,
            new.timeout_ms.map(u64::cast_signed),
            new.metadata.as_str(),
            new.created_at.as_micros(),
            request.map(|request| &request.key),
            request.map(|request| &request.fingerprint),
        ],
    )?;
    Ok(CreatedJob::New(new))
}

/// What an idempotency key stands for: the request's fingerprint and the job it made.
fn find_request(connection: &Connection, key: &str) -> rusqlite::Result<Option<(String, Job)>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, request_fingerprint FROM jobs WHERE request_key = ?1"
        ))?
        .query_row([key], |row| {
            Ok((row.get("request_fingerprint")?, job(row)?))
        })
        .optional()
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: JobId(row.get(0)?),
        session_id: SessionId(row.get(1)?),
        step_id: StepId(row.get(2)?),
        agent_id: AgentId(row.get(3)?),
        runtime: rows::member(row, 4, Runtime::parse)?,
        code: row.get(5)?,
        stdin: row.get(6)?,
        timeout_ms: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
        metadata: rows::object(row, 8)?,
        created_at: rows::time(row, 9)?,
        finished_at: rows::optional_time(row, 10)?,
        end: rows::json(row, 11)?,
    })
}
