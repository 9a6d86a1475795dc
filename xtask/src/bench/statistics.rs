//! Figures that a busy machine does not spoil: medians of runs, and percentiles of all samples.

/// One contender's figures over all of its runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The median of the runs' medians.
    pub(crate) median: f64,
    /// The lowest of the runs' medians.
    pub(crate) lowest: f64,
    /// The highest of the runs' medians.
    pub(crate) highest: f64,
    /// What 99 % of all samples do not exceed; the highest sample when there are few.
    pub(crate) p99: f64,
}

impl Summary {
    /// From runs that each have at least one sample.
    pub(crate) fn of(runs: &[Vec<f64>]) -> Self {
        let mut medians: Vec<f64> = runs.iter().map(|run| percentile(run, 0.5)).collect();
        medians.sort_by(f64::total_cmp);
        let all: Vec<f64> = runs.iter().flatten().copied().collect();
        Self {
            median: percentile(&medians, 0.5),
            lowest: medians.first().copied().unwrap_or(f64::NAN),
            highest: medians.last().copied().unwrap_or(f64::NAN),
            p99: percentile(&all, 0.99),
        }
    }
}

/// The sample at the nearest rank, so that it is one that occurred; NaN when there is none.
fn percentile(samples: &[f64], fraction: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (fraction * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), 50.0);
        assert_eq!(percentile(&hundred, 0.99), 99.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn one_bad_run_moves_the_spread_only() {
        let runs = vec![
            vec![1.0, 1.1, 9.0],
            vec![1.2, 1.2, 1.2],
            vec![50.0, 60.0, 70.0],
        ];
        let summary = Summary::of(&runs);
        assert_eq!(
            summary,
            Summary {
                median: 1.2,
                lowest: 1.1,
                highest: 60.0,
                p99: 70.0
            }
        );
    }
}
