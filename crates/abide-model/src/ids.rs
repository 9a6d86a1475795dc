//! Identifiers: newtypes over UUIDs, made as UUIDv7 so that they sort by time.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A fresh UUIDv7 (RFC 9562): time-ordered, monotonic within this process.
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

/// Text that is not a UUID in any accepted spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: {0:?}")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh, time-ordered id.
            pub fn new() -> Self {
                Self(new_uuid())
            }

            /// Accepts any case, with or without hyphens, and in braces; displays canonically.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text.trim())
                    .map(Self)
                    .map_err(|_| InvalidId(text.chars().take(64).collect()))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

id! {
    /// A registered [`crate::Agent`].
    AgentId
}
id! {
    /// A [`crate::Session`].
    SessionId
}
id! {
    /// A [`crate::Step`]. Chosen by the client or made by the control plane before the step
    /// leaves it; a step id is executed at most once.
    StepId
}
id! {
    /// A [`crate::Worker`].
    WorkerId
}
id! {
    /// A [`crate::Job`].
    JobId
}
id! {
    /// An [`crate::Event`].
    EventId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_uuid_are_one_id() {
        let canonical = "0191e7a0-7c1e-7000-8000-00000000002a";
        for spelling in [
            canonical.to_owned(),
            canonical.to_uppercase(),
            canonical.replace('-', ""),
            format!("{{{canonical}}}"),
        ] {
            assert_eq!(
                SessionId::parse(&spelling).map(|id| id.to_string()),
                Ok(canonical.to_owned())
            );
        }
        assert!(SessionId::parse("demo").is_err());
    }
}
