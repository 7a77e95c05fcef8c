//! Plots a metric: selects and places its points, and describes them in words.

use std::fmt::Write as _;

use serde::Serialize;

use super::scale::Scale;
use crate::commands::show;
use strongroom::record::{Metric, Point};

/// The size of the plot, about in pixels.
pub(super) const WIDTH: f64 = 320.0;
pub(super) const HEIGHT: f64 = 150.0;
/// The space for the axes.
const LEFT: f64 = 34.0;
const LEFT_MAX: f64 = 96.0;
const DIGIT: f64 = 6.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 20.0;
/// The number of columns for thinning. For each column, the first, lowest, highest and last points
/// are drawn.
const COLUMNS: usize = 200;

/// A metric, ready to draw.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plot {
    /// A number that is unique in the page, for references.
    pub(super) number: usize,
    pub(super) name: String,
    /// The x coordinate of the vertical axis, which depends on the width of its labels.
    pub(super) left: f64,
    /// The SVG path through the points.
    pub(super) line: String,
    /// The coordinates of the last finite point.
    pub(super) end: Option<(String, String)>,
    /// Markers of values that are not finite.
    pub(super) non_finite: Vec<NonFinite>,
    pub(super) x_ticks: Vec<Mark>,
    pub(super) y_ticks: Vec<Mark>,
    /// The name of the horizontal axis.
    pub(super) x_name: &'static str,
    pub(super) facts: Vec<(&'static str, String)>,
    /// Notes that are needed to read the plot.
    pub(super) notes: Vec<String>,
    /// The plot in words.
    pub(super) description: String,
}

/// A tick of an axis.
#[derive(Debug, Serialize)]
pub(super) struct Mark {
    pub(super) at: String,
    pub(super) label: String,
    /// The SVG text anchor of the label.
    pub(super) anchor: &'static str,
}

/// The marker of a value that is not finite.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct NonFinite {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) sign: &'static str,
}

/// Plots a metric. Returns `None` if it has fewer than two finite values.
pub(super) fn plot(number: usize, name: &str, metric: &Metric) -> Option<Plot> {
    let points = &metric.points;
    let finite = || points.iter().map(|point| point.value.0).filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if finite().count() < 2 {
        return None;
    }
    let by_step = steps_ascend(points);
    let places: Vec<f64> = points
        .iter()
        .enumerate()
        .map(|(at, point)| point.step.filter(|_| by_step).map_or(at as f64 + 1.0, |step| step as f64))
        .collect();
    let x = Scale::of_places(places.first().copied()?, places.last().copied()?);
    let y = Scale::of_values(low, high);
    let y_ticks = y.ticks(5, false);
    let longest = y_ticks.iter().map(|tick| tick.label.len()).max().unwrap_or(0);
    let left = (8.0 + DIGIT * longest as f64).clamp(LEFT, LEFT_MAX);
    let across = |place: f64| left + x.place(place) * (WIDTH - left - RIGHT);
    let down = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let kept = thinned(&places, points, &x);

    let mut plot = Plot { number, name: name.to_owned(), left, facts: facts(metric), ..Plot::default() };
    let mut pen_down = false;
    for at in kept {
        let (Some(place), Some(point)) = (places.get(at), points.get(at)) else { continue };
        let (x, value) = (coordinate(across(*place)), point.value.0);
        if value.is_finite() {
            let y = coordinate(down(value));
            // A finite point between two that are not becomes a line of zero length, which round
            // line caps draw as a dot.
            let _ = if pen_down { write!(plot.line, "L{x} {y}") } else { write!(plot.line, "M{x} {y}h0") };
            plot.end = Some((x, y));
        } else {
            let (y, sign) = match value {
                f64::INFINITY => (TOP + 4.0, "∞"),
                f64::NEG_INFINITY => (HEIGHT - BOTTOM - 2.0, "−∞"),
                _ => (HEIGHT - BOTTOM - 2.0, "×"),
            };
            let non_finite = NonFinite { x, y: coordinate(y), sign };
            if plot.non_finite.last() != Some(&non_finite) {
                plot.non_finite.push(non_finite);
            }
        }
        pen_down = value.is_finite();
    }
    plot.x_name = if by_step { "step" } else { "point" };
    plot.x_ticks = x
        .ticks(5, true)
        .into_iter()
        .map(|tick| {
            let anchor = if tick.at > 0.93 { "end" } else { "middle" };
            Mark { at: coordinate(left + tick.at * (WIDTH - left - RIGHT)), label: tick.label, anchor }
        })
        .collect();
    plot.y_ticks = y_ticks
        .into_iter()
        .map(|tick| Mark {
            at: coordinate(HEIGHT - BOTTOM - tick.at * (HEIGHT - TOP - BOTTOM)),
            label: tick.label,
            anchor: "end",
        })
        .collect();
    plot.notes = notes(metric, y.log, by_step);
    plot.description = described(&plot);
    Some(plot)
}

/// Returns whether every point has a step and the steps never decrease.
fn steps_ascend(points: &[Point]) -> bool {
    points.iter().all(|point| point.step.is_some()) && points.is_sorted_by_key(|point| point.step)
}

/// Returns the indexes of the points to draw, in order. Extremes and gaps are always kept.
fn thinned(places: &[f64], points: &[Point], x: &Scale) -> Vec<usize> {
    if points.len() <= 2 * COLUMNS {
        return (0..points.len()).collect();
    }
    let column = |at: usize| places.get(at).map_or(0, |place| (x.place(*place) * COLUMNS as f64) as usize);
    let value = |at: &usize| points.get(*at).map_or(f64::NAN, |point| point.value.0);
    let mut kept = Vec::new();
    let mut from = 0;
    while from < points.len() {
        let this = column(from);
        let to = (from..points.len()).find(|at| column(*at) != this).unwrap_or(points.len());
        let of_kind = |wanted: fn(f64) -> bool| (from..to).filter(move |at| wanted(value(at)));
        let finite = || of_kind(f64::is_finite);
        let mut of_column: Vec<usize> = [
            finite().next(),
            finite().min_by(|a, b| value(a).total_cmp(&value(b))),
            finite().max_by(|a, b| value(a).total_cmp(&value(b))),
            finite().next_back(),
            of_kind(f64::is_nan).next(),
            of_kind(|value| value == f64::INFINITY).next(),
            of_kind(|value| value == f64::NEG_INFINITY).next(),
        ]
        .into_iter()
        .flatten()
        .collect();
        of_column.sort_unstable();
        of_column.dedup();
        kept.extend(of_column);
        from = to;
    }
    kept
}

/// Returns the first, last, minimum and maximum value, and the number of points.
pub(super) fn facts(metric: &Metric) -> Vec<(&'static str, String)> {
    let finite = || metric.points.iter().map(|point| point.value.0).filter(|value| value.is_finite());
    let mut facts = Vec::new();
    if let Some(first) = metric.points.first() {
        facts.push(("first", show::number(first.value.0)));
    }
    if let Some(last) = &metric.last {
        facts.push(("last", show::number(last.0)));
    }
    if finite().next().is_some() {
        facts.push(("min", show::number(finite().fold(f64::INFINITY, f64::min))));
        facts.push(("max", show::number(finite().fold(f64::NEG_INFINITY, f64::max))));
    }
    let points = (metric.points.len() as u64).saturating_add(metric.dropped);
    facts.push(("points", points.to_string()));
    facts
}

/// Returns notes on what the plot does not show.
fn notes(metric: &Metric, log: bool, by_step: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if log {
        notes.push("logarithmic scale".to_owned());
    }
    if !by_step && metric.points.iter().any(|point| point.step.is_some()) {
        notes.push("steps are missing or not ascending, so points are shown in the order logged".to_owned());
    }
    let count = |wanted: fn(f64) -> bool| metric.points.iter().filter(|point| wanted(point.value.0)).count();
    for (number, what) in [
        (count(f64::is_nan), "NaN"),
        (count(|value| value == f64::INFINITY), "infinite"),
        (count(|value| value == f64::NEG_INFINITY), "negative infinite"),
    ] {
        if number > 0 {
            let at_least = if metric.dropped > 0 { "at least " } else { "" };
            notes.push(format!("{at_least}{number} {what}"));
        }
    }
    if metric.dropped > 0 {
        notes.push(format!("{} points were not kept", metric.dropped));
    }
    notes
}

fn described(plot: &Plot) -> String {
    let facts: Vec<String> = plot.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut text = format!("Line plot by {}: {}", plot.x_name, facts.join(", "));
    for note in &plot.notes {
        text.push_str("; ");
        text.push_str(note);
    }
    text
}

/// Formats a coordinate with one decimal.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom::record::Number;

    fn metric(values: &[(Option<u64>, f64)]) -> Metric {
        let points: Vec<Point> =
            values.iter().map(|(step, value)| Point { step: *step, value: Number(*value) }).collect();
        Metric { last: points.last().map(|point| point.value), points, dropped: 0 }
    }

    fn by_step(values: impl IntoIterator<Item = f64>) -> Metric {
        metric(&values.into_iter().enumerate().map(|(at, value)| (Some(at as u64), value)).collect::<Vec<_>>())
    }

    fn moves(plot: &Plot) -> (usize, usize) {
        (plot.line.matches('M').count(), plot.line.matches('L').count())
    }

    #[test]
    fn metric_with_one_value_has_no_plot() {
        for values in [&[][..], &[1.0], &[f64::NAN, f64::INFINITY], &[f64::NAN, 1.0]] {
            assert!(plot(0, "m", &by_step(values.iter().copied())).is_none(), "{values:?}");
        }
        assert_eq!(facts(&by_step([0.5])).len(), 5);
        assert_eq!(
            facts(&by_step([f64::NAN])),
            [("first", "NaN".into()), ("last", "NaN".into()), ("points", "1".into())]
        );
    }

    #[test]
    fn plot_line_spans_the_width() {
        let plot = plot(0, "m", &by_step([0.0, 10.0])).unwrap();
        assert_eq!((plot.left, plot.line.as_str()), (LEFT, "M34 130h0L310 12.7"));
        assert_eq!(plot.end, Some(("310".into(), "12.7".into())));
        assert_eq!(plot.x_name, "step");
        assert!(plot.description.contains("first 0, last 10, min 0, max 10, points 2"), "{}", plot.description);
    }

    #[test]
    fn non_finite_values_become_marked_gaps() {
        let plot = plot(0, "m", &by_step([1.0, f64::NAN, 2.0, f64::INFINITY, f64::NEG_INFINITY, 3.0, 4.0])).unwrap();
        assert_eq!(moves(&plot), (3, 1));
        assert_eq!(plot.non_finite.iter().map(|non_finite| non_finite.sign).collect::<Vec<_>>(), ["×", "∞", "−∞"]);
        assert_eq!(plot.notes, ["1 NaN", "1 infinite", "1 negative infinite"]);
        assert!(!plot.line.contains("NaN") && !plot.line.contains("inf"));
    }

    #[test]
    fn unordered_steps_are_plotted_in_logged_order() {
        let back = metric(&[(Some(1), 1.0), (Some(2), 2.0), (Some(1), 3.0)]);
        let missing = metric(&[(Some(1), 1.0), (None, 2.0)]);
        for metric in [back, missing] {
            let plot = plot(0, "m", &metric).unwrap();
            assert_eq!(plot.x_name, "point");
            assert_eq!(plot.notes.len(), 1, "{:?}", plot.notes);
        }
        let none = plot(0, "m", &metric(&[(None, 1.0), (None, 2.0)])).unwrap();
        assert!(none.notes.is_empty());
        let same = plot(0, "m", &metric(&[(Some(5), 1.0), (Some(5), 2.0)])).unwrap();
        assert_eq!(same.end.map(|(x, _)| x), Some(coordinate((same.left + WIDTH - RIGHT) / 2.0)));
    }

    #[test]
    fn thinning_keeps_extremes_and_gaps() {
        let mut values: Vec<f64> = (0..10_000).map(|at| (f64::from(at) / 500.0).sin()).collect();
        values[3_333] = 55.0;
        values[7_777] = -44.0;
        values[5_000] = f64::NAN;
        let plot = plot(0, "m", &by_step(values)).unwrap();
        let (moved, drawn) = moves(&plot);
        assert!(moved == 2 && drawn < 4 * COLUMNS + 20, "{moved}, {drawn}");
        assert!(plot.line.len() < 16_000);
        // The extremes are close to the edges.
        assert!(
            plot.line.contains(" 12.") || plot.line.contains(" 11.") || plot.line.contains(" 10."),
            "{}",
            plot.line
        );
        assert_eq!(plot.non_finite.len(), 1);
        assert!(plot.facts.contains(&("max", "55".into())) && plot.facts.contains(&("min", "-44".into())));
    }

    #[test]
    fn extreme_numbers_are_plotted() {
        for values in [[f64::MAX, f64::MIN], [5e-324, f64::MAX], [0.0, 0.0], [f64::MIN, f64::MIN], [5e-324, 1e-323]] {
            let plot = plot(0, "m", &by_step(values)).unwrap();
            assert!(!plot.line.contains("NaN") && !plot.line.contains("inf"), "{values:?}: {}", plot.line);
            assert!(!plot.y_ticks.is_empty());
        }
    }
}
