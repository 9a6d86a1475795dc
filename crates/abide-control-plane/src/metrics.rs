//! Prometheus metrics. Label sets are closed, so their number cannot run away.

use abide_model::{Runtime, StepOutcome, TerminalCounts};
use abide_session_agent::metrics::{
    ByRuntime, Catalogue, MetricNames, RequestMetrics, StepMetrics, TerminalMetrics, set,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// Every metric's name as `/metrics` shows it, with what it means; `docs/metrics.md` is this list.
pub const METRIC_NAMES: MetricNames = &[
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
    (
        "abide_terminals",
        "Terminals that can be looked at, by whether their programs live",
    ),
    ("abide_terminal_viewers", "Attachments to terminals"),
    (
        "abide_terminal_sent_bytes_total",
        "Bytes of output and snapshots that were sent to viewers",
    ),
    (
        "abide_terminal_snapshots_total",
        "Snapshots that were sent to viewers, by reason",
    ),
    ("abide_event_sequence", "Sequence number of the last event"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    stream: &'static str,
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
    pub(crate) terminals: TerminalCounts,
    pub(crate) event_sequence: i64,
}

/// The registry and what it holds.
#[derive(Debug)]
pub(crate) struct Metrics {
    catalogue: Catalogue,
    steps: StepMetrics,
    output: Family<StreamLabel, Counter>,
    pub(crate) requests: RequestMetrics,
    sessions: Gauge,
    interpreters: Gauge,
    warm: ByRuntime,
    running: Gauge,
    queued: Gauge,
    pub(crate) terminals: TerminalMetrics,
    sequence: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut catalogue = Catalogue::new("abide", METRIC_NAMES);
        let output = Family::default();
        catalogue.add_in(Unit::Bytes, "step_output", output.clone());
        let mut gauge = |name| {
            let gauge = Gauge::default();
            catalogue.add(name, gauge.clone());
            gauge
        };
        Self {
            output,
            sessions: gauge("sessions"),
            interpreters: gauge("interpreters"),
            running: gauge("running_steps"),
            queued: gauge("queued_steps"),
            sequence: gauge("event_sequence"),
            terminals: TerminalMetrics::new(&mut catalogue),
            steps: StepMetrics::new(&mut catalogue),
            requests: RequestMetrics::new(&mut catalogue),
            warm: ByRuntime::new(&mut catalogue, "warm_interpreters"),
            catalogue,
        }
    }

    pub(crate) fn step_ended(&self, outcome: &StepOutcome) {
        self.steps.ended(outcome);
        for (stream, view) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            self.output
                .get_or_create(&StreamLabel { stream })
                .inc_by(view.bytes);
        }
    }

    /// Prometheus text (OpenMetrics), with `gauges` as they are now.
    pub(crate) fn text(&self, gauges: Gauges) -> String {
        self.sessions
            .set(i64::try_from(gauges.sessions).unwrap_or(i64::MAX));
        set(&self.interpreters, gauges.interpreters);
        self.warm.set(Runtime::Python, gauges.warm_python);
        self.warm.set(Runtime::Node, gauges.warm_node);
        set(&self.running, gauges.running_steps);
        set(&self.queued, gauges.queued_steps);
        self.terminals.set(gauges.terminals);
        self.sequence.set(gauges.event_sequence);
        self.catalogue.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_and_every_listed_one_is_there() {
        let metrics = Metrics::new();
        metrics.requests.answered("/sessions", "GET", 200, 0.001);
        metrics.step_ended(&StepOutcome::lost(abide_model::StepId::new(), ""));
        let text = metrics.text(Gauges::default());
        let families: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .collect();
        assert_eq!(families.len(), METRIC_NAMES.len(), "{text}");
        for (name, help) in METRIC_NAMES {
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is missing in\n{text}"
            );
            assert!(text.contains(help), "{help} is missing in\n{text}");
        }
    }
}
