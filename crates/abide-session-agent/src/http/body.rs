//! Reading requests as leniently as runtime-routing clients expect: field names in any case,
//! unknown ones ignored, no matter what content type; and every error a 400 that names the field.

use abide_model::{Problem, ProblemCode, RegisterSession, RunStep, SESSION_TOKEN_HEADER};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::App;
use super::error::ApiError;
use crate::host::Credentials;

/// Longest limit of a step, in milliseconds: thirty days.
const MAX_TIMEOUT_MS: u64 = 30 * 86_400_000;

/// A request's whole body.
#[derive(Debug)]
pub(super) struct Whole(pub(super) Bytes);

impl FromRequest<App> for Whole {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.config.max_body_bytes;
        DefaultBodyLimit::max(limit).apply(&mut request);
        let read = Bytes::from_request(request, app).await;
        read.map(Self).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message =
                    format!("the body has more than {limit} bytes, which is the limit (max_body)");
                return ApiError(Problem::new(ProblemCode::BodyTooLarge, message));
            }
            // Nobody may be left to read this.
            ApiError(bad_request("the body did not arrive whole"))
        })
    }
}

/// The session token and the agent's secret that a request carries.
pub(super) fn credentials(headers: &HeaderMap) -> Credentials {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| secret.trim().to_owned())
    });
    Credentials {
        token: text(SESSION_TOKEN_HEADER)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty()),
        secret: bearer,
    }
}

/// The fields of a JSON object. Names are compared without case and without underscores.
#[derive(Debug)]
pub struct Fields {
    fields: Map<String, Value>,
    place: &'static str,
}

impl Fields {
    /// Parses a body.
    pub fn of_body(body: &[u8]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(body).map_err(|error| Problem {
            status: 400,
            ..Problem::new(
                ProblemCode::InvalidJson,
                format!("the body is not JSON: {error}"),
            )
        })?;
        let Value::Object(sent) = value else {
            return Err(bad_request("the body must be a JSON object"));
        };
        let fields = sent.into_iter().map(|(name, value)| (plain(&name), value));
        Ok(Self {
            fields: fields.collect(),
            place: "body",
        })
    }

    /// The parameters of a query string; of repeated ones the last counts.
    pub fn of_query(query: Option<&str>) -> Self {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default();
        let fields = pairs
            .into_iter()
            .map(|(name, value)| (plain(&name), Value::String(value)));
        Self {
            fields: fields.collect(),
            place: "query",
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields
            .remove(&plain(name))
            .filter(|value| !value.is_null())
    }

    /// The problem of a field that is there and wrong.
    pub fn wrong(&self, name: &str, wrong: &str, value: &Value) -> Problem {
        let mut problem = crate::host::invalid(name, wrong, &value.to_string());
        if let Some(place) = problem.detail.pointer_mut("/0/loc/0") {
            *place = self.place.into();
        }
        problem
    }

    /// A text; empty where it is not there.
    pub fn text(&mut self, name: &str) -> Result<String, Problem> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, "must be a string", &other)),
        }
    }

    /// A text that must say something.
    pub fn required(&mut self, name: &str) -> Result<String, Problem> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            return Err(self.wrong(name, "is required", &Value::Null));
        }
        Ok(text)
    }

    /// A whole number of at most `max`, as a number or as text.
    pub fn number(&mut self, name: &str, max: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        match number {
            Some(number) if number <= max => Ok(Some(number)),
            _ if max == u64::MAX => Err(self.wrong(name, "must be a whole number", &value)),
            _ => Err(self.wrong(
                name,
                &format!("must be a whole number of at most {max}"),
                &value,
            )),
        }
    }

    /// `1`, `true` or nothing for yes; `0` or `false` for no.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, Problem> {
        let Some(value) = self.take(name) else {
            return Ok(default);
        };
        match value.as_str() {
            Some("true" | "1" | "") => Ok(true),
            Some("false" | "0") => Ok(false),
            _ => Err(self.wrong(name, "must be 1 or 0", &value)),
        }
    }

    /// `true` or `false`, as JSON or as text.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => Err(self.wrong(name, "must be true or false", &other)),
        }
    }

    /// A text that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        wrong: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_str().and_then(parse) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(self.wrong(name, wrong, &value)),
            },
        }
    }
}

/// `POST /v1/sessions`
pub(super) fn register(body: &[u8]) -> Result<RegisterSession, Problem> {
    let mut fields = Fields::of_body(body)?;
    Ok(RegisterSession {
        session_id: fields.required("sessionId")?,
        runtime: fields.required("runtime")?,
        token: fields.text("token")?,
        workspace_dir: fields.text("workspaceDir")?,
        interpreter: fields.boolean("interpreter")?,
    })
}

/// `POST /v1/steps`
pub(super) fn run_step(body: &[u8]) -> Result<RunStep, Problem> {
    let mut fields = Fields::of_body(body)?;
    let limit = |fields: &mut Fields, name| {
        let limit = fields.number(name, MAX_TIMEOUT_MS)?;
        match limit {
            Some(0) => Err(fields.wrong(name, "must be at least 1", &Value::from(0))),
            limit => Ok(limit),
        }
    };
    Ok(RunStep {
        session_id: fields.required("sessionId")?,
        step_id: fields.required("stepId")?,
        code: fields.required("code")?,
        timeout_ms: limit(&mut fields, "timeoutMs")?,
        queue_timeout_ms: limit(&mut fields, "queueTimeoutMs")?,
        stdin: Some(fields.text("stdin")?).filter(|stdin| !stdin.is_empty()),
    })
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn bad_request(message: &str) -> Problem {
    Problem {
        status: 400,
        ..Problem::new(ProblemCode::InvalidInput, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_and_errors_with_the_name() {
        let step = run_step(
            br#"{"SESSIONID": "s", "step_id": "t", "Code": "x", "timeoutMs": 5, "runtime": "ignored",
                 "extra": [1], "stdin": null}"#,
        )
        .unwrap();
        assert_eq!(
            (step.session_id.as_str(), step.step_id.as_str()),
            ("s", "t")
        );
        assert_eq!((step.timeout_ms, step.stdin), (Some(5), None));
        for (body, name) in [
            (r#"{}"#, "sessionId"),
            (
                r#"{"sessionId": " ", "stepId": "t", "code": "x"}"#,
                "sessionId",
            ),
            (r#"{"sessionId": "s", "code": "x"}"#, "stepId"),
            (r#"{"sessionId": "s", "stepId": "t", "code": "\n"}"#, "code"),
            (r#"{"sessionId": "s", "stepId": 1, "code": "x"}"#, "stepId"),
            (
                r#"{"sessionId": "s", "stepId": "t", "code": "x", "timeoutMs": 0}"#,
                "timeoutMs",
            ),
            (
                r#"{"sessionId": "s", "stepId": "t", "code": "x", "timeoutMs": -1}"#,
                "timeoutMs",
            ),
            ("null", "object"),
            ("[]", "object"),
            ("", "JSON"),
            ("{", "JSON"),
        ] {
            let problem = run_step(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status, 400, "{body}");
            assert!(
                problem.message.contains(name),
                "{body}: {}",
                problem.message
            );
        }
    }
}
