//! Prometheus metrics. Label sets are closed, so their number cannot run away.

use std::fmt::Write as _;

use abide_model::StepOutcome;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Every metric's name as `/metrics` shows it, with what it means; `docs/metrics.md` is this list.
pub const METRIC_NAMES: &[(&str, &str)] = &[
    ("abide_steps_total", "Steps that ended, by terminal status"),
    (
        "abide_step_duration_seconds",
        "From hand-over to the interpreter to its end",
    ),
    (
        "abide_step_output_bytes_total",
        "Bytes that steps wrote, by stream",
    ),
    (
        "abide_http_requests_total",
        "Requests answered, by route, method and status",
    ),
    (
        "abide_http_request_duration_seconds",
        "From request head to response head, by route",
    ),
    ("abide_sessions", "Sessions stored"),
    (
        "abide_interpreters",
        "Live interpreters that belong to sessions",
    ),
    ("abide_warm_interpreters", "Idle interpreters, by runtime"),
    ("abide_running_steps", "Interpreters at work"),
    ("abide_queued_steps", "Steps that wait behind others"),
    ("abide_event_sequence", "Sequence number of the last event"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    stream: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuntimeLabel {
    runtime: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: String,
    method: String,
    status: u16,
}

/// What changes from moment to moment; read when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: u64,
    pub(crate) interpreters: usize,
    pub(crate) warm_python: usize,
    pub(crate) warm_node: usize,
    pub(crate) running_steps: usize,
    pub(crate) queued_steps: usize,
    pub(crate) event_sequence: i64,
}

/// The registry and what it holds.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    steps: Family<StatusLabel, Counter>,
    step_duration: Histogram,
    output: Family<StreamLabel, Counter>,
    requests: Family<RequestLabel, Counter>,
    request_duration: Family<RouteLabel, Histogram>,
    sessions: Gauge,
    interpreters: Gauge,
    warm: Family<RuntimeLabel, Gauge>,
    running: Gauge,
    queued: Gauge,
    sequence: Gauge,
}

/// 0.1 ms to 100 s, three a decade.
const DURATIONS: [f64; 19] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0, 50.0, 100.0,
];

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("abide"),
            steps: Family::default(),
            step_duration: durations(),
            output: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
            sessions: Gauge::default(),
            interpreters: Gauge::default(),
            warm: Family::default(),
            running: Gauge::default(),
            queued: Gauge::default(),
            sequence: Gauge::default(),
        };
        let help = |name: &str| {
            METRIC_NAMES
                .iter()
                .find(|(known, _)| known.contains(name))
                .map_or("", |(_, help)| help)
        };
        let r = &mut this.registry;
        r.register("steps", help("steps_total"), this.steps.clone());
        let seconds = Unit::Seconds;
        r.register_with_unit(
            "step_duration",
            help("step_duration"),
            seconds.clone(),
            this.step_duration.clone(),
        );
        r.register_with_unit(
            "step_output",
            help("output"),
            Unit::Bytes,
            this.output.clone(),
        );
        r.register(
            "http_requests",
            help("http_requests"),
            this.requests.clone(),
        );
        r.register_with_unit(
            "http_request_duration",
            help("request_duration"),
            seconds,
            this.request_duration.clone(),
        );
        r.register("sessions", help("abide_sessions"), this.sessions.clone());
        r.register(
            "interpreters",
            help("abide_interpreters"),
            this.interpreters.clone(),
        );
        r.register("warm_interpreters", help("warm"), this.warm.clone());
        r.register("running_steps", help("running"), this.running.clone());
        r.register("queued_steps", help("queued"), this.queued.clone());
        r.register(
            "event_sequence",
            help("event_sequence"),
            this.sequence.clone(),
        );
        this
    }

    pub(crate) fn step_ended(&self, outcome: &StepOutcome) {
        self.steps
            .get_or_create(&StatusLabel {
                status: outcome.status.as_str(),
            })
            .inc();
        if let Some(started) = outcome.started_at {
            let micros = outcome
                .finished_at
                .as_micros()
                .saturating_sub(started.as_micros());
            #[expect(clippy::cast_precision_loss, reason = "a histogram")]
            self.step_duration.observe(micros as f64 / 1e6);
        }
        for (stream, view) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            self.output
                .get_or_create(&StreamLabel { stream })
                .inc_by(view.bytes);
        }
    }

    pub(crate) fn request(&self, route: &str, method: &str, status: u16, seconds: f64) {
        let label = RequestLabel {
            route: route.to_owned(),
            method: method.to_owned(),
            status,
        };
        self.requests.get_or_create(&label).inc();
        self.request_duration
            .get_or_create(&RouteLabel {
                route: route.to_owned(),
            })
            .observe(seconds);
    }

    /// Prometheus text (OpenMetrics), with `gauges` as they are now.
    pub(crate) fn text(&self, gauges: Gauges) -> String {
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        self.sessions
            .set(i64::try_from(gauges.sessions).unwrap_or(i64::MAX));
        set(&self.interpreters, gauges.interpreters);
        set(
            &self.warm.get_or_create(&RuntimeLabel { runtime: "python" }),
            gauges.warm_python,
        );
        set(
            &self.warm.get_or_create(&RuntimeLabel { runtime: "node" }),
            gauges.warm_node,
        );
        set(&self.running, gauges.running_steps);
        set(&self.queued, gauges.queued_steps);
        self.sequence.set(gauges.event_sequence);
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# encoding failed");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_and_every_listed_one_is_there() {
        let metrics = Metrics::new();
        metrics.request("/sessions", "GET", 200, 0.001);
        metrics
            .steps
            .get_or_create(&StatusLabel {
                status: "completed",
            })
            .inc();
        metrics
            .output
            .get_or_create(&StreamLabel { stream: "stdout" })
            .inc();
        let text = metrics.text(Gauges::default());
        let families: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .collect();
        assert_eq!(families.len(), METRIC_NAMES.len(), "{text}");
        for (name, _) in METRIC_NAMES {
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is missing in\n{text}"
            );
        }
    }
}
