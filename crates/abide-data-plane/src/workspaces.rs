//! Directories of sessions, beneath one root.

use std::path::Path;
use std::sync::Arc;

use abide_model::{Problem, ProblemCode};
use tracing::{error, warn};

use crate::containment::{ContainmentError, WorkspaceRoot};

/// Scratch workspaces are here, under names of their own: no reference leads here, so no session
/// can name another one's.
const SCRATCH: &str = ".scratch";

/// See the module.
#[derive(Debug)]
pub struct Workspaces {
    root: Arc<WorkspaceRoot>,
}

impl Workspaces {
    /// Beneath `root`, which is made if it is missing.
    ///
    /// # Errors
    /// [`ContainmentError::Root`].
    pub fn open(root: &Path) -> Result<Self, ContainmentError> {
        Ok(Self {
            root: Arc::new(WorkspaceRoot::open(root)?),
        })
    }

    /// The absolute path of the workspace that a client named, or of a new scratch one.
    pub(crate) fn make(&self, reference: Option<&str>) -> Result<String, Problem> {
        let scratch;
        let reference = match reference {
            Some(named) if named.split('/').next() == Some(SCRATCH) => {
                return Err(refused("such names are for scratch workspaces".to_owned()));
            }
            Some(named) => named,
            None => {
                scratch = format!("{SCRATCH}/{}", abide_model::new_uuid());
                &scratch
            }
        };
        match self.root.resolve(reference) {
            Ok(contained) => contained
                .path
                .into_os_string()
                .into_string()
                .map_err(|_| refused("its path is no text".to_owned())),
            Err(
                error @ (ContainmentError::Reference { .. }
                | ContainmentError::Escapes { .. }
                | ContainmentError::NotADirectory { .. }),
            ) => Err(refused(error.to_string())),
            Err(error) => {
                error!(%error, source = ?std::error::Error::source(&error), "workspace");
                Err(Problem::new(
                    ProblemCode::Internal,
                    "the workspace could not be made; the server's log has the details",
                ))
            }
        }
    }

    /// Removes what [`Self::make`] made; whether it is gone.
    pub(crate) async fn remove(&self, path: String) -> bool {
        let root = Arc::clone(&self.root);
        let removed = tokio::task::spawn_blocking(move || {
            let Ok(reference) = Path::new(&path).strip_prefix(root.path()) else {
                warn!(
                    path,
                    "not removing a workspace that is not beneath the root"
                );
                return true;
            };
            let removed = root.remove(&reference.to_string_lossy());
            if let Err(error) = &removed {
                warn!(path, %error, "cannot remove a workspace");
            }
            removed.is_ok()
        });
        removed.await.unwrap_or(false)
    }
}

fn refused(reason: String) -> Problem {
    let mut problem = Problem::new(ProblemCode::InvalidInput, format!("workspaceRef: {reason}"));
    problem.status = 400;
    problem
}
