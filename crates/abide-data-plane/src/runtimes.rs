//! Where sessions run: the session agents that this data plane may place sessions on.

mod fixed;
mod launched;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use abide_model::AuthMode;

pub use fixed::FixedRuntime;
pub use launched::{LaunchConfig, LaunchedRuntime, runtime_id};

use crate::error::DataPlaneError;
use crate::link::AgentLink;

/// A session agent that is there, or was a moment ago.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Names it in routes; the same after a restart of the agent that keeps its sessions.
    pub id: String,
    /// The way to it.
    pub link: Arc<dyn AgentLink>,
    /// Whether it asks for session tokens.
    pub auth_mode: AuthMode,
}

/// Something that has runtimes. Knows no sessions and no steps.
pub trait RuntimeDriver: Send + Sync + std::fmt::Debug {
    /// A runtime for a new session; waits until it is ready to take one.
    fn place(&self) -> Pin<Box<dyn Future<Output = Result<Runtime, DataPlaneError>> + Send + '_>>;
    /// The runtime of this id as it can be reached now; `None` if it is not one of this driver's.
    fn runtime(&self, id: &str) -> Option<Runtime>;
    /// Every runtime that is ready.
    fn runtimes(&self) -> Vec<Runtime>;
}
