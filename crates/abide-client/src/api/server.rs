//! The server itself.

use abide_model::ServerStatus;
use reqwest::Method;

use crate::{Client, Error};

/// What becomes of the workers when their server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownWorkers {
    /// They go on under their keepers, for the next server to take over.
    Keep,
    /// Every one is stopped.
    End,
}

impl Client {
    /// What the server says about itself.
    pub async fn status(&self) -> Result<ServerStatus, Error> {
        self.json("status", self.request(Method::GET, &["status"]))
            .await
    }

    /// Succeeds when the server takes work. Needs no key.
    pub async fn ready(&self) -> Result<(), Error> {
        self.discard(self.request(Method::GET, &["readyz"])).await
    }

    /// Tells the server to drain and exit; returns as soon as it has agreed.
    pub async fn shutdown(&self, workers: ShutdownWorkers) -> Result<(), Error> {
        let workers = match workers {
            ShutdownWorkers::Keep => "keep",
            ShutdownWorkers::End => "end",
        };
        let request = self
            .request(Method::POST, &["shutdown"])
            .query(&[("workers", workers)]);
        self.discard(request).await
    }
}
