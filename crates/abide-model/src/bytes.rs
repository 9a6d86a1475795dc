//! Bytes in JSON: as the text that they are, or one character for each where they are no text.
//!
//! Output is text nearly always, and a list of numbers would be four times as long.

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserializer, Serializer};

/// Key of bytes that are no text: each stands as the character of its number (ISO 8859-1).
const LATIN_1: &str = "latin1";

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(LATIN_1, &text)?;
            map.end()
        }
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(Bytes)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a text, or an object with {LATIN_1:?}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Vec<u8>, E> {
        Ok(text.into_bytes())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = None;
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            if key == LATIN_1 {
                let all: Result<_, _> = text.chars().map(u8::try_from).collect();
                bytes = Some(all.map_err(A::Error::custom)?);
            }
        }
        bytes.ok_or_else(|| A::Error::missing_field(LATIN_1))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One(#[serde(with = "super")] Vec<u8>);

    #[test]
    fn text_stays_text_and_every_byte_comes_back() {
        let wire = serde_json::to_string(&One("grün\n".into())).unwrap();
        assert_eq!(wire, r#""grün\n""#);
        for bytes in [
            vec![],
            (0..=255).collect::<Vec<u8>>(),
            b"cut \xf0\x9f".to_vec(),
        ] {
            let one = One(bytes);
            let wire = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<One>(&wire).unwrap(), one, "{wire}");
        }
        assert!(serde_json::from_str::<One>(r#"{"latin1": "\u0100"}"#).is_err());
    }
}
