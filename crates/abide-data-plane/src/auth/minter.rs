//! Tokens for the plane above to show.

use abide_model::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::jwt::Signer;

/// How long a token is good for, in seconds. A request is checked at its start, so nothing that
/// takes long needs a longer one.
const LIFETIME_SECONDS: i64 = 300;

/// A token is shown again until this many seconds before its end.
const RENEW_SECONDS: i64 = 60;

/// Makes signed tokens for one plane to show to another, or shows the opaque key.
pub struct Minter {
    source: Source,
}

enum Source {
    Signed(Box<Signed>),
    Key(String),
}

struct Signed {
    signer: Signer,
    issuer: Option<String>,
    audience: Option<String>,
    subject: String,
    /// The last header and when to make the next one.
    last: Mutex<Option<(String, Timestamp)>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    sub: &'a str,
}

impl Minter {
    /// Signs with the secret of the plane below. `issuer` and `audience` are what that plane
    /// checks; `subject` says who is asking.
    pub fn signed(
        secret: &str,
        issuer: Option<String>,
        audience: Option<String>,
        subject: &str,
    ) -> Self {
        Self {
            source: Source::Signed(Box::new(Signed {
                signer: Signer::new(secret),
                issuer,
                audience,
                subject: subject.to_owned(),
                last: Mutex::new(None),
            })),
        }
    }

    /// Shows an opaque key.
    pub const fn opaque(key: String) -> Self {
        Self {
            source: Source::Key(key),
        }
    }

    /// The value of an `Authorization` header, good for at least a minute.
    pub fn authorization(&self) -> String {
        self.authorization_at(Timestamp::now())
    }

    /// The same at another time.
    pub fn authorization_at(&self, now: Timestamp) -> String {
        match &self.source {
            Source::Key(key) => format!("Bearer {key}"),
            Source::Signed(signed) => signed.authorization(now),
        }
    }
}

impl Signed {
    fn authorization(&self, now: Timestamp) -> String {
        let mut last = self.last.lock();
        if let Some((header, renew_at)) = &*last
            && now < *renew_at
        {
            return header.clone();
        }
        let expires = now.plus_seconds(LIFETIME_SECONDS);
        // Whole seconds, as every reader of tokens knows them.
        let seconds = |time: Timestamp| time.as_micros().div_euclid(1_000_000);
        let claims = Claims {
            iat: seconds(now),
            exp: seconds(expires),
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
            sub: &self.subject,
        };
        // Nothing in these claims can fail to be written.
        let token = self.signer.sign(&claims).unwrap_or_default();
        let header = format!("Bearer {token}");
        *last = Some((header.clone(), expires.plus_seconds(-RENEW_SECONDS)));
        header
    }
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.source {
            Source::Signed(_) => "signed",
            Source::Key(_) => "opaque",
        };
        f.debug_tuple("Minter").field(&kind).finish()
    }
}
