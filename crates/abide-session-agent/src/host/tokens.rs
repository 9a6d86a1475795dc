//! Who may use a session: tokens that are kept as hashes, and the secret of the plane above.

use std::fmt::Write as _;

use abide_model::{AuthMode, Problem, ProblemCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Outcome, SessionHost};

/// What a request brought along.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The session's token.
    pub token: Option<String>,
    /// The agent's secret, as a bearer token.
    pub secret: Option<String>,
}

impl SessionHost {
    /// Refuses a request for a session that carries no token where one is needed.
    pub fn require_token(&self, credentials: &Credentials) -> Outcome<()> {
        match self.config.auth_mode {
            AuthMode::Enforced if credentials.token.is_none() => Err(missing_token()),
            AuthMode::Enforced | AuthMode::Bypass => Ok(()),
        }
    }

    /// Whether the request comes from the plane above.
    pub fn is_privileged(&self, credentials: &Credentials) -> bool {
        let (Some(ours), Some(theirs)) = (&self.config.secret, &credentials.secret) else {
            return false;
        };
        ours.as_bytes().ct_eq(theirs.as_bytes()).into()
    }

    /// Lets the plane above through; without a secret nobody can prove to be it.
    pub fn require_secret(&self, credentials: &Credentials) -> Outcome<()> {
        match (&self.config.secret, self.config.auth_mode) {
            (Some(_), _) if self.is_privileged(credentials) => Ok(()),
            (Some(_), _) => Err(wrong_secret(credentials)),
            (None, AuthMode::Bypass) => Ok(()),
            (None, AuthMode::Enforced) => Err(Problem::new(
                ProblemCode::Forbidden,
                "this is for the plane above, and this agent has no secret to tell it by \
                 (agent_secret)",
            )),
        }
    }

    /// Refuses to make a session for anybody but the plane above, where there is a secret.
    pub(super) fn may_create(&self, credentials: &Credentials) -> Outcome<()> {
        if self.config.secret.is_none() || self.is_privileged(credentials) {
            return Ok(());
        }
        Err(wrong_secret(credentials))
    }

    /// Compares the token with the session's, where that is asked for.
    pub(super) fn check_token(
        &self,
        credentials: &Credentials,
        expected: Option<&str>,
    ) -> Outcome<()> {
        if self.config.auth_mode == AuthMode::Bypass {
            return Ok(());
        }
        let Some(token) = &credentials.token else {
            return Err(missing_token());
        };
        // A session that was registered without one can be used by nobody.
        let matches = expected.is_some_and(|hash| {
            let ours = hash_token(token);
            ours.as_bytes().ct_eq(hash.as_bytes()).into()
        });
        if matches {
            Ok(())
        } else {
            Err(invalid_token())
        }
    }
}

/// SHA-256 in hexadecimal. Tokens are long and random: no salt, no stretching.
pub(super) fn hash_token(token: &str) -> String {
    Sha256::digest(token)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn missing_token() -> Problem {
    Problem::new(ProblemCode::InvalidSessionToken, "missing session token")
}

fn invalid_token() -> Problem {
    Problem::new(ProblemCode::InvalidSessionToken, "invalid session token")
}

fn wrong_secret(credentials: &Credentials) -> Problem {
    let code = match credentials.secret {
        None => ProblemCode::AuthenticationRequired,
        Some(_) => ProblemCode::InvalidApiKey,
    };
    Problem::new(
        code,
        "send the agent's secret as `Authorization: Bearer SECRET`",
    )
}
