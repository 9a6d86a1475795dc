//! What is promised is committed: the OpenAPI document, events, metrics and problems.

use std::fmt::Write as _;

use abide_control_plane::METRIC_NAMES;
use abide_model::{EventKind, ProblemCode};

use crate::abide::Place;
use crate::pages::compare;

#[test]
fn openapi_document() {
    let said = Place::new().run(&["openapi"]);
    said.check(0, "");
    // Written as `cargo xtask openapi` writes it.
    let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let text = serde_json::to_string_pretty(&document).unwrap();
    compare("openapi.json", &format!("{text}\n"));
}

#[test]
fn event_catalogue() {
    let mut text = "# Events\n\n\
        <!-- Made from `abide_model::EventKind`; a test compares it. -->\n\n\
        Each is written in the same transaction as the change it tells of, with a sequence number \
        that grows\nin the order of commits. `GET /events` reads and follows them. Clients may \
        append events of types\nof their own.\n\n\
        | type | meaning |\n|---|---|\n"
        .to_owned();
    for kind in EventKind::ALL {
        let _ = writeln!(text, "| `{kind}` | {} |", kind.meaning());
    }
    compare("events.md", &text);
}

#[test]
fn metrics() {
    let mut text = "# Metrics\n\n\
        <!-- Made from the `METRIC_NAMES` of the planes; a test compares it. -->\n\n\
        `GET /metrics` serves them as OpenMetrics text, without a key.\n\n\
        | name | meaning |\n|---|---|\n"
        .to_owned();
    let planes = [
        METRIC_NAMES,
        abide_data_plane::METRIC_NAMES,
        abide_session_agent::METRIC_NAMES,
    ];
    for (name, meaning) in planes.concat() {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    compare("metrics.md", &text);
}

#[test]
fn problems() {
    let mut text = "# Problems\n\n\
        <!-- Made from `abide_model::ProblemCode`; a test compares it. -->\n\n\
        Every error is a problem document (RFC 9457) with one of these codes in `code` and \
        `error`. The same\nrequest may succeed later, unchanged, only where it is said to be \
        retryable.\n\n\
        | code | status | retryable | number | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for code in ProblemCode::ALL {
        let retryable = if code.retryable() { "yes" } else { "no" };
        let (name, status, number) = (code.as_str(), code.status(), code.number());
        let meaning = code.meaning();
        let _ = writeln!(
            text,
            "| `{name}` | {status} | {retryable} | {number} | {meaning} |"
        );
    }
    compare("problems.md", &text);
}
