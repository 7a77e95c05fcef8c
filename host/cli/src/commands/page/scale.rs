//! Axes: maps a range of numbers to positions from 0 to 1, and chooses ticks. All finite numbers
//! are supported.

use crate::commands::show;

/// The number of decades that a positive range must span for a logarithmic axis.
const LOG_FROM_DECADES: f64 = 3.0;
/// The maximum number of ticks.
const TICKS_MAX: usize = 6;

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    /// Whether the axis is logarithmic.
    pub(super) log: bool,
}

/// A tick: its position and label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

impl Scale {
    /// Returns an axis for values, with a margin; logarithmic for ranges of many decades.
    pub(super) fn of_values(low: f64, high: f64) -> Self {
        if low > 0.0 && high.log10() - low.log10() >= LOG_FROM_DECADES {
            return Self { low, high, log: true };
        }
        let quarter = (high / 4.0 - low / 4.0) * 0.16;
        let room = if quarter > 0.0 { quarter } else { (high.abs() * 0.1).max(f64::MIN_POSITIVE * 1e3) };
        let room = if high == low && high == 0.0 { 1.0 } else { room };
        let (below, above) = (low - room, high + room);
        // A range that starts at 0 or above does not get a margin below 0.
        let below = if low >= 0.0 && below < 0.0 && high > low { 0.0 } else { below };
        Self { low: below.max(f64::MIN), high: above.min(f64::MAX), log: false }
    }

    /// Returns an axis from the first position to the last, without a margin.
    pub(super) fn of_places(low: f64, high: f64) -> Self {
        if high > low { Self { low, high, log: false } } else { Self { low: low - 0.5, high: low + 0.5, log: false } }
    }

    /// Maps a value to its position: 0 is the low end, 1 the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        // Divided by 4, because the range may exceed the largest number.
        let quarter = |value: f64| if self.log { value.log10() / 4.0 } else { value / 4.0 };
        let span = quarter(self.high) - quarter(self.low);
        let place = (quarter(value) - quarter(self.low)) / span;
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.5 }
    }

    /// Returns ticks at round numbers; at whole numbers with `whole`.
    pub(super) fn ticks(&self, wanted: usize, whole: bool) -> Vec<Tick> {
        if self.log { self.decades(wanted) } else { self.steps(wanted, whole) }
    }

    fn decades(&self, wanted: usize) -> Vec<Tick> {
        let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
        let decades = usize::try_from(last.saturating_sub(first)).unwrap_or(0) + 1;
        let every = decades.div_ceil(wanted.max(1)).max(1);
        let tick = |exponent: i32| Tick { at: self.place(10_f64.powi(exponent)), label: decade(exponent) };
        (first..=last).step_by(every).map(tick).take(TICKS_MAX).collect()
    }

    fn steps(&self, wanted: usize, whole: bool) -> Vec<Tick> {
        let rough = (self.high / 4.0 - self.low / 4.0) / wanted.max(1) as f64 * 4.0;
        if !rough.is_finite() || rough <= 0.0 {
            return self.ends();
        }
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|round| round * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough).max(if whole { 1.0 } else { 0.0 });
        let first = (self.low / step).ceil();
        let mut ticks: Vec<Tick> = Vec::new();
        for n in 0..=TICKS_MAX {
            // Multiplied instead of accumulated, so that 0.3 stays 0.3. Adding 0.0 removes the sign
            // of -0.
            let value = (first + n as f64) * step + 0.0;
            if !value.is_finite() || value > self.high {
                break;
            }
            let tick = Tick { at: self.place(value), label: label(value, step) };
            // Skips ticks whose labels cannot be distinguished.
            if ticks.last().is_none_or(|last| last.label != tick.label && last.at < tick.at) {
                ticks.push(tick);
            }
        }
        if ticks.is_empty() { self.ends() } else { ticks }
    }

    fn ends(&self) -> Vec<Tick> {
        vec![Tick { at: 0.0, label: show::number(self.low) }, Tick { at: 1.0, label: show::number(self.high) }]
    }
}

fn decade(exponent: i32) -> String {
    match exponent {
        -3..=5 => show::number(10_f64.powi(exponent)),
        _ => format!("1e{exponent}"),
    }
}

/// Formats a round number with the precision that the step needs.
fn label(value: f64, step: f64) -> String {
    let largest = value.abs().max(step);
    if !(1e-4..1e7).contains(&largest) {
        let digits = (largest.log10().floor() - step.log10().floor()).clamp(0.0, 9.0) as usize;
        let text = format!("{value:.digits$e}");
        return if value == 0.0 { "0".to_owned() } else { text };
    }
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(scale: Scale, whole: bool) -> Vec<String> {
        scale.ticks(4, whole).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        for (low, high, wanted) in [
            (0.0, 1.0, &["0.00", "0.25"][..0]),
            (0.0, 1.0, &["0.0", "0.5", "1.0"]),
            (0.074, 0.69, &["0.2", "0.4", "0.6"]),
            (-1.0, 1.0, &["-1", "0", "1"]),
            (980.0, 1_030.0, &["980", "1000", "1020"]),
            (1e9, 3e9, &["1e9", "2e9", "3e9"]),
            (1e-9, 5e-9, &["2e-9", "4e-9"]),
        ] {
            let found = labels(Scale::of_values(low, high), false);
            assert!(wanted.iter().all(|label| found.contains(&(*label).to_owned())), "{low} to {high}: {found:?}");
            assert!((2..=TICKS_MAX).contains(&found.len()), "{low} to {high}: {found:?}");
        }
    }

    #[test]
    fn single_value_has_axis() {
        for value in [0.0, 1.0, -5.5, 1e300, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324] {
            let scale = Scale::of_values(value, value);
            assert!(scale.low < scale.high, "{value}: {scale:?}");
            assert!((0.0..=1.0).contains(&scale.place(value)), "{value}");
            assert!(!scale.ticks(4, false).is_empty(), "{value}");
        }
        assert_eq!(Scale::of_places(7.0, 7.0).place(7.0), 0.5);
        assert_eq!(labels(Scale::of_places(7.0, 7.0), true), ["7"]);
    }

    #[test]
    fn range_of_many_decades_is_logarithmic() {
        let scale = Scale::of_values(1e-6, 2.0);
        assert!(scale.log);
        assert_eq!(labels(scale, false), ["1e-6", "1e-4", "0.01", "1"]);
        assert!((scale.place(1e-3) - 0.476).abs() < 0.01);
        assert!(
            !Scale::of_values(0.0, 1e9).log && !Scale::of_values(-1.0, 1e9).log && !Scale::of_values(1.0, 900.0).log
        );
    }

    #[test]
    fn whole_ticks_are_integers() {
        assert_eq!(labels(Scale::of_places(1.0, 3.0), true), ["1", "2", "3"]);
        assert_eq!(labels(Scale::of_places(0.0, 9_999.0), true), ["0", "5000"]);
    }

    #[test]
    fn nonnegative_range_has_no_negative_margin() {
        assert_eq!(Scale::of_values(0.001, 0.9).place(0.0), 0.0);
    }

    proptest! {
        #[test]
        fn any_range_has_positions_and_ticks(a in any::<f64>(), b in any::<f64>(), whole in any::<bool>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let (low, high) = (a.min(b), a.max(b));
            for scale in [Scale::of_values(low, high), Scale::of_places(low, high)] {
                let (bottom, top) = (scale.place(low), scale.place(high));
                prop_assert!((0.0..=1.0).contains(&bottom) && (0.0..=1.0).contains(&top) && bottom <= top);
                let ticks = scale.ticks(4, whole);
                prop_assert!(ticks.len() <= TICKS_MAX + 1);
                prop_assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&tick.at) && tick.label.len() < 24));
            }
        }
    }
}
