//! Output of interpreters, as the data plane's runtimes keep it.

use std::sync::Arc;
use std::time::Duration;

use abide_data_plane::client::{OutputQuery, RemoteOutput};
use abide_model::SessionId;
use abide_session_agent::{OutputChunk, OutputReader};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::super::Wanted;
use super::delivery::chunk_of;
use super::{Remote, WAITING_CHUNKS};
use crate::service::{Outcome, store_problem};
use crate::trace;

/// Pause before output is asked for again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often in a row that may bring nothing.
const TRIES: u32 = 20;

impl Remote {
    pub(super) async fn output(
        self: &Arc<Self>,
        session: SessionId,
        wanted: Wanted,
    ) -> Outcome<Option<OutputReader>> {
        let of = match (wanted.worker, self.find(session)) {
            (Some(worker), _) => Some(worker),
            (None, Some(known)) => Some(known.worker()),
            (None, None) => {
                let last = self.config.store.current_worker(session).await;
                last.map_err(store_problem)?.map(|worker| worker.id)
            }
        };
        let Some(worker) = of else { return Ok(None) };
        let mut query = OutputQuery {
            worker: Some(worker),
            from: wanted.from,
            end: wanted.end,
            follow: wanted.follow,
        };
        if let (None, Some(tail)) = (wanted.from, wanted.tail) {
            let none = OutputQuery {
                end: Some(0),
                follow: false,
                ..query
            };
            let Some(now) = self.ask_output(session, &none).await? else {
                return Ok(None);
            };
            query.from = Some(now.head.saturating_sub(tail).max(now.earliest));
            if !wanted.follow {
                query.end = Some(now.head);
            }
        }
        let Some(output) = self.ask_output(session, &query).await? else {
            return Ok(None);
        };
        let (earliest, head) = (output.earliest, query.end.unwrap_or(output.head));
        let from = query.from.unwrap_or(earliest);
        let (chunks, reader) = mpsc::channel(WAITING_CHUNKS);
        let this = Arc::clone(self);
        query.from = Some(from);
        query.end = query.end.or((!wanted.follow).then_some(head));
        self.config.tasks.spawn("output", async move {
            this.relay_output(session, query, output, chunks).await;
        });
        let reader = OutputReader::relayed(reader, from, (earliest, head));
        Ok(Some(reader.starting_at(from, wanted.filter)))
    }

    /// `None` where the worker, or all that it wrote, is gone.
    async fn ask_output(
        &self,
        session: SessionId,
        query: &OutputQuery,
    ) -> Outcome<Option<RemoteOutput>> {
        let session = session.to_string();
        match self.client.output(&session, query, &trace::current()).await {
            Ok(output) => Ok(Some(output)),
            Err(problem) if matches!(problem.status, 404 | 410) => Ok(None),
            Err(problem) if problem.code == "runtime_identity_mismatch" => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Hands output on to its end. Where a stream breaks the next one goes on where it was.
    async fn relay_output(
        &self,
        session: SessionId,
        mut query: OutputQuery,
        output: RemoteOutput,
        chunks: mpsc::Sender<OutputChunk>,
    ) {
        let stopping = self.config.tasks.stopping();
        let mut frames = Some(output.frames);
        let mut tries = 0;
        while tries < TRIES {
            let mut broke = frames.is_none();
            if let Some(mut frames) = frames.take() {
                loop {
                    let line = tokio::select! {
                        line = frames.next() => line,
                        () = chunks.closed() => return,
                    };
                    let line = match line {
                        Some(Ok(line)) => line,
                        Some(Err(_)) => {
                            broke = true;
                            break;
                        }
                        None => break,
                    };
                    let Some(chunk) = chunk_of(line.frame) else {
                        continue;
                    };
                    tries = 0;
                    let (OutputChunk::Bytes { end, .. } | OutputChunk::Gap { to: end, .. }) =
                        &chunk;
                    query.from = query.from.max(Some(*end));
                    if chunks.send(chunk).await.is_err() {
                        return;
                    }
                }
            }
            let is_there = query.end.is_some_and(|end| query.from >= Some(end));
            // Output that is followed ends with its interpreter, or when the agent stops: then the
            // next look goes on.
            if is_there || (!broke && (!query.follow || tries > 0)) {
                return;
            }
            tries += 1;
            tokio::select! {
                () = stopping.cancelled() => return,
                () = chunks.closed() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
            frames = match self.ask_output(session, &query).await {
                Ok(Some(output)) => Some(output.frames),
                Ok(None) => return,
                Err(_) => None,
            };
        }
    }
}
