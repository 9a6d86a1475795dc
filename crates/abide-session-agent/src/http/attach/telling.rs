//! What goes to a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_keeper::WindowSize;
use abide_model::{FromTerminal, TerminalFrame};
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Moment, Interval};

use super::{AttachmentHost, Complaint, Goodbye};
use crate::terminal::{Attendance, TOO_FAR_BEHIND, TerminalHandle, View, Viewer, Visit, described};

/// Between two tellings of who is there: a crowd that comes is told in few messages, not each to each.
const BETWEEN_TELLINGS: Duration = Duration::from_millis(100);
/// A viewer that takes longer for a message is slow.
const SLOW: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Telling<'a> {
    sender: SplitSink<WebSocket, Message>,
    /// The last acknowledged offset, once the viewer acknowledges.
    acks: watch::Receiver<Option<u64>>,
    asides: Asides,
    host: &'a dyn AttachmentHost,
}

/// What is to be said besides what the terminal shows.
struct Asides {
    pings: Interval,
    attendance: watch::Receiver<Arc<Attendance>>,
    /// Before then the attendance is not told again.
    next_telling: Moment,
    complaints: mpsc::Receiver<Complaint>,
}

enum Aside {
    Ping,
    Attendance(Arc<Attendance>),
    Complaint(Complaint),
}

impl Asides {
    /// Cancelling loses nothing.
    async fn next(&mut self) -> Aside {
        tokio::select! {
            Some(complaint) = self.complaints.recv() => Aside::Complaint(complaint),
            Ok(()) = async {
                tokio::time::sleep_until(self.next_telling).await;
                self.attendance.changed().await
            } => {
                self.next_telling = Moment::now() + BETWEEN_TELLINGS;
                Aside::Attendance(Arc::clone(&self.attendance.borrow_and_update()))
            }
            _ = self.pings.tick() => Aside::Ping,
        }
    }
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        sender: SplitSink<WebSocket, Message>,
        acks: watch::Receiver<Option<u64>>,
        terminal: &TerminalHandle,
        complaints: mpsc::Receiver<Complaint>,
        host: &'a dyn AttachmentHost,
    ) -> Self {
        let mut attendance = terminal.attendance();
        // Who was there before is news to one who comes.
        attendance.mark_changed();
        let mut pings = tokio::time::interval(host.signs_of_life().ping_interval);
        pings.reset();
        Self {
            sender,
            acks,
            asides: Asides {
                pings,
                attendance,
                next_telling: Moment::now(),
                complaints,
            },
            host,
        }
    }

    pub(super) async fn tell(
        &mut self,
        terminal: &TerminalHandle,
        mut viewer: Viewer,
        visit: &Visit,
    ) -> Goodbye {
        let size = terminal.size().unwrap_or(WindowSize::new(0, 0));
        let attached = FromTerminal::Attached {
            worker_id: terminal.id(),
            viewer_id: viewer.id(),
            role: visit.role,
            cols: size.columns,
            rows: size.rows,
        };
        self.say(&attached).await?;
        let mut patience = None;
        loop {
            tokio::select! {
                biased;
                waited = wait_for_acks(&mut self.acks, viewer.offset(), visit.ack_window) => if waited {
                    patience = Some(visit.ack_window);
                },
                aside = self.asides.next() => {
                    // However long it reads nothing, it is to know that somebody is here.
                    patience = patience.or(Some(TOO_FAR_BEHIND));
                    self.say_aside(aside).await?;
                    continue;
                }
            }
            let view = tokio::select! {
                biased;
                aside = self.asides.next() => {
                    self.say_aside(aside).await?;
                    continue;
                }
                view = viewer.next(patience) => view,
            };
            let begun = Instant::now();
            match view {
                View::Output { offset, bytes } => {
                    self.frame(TerminalFrame::OUTPUT, offset, &bytes).await?;
                }
                View::Snapshot(snapshot) => {
                    let (reason, offset) = (snapshot.reason, snapshot.offset);
                    let announced = FromTerminal::Snapshot {
                        reason,
                        offset,
                        cols: snapshot.size.cols(),
                        rows: snapshot.size.rows(),
                    };
                    self.say(&announced).await?;
                    self.frame(TerminalFrame::SNAPSHOT, offset, &snapshot.bytes)
                        .await?;
                    self.host.viewer_was_sent_a_snapshot(reason);
                }
                View::Resized(size) => {
                    let (cols, rows) = (size.columns, size.rows);
                    self.say(&FromTerminal::Resize { cols, rows }).await?;
                }
                View::Exited(exit) => {
                    let exit = described(Some(&exit));
                    self.say(&FromTerminal::Exit { exit }).await?;
                }
                View::Closed => return Some((close_code::NORMAL, "the terminal is gone")),
            }
            patience = (begun.elapsed() > SLOW).then_some(TOO_FAR_BEHIND);
        }
    }

    async fn say_aside(&mut self, aside: Aside) -> Option<()> {
        match aside {
            Aside::Ping => self.send(Message::Ping(Bytes::new())).await,
            Aside::Complaint((code, message)) => {
                self.say(&FromTerminal::Error { code, message }).await
            }
            Aside::Attendance(attendance) => {
                let present = FromTerminal::Viewers {
                    size_policy: attendance.policy,
                    viewers: attendance.viewers.clone(),
                };
                self.say(&present).await
            }
        }
    }

    async fn frame(&mut self, kind: u8, offset: u64, bytes: &[u8]) -> Option<()> {
        let frame = TerminalFrame {
            kind,
            offset,
            bytes,
        };
        self.send(Message::Binary(frame.encode().into())).await?;
        self.host.viewer_was_sent(bytes.len());
        Some(())
    }

    pub(super) async fn say(&mut self, what: &FromTerminal) -> Option<()> {
        // Only maps with non-text keys can fail, and there are none.
        let text = serde_json::to_string(what).unwrap_or_default();
        self.send(Message::Text(text.into())).await
    }

    /// `None`: the viewer is gone.
    pub(super) async fn send(&mut self, message: Message) -> Option<()> {
        self.sender.send(message).await.ok()
    }
}

/// Waits until what was sent is acknowledged as far as it must be; whether there was a wait.
async fn wait_for_acks(acks: &mut watch::Receiver<Option<u64>>, sent: u64, window: u64) -> bool {
    let near = |acked: &Option<u64>| acked.is_none_or(|acked| sent < acked.saturating_add(window));
    if near(&acks.borrow()) {
        return false;
    }
    // Gone with whoever hears them: then this ends, too.
    let _ = acks.wait_for(near).await;
    true
}
