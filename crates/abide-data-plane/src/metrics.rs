//! Prometheus metrics of the data plane. Label sets are closed, so their number cannot run away.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Every metric's name as `/metrics` shows it, with what it means.
pub const METRIC_NAMES: &[(&str, &str)] = &[
    (
        "abide_data_plane_steps_total",
        "Steps answered, by outcome: a terminal status or a problem code",
    ),
    (
        "abide_data_plane_step_duration_seconds",
        "From a step's arrival to its answer, by whether it ran",
    ),
    (
        "abide_data_plane_retries_total",
        "Exchanges with a session agent that were tried again",
    ),
    (
        "abide_data_plane_route_lookups_total",
        "Routes looked up, by where they were found: memory, store or nowhere",
    ),
    (
        "abide_data_plane_queue_depth",
        "Steps under way: waiting or running in their runtimes",
    ),
    (
        "abide_data_plane_sessions_ended_total",
        "Sessions that ended, by how: expired, terminated or crashed",
    ),
    (
        "abide_data_plane_http_request_duration_seconds",
        "From request head to response head, by route",
    ),
    (
        "abide_data_plane_http_requests_total",
        "Requests answered, by route, method and status",
    ),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RanLabel {
    ran: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FoundLabel {
    found: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HowLabel {
    how: &'static str,
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

/// 0.1 ms to 100 s, three a decade.
const DURATIONS: [f64; 19] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0, 50.0, 100.0,
];

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// The registry and what it holds.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    steps: Family<OutcomeLabel, Counter>,
    step_duration: Family<RanLabel, Histogram>,
    retries: Counter,
    lookups: Family<FoundLabel, Counter>,
    depth: Gauge,
    ended: Family<HowLabel, Counter>,
    requests: Family<RequestLabel, Counter>,
    request_duration: Family<RouteLabel, Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("abide_data_plane"),
            steps: Family::default(),
            step_duration: Family::new_with_constructor(durations),
            retries: Counter::default(),
            lookups: Family::default(),
            depth: Gauge::default(),
            ended: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
        };
        let help = |name: &str| {
            let known = METRIC_NAMES.iter().find(|(known, _)| known.contains(name));
            known.map_or("", |(_, help)| *help)
        };
        let r = &mut this.registry;
        r.register("steps", help("steps_total"), this.steps.clone());
        r.register_with_unit(
            "step_duration",
            help("step_duration"),
            Unit::Seconds,
            this.step_duration.clone(),
        );
        r.register("retries", help("retries"), this.retries.clone());
        r.register("route_lookups", help("route_lookups"), this.lookups.clone());
        r.register("queue_depth", help("queue_depth"), this.depth.clone());
        r.register("sessions_ended", help("sessions_ended"), this.ended.clone());
        r.register(
            "http_requests",
            help("http_requests"),
            this.requests.clone(),
        );
        r.register_with_unit(
            "http_request_duration",
            help("request_duration"),
            Unit::Seconds,
            this.request_duration.clone(),
        );
        this
    }

    /// A step was answered. `outcome` is one of a closed set.
    pub(crate) fn step_answered(&self, outcome: &str, ran: bool, seconds: f64) {
        let label = OutcomeLabel {
            outcome: outcome.to_owned(),
        };
        self.steps.get_or_create(&label).inc();
        let ran = if ran { "yes" } else { "no" };
        self.step_duration
            .get_or_create(&RanLabel { ran })
            .observe(seconds);
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn looked_up(&self, found: &'static str) {
        self.lookups.get_or_create(&FoundLabel { found }).inc();
    }

    pub(crate) fn session_ended(&self, how: &'static str) {
        self.ended.get_or_create(&HowLabel { how }).inc();
    }

    pub(crate) fn request(&self, route: &str, method: &str, status: u16, seconds: f64) {
        let route = route.to_owned();
        let label = RequestLabel {
            route: route.clone(),
            method: method.to_owned(),
            status,
        };
        self.requests.get_or_create(&label).inc();
        self.request_duration
            .get_or_create(&RouteLabel { route })
            .observe(seconds);
    }

    /// Prometheus text (OpenMetrics), with as many steps under way as there are now.
    pub(crate) fn text(&self, under_way: usize) -> String {
        self.depth.set(i64::try_from(under_way).unwrap_or(i64::MAX));
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
        metrics.step_answered("completed", true, 0.001);
        metrics.looked_up("memory");
        metrics.session_ended("expired");
        metrics.request("/sessions", "GET", 200, 0.001);
        let text = metrics.text(3);
        let helps = text.lines().filter(|line| line.starts_with("# HELP "));
        assert_eq!(helps.count(), METRIC_NAMES.len(), "{text}");
        for (name, help) in METRIC_NAMES {
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is missing in\n{text}"
            );
            assert!(text.contains(help), "{help} is missing in\n{text}");
        }
    }
}
