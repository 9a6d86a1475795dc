//! The data plane: finds each session's runtime and gets each step to it, once.

pub mod agent_client;
pub mod attachment;
pub mod auth;
pub mod client;
pub mod containment;
mod error;
pub mod forward;
mod http;
mod lines;
pub mod link;
mod metrics;
mod peer;
mod plane;
mod reaper;
mod reconciler;
pub mod registry;
pub mod routing;
mod runs;
pub mod runtimes;
pub mod seal;
mod workspaces;

pub use abide_session_agent::http::trace;
pub use error::DataPlaneError;
pub use http::DataPlaneApi;
pub use metrics::METRIC_NAMES;
pub use plane::{
    CreateSession, DataPlane, DataPlaneConfig, PlaneEvent, SessionView, StepItem, StepItems,
    StepReply, StepRequest, Want,
};
pub use workspaces::Workspaces;
