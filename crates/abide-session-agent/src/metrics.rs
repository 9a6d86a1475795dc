//! Prometheus metrics as every plane keeps them. Label sets are closed, so their number cannot run
//! away.

mod agent;
mod terminals;

use std::fmt::Write as _;

use abide_model::{Runtime, StepOutcome};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use agent::METRIC_NAMES;
pub(crate) use agent::{AgentMetrics, Gauges};
pub use terminals::TerminalMetrics;

/// Names as `/metrics` shows them, each with what it means.
pub type MetricNames = &'static [(&'static str, &'static str)];

/// A plane's metrics, which are those of its list.
#[derive(Debug)]
pub struct Catalogue {
    registry: Registry,
    prefix: &'static str,
    names: MetricNames,
}

impl Catalogue {
    /// Empty; `prefix` begins every name of the list.
    pub fn new(prefix: &'static str, names: MetricNames) -> Self {
        Self {
            registry: Registry::with_prefix(prefix),
            prefix,
            names,
        }
    }

    /// Adds a metric by its name without the prefix and what its kind appends.
    pub fn add(&mut self, name: &str, metric: impl Metric) {
        let help = self.help(name);
        self.registry.register(name, help, metric);
    }

    /// The same for one with a unit, which is appended as well.
    pub fn add_in(&mut self, unit: Unit, name: &str, metric: impl Metric) {
        let help = self.help(name);
        self.registry.register_with_unit(name, help, unit, metric);
    }

    fn help(&self, name: &str) -> &'static str {
        let begins = format!("{}_{name}", self.prefix);
        let appended = ["", "_total", "_seconds", "_bytes_total"];
        let is_it = |known: &str| {
            let rest = known.strip_prefix(&begins);
            rest.is_some_and(|rest| appended.contains(&rest))
        };
        let found = self.names.iter().find(|(known, _)| is_it(known));
        found.map_or("", |(_, help)| help)
    }

    /// Prometheus text (OpenMetrics).
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# encoding failed");
        }
        text
    }
}

/// The answer to `GET /metrics`.
pub fn metrics_response(text: String) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// 0.1 ms to 100 s, three a decade.
const DURATIONS: [f64; 19] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0, 50.0, 100.0,
];

/// A histogram of seconds, for anything from a step of microseconds to one of minutes.
pub fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// A gauge that is a count.
pub fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
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

/// The requests that a plane answers.
#[derive(Debug)]
pub struct RequestMetrics {
    answered: Family<RequestLabel, Counter>,
    duration: Family<RouteLabel, Histogram>,
}

impl RequestMetrics {
    /// Adds `http_requests` and `http_request_duration`.
    pub fn new(catalogue: &mut Catalogue) -> Self {
        let this = Self {
            answered: Family::default(),
            duration: Family::new_with_constructor(durations),
        };
        catalogue.add("http_requests", this.answered.clone());
        let duration = this.duration.clone();
        catalogue.add_in(Unit::Seconds, "http_request_duration", duration);
        this
    }

    /// One was answered; `route` is a pattern of the router.
    pub fn answered(&self, route: &str, method: &str, status: u16, seconds: f64) {
        let route = route.to_owned();
        let label = RequestLabel {
            route: route.clone(),
            method: method.to_owned(),
            status,
        };
        self.answered.get_or_create(&label).inc();
        self.duration
            .get_or_create(&RouteLabel { route })
            .observe(seconds);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// The steps whose ends a plane records.
#[derive(Debug)]
pub struct StepMetrics {
    ended: Family<StatusLabel, Counter>,
    duration: Histogram,
}

impl StepMetrics {
    /// Adds `steps` and `step_duration`.
    pub fn new(catalogue: &mut Catalogue) -> Self {
        let this = Self {
            ended: Family::default(),
            duration: durations(),
        };
        catalogue.add("steps", this.ended.clone());
        catalogue.add_in(Unit::Seconds, "step_duration", this.duration.clone());
        this
    }

    /// One ended.
    pub fn ended(&self, outcome: &StepOutcome) {
        let status = outcome.status.as_str();
        self.ended.get_or_create(&StatusLabel { status }).inc();
        if let Some(started) = outcome.started_at {
            let micros = outcome.finished_at.as_micros() - started.as_micros();
            #[expect(clippy::cast_precision_loss, reason = "a histogram")]
            self.duration.observe(micros.max(0) as f64 / 1e6);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuntimeLabel {
    runtime: &'static str,
}

/// A count for each language.
#[derive(Debug, Clone, Default)]
pub struct ByRuntime(Family<RuntimeLabel, Gauge>);

impl ByRuntime {
    /// Adds it under this name.
    pub fn new(catalogue: &mut Catalogue, name: &str) -> Self {
        let this = Self::default();
        catalogue.add(name, this.0.clone());
        this
    }

    /// As many as there are now.
    pub fn set(&self, runtime: Runtime, count: usize) {
        let runtime = runtime.as_str();
        set(&self.0.get_or_create(&RuntimeLabel { runtime }), count);
    }
}
