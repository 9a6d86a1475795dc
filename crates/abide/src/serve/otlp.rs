//! Sends what the planes record of steps to a collector: OTLP over HTTP, as JSON.
//!
//! A plane knows nothing of this. Each step's way through it is a `tracing` span with the ids of its
//! trace, which the planes hand on to each other; [`layer`] picks those spans out, [`wire`] writes
//! them, and [`Exporter`] sends them in batches. A collector that is slow or away costs spans, never
//! a step. Why by hand is decision 10.

mod layer;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abide_session_agent::Tasks;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use layer::Finished;
pub(super) use layer::{SpanLayer, is_told};

/// Spans that wait to be sent; what comes beyond is dropped and counted.
const WAITING: usize = 8192;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Times that a batch is offered, and the pause after the first, doubled after each further one.
const ATTEMPTS: u32 = 3;
/// See [`ATTEMPTS`].
const PAUSE: Duration = Duration::from_secs(1);

/// Where spans go, and under which name.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    /// Base URL.
    pub(crate) endpoint: String,
    /// What the plane calls itself.
    pub(crate) service: String,
}

/// Sends spans. Until it is started they wait.
pub(crate) struct Exporter {
    collector: Collector,
    spans: mpsc::Receiver<Finished>,
    dropped: Arc<AtomicU64>,
}

/// The two ends: what picks spans out, and what sends them.
pub(super) fn pair(collector: Collector) -> (SpanLayer, Exporter) {
    let (queue, spans) = mpsc::channel(WAITING);
    let dropped = Arc::<AtomicU64>::default();
    let layer = SpanLayer::new(queue, Arc::clone(&dropped));
    let exporter = Exporter {
        collector,
        spans,
        dropped,
    };
    (layer, exporter)
}

impl Exporter {
    /// Sends from now on, until `tasks` stop.
    pub(super) fn start(self, tasks: &Tasks) {
        tasks.spawn("traces", self.run(tasks.stopping()));
    }

    async fn run(mut self, stopping: CancellationToken) {
        // Where to send is configuration, and the environment is read there alone.
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .build();
        let http = match http {
            Ok(http) => http,
            Err(error) => return warn!(%error, "no traces are sent"),
        };
        let mut batch = Vec::new();
        while !stopping.is_cancelled() {
            tokio::select! {
                () = stopping.cancelled() => {}
                _ = self.spans.recv_many(&mut batch, BATCH) => {}
            }
            let send_at = Instant::now() + GATHER;
            while !batch.is_empty() && batch.len() < BATCH {
                let room = BATCH - batch.len();
                tokio::select! {
                    () = stopping.cancelled() => break,
                    () = tokio::time::sleep_until(send_at) => break,
                    _ = self.spans.recv_many(&mut batch, room) => {}
                }
            }
            self.send(&http, &mut batch, &stopping).await;
        }
        // What ended before the plane was told to stop.
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        self.send(&http, &mut batch, &stopping).await;
    }

    /// Sends a batch, or gives it up; it is empty then.
    async fn send(
        &self,
        http: &reqwest::Client,
        batch: &mut Vec<Finished>,
        stopping: &CancellationToken,
    ) {
        if batch.is_empty() {
            return;
        }
        let body = wire::request(&self.collector.service, batch).to_string();
        let url = format!("{}/v1/traces", self.collector.endpoint);
        for attempt in 0..ATTEMPTS {
            let request = http
                .post(&url)
                .header("content-type", "application/json")
                .body(body.clone());
            let wrong = match request.send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            let last = attempt + 1 == ATTEMPTS || stopping.is_cancelled();
            warn!(%url, wrong, spans = batch.len(), given_up = last, "traces not sent");
            if last {
                break;
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(PAUSE * 2_u32.pow(attempt)) => {}
            }
        }
        batch.clear();
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            warn!(dropped, "spans came faster than the collector takes them");
        }
    }
}
