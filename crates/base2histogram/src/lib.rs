//! Histograms by powers of two: what openraft counts its batches with, in place of the crate of this name.
//!
//! That crate prepares the tables of all its sixteen resolutions on first use, 24 MB that a process keeps
//! for good, although openraft asks for one of the coarsest and, without its `runtime-stats`, never reads
//! what it has counted. Here a histogram is a row of counters. The part of the interface that openraft
//! uses is the same; it must follow when openraft is updated.

use std::fmt;
use std::marker::PhantomData;

/// One counter for each number of significant bits of a value.
const COUNTERS: usize = u64::BITS as usize + 1;

/// Counts values by their magnitude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; COUNTERS],
    slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: [0; COUNTERS], slots: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// Nothing counted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value several times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bits = u64::BITS - value.leading_zeros();
        let count = &mut self.counts[bits as usize];
        *count = count.saturating_add(times);
    }

    /// What has been counted, summed up.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let at = |permille| self.value_at(samples, permille);
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The smallest value of the magnitude that so many thousandths of the values do not exceed; 0 without any.
    fn value_at(&self, samples: u64, permille: u64) -> u64 {
        let wanted = (u128::from(samples) * u128::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0u128;
        let found = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= wanted
        });
        found.and_then(|bits| bits.checked_sub(1)).map_or(0, |shift| 1 << shift)
    }
}

/// Percentiles of a histogram: the lower bounds of their magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// Number of values.
    pub samples: u64,
    /// 0.1th percentile.
    pub p0_1: u64,
    /// 1st percentile.
    pub p1: u64,
    /// 5th percentile.
    pub p5: u64,
    /// 10th percentile.
    pub p10: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "{samples} values, 0.1%: {p0_1}, 1%: {p1}, 5%: {p5}, 10%: {p10}, 50%: {p50}, ")?;
        write!(f, "90%: {p90}, 99%: {p99}, 99.9%: {p99_9}")
    }
}

/// Several histograms under each other.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// An empty chart.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_power_of_two() {
        let mut h = Histogram::<()>::new();
        assert_eq!((h.percentile_stats().samples, h.percentile_stats().p50), (0, 0));
        h.record(0);
        (0..98).for_each(|_| h.record(5));
        h.record_n(u64::MAX, 1);
        let stats = h.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p5, stats.p99, stats.p99_9), (100, 0, 4, 4, 1 << 63));
    }
}
