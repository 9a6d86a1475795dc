//! Waiting for a descriptor of a keeper to become readable.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that the runtime watches: an event counter or a process.
#[derive(Debug)]
pub(crate) struct Wakeup(AsyncFd<OwnedFd>);

impl Wakeup {
    pub(crate) fn new(fd: OwnedFd) -> std::io::Result<Self> {
        #[expect(
            deprecated,
            reason = "the replacement is unsafe because other types than `OwnedFd` could lie about \
                      the descriptor they own"
        )]
        AsyncFd::with_interest(fd, Interest::READABLE).map(Self)
    }

    /// Until it is readable. A process descriptor stays so from the process's end on.
    pub(crate) async fn readable(&self) {
        // Fails only when the runtime shuts down, and then nothing is waited for any more.
        let _ = self.0.readable().await;
    }

    /// Until the counter is not zero; resets it.
    pub(crate) async fn counted(&self) {
        if let Ok(mut guard) = self.0.readable().await {
            let mut count = [0; 8];
            let _ = rustix::io::read(guard.get_inner(), &mut count[..]);
            guard.clear_ready();
        }
    }
}
