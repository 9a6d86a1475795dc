//! What can go wrong in the data plane itself, and how the client hears of it.

use abide_model::{Problem, ProblemCode};
use abide_store::StoreError;

/// An operation of the data plane that failed for reasons of its own.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// The routes could not be read or changed.
    #[error("cannot keep the routes")]
    Store(#[from] StoreError),
    /// A session's token could not be sealed or opened.
    #[error("cannot use a session's token")]
    Seal(#[from] crate::seal::SealError),
    /// A route changed under every attempt to change it.
    #[error("the route of session {session} changes too often")]
    Contended {
        /// Whose.
        session: String,
    },
    /// The system gives no random bytes.
    #[error("cannot make a token")]
    Random(#[source] getrandom::Error),
    /// A workspace could not be made.
    #[error("cannot make a workspace")]
    Workspace(#[source] std::io::Error),
    /// The session agent's program could not be started.
    #[error("cannot start the session agent {program}")]
    Launch {
        /// Which program.
        program: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The session agent's program ended, or did not say in time that it is ready.
    #[error("the session agent is not ready: {reason}")]
    NotReady {
        /// What is known.
        reason: String,
    },
}

impl DataPlaneError {
    /// This and everything behind it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl From<DataPlaneError> for Problem {
    fn from(error: DataPlaneError) -> Self {
        let chain = error.chain();
        match error {
            DataPlaneError::Store(StoreError::Busy { .. }) => {
                Self::new(ProblemCode::DatabaseUnavailable, chain)
            }
            DataPlaneError::Store(StoreError::Full { .. }) => {
                Self::new(ProblemCode::StorageFull, chain)
            }
            DataPlaneError::Store(StoreError::Closed { .. }) => {
                Self::new(ProblemCode::ShuttingDown, "the server is stopping")
            }
            DataPlaneError::Store(_) => Self::new(ProblemCode::DatabaseUnavailable, chain),
            DataPlaneError::Launch { .. } | DataPlaneError::NotReady { .. } => {
                Self::new(ProblemCode::RuntimeUnavailable, chain)
            }
            DataPlaneError::Seal(_)
            | DataPlaneError::Contended { .. }
            | DataPlaneError::Random(_)
            | DataPlaneError::Workspace(_) => {
                tracing::error!(error = %chain, "data plane");
                Self::new(
                    ProblemCode::Internal,
                    "something of ours failed; the server's log has the details",
                )
            }
        }
    }
}
