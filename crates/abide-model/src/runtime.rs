//! Which interpreter a session runs.

crate::closed_set! {
    /// The language of a session's interpreter.
    Runtime {
        /// CPython 3.9 or newer.
        Python = "python",
        /// Node.js 18 or newer.
        Node = "node",
    }
}

/// A runtime name that is neither known nor an alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime {0:?}; use \"python\" or \"node\"")]
pub struct UnknownRuntime(pub String);

impl Runtime {
    /// Accepts the aliases `python3` and `javascript`, trimmed, in any case.
    pub fn from_alias(text: &str) -> Result<Self, UnknownRuntime> {
        match text.trim().to_ascii_lowercase().as_str() {
            "python" | "python3" => Ok(Self::Python),
            "node" | "javascript" => Ok(Self::Node),
            _ => Err(UnknownRuntime(text.chars().take(64).collect())),
        }
    }
}
