//! The server itself.

use std::path::PathBuf;

use abide_model::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, Error};

/// What a server says about itself (`GET /status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the binary.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub url: String,
    /// Sessions in the database.
    pub sessions: u64,
    /// Interpreters that are alive in sessions.
    pub live_interpreters: u64,
    /// Steps that are running.
    pub running_steps: u64,
    /// Steps that wait.
    pub queued_steps: u64,
    /// Idle interpreters that wait for a session.
    pub warm: WarmCounts,
}

/// Idle interpreters by language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmCounts {
    /// Python.
    #[serde(default)]
    pub python: u64,
    /// Node.
    #[serde(default)]
    pub node: u64,
}

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
