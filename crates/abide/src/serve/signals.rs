//! The signals that stop a server.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and `SIGTERM`, from when this was made on.
pub(super) struct Signals(tokio::sync::Mutex<Option<(Signal, Signal)>>);

impl Signals {
    pub(super) fn install() -> Self {
        let both = signal(SignalKind::interrupt()).and_then(|interrupt| {
            let terminate = signal(SignalKind::terminate())?;
            Ok((interrupt, terminate))
        });
        Self(tokio::sync::Mutex::new(both.ok()))
    }

    /// Returns at the next signal. Without handlers the signals end the process, which loses
    /// nothing either.
    pub(super) async fn first(&self) {
        match &mut *self.0.lock().await {
            Some((interrupt, terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            None => std::future::pending().await,
        }
    }

    /// From here on a signal ends the process at once: it was asked for twice.
    pub(super) fn second_ends_at_once(self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "must outlive the supervisor's tasks"
        )]
        tokio::spawn(async move {
            self.first().await;
            // Asked for twice.
            std::process::exit(130);
        });
    }
}
