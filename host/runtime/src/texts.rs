//! The tags, logged parameters and text metrics of one run, whose total size is bounded.

use std::collections::{BTreeMap, VecDeque};

use strongroom_core::record::{RUN_TEXT_MAX, TEXT_POINTS_MAX, TextMetric, TextPoint};

/// What each name and each value adds to [`RUN_TEXT_MAX`] besides its bytes. It covers the host's
/// memory and the record's syntax, so that empty texts are bounded too.
const ENTRY_BYTES: usize = 64;

/// Values by name.
type Pairs = BTreeMap<String, String>;

/// All texts of a run.
#[derive(Default)]
pub(super) struct Texts {
    tags: Pairs,
    parameters: Pairs,
    metrics: BTreeMap<String, Series>,
    /// The size of everything that is kept.
    size: usize,
}

/// The newest values of one text metric.
#[derive(Default)]
struct Series {
    points: VecDeque<TextPoint>,
    dropped: u64,
}

/// A text does not fit into the bound.
#[derive(Debug)]
pub(super) struct Full;

impl Texts {
    /// Sets a tag, which replaces its previous value.
    pub(super) fn set_tag(&mut self, name: String, value: String) -> Result<(), Full> {
        set(&mut self.tags, &mut self.size, name, value)
    }

    /// Removes a tag, if it is set.
    pub(super) fn remove_tag(&mut self, name: &str) {
        if let Some(value) = self.tags.remove(name) {
            self.size = self.size.saturating_sub(pair_size(name, &value));
        }
    }

    /// Sets a parameter, which replaces its previous value.
    pub(super) fn set_parameter(&mut self, name: String, value: String) -> Result<(), Full> {
        set(&mut self.parameters, &mut self.size, name, value)
    }

    /// Adds a value to a text metric, which drops its oldest value if it has too many.
    pub(super) fn push(&mut self, name: String, point: TextPoint) -> Result<(), Full> {
        let added = match self.metrics.get(&name) {
            Some(_) => size(&point.value),
            None => pair_size(&name, &point.value),
        };
        let oldest = self.metrics.get(&name).filter(|series| series.points.len() >= TEXT_POINTS_MAX);
        let freed = oldest.and_then(|series| series.points.front()).map_or(0, |oldest| size(&oldest.value));
        replace(&mut self.size, freed, added)?;
        let series = self.metrics.entry(name).or_default();
        if freed > 0 {
            series.points.pop_front();
            series.dropped = series.dropped.saturating_add(1);
        }
        series.points.push_back(point);
        Ok(())
    }

    /// Returns the tags, the parameters and the text metrics, for the run record.
    pub(super) fn into_parts(self) -> (Pairs, Pairs, BTreeMap<String, TextMetric>) {
        let metric = |series: Series| TextMetric { points: series.points.into(), dropped: series.dropped };
        let metrics = self.metrics.into_iter().map(|(name, series)| (name, metric(series))).collect();
        (self.tags, self.parameters, metrics)
    }
}

fn set(texts: &mut Pairs, total: &mut usize, name: String, value: String) -> Result<(), Full> {
    let freed = texts.get(&name).map_or(0, |old| pair_size(&name, old));
    replace(total, freed, pair_size(&name, &value))?;
    texts.insert(name, value);
    Ok(())
}

/// Replaces a part of the total. Changes nothing if the result would be too large.
fn replace(total: &mut usize, freed: usize, added: usize) -> Result<(), Full> {
    let after = total.saturating_sub(freed).saturating_add(added);
    if after > RUN_TEXT_MAX {
        return Err(Full);
    }
    *total = after;
    Ok(())
}

fn pair_size(name: &str, value: &str) -> usize {
    size(name).saturating_add(size(value))
}

fn size(text: &str) -> usize {
    text.len().saturating_add(ENTRY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, value: &str) -> TextPoint {
        TextPoint { step: Some(step), value: value.to_owned() }
    }

    #[test]
    fn last_value_of_a_tag_or_parameter_is_kept() {
        let mut texts = Texts::default();
        for value in ["first", "second"] {
            texts.set_tag("a".into(), value.into()).unwrap();
            texts.set_parameter("a".into(), format!("{value} parameter")).unwrap();
        }
        texts.set_tag("gone".into(), "value".into()).unwrap();
        texts.remove_tag("gone");
        texts.remove_tag("never-set");
        let (tags, parameters, _) = texts.into_parts();
        assert_eq!(tags, BTreeMap::from([("a".to_owned(), "second".to_owned())]));
        assert_eq!(parameters, BTreeMap::from([("a".to_owned(), "second parameter".to_owned())]));
    }

    #[test]
    fn text_metric_keeps_its_newest_values() {
        let mut texts = Texts::default();
        let count = TEXT_POINTS_MAX as u64 + 5;
        for step in 0..count {
            texts.push("stage".into(), point(step, "value")).unwrap();
        }
        let (_, _, metrics) = texts.into_parts();
        let stage = &metrics["stage"];
        assert_eq!((stage.points.len(), stage.dropped), (TEXT_POINTS_MAX, 5));
        assert_eq!((stage.points[0].step, stage.points[TEXT_POINTS_MAX - 1].step), (Some(5), Some(count - 1)));
    }

    #[test]
    fn full_run_refuses_new_texts_and_keeps_the_old() {
        let long = "x".repeat(RUN_TEXT_MAX / 4);
        let mut texts = Texts::default();
        for name in ["a", "b", "c"] {
            texts.set_tag(name.into(), long.clone()).unwrap();
        }
        texts.set_tag("d".into(), long.clone()).unwrap_err();
        texts.set_parameter("d".into(), long.clone()).unwrap_err();
        texts.push("d".into(), point(0, &long)).unwrap_err();
        // A replaced or removed text makes room.
        texts.set_tag("a".into(), long.clone()).unwrap();
        texts.set_tag("a".into(), "short".into()).unwrap();
        texts.set_parameter("d".into(), long.clone()).unwrap();
        texts.remove_tag("b");
        texts.push("d".into(), point(0, &long)).unwrap();
        texts.push("d".into(), point(1, &long)).unwrap_err();
        let (tags, parameters, metrics) = texts.into_parts();
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!((parameters.len(), metrics["d"].points.len(), metrics["d"].dropped), (1, 1, 0));
    }

    #[test]
    fn empty_texts_are_bounded() {
        let mut texts = Texts::default();
        let tags = (0..).take_while(|n| texts.set_tag(format!("{n}"), String::new()).is_ok()).count();
        assert!(tags < RUN_TEXT_MAX / ENTRY_BYTES, "{tags}");
        assert!(texts.size <= RUN_TEXT_MAX);
        let mut texts = Texts::default();
        let points = |texts: &mut Texts, name: u64| {
            (0..TEXT_POINTS_MAX as u64)
                .take_while(|step| texts.push(format!("{name}"), point(*step, "")).is_ok())
                .count()
        };
        let points: usize = (0..).map(|name| points(&mut texts, name)).take_while(|count| *count > 0).sum();
        assert!(points < RUN_TEXT_MAX / ENTRY_BYTES, "{points}");
    }

    #[test]
    fn size_follows_what_is_kept() {
        let mut texts = Texts::default();
        for n in 0..3 * TEXT_POINTS_MAX {
            texts.push("text".into(), point(0, &"x".repeat(n % 7))).unwrap();
            texts.set_tag(format!("{}", n % 5), "x".repeat(n % 11)).unwrap();
            texts.set_parameter("p".into(), "x".repeat(n % 13)).unwrap();
        }
        (0..5).for_each(|n| texts.remove_tag(&n.to_string()));
        let total = texts.size;
        let (tags, parameters, metrics) = texts.into_parts();
        let values: usize = metrics["text"].points.iter().map(|point| size(&point.value)).sum();
        assert_eq!(total, size("text") + values + pair_size("p", &parameters["p"]));
        assert_eq!((tags.len(), parameters.len(), metrics.len()), (0, 1, 1));
    }
}
