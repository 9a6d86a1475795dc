//! Who may speak to a plane: bearer tokens between planes.
//!
//! Three ways in, chosen by [`AuthConfig`]: signed tokens (JWT, RFC 7519, signed with HS256 and
//! nothing else), opaque keys, or no check at all (bypass), which leaves a line in the log for
//! every request. With none of them configured every request is refused.
//!
//! Knows no HTTP framework: it is given the `Authorization` header and says who it is.

mod jwt;
mod minter;

use abide_model::{Problem, ProblemCode, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tracing::info;

use jwt::Refusal;
pub use minter::Minter;

/// What those are told whose token is none of ours.
pub const NOT_ACCEPTED: &str = "the bearer token is not accepted";
/// Longest bearer token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How requests prove who they are.
#[derive(Clone, Default)]
pub struct AuthConfig {
    /// Nobody is asked. Whoever configures it makes sure that this is not production.
    pub bypass: bool,
    /// Key of signed tokens; an empty one counts as none.
    pub jwt_secret: Option<String>,
    /// What a token's `iss` must be; none: it is not looked at.
    pub issuer: Option<String>,
    /// What a token's `aud` must be or contain; none: it is not looked at.
    pub audience: Option<String>,
    /// Keys that are accepted as they are; empty ones count as none.
    pub keys: Vec<String>,
}

/// Checks requests.
pub struct Authorizer {
    bypass: bool,
    verifier: Option<jwt::Verifier>,
    /// Digests: of one length, so that comparing them tells nothing about the keys' own.
    keys: Vec<[u8; 32]>,
}

/// How a request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// A signed token.
    Token,
    /// An opaque key.
    Key,
    /// Without a check.
    Bypass,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// How that is known.
    pub method: AuthMethod,
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The token's `tenant_id`.
    pub tenant_id: Option<String>,
    /// The token's `agent_id`.
    pub agent_id: Option<String>,
}

impl Authorizer {
    /// Takes the configuration as it is.
    pub fn new(config: &AuthConfig) -> Self {
        let keys = config.keys.iter().filter(|key| !key.is_empty());
        let secret = config.jwt_secret.as_deref().filter(|s| !s.is_empty());
        Self {
            bypass: config.bypass,
            verifier: secret.map(|secret| {
                jwt::Verifier::new(secret, config.issuer.clone(), config.audience.clone())
            }),
            keys: keys.map(|key| Sha256::digest(key).into()).collect(),
        }
    }

    /// Who a request with this `Authorization` header comes from, now.
    ///
    /// In bypass every request is let in and logged as `authz_bypass`.
    ///
    /// # Errors
    /// 401 `authentication_required` without a bearer token, 401 `invalid_api_key` with one that
    /// is not accepted. What is wrong with a token is said only to who could sign it.
    pub fn check(&self, authorization: Option<&str>) -> Result<Identity, Problem> {
        self.check_at(authorization, Timestamp::now())
    }

    /// The same at another time.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn check_at(
        &self,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<Identity, Problem> {
        if self.bypass {
            info!(audit = true, event = "authz_bypass", "authz_bypass");
            return Ok(Identity::known_by(AuthMethod::Bypass));
        }
        let Some(token) = authorization.and_then(bearer) else {
            let message = "send `Authorization: Bearer` with a token or key of this plane";
            return Err(Problem::new(ProblemCode::AuthenticationRequired, message));
        };
        if token.len() <= MAX_TOKEN_BYTES && self.is_key(token) {
            return Ok(Identity::known_by(AuthMethod::Key));
        }
        let refusal = match &self.verifier {
            Some(verifier) if token.len() <= MAX_TOKEN_BYTES => match verifier.verify(token, now) {
                Ok(claims) => {
                    return Ok(Identity {
                        method: AuthMethod::Token,
                        subject: claims.sub,
                        tenant_id: claims.tenant_id,
                        agent_id: claims.agent_id,
                    });
                }
                Err(refusal) => refusal,
            },
            _ => Refusal::NotOurs,
        };
        Err(Problem::new(
            ProblemCode::InvalidApiKey,
            refusal.to_string(),
        ))
    }

    fn is_key(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        // All are compared, so that the time does not tell which one it was.
        let known = self.keys.iter().fold(Choice::from(0), |known, key| {
            known | key.as_slice().ct_eq(&digest)
        });
        known.into()
    }
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer")
            .field("bypass", &self.bypass)
            .field("tokens", &self.verifier.is_some())
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("bypass", &self.bypass)
            .field("jwt_secret", &self.jwt_secret.as_ref().map(|_| "(hidden)"))
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl Identity {
    const fn known_by(method: AuthMethod) -> Self {
        Self {
            method,
            subject: None,
            tenant_id: None,
            agent_id: None,
        }
    }
}

/// The token of an `Authorization` header; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
