//! Looking at a terminal below a data plane for somebody who is shown it in another form.
//!
//! A task is attached to it as any viewer is, and again where that breaks off: from where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abide_data_plane::attachment::{RemoteAttachment, Told};
use abide_model::{FromTerminal, ProblemCode, ToTerminal};
use abide_session_agent::http::query_of;
use abide_session_agent::{Visit, WindowSize};
use tokio::sync::{mpsc, watch};

use super::super::{Answer, Eye, Hand, Look, Sight};
use super::Remote;
use super::terminal::{Counted, KnownTerminal, is_gone};
use crate::trace;

/// Pause before it attaches again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// No number: it has none yet.
const NOBODY: u64 = u64::MAX;

/// Begins to look.
pub(super) fn look(remote: &Arc<Remote>, known: &Arc<KnownTerminal>, visit: Visit) -> Look {
    // One: what waits for a slow client had better wait where it can still be skipped.
    let (sights, seen) = mpsc::channel(1);
    let (window, windows) = watch::channel(visit.size);
    let number = Arc::new(AtomicU64::new(NOBODY));
    let viewing = Viewing {
        remote: Arc::clone(remote),
        known: Arc::clone(known),
        _counted: known.is_viewed(),
        visit,
        sights,
        windows,
        number: Arc::clone(&number),
        acknowledged: 0,
        is_end_told: false,
    };
    let stopping = remote.config.tasks.stopping();
    remote.config.tasks.spawn("viewing", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = viewing.run() => {}
        }
    });
    Look {
        eye: Box::new(RemoteEye { seen }),
        hand: Arc::new(RemoteHand { window, number }),
    }
}

struct RemoteEye {
    seen: mpsc::Receiver<Sight>,
}

impl Eye for RemoteEye {
    // How patient one is who was slow is decided where the output is.
    fn next(&mut self, _patience: Option<u64>) -> Answer<'_, Sight> {
        Box::pin(async move { self.seen.recv().await.unwrap_or(Sight::Gone) })
    }
}

#[derive(Debug)]
struct RemoteHand {
    window: watch::Sender<Option<WindowSize>>,
    number: Arc<AtomicU64>,
}

impl Hand for RemoteHand {
    fn viewer(&self) -> Option<u64> {
        let number = self.number.load(Ordering::Relaxed);
        (number != NOBODY).then_some(number)
    }

    fn resizes(&self, size: WindowSize) {
        // Also to the same size: that is something it does.
        self.window.send_replace(Some(size));
    }
}

/// See the module.
struct Viewing {
    remote: Arc<Remote>,
    known: Arc<KnownTerminal>,
    _counted: Counted,
    /// Where it goes on when it attaches again.
    visit: Visit,
    sights: mpsc::Sender<Sight>,
    windows: watch::Receiver<Option<WindowSize>>,
    number: Arc<AtomicU64>,
    /// Output offset that was acknowledged last.
    acknowledged: u64,
    is_end_told: bool,
}

/// Nobody looks any more, or there is nothing more to see.
struct Over;

impl Viewing {
    async fn run(mut self) {
        let mut pause = AGAIN.0;
        loop {
            match self.attach().await {
                Err(Over) => return,
                Ok(Some(attachment)) => {
                    let before = self.visit.resume_from;
                    if self.follow(attachment).await.is_err() {
                        return;
                    }
                    if self.visit.resume_from != before {
                        pause = AGAIN.0;
                    }
                }
                Ok(None) => {}
            }
            tokio::select! {
                () = self.sights.closed() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN.1),
            }
        }
    }

    /// `None`: it may succeed later.
    async fn attach(&mut self) -> Result<Option<RemoteAttachment>, Over> {
        let session = self.known.session.to_string();
        self.visit.size = *self.windows.borrow_and_update();
        let query = query_of(&self.visit);
        let trace = trace::current();
        let client = &self.remote.client;
        let attached = tokio::select! {
            () = self.sights.closed() => return Err(Over),
            attached = client.attach(&session, self.known.id, &query, &trace) => attached,
        };
        match attached {
            Ok(attachment) => Ok(Some(attachment)),
            Err(problem)
                if is_gone(&problem) || problem.code == ProblemCode::WorkerGone.as_str() =>
            {
                self.is_gone().await?;
                Err(Over)
            }
            Err(_) => Ok(None),
        }
    }

    /// Shows what comes, until it breaks off.
    async fn follow(&mut self, mut attachment: RemoteAttachment) -> Result<(), Over> {
        loop {
            let told = tokio::select! {
                told = attachment.next() => told,
                Ok(()) = self.windows.changed() => {
                    let size = *self.windows.borrow_and_update();
                    if let Some(size) = size {
                        self.visit.size = Some(size);
                        let (cols, rows) = (size.columns, size.rows);
                        attachment.say(&ToTerminal::Resize { cols, rows }).await;
                    }
                    continue;
                }
                () = self.sights.closed() => {
                    attachment.leave().await;
                    return Err(Over);
                }
            };
            match told {
                Told::Output(offset, bytes) => {
                    let end = offset + bytes.len() as u64;
                    self.show(Sight::Output(bytes)).await?;
                    self.has_seen(end, &mut attachment).await;
                }
                Told::Snapshot(offset, bytes) => {
                    self.show(Sight::Snapshot(bytes)).await?;
                    self.has_seen(offset, &mut attachment).await;
                }
                Told::Said(FromTerminal::Attached { viewer_id, .. }) => {
                    self.number.store(viewer_id, Ordering::Relaxed);
                }
                Told::Said(FromTerminal::Exit { exit }) => {
                    if !std::mem::replace(&mut self.is_end_told, true) {
                        let (id, session) = (self.known.id, self.known.session);
                        // Whoever hears of the end finds it recorded.
                        self.remote.terminal_ended(id, session, exit.clone()).await;
                        self.show(Sight::Exited(exit)).await?;
                    }
                }
                Told::Said(
                    FromTerminal::Viewers { .. }
                    | FromTerminal::Snapshot { .. }
                    | FromTerminal::Resize { .. }
                    | FromTerminal::Error { .. },
                ) => {}
                Told::Gone => {
                    self.is_gone().await?;
                    return Err(Over);
                }
                Told::Broke => return Ok(()),
            }
        }
    }

    /// The terminal is gone; its end is told before, if it is known.
    async fn is_gone(&mut self) -> Result<(), Over> {
        let exit = self.known.exit.borrow().clone();
        if let Some(exit) = exit.filter(|_| !self.is_end_told) {
            self.show(Sight::Exited(exit)).await?;
        }
        self.show(Sight::Gone).await
    }

    async fn show(&self, sight: Sight) -> Result<(), Over> {
        self.sights.send(sight).await.map_err(|_| Over)
    }

    /// It has taken all before this output offset: a client that does not keeps the next from being
    /// taken.
    async fn has_seen(&mut self, offset: u64, attachment: &mut RemoteAttachment) {
        self.visit.resume_from = Some(offset);
        self.known.seen.send_replace(offset);
        let is_far = offset.abs_diff(self.acknowledged) >= self.visit.ack_window / 4;
        if is_far {
            self.acknowledged = offset;
            attachment.say(&ToTerminal::Ack { offset }).await;
        }
    }
}
