//! What can go wrong between a client and its server.

use abide_model::Problem;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection to the server could be made; the request was not sent.
    #[error("cannot reach {url}")]
    Unreachable {
        /// Base URL of the server.
        url: String,
        /// What connecting said.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke after the request was sent; whether it took effect is not known.
    #[error("the connection to {url} broke")]
    ConnectionLost {
        /// Base URL of the server.
        url: String,
        /// What the transport said; absent when the answer merely ended too early.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The server answered with a problem document.
    #[error("{}", .0.message)]
    Problem(Box<Problem>),
    /// The server answered with an error that is not one of Abide's.
    #[error("{url} answered HTTP {status}, which is not an answer of Abide's")]
    Foreign {
        /// Base URL of the server.
        url: String,
        /// HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// The answer is not the JSON it should be.
    #[error("cannot understand the server's answer ({what})")]
    Decode {
        /// Which part of the answer.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The answer breaks the protocol in another way than by its JSON.
    #[error("the server's answer breaks the protocol: {what}")]
    Protocol {
        /// In which way.
        what: &'static str,
    },
    /// The base URL is not an `http://` URL.
    #[error("{url:?} is not a URL of an Abide server; write http://host:port")]
    BadUrl {
        /// As it was given.
        url: String,
    },
    /// The key has characters that no HTTP header can carry.
    #[error("the key has characters that a key cannot have")]
    BadKey,
    /// The HTTP client could not be built.
    #[error("cannot set up an HTTP client")]
    Build(#[source] reqwest::Error),
    /// Reconnecting to follow a step was given up.
    #[error("lost the server while step {step_id} ran, and it did not come back in time")]
    GaveUp {
        /// The step; it may still be running.
        step_id: abide_model::StepId,
        /// The last failed attempt.
        #[source]
        source: Box<Self>,
    },
}

impl Error {
    /// The problem document, when the server sent one.
    pub const fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the server answered with the problem of this code.
    pub fn is(&self, code: abide_model::ProblemCode) -> bool {
        self.problem().is_some_and(|p| p.code == code.as_str())
    }

    /// Whether the server is away or going away, so that asking again later makes sense.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::ConnectionLost { .. } => true,
            Self::Problem(problem) => problem.status == 503 && problem.retryable,
            Self::Foreign { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }
}
