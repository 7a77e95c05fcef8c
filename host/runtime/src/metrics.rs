//! The metrics of one run, downsampled while they arrive so that the host's memory is bounded.
//!
//! A metric with too many points keeps the minimum and the maximum of each bucket of consecutive
//! points. Whenever it has too many again, its buckets double. So the kept points always contain
//! the extremes of the whole metric, and are spread evenly over it.

use std::collections::BTreeMap;

use strongroom_core::record::{METRIC_NAMES_MAX, METRIC_POINTS_MAX, Metric, Point, RUN_POINTS_MAX};

/// The smallest bucket: both of its points are kept.
const BUCKET_MIN: u64 = 2;

/// All metrics of a run.
#[derive(Default)]
pub(super) struct Metrics {
    series: BTreeMap<String, Series>,
    /// The number of kept points of all series.
    kept: usize,
}

/// The points of one metric.
struct Series {
    points: Vec<Point>,
    /// The extremes of the bucket that is being filled: at most two points.
    bucket: Vec<Point>,
    /// The number of points that this bucket has received.
    filled: u64,
    /// The number of points that a bucket receives.
    bucket_size: u64,
    first: Point,
    last: Point,
    count: u64,
}

impl Metrics {
    /// Adds a point to a metric. Returns false if the run has too many metrics for another name.
    #[must_use]
    pub(super) fn push(&mut self, name: String, point: Point) -> bool {
        if self.series.len() >= METRIC_NAMES_MAX && !self.series.contains_key(&name) {
            return false;
        }
        let series = self.series.entry(name).or_insert_with(|| Series::new(point.clone()));
        let before = series.points.len();
        series.push(point);
        self.kept = self.kept.saturating_add(series.points.len()).saturating_sub(before);
        if self.kept > RUN_POINTS_MAX
            && let Some(longest) = self.series.values_mut().max_by_key(|series| series.points.len())
        {
            let before = longest.points.len();
            longest.thin();
            self.kept = self.kept.saturating_add(longest.points.len()).saturating_sub(before);
        }
        true
    }

    /// Takes the metrics, for the run record.
    pub(super) fn take(&mut self) -> BTreeMap<String, Metric> {
        std::mem::take(self).series.into_iter().map(|(name, series)| (name, series.finish())).collect()
    }
}

impl Series {
    fn new(first: Point) -> Self {
        let last = first.clone();
        Self { points: Vec::new(), bucket: Vec::new(), filled: 0, bucket_size: BUCKET_MIN, first, last, count: 0 }
    }

    fn push(&mut self, point: Point) {
        // A thinned series may need space for its first and last point.
        let max = if self.bucket_size == BUCKET_MIN { METRIC_POINTS_MAX } else { METRIC_POINTS_MAX - 2 };
        if self.points.len() + self.bucket.len() >= max {
            self.thin();
        }
        self.count = self.count.saturating_add(1);
        self.filled = self.filled.saturating_add(1);
        self.last = point.clone();
        self.bucket.push(point);
        if self.bucket.len() > 2 {
            self.bucket = extremes(&self.bucket);
        }
        if self.filled >= self.bucket_size {
            self.points.append(&mut self.bucket);
            self.filled = 0;
        }
    }

    /// Halves the kept points.
    fn thin(&mut self) {
        self.points = self.points.chunks(4).flat_map(extremes).collect();
        self.points.shrink_to_fit();
        self.bucket_size = self.bucket_size.saturating_mul(2);
    }

    fn finish(self) -> Metric {
        let mut points = self.points;
        points.extend(self.bucket);
        if self.count > points.len() as u64 {
            if !points.first().is_some_and(|point| is_same(point, &self.first)) {
                points.insert(0, self.first);
            }
            if !points.last().is_some_and(|point| is_same(point, &self.last)) {
                points.push(self.last.clone());
            }
        }
        Metric { last: Some(self.last.value), dropped: self.count.saturating_sub(points.len() as u64), points }
    }
}

/// Returns two of some points, in their order: the finite minimum and maximum, or others if there
/// are not two finite ones. Returns fewer than two points as they are.
fn extremes(points: &[Point]) -> Vec<Point> {
    let finite = || points.iter().enumerate().filter(|(_, point)| point.value.0.is_finite());
    let by_value = |a: &(usize, &Point), b: &(usize, &Point)| a.1.value.0.total_cmp(&b.1.value.0);
    let low = finite().min_by(by_value).map_or(0, |(at, _)| at);
    let high = finite().max_by(by_value).map(|(at, _)| at).filter(|high| *high != low);
    let high = high.or_else(|| (0..points.len()).rev().find(|at| *at != low)).unwrap_or(low);
    let kept = points.iter().enumerate().filter(|(at, _)| *at == low || *at == high);
    kept.map(|(_, point)| point.clone()).collect()
}

/// Returns whether two points are equal. NaN equals itself here.
fn is_same(a: &Point, b: &Point) -> bool {
    a.step == b.step && a.value.0.to_bits() == b.value.0.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use strongroom_core::record::Number;

    fn metric(values: impl IntoIterator<Item = f64>) -> Metric {
        let mut metrics = Metrics::default();
        for (step, value) in (0..).zip(values) {
            assert!(metrics.push("m".to_owned(), Point { step: Some(step), value: Number(value) }));
        }
        metrics.take().remove("m").unwrap()
    }

    #[test]
    fn points_within_the_bound_are_all_kept() {
        for count in [1, 2, 3, METRIC_POINTS_MAX] {
            let metric = metric((0..count).map(|n| n as f64));
            assert_eq!((metric.points.len(), metric.dropped), (count, 0));
            assert!(metric.points.iter().enumerate().all(|(at, point)| point.step == Some(at as u64)));
        }
    }

    #[test]
    fn points_beyond_the_bound_are_spread_evenly() {
        let metric = metric((0..1_000_000).map(f64::from));
        let steps: Vec<u64> = metric.points.iter().map(|point| point.step.unwrap()).collect();
        assert!((METRIC_POINTS_MAX / 2..=METRIC_POINTS_MAX).contains(&steps.len()), "{}", steps.len());
        assert!(steps.is_sorted());
        let widest = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest <= 2 * 1_000_000 / (METRIC_POINTS_MAX as u64 / 2), "{widest}");
    }

    #[test]
    fn not_a_number_as_first_and_last_value_is_kept_once() {
        let count = METRIC_POINTS_MAX + 5;
        let metric = metric((0..count).map(|n| if n == 0 || n == count - 1 { f64::NAN } else { n as f64 }));
        let not_a_number = metric.points.iter().filter(|point| point.value.0.is_nan()).count();
        assert_eq!(not_a_number, 2);
        assert!(metric.points[0].value.0.is_nan() && metric.last.unwrap().0.is_nan());
    }

    // attack: resources: report a million metrics, metric names or progress messages -> metrics are
    // downsampled while they arrive
    #[test]
    fn many_long_metrics_keep_a_bounded_total() {
        let mut metrics = Metrics::default();
        for step in 0..2_000 {
            for name in 0..METRIC_NAMES_MAX {
                let value = if step == 1_000 { -1.0 } else { step as f64 };
                assert!(metrics.push(format!("m{name}"), Point { step: Some(step), value: Number(value) }));
            }
        }
        assert!(!metrics.push("another".to_owned(), Point { step: None, value: Number(0.0) }));
        let allocated: usize = metrics.series.values().map(|series| series.points.capacity()).sum();
        assert!(allocated <= 2 * RUN_POINTS_MAX, "{allocated}");
        let metrics = metrics.take();
        // The points of unfinished buckets and the first and last points come on top.
        let kept: usize = metrics.values().map(|metric| metric.points.len()).sum();
        assert!(kept <= RUN_POINTS_MAX + 4 * METRIC_NAMES_MAX, "{kept}");
        for metric in metrics.values() {
            assert_eq!(metric.points.len() as u64 + metric.dropped, 2_000);
            let low = metric.points.iter().map(|point| point.value.0).fold(f64::INFINITY, f64::min);
            assert_eq!((low, metric.last), (-1.0, Some(Number(1_999.0))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn extremes_ends_and_count_are_exact(
            pattern in proptest::collection::vec(prop_oneof![8 => any::<f64>(), 1 => Just(f64::NAN)], 1..500),
            count in 1usize..50_000,
            spike in 0usize..50_000,
        ) {
            let values: Vec<f64> = pattern.iter().copied().cycle().take(count).enumerate()
                .map(|(at, value)| if at == spike { f64::MAX } else { value })
                .collect();
            let metric = metric(values.iter().copied());
            let kept: Vec<f64> = metric.points.iter().map(|point| point.value.0).collect();
            let range = |values: &[f64]| {
                let finite = || values.iter().copied().filter(|value| value.is_finite());
                (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max))
            };
            prop_assert_eq!(range(&kept), range(&values));
            prop_assert!(kept.len() <= METRIC_POINTS_MAX);
            prop_assert_eq!(kept.len() as u64 + metric.dropped, count as u64);
            prop_assert_eq!(kept[0].to_bits(), values[0].to_bits());
            prop_assert_eq!(metric.last.unwrap().0.to_bits(), values[count - 1].to_bits());
            prop_assert_eq!(kept[kept.len() - 1].to_bits(), values[count - 1].to_bits());
            prop_assert!(metric.points.is_sorted_by_key(|point| point.step));
        }
    }
}
