//! Picks the spans of steps out of everything that is told to `tracing`.
//!
//! Such a span carries `trace_id` and `span_id`, and `parent_id` unless the trace begins with it. What
//! is told inside it with an `outcome` describes it further: its fields become the span's. A warning
//! tells of an attempt that did not come through, which becomes a span of its own beneath.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use abide_session_agent::http::trace::SpanId;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// A span as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) name: &'static str,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    /// Empty: the trace begins with it.
    pub(super) parent_id: String,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// See the module.
pub(in crate::serve) struct SpanLayer {
    queue: mpsc::Sender<Finished>,
    dropped: Arc<AtomicU64>,
}

/// Whether a span or an event means something here.
pub(in crate::serve) fn is_told(about: &Metadata<'_>) -> bool {
    let has = |name| about.fields().field(name).is_some();
    if about.is_span() {
        has("trace_id") && has("span_id")
    } else {
        has("outcome")
    }
}

impl SpanLayer {
    pub(super) const fn new(queue: mpsc::Sender<Finished>, dropped: Arc<AtomicU64>) -> Self {
        Self { queue, dropped }
    }

    fn send(&self, span: Finished) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A span that has not ended, and when the attempt under way began.
struct Open {
    span: Finished,
    attempt_began: SystemTime,
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let now = SystemTime::now();
        let mut span = Finished {
            name: attributes.metadata().name(),
            trace_id: String::new(),
            span_id: String::new(),
            parent_id: String::new(),
            start: now,
            end: now,
            attributes: Vec::new(),
        };
        attributes.record(&mut span);
        // Without an id of its own it is not to be recorded.
        if let Some(place) = context.span(id).filter(|_| !span.span_id.is_empty()) {
            place.extensions_mut().insert(Open {
                span,
                attempt_began: now,
            });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(place) = context.span(id)
            && let Some(open) = place.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.span);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for place in context.event_scope(event).into_iter().flatten() {
            let mut extensions = place.extensions_mut();
            let Some(open) = extensions.get_mut::<Open>() else {
                continue;
            };
            if *event.metadata().level() == Level::WARN {
                let now = SystemTime::now();
                let mut attempt = Finished {
                    name: "attempt",
                    span_id: SpanId::random().to_string(),
                    parent_id: open.span.span_id.clone(),
                    start: std::mem::replace(&mut open.attempt_began, now),
                    end: now,
                    attributes: Vec::new(),
                    ..open.span.clone()
                };
                event.record(&mut attempt);
                self.send(attempt);
            } else {
                event.record(&mut open.span);
            }
            return;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(place) = context.span(&id)
            && let Some(Open { mut span, .. }) = place.extensions_mut().remove::<Open>()
        {
            span.end = SystemTime::now();
            self.send(span);
        }
    }
}

impl Finished {
    fn set(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match (name, value) {
            ("trace_id", Value::Text(id)) => self.trace_id = id,
            ("span_id", Value::Text(id)) => self.span_id = id,
            ("parent_id", Value::Text(id)) => self.parent_id = id,
            ("message", _) => {}
            (_, value) => match self.attributes.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => self.attributes.push((name, value)),
            },
        }
    }
}

impl Visit for Finished {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Number(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.set(field, Value::Number(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }
}
