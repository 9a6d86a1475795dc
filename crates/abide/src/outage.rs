//! Bearing a server that is away for a while.

use std::time::Duration;

use abide_client::{Client, Error, ResumePolicy};
use tokio::time::Instant;

use crate::commands::App;
use crate::error::Result;

/// An outage, or none.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    wait: Duration,
}

impl Outage {
    /// Something arrived.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Waits a moment and finds the server again; gives the error back when it is not an outage or
    /// has lasted too long.
    pub(crate) async fn bear(&mut self, app: &mut App<'_>, error: Error) -> Result<Client> {
        let policy = ResumePolicy::default();
        if !error.is_outage() {
            return Err(error.into());
        }
        let since = *self.since.get_or_insert_with(|| {
            app.output
                .note("lost the server; waiting for it to come back");
            Instant::now()
        });
        self.wait = (self.wait * 2).clamp(policy.first_wait, policy.longest_wait);
        loop {
            if since.elapsed() >= policy.patience {
                return Err(error.into());
            }
            tokio::time::sleep(self.wait).await;
            // Without a server there is nothing to connect to yet.
            if let Ok(client) = app.connect() {
                return Ok(client);
            }
        }
    }
}
