//! Signed tokens: JWS compact serialisation (RFC 7515) of JWT claims (RFC 7519), HS256 only.
//!
//! There is no choice of algorithm to be confused about: the signature is always checked as HS256,
//! and a header that names anything else is refused before that.

use abide_model::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::NOT_ACCEPTED;

/// How far two machines' clocks may be apart, in microseconds.
const LEEWAY_MICROS: i64 = 10_000_000;

/// Checks tokens.
pub(super) struct Verifier {
    key: Signer,
    issuer: Option<String>,
    audience: Option<String>,
}

/// Signs, and checks signatures.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

/// Why a token is not accepted. Only [`Self::NotOurs`] is said to who cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{NOT_ACCEPTED}")]
    NotOurs,
    #[error("the bearer token's claims are not understood, or `exp` is missing")]
    Claims,
    #[error("the bearer token has expired")]
    Expired,
    #[error("the bearer token is not valid yet")]
    NotYet,
    #[error("the bearer token is of another issuer")]
    Issuer,
    #[error("the bearer token is for another audience")]
    Audience,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515 §4.1.11); none are.
    crit: Option<serde_json::Value>,
}

/// What a token says. Times are seconds since the epoch, with a fraction if need be.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    exp: f64,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    pub(super) sub: Option<String>,
    pub(super) tenant_id: Option<String>,
    pub(super) agent_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Verifier {
    pub(super) fn new(secret: &str, issuer: Option<String>, audience: Option<String>) -> Self {
        Self {
            key: Signer::new(secret),
            issuer: issuer.filter(|text| !text.is_empty()),
            audience: audience.filter(|text| !text.is_empty()),
        }
    }

    /// With a key that is no text.
    #[cfg(test)]
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self {
            key: Signer::of_key(key),
            issuer: None,
            audience: None,
        }
    }

    /// What a token says, if it is to be believed at `now`.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Refusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::NotOurs)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::NotOurs)?;
        let header: Header = decode(header).ok_or(Refusal::NotOurs)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(Refusal::NotOurs);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| Refusal::NotOurs)?;
        if !self.key.signed(signed, &signature) {
            return Err(Refusal::NotOurs);
        }
        // Whoever sent it has the secret: from here on it helps to say what is wrong.
        let claims: Claims = decode(claims).ok_or(Refusal::Claims)?;
        // A time beyond the range of an i64 becomes its end, which is what it means.
        let micros = |seconds: f64| (seconds * 1e6) as i64;
        let now = now.as_micros();
        if now >= micros(claims.exp).saturating_add(LEEWAY_MICROS) {
            return Err(Refusal::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| now < micros(nbf).saturating_sub(LEEWAY_MICROS))
        {
            return Err(Refusal::NotYet);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(Refusal::Issuer);
        }
        let meant = |wanted: &String| match &claims.aud {
            Some(Audience::One(audience)) => audience == wanted,
            Some(Audience::Several(audiences)) => audiences.contains(wanted),
            None => false,
        };
        if !self.audience.as_ref().is_none_or(meant) {
            return Err(Refusal::Audience);
        }
        Ok(claims)
    }
}

impl Signer {
    pub(super) fn new(secret: &str) -> Self {
        Self::of_key(secret.as_bytes())
    }

    fn of_key(key: &[u8]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mac = Hmac::new_from_slice(key).expect("a key of any length");
        Self(mac)
    }

    /// A token that says this.
    pub(super) fn sign(&self, claims: &impl Serialize) -> serde_json::Result<String> {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
        let signed = format!("{header}.{claims}");
        let signature = self.0.clone().chain_update(&signed).finalize();
        let signature = URL_SAFE_NO_PAD.encode(signature.into_bytes());
        Ok(format!("{signed}.{signature}"))
    }

    /// Compares in constant time; a signature of another length is none.
    fn signed(&self, text: &str, signature: &[u8]) -> bool {
        let mac = self.0.clone().chain_update(text);
        mac.verify_slice(signature).is_ok()
    }
}

/// A part of a token. Twice the same member is refused, and so is padding.
fn decode<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}
