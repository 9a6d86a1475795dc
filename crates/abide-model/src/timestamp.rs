//! Points in time as records and the wire carry them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// UTC with microsecond precision; on the wire RFC 3339 with six fraction digits and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// The wall clock, truncated to the precision that is stored.
    pub fn now() -> Self {
        Self {
            micros: jiff::Timestamp::now().as_microsecond(),
        }
    }

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.micros
    }

    /// This time plus `seconds`, saturating.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self {
            micros: self
                .micros
                .saturating_add(seconds.saturating_mul(1_000_000)),
        }
    }

    /// Parses RFC 3339; a time without a zone is taken as UTC.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>()
            .or_else(|_| format!("{text}Z").parse())
            .ok()
            .map(|t| Self {
                micros: t.as_microsecond(),
            })
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(self.micros) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000000Z"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let time = Timestamp::from_micros(1_795_000_000_000_042);
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert!(time.to_string().ends_with(".000042Z"), "{time}");
        let whole = Timestamp::from_micros(1_795_000_000_000_000);
        assert!(whole.to_string().ends_with(".000000Z"), "{whole}");
    }
}
