//! What identifies a request across the planes: its id and its W3C trace context.

/// Longest request id that is taken over.
const LONGEST_ID: usize = 128;

/// Carries a request's id.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Carries the trace context (W3C Trace Context, level 1).
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// A request's names, as they go on to the plane below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The caller's request id, or one of ours.
    pub request_id: String,
    /// 32 hex digits: the whole trace.
    pub trace_id: String,
    /// 16 hex digits: this plane's part of it.
    pub span_id: String,
    /// Whether the caller records the trace.
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
        let (trace_id, sampled) = traceparent
            .and_then(parse)
            .unwrap_or_else(|| (format!("{:032x}", fastrand::u128(1..)), false));
        Self {
            request_id,
            trace_id,
            span_id: format!("{:016x}", fastrand::u64(1..)),
            sampled,
        }
    }

    /// The header for the plane below.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// Trace id and sampled flag of a `traceparent`; versions above 00 may carry more at the end.
fn parse(header: &str) -> Option<(String, bool)> {
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
        && trace.bytes().any(|b| b != b'0')
        && hex(span, 16)
        && span.bytes().any(|b| b != b'0')
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    let flags = u8::from_str_radix(flags, 16).ok()?;
    sound.then(|| (trace.to_owned(), flags & 1 == 1))
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
        let next = context.traceparent();
        assert!(next.starts_with(&format!("00-{trace}-")) && next.ends_with("-01"));
        assert_ne!(next, sent);
        assert_eq!(parse(&next), Some((trace.to_owned(), true)));
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
