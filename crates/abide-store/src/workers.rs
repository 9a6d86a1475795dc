//! Workers.

use abide_model::{
    EventKind, Exit, NewWorker, Runtime, SessionId, SessionStatus, TerminalChanges, Worker,
    WorkerId, WorkerKind, WorkerState,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::error::Failure;
use crate::events::Aggregate;
use crate::sessions;
use crate::writer::Change;
use crate::{Store, StoreError, rows};

const COLUMNS: &str =
    "id, session_id, kind, runtime, state, generation, exit, created_at, ended_at, terminal";

impl Store {
    /// Records a worker that a session was given, one generation after the session's last of
    /// this kind. Event: `worker.started`.
    ///
    /// Errors: [`StoreError::SessionMissing`], [`StoreError::IdTaken`].
    pub async fn assign_worker(&self, new: NewWorker) -> Result<Worker, StoreError> {
        self.write("assign a worker", move |change| assign(change, new))
            .await
    }

    /// The same, and a session that is `crashed` is `active` again. Events: `worker.started`,
    /// and `session.updated` if the status changed.
    ///
    /// Errors: those of [`Self::assign_worker`].
    pub async fn restart_worker(&self, new: NewWorker) -> Result<Worker, StoreError> {
        self.write("restart a worker", move |change| {
            let worker = assign(change, new)?;
            let path = (SessionStatus::Crashed, SessionStatus::Active);
            sessions::shift(change, worker.session_id, path, "restarted")?;
            Ok(worker)
        })
        .await
    }

    /// Records that a worker's process ended. False: nothing was left to record, because it had
    /// been recorded before or there is no such worker. Event: `worker.exited`.
    pub async fn worker_exited(&self, id: WorkerId, exit: Exit) -> Result<bool, StoreError> {
        self.write("record a worker's end", move |change| {
            Ok(end(change, id, &exit)?.is_some())
        })
        .await
    }

    /// The same, and its session, if `active` and not yet given another worker of this kind, is
    /// `crashed` for `reason`. Events: `worker.exited`, and `session.updated` if the status
    /// changed.
    pub async fn worker_crashed(
        &self,
        id: WorkerId,
        exit: Exit,
        reason: String,
    ) -> Result<bool, StoreError> {
        self.write("record a worker's crash", move |change| {
            let Some(worker) = end(change, id, &exit)? else {
                return Ok(false);
            };
            // The crash of a worker that has a successor says nothing about the session.
            let latest = generation(change, worker.session_id, worker.kind)?;
            if worker.generation == latest {
                let path = (SessionStatus::Active, SessionStatus::Crashed);
                sessions::shift(change, worker.session_id, path, &reason)?;
            }
            Ok(true)
        })
        .await
    }

    /// Renames a terminal, or changes its size policy. `None`: there is no such terminal. Event:
    /// `worker.updated`, unless nothing changes.
    pub async fn update_terminal(
        &self,
        id: WorkerId,
        changes: TerminalChanges,
    ) -> Result<Option<Worker>, StoreError> {
        self.write("update a terminal", move |change| {
            update_terminal(change, id, changes)
        })
        .await
    }

    /// One worker.
    pub async fn worker(&self, id: WorkerId) -> Result<Option<Worker>, StoreError> {
        self.read("read a worker", |connection| find(connection, id))
    }

    /// A session's latest interpreter, alive or not.
    pub async fn current_worker(
        &self,
        session_id: SessionId,
    ) -> Result<Option<Worker>, StoreError> {
        self.read("find a worker", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM workers WHERE session_id = ?1 AND kind = ?2 \
                     ORDER BY generation DESC LIMIT 1"
                ))?
                .query_row(
                    params![session_id.0, WorkerKind::Interpreter.as_str()],
                    worker,
                )
                .optional()
        })
    }

    /// A session's workers, oldest first, those that ended included.
    pub async fn workers(&self, session_id: SessionId) -> Result<Vec<Worker>, StoreError> {
        self.read("list workers", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM workers WHERE session_id = ?1 \
                     ORDER BY kind, generation"
                ))?
                .query_map([session_id.0], worker)?
                .collect()
        })
    }

    /// Every worker whose end is not recorded, oldest first.
    pub async fn running_workers(&self) -> Result<Vec<Worker>, StoreError> {
        self.read("list running workers", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM workers WHERE state = 'running' \
                     ORDER BY created_at, id"
                ))?
                .query_map([], worker)?
                .collect()
        })
    }

    /// Every terminal whose end is recorded, oldest first.
    pub async fn ended_terminals(&self) -> Result<Vec<Worker>, StoreError> {
        self.read("list ended terminals", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM workers WHERE state = 'exited' AND kind = 'terminal' \
                     ORDER BY created_at, id"
                ))?
                .query_map([], worker)?
                .collect()
        })
    }

    /// The ids of all workers of all sessions, alive or not.
    pub async fn worker_ids(&self) -> Result<Vec<WorkerId>, StoreError> {
        self.read("list workers", |connection| {
            connection
                .prepare_cached("SELECT id FROM workers")?
                .query_map([], |row| row.get(0).map(WorkerId))?
                .collect()
        })
    }
}

fn assign(change: &Change<'_>, new: NewWorker) -> Result<Worker, Failure> {
    if !sessions::exists(change, new.session_id)? {
        return Err(StoreError::SessionMissing(new.session_id).into());
    }
    if change.exists("SELECT 1 FROM workers WHERE id = ?1", [new.id.0])? {
        return Err(StoreError::IdTaken(new.id.0).into());
    }
    let worker = Worker {
        id: new.id,
        session_id: new.session_id,
        kind: new.kind,
        runtime: new.runtime,
        terminal: new.terminal,
        state: WorkerState::Running,
        generation: generation(change, new.session_id, new.kind)? + 1,
        exit: None,
        created_at: change.now(),
        ended_at: None,
    };
    change.execute(
        "INSERT INTO workers \
         (id, session_id, kind, runtime, state, generation, created_at, terminal) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            worker.id.0,
            worker.session_id.0,
            worker.kind.as_str(),
            worker.runtime.map_or("", Runtime::as_str),
            worker.state.as_str(),
            worker.generation,
            worker.created_at.as_micros(),
            rows::json_text(worker.terminal.as_ref())?,
        ],
    )?;

    #[derive(Serialize)]
    struct Payload {
        worker_id: WorkerId,
        kind: WorkerKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        runtime: Option<Runtime>,
        generation: i64,
    }
    let payload = Payload {
        worker_id: worker.id,
        kind: worker.kind,
        runtime: worker.runtime,
        generation: worker.generation,
    };
    let about = Aggregate::Session(worker.session_id);
    change.record(
        EventKind::WorkerStarted,
        about,
        worker.created_at,
        &payload,
        None,
    )?;
    Ok(worker)
}

fn update_terminal(
    change: &Change<'_>,
    id: WorkerId,
    changes: TerminalChanges,
) -> Result<Option<Worker>, Failure> {
    let before = change
        .statement(&format!("SELECT {COLUMNS} FROM workers WHERE id = ?1"))?
        .query_row([id.0], worker)
        .optional()?;
    let Some(mut worker) = before else {
        return Ok(None);
    };
    let Some(terminal) = &mut worker.terminal else {
        return Ok(None);
    };
    let before = terminal.clone();
    if let Some(name) = &changes.name {
        terminal.name = Some(name.clone()).filter(|name| !name.is_empty());
    }
    terminal.size_policy = changes.size_policy.or(terminal.size_policy);
    if *terminal == before {
        return Ok(Some(worker));
    }
    change
        .statement("UPDATE workers SET terminal = ?2 WHERE id = ?1")?
        .execute(params![id.0, rows::json_text(Some(&*terminal))?])?;

    #[derive(Serialize)]
    struct Payload {
        worker_id: WorkerId,
        updates: TerminalChanges,
    }
    let payload = Payload {
        worker_id: id,
        updates: changes,
    };
    let about = Aggregate::Session(worker.session_id);
    change.record(
        EventKind::WorkerUpdated,
        about,
        change.now(),
        &payload,
        None,
    )?;
    Ok(Some(worker))
}

/// Records an end; the worker if it was running until now.
fn end(change: &Change<'_>, id: WorkerId, exit: &Exit) -> Result<Option<Worker>, Failure> {
    let now = change.now();
    let ended = change
        .statement(&format!(
            "UPDATE workers SET state = 'exited', exit = ?2, ended_at = ?3 \
             WHERE id = ?1 AND state = 'running' RETURNING {COLUMNS}"
        ))?
        .query_row(
            params![id.0, rows::json_text(Some(exit))?, now.as_micros()],
            worker,
        )
        .optional()?;
    if let Some(worker) = &ended {
        #[derive(Serialize)]
        struct Payload<'a> {
            worker_id: WorkerId,
            exit: &'a Exit,
        }
        let payload = Payload {
            worker_id: id,
            exit,
        };
        let about = Aggregate::Session(worker.session_id);
        change.record(EventKind::WorkerExited, about, now, &payload, None)?;
    }
    Ok(ended)
}

/// The latest generation; 0 before the first.
fn generation(change: &Change<'_>, id: SessionId, kind: WorkerKind) -> rusqlite::Result<i64> {
    change
        .statement(
            "SELECT coalesce(max(generation), 0) FROM workers WHERE session_id = ?1 AND kind = ?2",
        )?
        .query_row(params![id.0, kind.as_str()], |row| row.get(0))
}

fn find(connection: &Connection, id: WorkerId) -> rusqlite::Result<Option<Worker>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM workers WHERE id = ?1"))?
        .query_row([id.0], worker)
        .optional()
}

fn worker(row: &Row<'_>) -> rusqlite::Result<Worker> {
    Ok(Worker {
        id: WorkerId(row.get(0)?),
        session_id: SessionId(row.get(1)?),
        kind: rows::member(row, 2, WorkerKind::parse)?,
        runtime: Runtime::parse(&row.get::<_, String>(3)?),
        terminal: rows::json(row, 9)?,
        state: rows::member(row, 4, WorkerState::parse)?,
        generation: row.get(5)?,
        exit: rows::json(row, 6)?,
        created_at: rows::time(row, 7)?,
        ended_at: rows::optional_time(row, 8)?,
    })
}
