//! Client-supplied JSON kept exactly as it was sent.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON object kept as the text the client sent: key order, number spelling and integers of
/// any size survive. Duplicate keys are kept too; readers see the last one, as usual.
#[derive(Debug, Clone)]
pub struct JsonObject(Box<RawValue>);

/// JSON of another kind than an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON object")]
pub struct NotAnObject;

impl JsonObject {
    /// `{}`
    pub fn empty() -> Self {
        #[expect(clippy::unwrap_used, reason = "a constant that is valid JSON")]
        Self(RawValue::from_string("{}".to_owned()).unwrap())
    }

    /// Takes a value that serde has already checked to be JSON.
    pub fn from_raw(raw: Box<RawValue>) -> Result<Self, NotAnObject> {
        if raw.get().trim_start().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err(NotAnObject)
        }
    }

    /// Parses text; an error for anything but a JSON object.
    pub fn from_text(text: String) -> Result<Self, NotAnObject> {
        RawValue::from_string(text)
            .map_err(|_| NotAnObject)
            .and_then(Self::from_raw)
    }

    /// Serialises a value that must come out as an object.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, NotAnObject> {
        Self::from_text(value.to_string())
    }

    /// The text as it was sent.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Parsed into a tree (numbers beyond 64 bits become floats).
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonObject {}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer)
            .and_then(|raw| Self::from_raw(raw).map_err(serde::de::Error::custom))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_to_the_letter() {
        let text = r#"{"b": 1.10, "a": 123456789012345678901234567890}"#;
        let object: JsonObject = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
    }

    #[test]
    fn only_objects() {
        for text in ["[]", "1", "null", "\"{\"", "{"] {
            assert!(JsonObject::from_text(text.to_owned()).is_err(), "{text}");
        }
    }
}
