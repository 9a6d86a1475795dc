//! How fast messages of one connection are read.

use std::time::{Duration, Instant};

/// A bucket of tokens, one for each message, that fills steadily. Fractions count, so a steady rate below
/// the nominal one is never slowed down.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: f64,
    burst: f64,
    /// Below zero: so much was taken in advance.
    tokens: f64,
    at: Instant,
}

impl Allowance {
    /// Full at `now`. `rate`: tokens per second.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            rate: f64::from(rate.max(1)),
            burst,
            tokens: burst,
            at: now,
        }
    }

    /// Takes a token; how long to wait before the next message is read.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let filled = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + filled).min(self.burst) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_below_the_nominal_one_is_never_slowed_down() {
        let begin = Instant::now();
        // The numbers with which a reference that drops fractions gives up after eight seconds.
        let mut allowance = Allowance::new(31, 1, begin);
        for n in 0..10_000 {
            let now = begin + Duration::from_millis(33) * n;
            assert_eq!(allowance.take(now), Duration::ZERO, "{n}");
        }
    }

    #[test]
    fn who_sends_more_is_read_later() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(100, 50, begin);
        let mut now = begin;
        for _ in 0..1050 {
            now += allowance.take(now);
        }
        let took = now - begin;
        assert!((Duration::from_millis(9_990)..=Duration::from_millis(10_010)).contains(&took));
    }
}
