//! The connection to one keeper, as the task sees it.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use abide_keeper::{HandOver, JournalReader, KeeperClient, Message, TerminalInput};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::crash_points;
use crate::wakeup::Wakeup;

/// Control socket, wake-up and process descriptor of one keeper.
#[derive(Debug)]
pub(crate) struct Link {
    /// Nonblocking. The keeper never writes, and that it has read is of interest only while
    /// something waits to be sent: watched all the time, it would wake us for every message.
    stream: UnixStream,
    /// Watches the stream while it is full.
    full: Option<AsyncFd<UnixStream>>,
    wake: Wakeup,
    process: Wakeup,
    outbox: Vec<u8>,
    sent: usize,
    /// The way of input to a terminal.
    input: TerminalInput,
    /// The way of messages to an interpreter.
    hand_over: HandOver,
    /// What was sent to the keeper may not have come to the interpreter.
    is_behind: bool,
    /// The message that was sent to the keeper last: once it is answered, all has come.
    last: Option<[u8; 16]>,
    gone: bool,
}

impl Link {
    pub(crate) fn new(client: KeeperClient) -> std::io::Result<Self> {
        let parts = client.into_parts();
        Ok(Self {
            stream: parts.stream,
            full: None,
            wake: Wakeup::new(parts.wake)?,
            process: Wakeup::new(parts.pidfd)?,
            outbox: Vec::new(),
            sent: 0,
            input: parts.input,
            hand_over: parts.hand_over,
            is_behind: true,
            last: None,
            gone: false,
        })
    }

    /// Adds a message to what [`Self::flush`] and [`Self::wait`] send.
    pub(crate) fn queue(&mut self, message: Message<'_>) {
        self.input.stays_behind(&message);
        self.is_behind = true;
        self.last = match message {
            Message::Deliver { id, .. } => Some(id),
            _ => None,
        };
        message.encode(&mut self.outbox);
    }

    /// Writes the beginning of `input` to the terminal, or adds it for the keeper, as much as may be
    /// sent now; returns how much that is.
    pub(crate) fn pass_input(&mut self, input: &[u8]) -> usize {
        self.input.pass(input, &mut self.outbox)
    }

    /// Sends what the socket takes without waiting. `true`: nothing is left.
    pub(crate) fn flush(&mut self) -> bool {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.full.is_none() {
                        let stream = self.stream.try_clone();
                        self.full = stream.and_then(watched).ok();
                    }
                    return false;
                }
                // Its end is noticed through the process descriptor.
                Err(_) => break,
            }
        }
        self.full = None;
        self.outbox.clear();
        self.sent = 0;
        true
    }

    /// Hands a message to the interpreter, if nothing is before it; else it is added to what
    /// [`Self::flush`] and [`Self::wait`] send.
    pub(crate) fn deliver(&mut self, id: [u8; 16], payload: &[u8]) {
        if self.is_behind || !self.hand_over.note(id, payload) {
            return self.queue(Message::Deliver { id, payload });
        }
        crash_points::pass("step.before_write");
        self.hand_over.write(payload, &mut self.outbox);
        // The keeper was asked to do it.
        self.is_behind = !self.outbox.is_empty();
    }

    /// The interpreter has answered a message.
    pub(crate) fn answered(&mut self, id: [u8; 16]) {
        if self.last == Some(id) {
            self.is_behind = false;
        }
    }

    /// Has the journal tell what was delivered, although it was not answered.
    pub(crate) fn enter_delivered(&self) {
        if !self.is_behind {
            self.hand_over.have_entered();
        }
    }

    pub(crate) const fn keeper_is_gone(&self) -> bool {
        self.gone
    }

    /// Until the journal has an entry at `next`, the keeper is gone, the socket takes more, or — if
    /// there is `more_input` — the terminal does.
    pub(crate) async fn wait(&mut self, journal: &JournalReader, next: u64, more_input: bool) {
        if more_input && !self.input.prepare_wait() {
            return;
        }
        if !journal.prepare_sleep(next) {
            return;
        }
        tokio::select! {
            () = self.wake.counted() => {}
            () = self.process.readable() => self.gone = true,
            () = has_room(self.full.as_ref()) => {
                self.flush();
            }
        }
        journal.cancel_sleep();
    }
}

/// Until a stream that was full takes more.
async fn has_room(full: Option<&AsyncFd<UnixStream>>) {
    let Some(full) = full else {
        return std::future::pending().await;
    };
    if let Ok(mut ready) = full.writable().await {
        ready.clear_ready();
    }
}

fn watched(stream: UnixStream) -> std::io::Result<AsyncFd<UnixStream>> {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because other types than `UnixStream` could lie about \
                  the descriptor they own"
    )]
    AsyncFd::with_interest(stream, Interest::WRITABLE)
}
