//! One who looks at a terminal over a connection of the dialect.

use std::time::{Duration, Instant};

use abide_model::{DialectMessage, DialectReason};
use abide_session_agent::TOO_FAR_BEHIND;
use tokio_util::sync::CancellationToken;

use super::link::Outbox;
use super::text::TextStream;
use crate::runtimes::{Eye, Sight};
use crate::service::{Attachment, News};

/// A client that takes longer for a piece of output is slow.
const SLOW: Duration = Duration::from_millis(20);
/// Cancels a sequence that is not finished, so that nothing comes of it (ECMA-48).
const CANCEL: &str = "\x18";

/// See the module.
pub(super) struct Tab {
    /// None in single mode, which has one terminal only.
    pub(super) client_id: Option<String>,
    pub(super) eye: Box<dyn Eye>,
    pub(super) attachment: Attachment,
    /// The connection.
    pub(super) connection: u64,
    pub(super) outbox: Outbox,
    /// Somebody does not want to see it any more; set, too, when there is nothing more to see.
    pub(super) closed: CancellationToken,
}

/// What a tab is told next.
enum Next {
    Sight(Sight),
    News(News),
    Nothing,
}

impl Tab {
    /// Shows the terminal until it is gone or nobody wants to see it any more.
    pub(super) async fn show(mut self) {
        let _closed = self.closed.clone().drop_guard();
        let mut text = TextStream::default();
        let mut is_first = true;
        let mut patience = None;
        let mut news_ended = false;
        loop {
            let next = tokio::select! {
                biased;
                () = self.closed.cancelled() => Next::Nothing,
                changed = self.attachment.news.changed(), if !news_ended => match changed {
                    Ok(()) => Next::News(self.attachment.news.borrow_and_update().clone()),
                    Err(_) => {
                        news_ended = true;
                        continue;
                    }
                },
                sight = self.eye.next(patience) => Next::Sight(sight),
            };
            let begun = Instant::now();
            let goes_on = match next {
                Next::Nothing => false,
                Next::News(news) => self.tell(news).await,
                Next::Sight(Sight::Output(bytes)) => self.output(text.decode(&bytes)).await,
                Next::Sight(Sight::Snapshot(snapshot)) => {
                    if !is_first {
                        // Within a sequence, whose rest will not come.
                        self.output(CANCEL.to_owned()).await;
                    }
                    text = TextStream::default();
                    let bytes = snapshot.strip_prefix(CANCEL.as_bytes());
                    let data = text.decode(bytes.unwrap_or(&snapshot));
                    self.scrollback(data).await
                }
                Next::Sight(Sight::Exited(exit)) => {
                    let code = exit.code.or(exit.signal.map(|signal| 128 + signal));
                    self.end(DialectReason::ProcessExit, code).await;
                    false
                }
                Next::Sight(Sight::Gone) => {
                    self.end(DialectReason::Error, None).await;
                    false
                }
            };
            if !goes_on {
                return;
            }
            is_first = false;
            patience = (begun.elapsed() > SLOW).then_some(TOO_FAR_BEHIND);
        }
    }

    /// Tells what others did; `false` if that was the end.
    async fn tell(&mut self, news: News) -> bool {
        let is_known = news.from == Some(self.connection);
        let Some(session_id) = self.client_id.clone().filter(|_| !is_known) else {
            return !news.is_closed;
        };
        let message = if news.is_closed {
            DialectMessage::Closed {
                session_id,
                reason: DialectReason::UserRequested,
                exit_code: None,
            }
        } else {
            DialectMessage::Renamed {
                session_id,
                name: news.name.unwrap_or_default(),
            }
        };
        self.send(&message).await;
        !news.is_closed
    }

    async fn output(&self, data: String) -> bool {
        if data.is_empty() {
            return true;
        }
        let session_id = self.client_id.clone();
        self.send(&DialectMessage::Output { session_id, data })
            .await
    }

    async fn scrollback(&self, data: String) -> bool {
        match self.client_id.clone() {
            Some(session_id) => {
                let message = DialectMessage::Scrollback { session_id, data };
                self.send(&message).await
            }
            // Single mode knows no other word for it.
            None => self.output(data).await,
        }
    }

    /// The terminal is gone, and not because somebody closed it as far as is known.
    async fn end(&self, reason: DialectReason, exit_code: Option<i32>) {
        let Some(session_id) = self.client_id.clone() else {
            // In single mode the connection stays, silently.
            return;
        };
        let news = self.attachment.news.borrow().clone();
        let message = if news.is_closed {
            if news.from == Some(self.connection) {
                return;
            }
            DialectMessage::Closed {
                session_id,
                reason: DialectReason::UserRequested,
                exit_code: None,
            }
        } else {
            DialectMessage::Closed {
                session_id,
                reason,
                exit_code,
            }
        };
        self.send(&message).await;
    }

    /// Sends it, unless nobody wants to see it any more.
    async fn send(&self, message: &DialectMessage) -> bool {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => false,
            () = self.outbox.show(message) => true,
        }
    }
}
