//! What a row of the benchmark table is.

use std::fmt;

use anyhow::Result;

use super::Bench;
use super::statistics::Summary;

/// Runs per contender. Five is the fewest of which a median survives two disturbed runs.
pub(crate) const ROUNDS: usize = 5;

/// A row: what is measured, against what, and what is promised.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is measured, for a reader of the table.
    pub(crate) what: &'static str,
    /// Who takes part: Abide first, then the baselines, if any.
    pub(crate) contenders: &'static [&'static str],
    /// How the lines relate to each other.
    pub(crate) kind: Kind,
    /// What the samples count.
    pub(crate) unit: Unit,
    /// Sets everything up: starts servers, installs or builds the baselines.
    pub(crate) open: fn(&Bench) -> Result<Box<dyn Contest>>,
    /// What is promised, and whether this outcome keeps it.
    pub(crate) claims: fn(&Outcome) -> Vec<Claim>,
}

/// How the lines of a row relate to each other, and how often they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Abide against its baselines, [`ROUNDS`] times in turn.
    Contest,
    /// Abide against its baselines, once: costs that do not depend on how busy the machine is.
    ContestOnce,
    /// Several figures of Abide alone, [`ROUNDS`] times; dividing them by each other says nothing.
    Figures,
    /// The same, measured once.
    Once,
}

impl Kind {
    /// Runs per contender.
    pub(crate) const fn rounds(self) -> usize {
        match self {
            Self::Contest | Self::Figures => ROUNDS,
            Self::ContestOnce | Self::Once => 1,
        }
    }

    /// Whether there are baselines.
    pub(crate) const fn is_contest(self) -> bool {
        matches!(self, Self::Contest | Self::ContestOnce)
    }
}

/// A row that has been set up. Dropping it takes everything down again.
pub(crate) trait Contest {
    /// One bounded run of the contender with this position in [`Row::contenders`]; returns at
    /// least one sample in the row's unit.
    fn run(&mut self, contender: usize) -> Result<Vec<f64>>;

    /// Why a contender cannot take part; asked before its first run.
    fn absent(&self, _contender: usize) -> Option<String> {
        None
    }

    /// What else was promised and seen; asked after the last run.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// What a reader of the figures should know; asked after the last run.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time per operation.
    Milliseconds,
    /// CPU time per operation.
    Microseconds,
    /// Memory or disk, in units of 1024 × 1024 bytes.
    Mebibytes,
    /// Memory in units of 1000 × 1000 bytes.
    Megabytes,
    /// Throughput in units of 1000 × 1000 bytes.
    MegabytesPerSecond,
    /// CPU time in hundredths of one core.
    PercentOfCore,
    /// What goes over the network, as a multiple of what it is about.
    Times,
    /// Bytes that are too many or too few.
    Bytes,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    summaries: Vec<Summary>,
}

/// A promise and whether it was kept.
#[derive(Debug)]
pub(crate) struct Claim {
    /// As the table states it.
    pub(crate) text: String,
    /// What it is about, as measured; NaN when it was not.
    pub(crate) measured: f64,
    /// Whether it held in this run.
    pub(crate) verdict: Verdict,
}

/// Whether a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// Something that it needs was not there.
    NotMeasured,
}

impl Outcome {
    /// From every contender's runs, each with its samples. Who was absent has no runs.
    pub(crate) fn new(samples: &[Vec<Vec<f64>>]) -> Self {
        Self {
            summaries: samples.iter().map(|runs| Summary::of(runs)).collect(),
        }
    }

    /// The figures of the contender at this position; NaN when it was absent.
    pub(crate) fn summary(&self, contender: usize) -> &Summary {
        &self.summaries[contender]
    }

    /// Abide's median divided by that of the contender at this position.
    pub(crate) fn ratio(&self, contender: usize) -> f64 {
        self.summaries[0].median / self.summaries[contender].median
    }

    /// The figures of everyone, in the order of [`Row::contenders`].
    pub(crate) fn summaries(&self) -> &[Summary] {
        &self.summaries
    }
}

impl Claim {
    /// A promise that `measured` does not exceed `limit`; `text` states both what and how much.
    pub(crate) fn at_most(text: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self::new(text, measured, measured <= limit)
    }

    /// A promise that `measured` reaches `limit`; `text` states both what and how much.
    pub(crate) fn at_least(text: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self::new(text, measured, measured >= limit)
    }

    fn new(text: impl Into<String>, measured: f64, holds: bool) -> Self {
        Self {
            text: text.into(),
            measured,
            verdict: match (measured.is_nan(), holds) {
                (true, _) => Verdict::NotMeasured,
                (false, true) => Verdict::Met,
                (false, false) => Verdict::Missed,
            },
        }
    }
}

impl Unit {
    /// Whether high samples are the bad ones, so that a 99th percentile says something.
    pub(crate) const fn is_cost(self) -> bool {
        match self {
            Self::Milliseconds
            | Self::Microseconds
            | Self::Mebibytes
            | Self::Megabytes
            | Self::PercentOfCore
            | Self::Times
            | Self::Bytes => true,
            Self::MegabytesPerSecond => false,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Mebibytes => "MiB",
            Self::Megabytes => "MB",
            Self::MegabytesPerSecond => "MB/s",
            Self::PercentOfCore => "%",
            Self::Times => "×",
            Self::Bytes => "bytes",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::NotMeasured => "not measured",
        })
    }
}
