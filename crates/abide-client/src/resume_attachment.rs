//! Looking at a terminal, whatever happens to the connection.
//!
//! ```text
//! Connecting ──attached──► Attached ──terminal gone──► end
//!   ▲    │ outage             │ outage
//!   │    ▼                    │
//!  Waiting ◄──────────────────┘     then attach again, from the output offset that was seen last
//!     │
//!     └──patience over──► error
//! ```

use std::pin::Pin;
use std::time::Duration;

use abide_model::{ProblemCode, SessionId, ToTerminal, WorkerId};
use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::{Attach, Attachment, Client, Error, Locate, ResumePolicy, Shown};

/// A server that has not answered by then is as good as away: it only has to look a terminal up.
const ATTACHING: Duration = Duration::from_secs(20);

type Attaching = Pin<Box<dyn Future<Output = Result<Attachment, Error>> + Send>>;

enum State {
    Connecting(Attaching),
    Attached(Box<Attachment>),
    Waiting(Pin<Box<Sleep>>),
}

/// An attachment that is renewed when the connection breaks: every byte of output once, or a snapshot in
/// place of them.
///
/// That it cannot attach the first time is an error at once. What is typed while the server is away
/// is sent when it is back; what was sent when the connection broke may be lost.
pub struct ResumableAttachment {
    client: Client,
    session: SessionId,
    worker: WorkerId,
    attach: Attach,
    /// Said whenever it is attached.
    hello: Option<ToTerminal>,
    policy: ResumePolicy,
    locate: Locate,
    state: State,
    /// It was attached at least once.
    known: bool,
    /// Typed while there was no connection.
    typed: Vec<u8>,
    away_since: Option<Instant>,
    wait: Duration,
}

impl ResumableAttachment {
    /// Prepares an attachment; nothing is sent before [`Self::next`]. `locate` finds the server again
    /// before every new attempt.
    pub fn new(
        client: Client,
        session: SessionId,
        worker: WorkerId,
        attach: Attach,
        policy: ResumePolicy,
        locate: Locate,
    ) -> Self {
        Self {
            state: connecting(&client, session, worker, attach),
            client,
            session,
            worker,
            attach,
            hello: None,
            policy,
            locate,
            known: false,
            typed: Vec::new(),
            away_since: None,
            wait: policy.first_wait,
        }
    }

    /// Has the viewer say this whenever it is attached.
    #[must_use]
    pub fn introduced(mut self, hello: ToTerminal) -> Self {
        self.hello = Some(hello);
        self
    }

    /// The client in use, which changes when the server came back elsewhere.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server is away and attempts are made to find it again.
    pub const fn is_away(&self) -> bool {
        self.away_since.is_some()
    }

    /// Types. Sent while [`Self::next`] is awaited, like all that is said.
    pub fn input(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Attached(attachment) => attachment.input(bytes),
            _ => self.typed.extend_from_slice(bytes),
        }
    }

    /// Tells the size of the viewer's window.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.attach.size = Some((cols, rows));
        if let State::Attached(attachment) = &mut self.state {
            attachment.resize(cols, rows);
        }
    }

    /// Tells that all output before `offset` was dealt with. Who tells this once must go on.
    pub fn ack(&mut self, offset: u64) {
        if let State::Attached(attachment) = &mut self.state {
            attachment.ack(offset);
        }
    }

    /// Bytes of what was said and not yet sent.
    pub fn unsent(&self) -> usize {
        match &self.state {
            State::Attached(attachment) => attachment.unsent(),
            _ => self.typed.len(),
        }
    }

    /// What comes next; `None` once the terminal is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Shown>, Error> {
        loop {
            let error = match self.advance().await {
                Ok(Some(shown)) => match self.follow(shown)? {
                    Some(shown) => return Ok(Some(shown)),
                    None => continue,
                },
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            if self.known && error.is(ProblemCode::WorkerGone) {
                return Ok(None);
            }
            if self.bear(error)? {
                return Ok(Some(Shown::Away));
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Shown>, Error> {
        loop {
            match &mut self.state {
                State::Attached(attachment) => return attachment.next().await,
                State::Connecting(attaching) => {
                    let mut attachment = attaching.as_mut().await?;
                    if let Some(hello) = &self.hello {
                        attachment.introduce(hello);
                    }
                    attachment.input(&std::mem::take(&mut self.typed));
                    self.state = State::Attached(Box::new(attachment));
                }
                State::Waiting(waiting) => {
                    waiting.as_mut().await;
                    if let Some(client) = (self.locate)() {
                        self.client = client;
                    }
                    self.state = connecting(&self.client, self.session, self.worker, self.attach);
                }
            }
        }
    }

    /// Notes how far it has come; `None` for what was there before.
    fn follow(&mut self, shown: Shown) -> Result<Option<Shown>, Error> {
        let position = &mut self.attach.resume_from;
        let shown = match shown {
            Shown::Attached { .. } => {
                self.known = true;
                self.away_since = None;
                // A server that accepts connections and drops them is not asked without pause.
                return Ok(Some(shown));
            }
            Shown::Snapshot { offset, .. } => {
                *position = Some(offset);
                shown
            }
            Shown::Output { offset, bytes } => match unseen(*position, offset, bytes)? {
                None => return Ok(None),
                Some((offset, bytes)) => {
                    *position = Some(offset + bytes.len() as u64);
                    Shown::Output { offset, bytes }
                }
            },
            other => other,
        };
        self.wait = self.policy.first_wait;
        Ok(Some(shown))
    }

    /// Decides whether an error is worth another attempt, and when; `true` if this begins an outage.
    fn bear(&mut self, error: Error) -> Result<bool, Error> {
        if !error.is_outage() || !self.known {
            return Err(error);
        }
        let begins = self.away_since.is_none();
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.policy.patience {
            return Err(error);
        }
        // Not all who lost the same server come back in the same moment.
        let wait = self.wait.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.wait = (self.wait * 2).min(self.policy.longest_wait);
        let waiting = State::Waiting(Box::pin(tokio::time::sleep(wait)));
        if let State::Attached(attachment) = std::mem::replace(&mut self.state, waiting) {
            self.typed = attachment.into_unsent_input();
        }
        Ok(begins)
    }
}

impl std::fmt::Debug for ResumableAttachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumableAttachment")
            .field("worker", &self.worker)
            .field("attach", &self.attach)
            .finish_non_exhaustive()
    }
}

fn connecting(client: &Client, session: SessionId, worker: WorkerId, attach: Attach) -> State {
    let client = client.clone();
    State::Connecting(Box::pin(async move {
        let attaching = client.attach(session, worker, &attach);
        match tokio::time::timeout(ATTACHING, attaching).await {
            Ok(attachment) => attachment,
            Err(_) => Err(client.cut_short()),
        }
    }))
}

/// The part of output at `offset` that lies behind `position`.
fn unseen(
    position: Option<u64>,
    offset: u64,
    mut bytes: Bytes,
) -> Result<Option<(u64, Bytes)>, Error> {
    let position = position.unwrap_or(offset);
    let seen = position.checked_sub(offset).ok_or(Error::Protocol {
        what: "output of a terminal is missing",
    })?;
    let seen = usize::try_from(seen).unwrap_or(usize::MAX);
    if seen >= bytes.len() {
        return Ok(None);
    }
    Ok(Some((position, bytes.split_off(seen))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_shown_again() {
        let check = |position, offset, expected: Option<(u64, &str)>| {
            let seen = unseen(position, offset, Bytes::from_static(b"abcd")).unwrap();
            let seen = seen.map(|(at, bytes)| (at, String::from_utf8(bytes.to_vec()).unwrap()));
            let expected = expected.map(|(at, text)| (at, text.to_owned()));
            assert_eq!(seen, expected, "{position:?} {offset}");
        };
        check(None, 7, Some((7, "abcd")));
        check(Some(7), 7, Some((7, "abcd")));
        check(Some(9), 7, Some((9, "cd")));
        check(Some(11), 7, None);
        check(Some(12), 7, None);
        assert!(unseen(Some(6), 7, Bytes::new()).is_err());
    }
}
