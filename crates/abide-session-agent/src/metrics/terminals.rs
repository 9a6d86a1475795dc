//! Terminals in metrics, in every plane the same.

use abide_model::{SnapshotReason, TerminalCounts};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::Catalogue;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Terminals, and what their viewers are sent.
#[derive(Debug)]
pub struct TerminalMetrics {
    terminals: Family<StateLabel, Gauge>,
    viewers: Gauge,
    sent: Counter,
    snapshots: Family<ReasonLabel, Counter>,
}

impl TerminalMetrics {
    /// Adds `terminals`, `terminal_viewers`, `terminal_sent_bytes` and `terminal_snapshots`.
    pub fn new(catalogue: &mut Catalogue) -> Self {
        let this = Self {
            terminals: Family::default(),
            viewers: Gauge::default(),
            sent: Counter::default(),
            snapshots: Family::default(),
        };
        for reason in SnapshotReason::ALL {
            // From the start, so that a rate can be told of the first.
            let reason = reason.as_str();
            drop(this.snapshots.get_or_create(&ReasonLabel { reason }));
        }
        catalogue.add("terminals", this.terminals.clone());
        catalogue.add("terminal_viewers", this.viewers.clone());
        catalogue.add_in(Unit::Bytes, "terminal_sent", this.sent.clone());
        catalogue.add("terminal_snapshots", this.snapshots.clone());
        this
    }

    /// A viewer was sent so many bytes.
    pub fn viewer_was_sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// A viewer was sent a snapshot.
    pub fn viewer_was_sent_a_snapshot(&self, reason: SnapshotReason) {
        let reason = reason.as_str();
        self.snapshots.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// As many as there are now.
    pub fn set(&self, counts: TerminalCounts) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, terminals) in [("live", counts.live), ("ended", counts.ended)] {
            let gauge = self.terminals.get_or_create(&StateLabel { state });
            gauge.set(count(terminals));
        }
        self.viewers.set(count(counts.viewers));
    }
}
