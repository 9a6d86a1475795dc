//! What identifies a request across the planes: its id and its W3C trace context.

use std::fmt;

use axum::http::HeaderMap;
use tracing::field::{DisplayValue, display};

/// Longest request id that is taken over.
const LONGEST_ID: usize = 128;

/// Carries a request's id.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Carries the trace context (W3C Trace Context, level 1).
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Names a trace, over all planes. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// Names a part of a trace. Shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(u64);

/// A request's names, as they go on to the plane below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The caller's request id, or one of ours.
    pub request_id: String,
    /// The whole trace.
    pub trace_id: TraceId,
    /// The caller's part of it, if there is a caller who said so.
    pub parent_id: Option<SpanId>,
    /// This plane's part of it.
    pub span_id: SpanId,
    /// Whether it is to be recorded; what a caller does not want recorded is not.
    pub sampled: bool,
}

impl TraceContext {
    /// Goes on with what the caller sent, where that is sensible, and makes up the rest.
    pub fn new(request_id: Option<&str>, traceparent: Option<&str>) -> Self {
        let request_id = request_id
            .filter(|id| {
                (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
            })
            .map_or_else(
                || abide_model::new_uuid().simple().to_string(),
                str::to_owned,
            );
        let sent = traceparent.and_then(parse);
        let (trace_id, parent_id, sampled) = match sent {
            Some((trace, parent, sampled)) => (trace, Some(parent), sampled),
            None => (TraceId(fastrand::u128(1..)), None, true),
        };
        Self {
            request_id,
            trace_id,
            parent_id,
            span_id: SpanId::random(),
            sampled,
        }
    }

    /// That of a request with these headers.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self::new(text(REQUEST_ID_HEADER), text(TRACEPARENT_HEADER))
    }

    /// Another part of the same trace, beside this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            ..self.clone()
        }
    }

    /// The header for the plane below.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }

    /// This plane's part as a field of a span that is to be recorded; none for others.
    pub fn recorded(&self) -> Option<DisplayValue<SpanId>> {
        self.sampled.then(|| display(self.span_id))
    }

    /// The caller's part as a field of a span.
    pub fn parent(&self) -> Option<DisplayValue<SpanId>> {
        self.parent_id.map(display)
    }
}

impl SpanId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Trace id, span id and sampled flag of a `traceparent`; versions above 00 may carry more at the
/// end.
fn parse(header: &str) -> Option<(TraceId, SpanId, bool)> {
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let sound = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    if !sound {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((TraceId(trace), SpanId(span), flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_context_is_gone_on_with_under_a_span_of_our_own() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let sent = format!("00-{trace}-b7ad6b7169203331-01");
        let context = TraceContext::new(Some("abc"), Some(&sent));
        assert_eq!(context.request_id, "abc");
        assert_eq!(context.trace_id.to_string(), trace);
        let parent = context.parent_id.map(|id| id.to_string());
        assert_eq!(parent.as_deref(), Some("b7ad6b7169203331"));
        let next = context.traceparent();
        assert!(next.starts_with(&format!("00-{trace}-")) && next.ends_with("-01"));
        assert_ne!(next, sent);
        assert_eq!(
            parse(&next),
            Some((context.trace_id, context.span_id, true))
        );
        let beside = context.beside();
        assert_eq!(
            (beside.trace_id, beside.parent_id),
            (context.trace_id, context.parent_id)
        );
        assert_ne!(beside.span_id, context.span_id);
    }

    #[test]
    fn an_unsound_one_is_replaced() {
        for sent in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é1",
        ] {
            assert_eq!(parse(sent), None, "{sent}");
            let context = TraceContext::new(Some("a b"), Some(sent));
            assert!(parse(&context.traceparent()).is_some());
            assert_eq!(context.request_id.len(), 32);
        }
    }
}
