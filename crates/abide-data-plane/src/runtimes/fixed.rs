//! A session agent that somebody else starts and stops, at a given endpoint.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use abide_model::AuthMode;

use super::{Runtime, RuntimeDriver};
use crate::error::DataPlaneError;
use crate::link::AgentLink;

/// See the module.
#[derive(Debug)]
pub struct FixedRuntime {
    runtime: Runtime,
}

impl FixedRuntime {
    /// The agent behind `link`. It is named after its endpoint, so that data planes that share
    /// their routes and not their agents keep them apart.
    pub fn new(link: Arc<dyn AgentLink>, auth_mode: AuthMode) -> Self {
        let endpoint = link.endpoint();
        let id = endpoint
            .split_once("://")
            .map_or(endpoint, |(_, authority)| authority);
        Self {
            runtime: Runtime {
                id: id.to_owned(),
                link,
                auth_mode,
            },
        }
    }
}

impl RuntimeDriver for FixedRuntime {
    fn place(&self) -> Pin<Box<dyn Future<Output = Result<Runtime, DataPlaneError>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(self.runtime.clone())))
    }

    fn runtime(&self, id: &str) -> Option<Runtime> {
        (id == self.runtime.id).then(|| self.runtime.clone())
    }

    fn runtimes(&self) -> Vec<Runtime> {
        vec![self.runtime.clone()]
    }
}
