//! Tokens for the plane above to show.

use abide_model::Timestamp;
use parking_lot::Mutex;

use super::jwt::{Audience, Claims, Signer};

/// How long a token is good for, in seconds. It is shown at once, so this covers clocks that
/// differ and steps that stream for a while need nothing more: a request is checked at its start.
const LIFETIME_SECONDS: i64 = 300;

/// A token is shown again until this many seconds before its end.
const RENEW_SECONDS: i64 = 60;

/// Makes signed tokens for one plane to show to another, or shows the opaque key.
pub struct Minter {
    source: Source,
}

enum Source {
    Signed {
        signer: Signer,
        issuer: Option<String>,
        audience: Option<String>,
        subject: String,
        /// The last token and when to make the next one.
        last: Mutex<Option<(String, Timestamp)>>,
    },
    Key(String),
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
            source: Source::Signed {
                signer: Signer::new(secret),
                issuer,
                audience,
                subject: subject.to_owned(),
                last: Mutex::new(None),
            },
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
        let Source::Signed {
            signer,
            issuer,
            audience,
            subject,
            last,
        } = &self.source
        else {
            let Source::Key(key) = &self.source else {
                return String::new();
            };
            return format!("Bearer {key}");
        };
        let mut last = last.lock();
        if let Some((header, renew_at)) = &*last
            && now < *renew_at
        {
            return header.clone();
        }
        let expires = now.plus_seconds(LIFETIME_SECONDS);
        // Whole seconds, as every reader of tokens knows them.
        let exp = expires.as_micros().div_euclid(1_000_000);
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
        let claims = Claims {
            exp: exp as f64,
            iss: issuer.clone(),
            aud: audience.clone().map(Audience::One),
            sub: Some(subject.clone()),
            ..Claims::default()
        };
        // Nothing in these claims can fail to be written.
        let token = signer.sign(&claims).unwrap_or_default();
        let header = format!("Bearer {token}");
        *last = Some((header.clone(), expires.plus_seconds(-RENEW_SECONDS)));
        header
    }
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.source {
            Source::Signed { .. } => "signed",
            Source::Key(_) => "opaque",
        };
        f.debug_tuple("Minter").field(&kind).finish()
    }
}
