//! Where the server's log goes, and its traces.

use anyhow::Context as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, registry};

use super::otlp::{self, Collector, Exporter, SpanLayer};
use crate::config::{Config, LogFormat};

/// Sends log lines to standard error. Once a process.
pub(super) fn init(config: &Config) -> anyhow::Result<()> {
    start(config, None)
}

/// The same for a plane, whose spans go to a collector if there is one.
pub(super) fn init_plane(
    config: &Config,
    collector: Option<Collector>,
) -> anyhow::Result<Option<Exporter>> {
    let (spans, exporter) = collector.map(otlp::pair).unzip();
    start(config, spans)?;
    Ok(exporter)
}

fn start(config: &Config, spans: Option<SpanLayer>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("log: {:?} is not a filter such as `info`", config.log))?;
    let lines = fmt::layer()
        // A log that cannot be written (a full disk) must not take requests with it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            install(lines.with_ansi(colours).with_target(false), filter, spans);
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true);
            install(lines, filter, spans);
        }
    }
    Ok(())
}

fn install(lines: impl Layer<Registry> + Send + Sync, filter: EnvFilter, spans: Option<SpanLayer>) {
    match spans {
        None => registry().with(lines).with(filter).init(),
        // What is not logged may be traced.
        Some(spans) => registry()
            .with(lines.with_filter(filter))
            .with(spans.with_filter(filter_fn(otlp::is_told)))
            .init(),
    }
}
