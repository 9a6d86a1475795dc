//! Request bodies and queries, field by field, so that an error names every field that is wrong.

use std::collections::BTreeMap;

use abide_model::{FieldError, JsonObject, Problem, ProblemCode};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::App;
use super::error::ApiError;

/// Longest offending value that an error repeats, in bytes.
const ECHO_BYTES: usize = 256;

/// A request's whole body, of whatever content type.
#[derive(Debug)]
pub(super) struct Whole(pub(super) Bytes);

impl FromRequest<App> for Whole {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.config.max_body_bytes;
        DefaultBodyLimit::max(limit).apply(&mut request);
        let read = Bytes::from_request(request, app).await;
        read.map(Self).map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            ApiError(if too_large {
                Problem::new(
                    ProblemCode::BodyTooLarge,
                    format!("the body has more than {limit} bytes, which is the limit (max_body)"),
                )
            } else {
                // Nobody may be left to read this.
                Problem::new(ProblemCode::InvalidInput, "the body did not arrive whole")
            })
        })
    }
}

/// The fields of a JSON object that have not been taken yet, and what was wrong so far.
///
/// Unknown fields are ignored; of duplicate ones the last counts. The content type is not
/// looked at: every request that gets here carries a key, which no web form can add.
#[derive(Debug)]
pub(super) struct Fields {
    fields: BTreeMap<String, Box<RawValue>>,
    errors: Vec<FieldError>,
    place: &'static str,
}

impl Fields {
    /// Parses a body. An empty one counts as `{}`.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, Problem> {
        let body = if body.trim_ascii().is_empty() {
            b"{}"
        } else {
            body
        };
        let object: &RawValue = serde_json::from_slice(body).map_err(|error| {
            let at = if error.is_eof() {
                body.len()
            } else {
                offset_of(body, error.line(), error.column())
            };
            let message = format!("the body is not JSON: {error}");
            Problem {
                detail: serde_json::json!([{
                    "type": "json_invalid", "loc": ["body", at], "msg": error.to_string(), "input": {}
                }]),
                ..Problem::new(ProblemCode::InvalidJson, message)
            }
        })?;
        let fields = serde_json::from_str(object.get()).map_err(|_| {
            Problem::invalid(&[FieldError {
                kind: "model_attributes_type".to_owned(),
                loc: vec!["body".to_owned()],
                msg: "must be a JSON object".to_owned(),
                input: echo(object),
            }])
        })?;
        Ok(Self {
            fields,
            errors: Vec::new(),
            place: "body",
        })
    }

    /// The parameters of a query string; of repeated ones the last counts.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default();
        let fields = pairs
            .into_iter()
            .filter_map(|(name, value)| {
                let value = serde_json::value::to_raw_value(&value).ok()?;
                Some((name, value))
            })
            .collect();
        Self {
            fields,
            errors: Vec::new(),
            place: "query",
        }
    }

    /// Notes a field that is wrong.
    pub(super) fn wrong(
        &mut self,
        name: &str,
        kind: &str,
        msg: impl Into<String>,
        input: serde_json::Value,
    ) {
        self.errors.push(FieldError {
            kind: kind.to_owned(),
            loc: vec![self.place.to_owned(), name.to_owned()],
            msg: msg.into(),
            input,
        });
    }

    /// The field under the first of `names` that is there. `null` counts as there.
    fn take(&mut self, names: &[&'static str]) -> Option<(&'static str, Box<RawValue>)> {
        let found = names
            .iter()
            .find_map(|name| Some((*name, self.fields.remove(*name)?)));
        for name in names {
            self.fields.remove(*name);
        }
        found
    }

    /// Whether the field was sent, `null` or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// A field parsed by `parse`, which says what would be right; `null` is none.
    fn parsed<T>(
        &mut self,
        names: &[&'static str],
        kind: &str,
        parse: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        let (name, raw) = self.take(names)?;
        if raw.get() == "null" {
            return None;
        }
        parse(&raw)
            .map_err(|msg| self.wrong(name, kind, msg, echo(&raw)))
            .ok()
    }

    /// A string of at most `max` characters.
    pub(super) fn string(&mut self, names: &[&'static str], max: usize) -> Option<String> {
        self.parsed(names, "string_type", |raw| {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|_| "must be a string".to_owned())?;
            if text.chars().count() > max {
                return Err(format!("must have at most {max} characters"));
            }
            Ok(text)
        })
    }

    /// A string like [`Self::string`], for a field that may be left out but not `null`.
    pub(super) fn string_not_null(&mut self, names: &[&'static str], max: usize) -> Option<String> {
        let null = |name: &&str| {
            self.fields
                .get(*name)
                .is_some_and(|raw| raw.get() == "null")
        };
        if let Some(name) = names.iter().copied().find(null) {
            self.wrong(
                name,
                "string_type",
                "must be a string",
                serde_json::Value::Null,
            );
        }
        self.string(names, max)
    }

    /// A string that `parse` understands.
    pub(super) fn text<T>(
        &mut self,
        names: &[&'static str],
        kind: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed(names, kind, |raw| {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|_| "must be a string".to_owned())?;
            parse(&text)
        })
    }

    /// A UUID in any spelling.
    pub(super) fn uuid(&mut self, names: &[&'static str]) -> Option<Uuid> {
        self.text(names, "uuid_parsing", parse_uuid)
    }

    /// A member of a closed set; `all` is for the message.
    pub(super) fn one_of<T>(
        &mut self,
        name: &'static str,
        parse: fn(&str) -> Option<T>,
        all: &[&str],
    ) -> Option<T> {
        self.text(&[name], "enum", |text| {
            parse(text).ok_or_else(|| format!("must be one of {}", all.join(", ")))
        })
    }

    /// A JSON object, kept as it was sent. `null` is an error here; see [`Self::object_or_null`].
    ///
    /// What common parsers refuse to read (half a surrogate pair, a number beyond a double, very
    /// deep nesting) is refused here, so that one client cannot make a record, and every list
    /// with it, unreadable for the others.
    pub(super) fn object(&mut self, name: &'static str) -> Option<JsonObject> {
        let (_, raw) = self.take(&[name])?;
        let input = echo(&raw);
        let unreadable = serde_json::from_str::<serde_json::Value>(raw.get()).err();
        match (JsonObject::from_raw(raw), unreadable) {
            (Ok(object), None) => Some(object),
            (Ok(_), Some(error)) => {
                let msg = format!("could not be read back: {error}");
                self.wrong(name, "value_error", msg, input);
                None
            }
            (Err(_), _) => {
                self.wrong(name, "dict_type", "must be a JSON object", input);
                None
            }
        }
    }

    /// A JSON object; `null` is none.
    pub(super) fn object_or_null(&mut self, name: &'static str) -> Option<JsonObject> {
        if self.fields.get(name).is_some_and(|raw| raw.get() == "null") {
            self.fields.remove(name);
            return None;
        }
        self.object(name)
    }

    /// An integer from `min` to `max`, as a JSON number or as text.
    pub(super) fn integer(&mut self, names: &[&'static str], min: i64, max: i64) -> Option<i64> {
        self.parsed(names, "int_parsing", |raw| {
            let text = raw.get().trim_matches('"');
            match text.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(number),
                _ if max == i64::MAX => Err(format!("must be an integer of at least {min}")),
                _ => Err(format!("must be an integer from {min} to {max}")),
            }
        })
    }

    /// `true`, `false`, `1` or `0`.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.parsed(&[name], "bool_parsing", |raw| {
            match raw.get().trim_matches('"') {
                "true" | "1" | "" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err("must be true or false".to_owned()),
            }
        })
    }

    /// Whatever JSON was sent.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<Box<RawValue>> {
        self.take(&[name])
            .map(|(_, raw)| raw)
            .filter(|raw| raw.get() != "null")
    }

    /// A required field.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        take: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let before = self.errors.len();
        let value = take(self);
        if value.is_none() && self.errors.len() == before {
            self.wrong(name, "missing", "Field required", serde_json::Value::Null);
        }
        value
    }

    /// Ends the parsing: all errors at once, if there are any.
    pub(super) fn done(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(&self.errors))
        }
    }
}

/// A UUID in a path.
pub(super) fn path_uuid(name: &str, text: &str) -> Result<Uuid, Problem> {
    parse_uuid(text).map_err(|msg| {
        Problem::invalid(&[FieldError {
            kind: "uuid_parsing".to_owned(),
            loc: vec!["path".to_owned(), name.to_owned()],
            msg: if name == "session_id" {
                format!("{msg} or the name of a session")
            } else {
                msg
            },
            input: text.chars().take(ECHO_BYTES).collect::<String>().into(),
        }])
    })
}

fn parse_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text.trim()).map_err(|_| "must be a UUID".to_owned())
}

/// The offending value, if it is short.
fn echo(raw: &RawValue) -> serde_json::Value {
    if raw.get().len() > ECHO_BYTES {
        return serde_json::Value::String(format!("({} bytes of JSON)", raw.get().len()));
    }
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().into())
}

fn offset_of(body: &[u8], line: usize, column: usize) -> usize {
    let before: usize = body
        .split(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(|l| l.len() + 1)
        .sum();
    (before + column).saturating_sub(1).min(body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let body = br#"{"agent_id": "x", "context": null, "limit": -1, "name": 5, "unknown": 1}"#;
        let mut fields = Fields::of_body(body).unwrap();
        assert_eq!(fields.uuid(&["agent_id"]), None);
        assert_eq!(fields.object("context"), None);
        assert_eq!(fields.integer(&["limit"], 0, 100), None);
        assert_eq!(fields.string(&["name"], 10), None);
        assert_eq!(fields.required("code", |f| f.string(&["code"], 10)), None);
        let problem = fields.done().unwrap_err();
        assert_eq!(problem.status, 422);
        let kinds: Vec<_> = problem
            .detail
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["type"])
            .collect();
        assert_eq!(
            kinds,
            [
                "uuid_parsing",
                "dict_type",
                "int_parsing",
                "string_type",
                "missing"
            ]
        );
        assert_eq!(
            problem.detail[0]["loc"],
            serde_json::json!(["body", "agent_id"])
        );
    }

    #[test]
    fn what_is_not_an_object_is_told_apart_from_what_is_not_json() {
        assert_eq!(Fields::of_body(b"[1]").unwrap_err().code, "invalid_input");
        assert_eq!(
            Fields::of_body(b"{\"a\": NaN}").unwrap_err().code,
            "invalid_json"
        );
        assert!(Fields::of_body(b" ").is_ok());
    }
}
