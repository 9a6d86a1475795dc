//! Prometheus metrics of the data plane. Label sets are closed, so their number cannot run away.

use abide_session_agent::metrics::{Catalogue, MetricNames, RequestMetrics, durations, set};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

/// Every metric's name as `/metrics` shows it, with what it means.
pub const METRIC_NAMES: MetricNames = &[
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

/// The registry and what it holds.
#[derive(Debug)]
pub(crate) struct Metrics {
    catalogue: Catalogue,
    steps: Family<OutcomeLabel, Counter>,
    step_duration: Family<RanLabel, Histogram>,
    retries: Counter,
    lookups: Family<FoundLabel, Counter>,
    depth: Gauge,
    ended: Family<HowLabel, Counter>,
    pub(crate) requests: RequestMetrics,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut catalogue = Catalogue::new("abide_data_plane", METRIC_NAMES);
        let mut this = Self {
            steps: Family::default(),
            step_duration: Family::new_with_constructor(durations),
            retries: Counter::default(),
            lookups: Family::default(),
            depth: Gauge::default(),
            ended: Family::default(),
            requests: RequestMetrics::new(&mut catalogue),
            catalogue,
        };
        let all = &mut this.catalogue;
        all.add("steps", this.steps.clone());
        all.add_in(Unit::Seconds, "step_duration", this.step_duration.clone());
        all.add("retries", this.retries.clone());
        all.add("route_lookups", this.lookups.clone());
        all.add("queue_depth", this.depth.clone());
        all.add("sessions_ended", this.ended.clone());
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

    /// Prometheus text (OpenMetrics), with as many steps under way as there are now.
    pub(crate) fn text(&self, under_way: usize) -> String {
        set(&self.depth, under_way);
        self.catalogue.text()
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
        metrics.requests.answered("/sessions", "GET", 200, 0.001);
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
