//! The connection to one keeper, as the task sees it.

use abide_keeper::{JournalReader, KeeperClient, Message};
use tokio::net::UnixStream;

use crate::wakeup::Wakeup;

/// Control socket, wake-up and process descriptor of one keeper.
pub(super) struct Link {
    stream: UnixStream,
    wake: Wakeup,
    process: Wakeup,
    outbox: Vec<u8>,
    sent: usize,
    gone: bool,
}

impl Link {
    pub(super) fn new(client: KeeperClient) -> std::io::Result<Self> {
        let parts = client.into_parts();
        Ok(Self {
            stream: UnixStream::from_std(parts.stream)?,
            wake: Wakeup::new(parts.wake)?,
            process: Wakeup::new(parts.pidfd)?,
            outbox: Vec::new(),
            sent: 0,
            gone: false,
        })
    }

    /// Adds a message to what [`Self::flush`] and [`Self::wait`] send.
    pub(super) fn queue(&mut self, message: Message<'_>) {
        message.encode(&mut self.outbox);
    }

    /// Sends what the socket takes without waiting.
    pub(super) fn flush(&mut self) {
        while self.sent < self.outbox.len() {
            match self.stream.try_write(&self.outbox[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Its end is noticed through the process descriptor.
                Err(_) => break,
            }
        }
        self.outbox.clear();
        self.sent = 0;
    }

    pub(super) const fn keeper_is_gone(&self) -> bool {
        self.gone
    }

    /// Until the journal has an entry at `next`, the keeper is gone, or the socket takes more.
    pub(super) async fn wait(&mut self, journal: &JournalReader, next: u64) {
        if !journal.prepare_sleep(next) {
            return;
        }
        tokio::select! {
            () = self.wake.counted() => {}
            () = self.process.readable() => self.gone = true,
            _ = self.stream.writable(), if self.sent < self.outbox.len() => self.flush(),
        }
        journal.cancel_sleep();
    }
}
