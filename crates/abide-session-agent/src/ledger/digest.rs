//! Telling the code of two steps apart without keeping it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The first half of the SHA-256 of a step's code: enough to tell that an id is used for other
/// code by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeDigest(pub(super) [u8; 16]);

impl CodeDigest {
    pub(crate) fn of(code: &str) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest(code)[..16]);
        Self(half)
    }
}

impl Serialize for CodeDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for CodeDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(serde::de::Error::custom)
    }
}
