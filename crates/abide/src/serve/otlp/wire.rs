//! Spans as an `ExportTraceServiceRequest` in JSON: OTLP 1.x, "JSON Protobuf Encoding".

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::layer::{Finished, Value};

/// `SPAN_KIND_SERVER`: the plane does it for whoever asked.
const SERVER: u8 = 2;

/// One request with these spans of one service.
pub(super) fn request(service: &str, spans: &[Finished]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [
                text("service.name", service),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ] },
            "scopeSpans": [{ "scope": { "name": "abide" }, "spans": spans }],
        }]
    })
}

fn span(span: &Finished) -> Json {
    let attributes = span.attributes.iter().map(|(name, value)| match value {
        Value::Text(value) => text(name, value),
        // 64-bit integers are text in this encoding.
        Value::Number(value) => json!({ "key": name, "value": { "intValue": value.to_string() } }),
    });
    let mut told = json!({
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes.collect::<Vec<_>>(),
    });
    if !span.parent_id.is_empty() {
        told["parentSpanId"] = span.parent_id.as_str().into();
    }
    told
}

fn text(name: &str, value: &str) -> Json {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn nanos(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}
