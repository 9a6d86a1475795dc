//! What a row of the benchmark table is.

use std::fmt;

use anyhow::Result;

use super::Bench;
use super::statistics::Summary;

/// A row: what is measured, against what, and what is promised.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is measured, for a reader of the table.
    pub(crate) what: &'static str,
    /// Who takes part: Abide first, then the baselines, if any.
    pub(crate) contenders: &'static [&'static str],
    /// What the samples count.
    pub(crate) unit: Unit,
    /// Sets everything up: starts servers, installs or builds the baselines.
    pub(crate) open: fn(&Bench) -> Result<Box<dyn Contest>>,
    /// What is promised, and whether this outcome keeps it.
    pub(crate) claims: fn(&Outcome) -> Vec<Claim>,
}

/// A row that has been set up. Dropping it takes everything down again.
pub(crate) trait Contest {
    /// One bounded run of the contender with this position in [`Row::contenders`]; returns at
    /// least one sample in the row's unit.
    fn run(&mut self, contender: usize) -> Result<Vec<f64>>;
}

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time per operation.
    Milliseconds,
    /// Memory or disk, in units of 1024 × 1024 bytes.
    Mebibytes,
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
    pub(crate) text: &'static str,
    /// Whether it held in this run.
    pub(crate) holds: bool,
}

impl Outcome {
    /// From every contender's runs, each with its samples; no run is empty.
    pub(crate) fn new(samples: &[Vec<Vec<f64>>]) -> Self {
        Self {
            summaries: samples.iter().map(|runs| Summary::of(runs)).collect(),
        }
    }

    /// The figures of the contender at this position.
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
    /// A promise that held or did not.
    pub(crate) const fn new(text: &'static str, holds: bool) -> Self {
        Self { text, holds }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
        })
    }
}
