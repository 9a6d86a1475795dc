//! The metrics of a session agent that is a service of its own.

use abide_model::{Runtime, SnapshotReason, StepOutcome};
use prometheus_client::metrics::gauge::Gauge;

use super::{ByRuntime, Catalogue, MetricNames, RequestMetrics, StepMetrics, TerminalMetrics, set};
use crate::agent::AgentCounts;

/// Every metric of a session agent that is a service; `docs/metrics.md` has this list.
pub const METRIC_NAMES: MetricNames = &[
    (
        "abide_session_agent_steps_total",
        "Steps that ended, by terminal status",
    ),
    (
        "abide_session_agent_step_duration_seconds",
        "From hand-over to the interpreter to its end",
    ),
    (
        "abide_session_agent_http_requests_total",
        "Requests answered, by route, method and status",
    ),
    (
        "abide_session_agent_http_request_duration_seconds",
        "From request head to response head, by route",
    ),
    ("abide_session_agent_sessions", "Sessions registered"),
    (
        "abide_session_agent_interpreters",
        "Live interpreters that belong to sessions, by runtime",
    ),
    (
        "abide_session_agent_warm_interpreters",
        "Idle interpreters, by runtime",
    ),
    ("abide_session_agent_running_steps", "Interpreters at work"),
    (
        "abide_session_agent_queued_steps",
        "Steps that wait behind others",
    ),
    (
        "abide_session_agent_terminals",
        "Terminals that can be looked at, by whether their programs live",
    ),
    (
        "abide_session_agent_terminal_viewers",
        "Attachments to terminals",
    ),
    (
        "abide_session_agent_terminal_sent_bytes_total",
        "Bytes of output and snapshots that were sent to viewers",
    ),
    (
        "abide_session_agent_terminal_snapshots_total",
        "Snapshots that were sent to viewers, by reason",
    ),
];

/// What changes from moment to moment; read when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: usize,
    pub(crate) python: usize,
    pub(crate) node: usize,
    pub(crate) counts: AgentCounts,
}

/// See [`METRIC_NAMES`].
#[derive(Debug)]
pub(crate) struct AgentMetrics {
    catalogue: Catalogue,
    steps: StepMetrics,
    pub(crate) requests: RequestMetrics,
    sessions: Gauge,
    interpreters: ByRuntime,
    warm: ByRuntime,
    running: Gauge,
    queued: Gauge,
    terminals: TerminalMetrics,
}

impl AgentMetrics {
    pub(crate) fn new() -> Self {
        let mut catalogue = Catalogue::new("abide_session_agent", METRIC_NAMES);
        let mut gauge = |name| {
            let gauge = Gauge::default();
            catalogue.add(name, gauge.clone());
            gauge
        };
        Self {
            sessions: gauge("sessions"),
            running: gauge("running_steps"),
            queued: gauge("queued_steps"),
            steps: StepMetrics::new(&mut catalogue),
            requests: RequestMetrics::new(&mut catalogue),
            interpreters: ByRuntime::new(&mut catalogue, "interpreters"),
            warm: ByRuntime::new(&mut catalogue, "warm_interpreters"),
            terminals: TerminalMetrics::new(&mut catalogue),
            catalogue,
        }
    }

    pub(crate) fn step_ended(&self, outcome: &StepOutcome) {
        self.steps.ended(outcome);
    }

    pub(crate) fn viewer_was_sent(&self, bytes: usize) {
        self.terminals.viewer_was_sent(bytes);
    }

    pub(crate) fn viewer_was_sent_a_snapshot(&self, reason: SnapshotReason) {
        self.terminals.viewer_was_sent_a_snapshot(reason);
    }

    /// Prometheus text, with `gauges` as they are now.
    pub(crate) fn text(&self, gauges: Gauges) -> String {
        let Gauges { counts, .. } = gauges;
        set(&self.sessions, gauges.sessions);
        self.interpreters.set(Runtime::Python, gauges.python);
        self.interpreters.set(Runtime::Node, gauges.node);
        self.warm.set(Runtime::Python, counts.warm_python);
        self.warm.set(Runtime::Node, counts.warm_node);
        set(&self.running, counts.running_steps);
        set(&self.queued, counts.queued_steps);
        self.terminals.set(counts.terminals);
        self.catalogue.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_and_every_listed_one_is_there() {
        let metrics = AgentMetrics::new();
        metrics.requests.answered("/v1/sessions", "GET", 200, 0.001);
        metrics.step_ended(&StepOutcome::lost(abide_model::StepId::new(), ""));
        let text = metrics.text(Gauges::default());
        let helps = text.lines().filter(|line| line.starts_with("# HELP "));
        assert_eq!(helps.count(), METRIC_NAMES.len(), "{text}");
        for (name, help) in METRIC_NAMES {
            assert!(text.contains(&format!("\n{name}")), "{name}: {text}");
            assert!(text.contains(help), "{help} is missing in\n{text}");
        }
    }
}
