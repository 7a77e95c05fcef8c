//! The summary at the end of a run and in `runs show`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anstyle::Style;

use super::style::{self, paint};
use super::{out, show};
use strongroom::escape::escape_controls;
use strongroom::ids::Digest;
use strongroom::record::{Blame, Metric, NetworkUse, Outcome, RunRecord, SecretUse, TextMetric};
use strongroom::runtime::Stream;

/// The maximum number of lines per section.
const SECTION_MAX: usize = 20;
/// The maximum width of a sentence in columns.
const SENTENCE_WIDTH: usize = 100;
/// The minimum width of a sentence, however narrow the terminal is.
const SENTENCE_MIN: usize = 30;
/// The maximum width of a text of the component in a table.
const TEXT_WIDTH: usize = 60;
/// The indentation of a section's lines.
const INDENT: usize = 2 + LABEL_WIDTH;
/// The width of the label column.
const LABEL_WIDTH: usize = 13;

/// Returns the summary of a run as lines for a stream.
pub(super) fn lines(record: &RunRecord, to: Stream) -> Vec<String> {
    let width = out::width(to).map_or(SENTENCE_WIDTH, |width| width.saturating_sub(INDENT));
    let width = width.clamp(SENTENCE_MIN, SENTENCE_WIDTH);
    summary(record, width)
}

/// Formats the summary with sentences of at most `width` columns. Component text is escaped again
/// here.
fn summary(record: &RunRecord, width: usize) -> Vec<String> {
    let (outcome, took) = headline(record);
    let outcome = paint(style_of(record.outcome), &outcome);
    let mut table = Sections { lines: vec![format!("{outcome}{took} · run {}", record.id)] };
    if let Some(reason) = &record.reason {
        table.add("reason", sentence(reason, width));
    }
    if let Some(blame) = record.blame {
        table.add("cause", vec![blame_text(blame).to_owned()]);
    }
    let without_policy = has_no_policy(record);
    let denied = denied(&record.secrets, without_policy, width).into_iter().map(|line| (style::WARNING, line));
    table.add_each("denied", denied.collect());
    let served: Vec<Vec<String>> = record
        .secrets
        .iter()
        .filter(|used| used.count > 0)
        .map(|used| vec![used.operation.clone(), used.name.clone(), show::times(used.count)])
        .collect();
    table.add("secrets", first_rows(&served, &[]));
    table.add_each("network", network(&record.network, without_policy, width));
    if record.peak_memory_bytes > 0 {
        table.add("peak memory", vec![show::size(record.peak_memory_bytes)]);
    }
    if record.cpu_micros > 0 {
        table.add("CPU time", vec![show::duration(Duration::from_micros(record.cpu_micros))]);
    }
    let metrics: Vec<Vec<String>> = record.metrics.iter().map(|(name, metric)| metric_row(name, metric)).collect();
    table.add("metrics", first_rows(&metrics, &[1]));
    let texts: Vec<Vec<String>> = record.text_metrics.iter().map(|(name, metric)| text_row(name, metric)).collect();
    table.add("text metrics", first_rows(&texts, &[]));
    let logged = logged(record)
        .map(|(kind, name, value)| vec![kind.to_owned(), name.to_owned(), show::shortened(value, TEXT_WIDTH)]);
    table.add("logged", first_rows(&logged.collect::<Vec<_>>(), &[]));
    if let Some(progress) = record.progress.as_ref().filter(|_| record.outcome != Outcome::Finished) {
        let of = if progress.total > 0 { format!(" of {}", progress.total) } else { String::new() };
        let message = if progress.message.is_empty() { String::new() } else { format!(": {}", progress.message) };
        table.add("progress", sentence(&format!("{}{of}{message}", progress.done), width));
    }
    let outputs: Vec<Vec<String>> =
        record.outputs.iter().map(|output| vec![output.path.clone(), show::size(output.bytes)]).collect();
    table.add("outputs", first_rows(&outputs, &[1]));
    if record.redactions > 0 {
        let values = if record.redactions == 1 { "value" } else { "values" };
        table.add("redactions", vec![format!("{} secret {values} redacted from output", record.redactions)]);
    }
    if let Some(timings) = &record.timings {
        let row = |(stage, nanos): &(&str, u64)| {
            vec![(*stage).to_owned(), show::brief_duration(Duration::from_nanos(*nanos))]
        };
        table.add("timings", first_rows(&timings.stages().iter().map(row).collect::<Vec<_>>(), &[1]));
    }
    if record.log.dropped > 0 {
        let text = format!(
            "{} kept, {} dropped (limit `log-bytes`)",
            show::size(record.log.kept),
            show::size(record.log.dropped)
        );
        table.add("log", vec![text]);
    }
    for warning in &record.warnings {
        table.add("warning", sentence(warning, width));
    }
    table.lines
}

/// Returns the outcome, and the text that follows it, such as the duration.
pub(super) fn headline(record: &RunRecord) -> (String, String) {
    let span = |word: &str| duration(record).map(|span| format!(" {word} {span}")).unwrap_or_default();
    match record.outcome {
        Outcome::Running => ("running".to_owned(), String::new()),
        Outcome::Finished => ("finished".to_owned(), span("in")),
        Outcome::Failed => ("failed".to_owned(), span("after")),
        Outcome::Refused => ("refused".to_owned(), " before any of its code ran".to_owned()),
        Outcome::Limit => {
            let limit = record.limit.map_or("", |limit| limit.as_str());
            (format!("stopped at limit `{limit}`"), span("after"))
        }
        Outcome::Cancelled => ("cancelled".to_owned(), span("after")),
        Outcome::HostFault => ("host fault".to_owned(), span("after")),
        Outcome::Lost => ("lost".to_owned(), String::new()),
    }
}

fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Finished => style::GOOD,
        Outcome::Running | Outcome::Cancelled => style::WARNING,
        Outcome::Failed | Outcome::Refused | Outcome::Limit | Outcome::HostFault | Outcome::Lost => style::ERROR,
    }
}

/// Returns the duration of a run that has ended.
pub(super) fn duration(record: &RunRecord) -> Option<String> {
    let span = record.ended?.duration_since(record.started);
    // Negative if the clock was set back during the run.
    Some(show::duration(Duration::try_from(span).unwrap_or_default()))
}

pub(super) fn blame_text(blame: Blame) -> &'static str {
    match blame {
        Blame::Guest => "the component",
        Blame::Policy => "the policy",
        Blame::Host => "the host",
        Blame::Operator => "the operator",
    }
}

/// Returns denied requests, then the policy lines that would allow them.
fn denied(uses: &[SecretUse], without_policy: bool, width: usize) -> Vec<String> {
    let denied: Vec<&SecretUse> = uses.iter().filter(|used| used.denied > 0).collect();
    let rows: Vec<Vec<String>> =
        denied.iter().map(|used| vec![used.operation.clone(), used.name.clone(), show::times(used.denied)]).collect();
    let mut lines = first_rows(&rows, &[]);
    let allow = merge_grants(denied.iter().filter_map(|used| used.would_allow.as_deref()));
    if !allow.is_empty() {
        let these = if allow.len() == 1 { "this line" } else { "these lines" };
        let advice = match without_policy {
            true => format!(
                "the run had no policy; a policy (`--policy FILE`) with `version = 1` and {these} under [secrets] would allow it:"
            ),
            false => format!("{these} under [secrets] in the policy would allow it:"),
        };
        lines.extend(sentence(&advice, width));
        let rows: Vec<Vec<String>> = allow.into_iter().map(|line| vec![line]).collect();
        lines.extend(first_rows(&rows, &[]).into_iter().map(|line| format!("  {line}")));
    }
    lines
}

/// Returns network use with denied requests highlighted, then the policy line that would allow
/// them.
fn network(uses: &[NetworkUse], without_policy: bool, width: usize) -> Vec<(Style, String)> {
    let row = |denied: &str, used: &NetworkUse, count| {
        vec![format!("{denied}{}", used.operation.as_str()), used.target.clone(), show::times(count)]
    };
    let allowed = uses.iter().filter(|used| used.count > 0).map(|used| row("", used, used.count));
    let denied: Vec<&NetworkUse> = uses.iter().filter(|used| used.denied > 0).collect();
    let rows: Vec<Vec<String>> = allowed.chain(denied.iter().map(|used| row("denied ", used, used.denied))).collect();
    let allowed = rows.len() - denied.len();
    let mut lines = first_rows(&rows, &[]);
    if let Some(line) = tcp_suggestion(uses) {
        let advice = match without_policy {
            true => {
                "the run had no policy; a policy (`--policy FILE`) with `version = 1` and this line would allow it:"
            }
            false => "these entries in the policy's top-level `tcp` would allow it:",
        };
        lines.extend(sentence(advice, width));
        lines.push(format!("  {line}"));
    }
    let style = |at| if at < allowed { Style::new() } else { style::WARNING };
    lines.into_iter().enumerate().map(|(at, line)| (style(at), line)).collect()
}

/// Returns the policy line that would allow the denied connections, if there is one.
pub(super) fn tcp_suggestion(uses: &[NetworkUse]) -> Option<String> {
    let denied = uses.iter().filter(|used| used.denied > 0);
    let entries = denied.filter_map(|used| used.would_allow.as_ref()).take(SECTION_MAX);
    let entries: BTreeSet<String> = entries.map(|entry| format!("\"{}\"", escape_controls(entry))).collect();
    (!entries.is_empty()).then(|| format!("tcp = [{}]", Vec::from_iter(entries).join(", ")))
}

/// Merges lines for the same key, because a policy accepts only one entry per name. Lines that
/// differ in more than their operations stay unchanged.
pub(super) fn merge_grants<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut merged: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut plain = BTreeSet::new();
    for line in lines {
        match operations(line) {
            Some((key, operations)) => merged.entry(key).or_default().extend(operations),
            None => drop(plain.insert(line.to_owned())),
        }
    }
    // A list of names in TOML looks like one in Rust.
    let grants = merged.into_iter().map(|(key, operations)| format!("{key} = {:?}", Vec::from_iter(operations)));
    grants.chain(plain).collect()
}

/// Parses the key and the operations of a line such as `db-password = ["get"]`.
fn operations(line: &str) -> Option<(String, Vec<String>)> {
    let (key, _) = line.split_once(" = ")?;
    let table: toml::Table = toml::from_str(line).ok()?;
    let (_, value) = table.iter().next().filter(|_| table.len() == 1)?;
    let operations =
        value.as_array()?.iter().map(|operation| operation.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    Some((key.to_owned(), operations))
}

fn metric_row(name: &str, metric: &Metric) -> Vec<String> {
    let last = metric.last.map_or_else(String::new, |value| show::number(value.0));
    let points = metric.points.len() as u64 + metric.dropped;
    let step = metric.points.last().and_then(|point| point.step).filter(|_| metric.dropped == 0);
    vec![name.to_owned(), last, step_and_count(step, points, "points")]
}

fn text_row(name: &str, metric: &TextMetric) -> Vec<String> {
    let last = metric.points.last();
    let value = last.map_or_else(String::new, |point| show::shortened(&point.value, TEXT_WIDTH));
    vec![name.to_owned(), value, text_facts(metric)]
}

/// Describes the values of a text metric besides the last.
pub(super) fn text_facts(metric: &TextMetric) -> String {
    let count = (metric.points.len() as u64).saturating_add(metric.dropped);
    step_and_count(metric.points.last().and_then(|point| point.step), count, "values")
}

fn step_and_count(step: Option<u64>, count: u64, unit: &str) -> String {
    let mut about = Vec::new();
    if let Some(step) = step {
        about.push(format!("step {step}"));
    }
    if count > 1 {
        about.push(format!("{count} {unit}"));
    }
    about.join(", ")
}

/// Returns the tags and parameters that the component logged: kind, name and value.
pub(super) fn logged(record: &RunRecord) -> impl Iterator<Item = (&'static str, &str, &str)> {
    let parameters = record.logged_parameters.iter().map(|(name, value)| ("parameter", name.as_str(), value.as_str()));
    parameters.chain(record.logged_tags.iter().map(|(name, value)| ("tag", name.as_str(), value.as_str())))
}

/// Formats the first rows as columns, with the number of further rows.
fn first_rows(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let shown = rows.get(..SECTION_MAX).unwrap_or(rows);
    let mut lines = out::columns(None, shown, right);
    if rows.len() > shown.len() {
        lines.push(format!("and {} more (see `strongroom runs show --json`)", rows.len() - shown.len()));
    }
    lines
}

/// Wraps a sentence. Text in backticks stays on one line, so that it can be copied.
fn sentence(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut quoted = false;
    let at_gap = |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    };
    for word in escape_controls(text).split(at_gap) {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Labeled sections under a headline.
struct Sections {
    lines: Vec<String>,
}

impl Sections {
    fn add(&mut self, name: &str, lines: Vec<String>) {
        self.add_each(name, lines.into_iter().map(|line| (Style::new(), line)).collect());
    }

    fn add_each(&mut self, name: &str, lines: Vec<(Style, String)>) {
        for (at, (style, line)) in lines.into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let line = if style.is_plain() { line } else { paint(style, &line) };
            self.lines.push(row(name, &line));
        }
    }
}

/// Returns whether a run had no policy.
pub(super) fn has_no_policy(record: &RunRecord) -> bool {
    record.policy == Digest::of(b"")
}

/// Returns the identifiers of a run, with full digests, by label.
pub(super) fn identities(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("component", format!("{}, {}", record.component.path, show::size(record.component.bytes))),
        ("", record.component.digest.to_string()),
        ("policy", record.policy.to_string()),
        ("spec", record.spec.to_string()),
    ];
    rows.extend(record.vault.clone().map(|vault| ("vault", vault)));
    rows.extend(record.audit.as_ref().map(|at| ("audit", format!("{}:{}:{}", at.segment, at.count, at.head))));
    rows
}

/// Formats a line of the summary: a label and its text.
pub(super) fn row(label: &str, text: &str) -> String {
    format!("  {label:<LABEL_WIDTH$}{text}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(record: &RunRecord) -> Vec<String> {
        summary(record, SENTENCE_WIDTH).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn summary_colors_only_outcome_and_denials() {
        let record: RunRecord = serde_json::from_str(RECORD).unwrap();
        let marked = summary(&record, SENTENCE_WIDTH);
        for (marked, plain) in marked.iter().zip(plain(&record)) {
            let is_marked = marked.contains('\u{1b}');
            assert_eq!(is_marked, marked != &plain);
            assert_eq!(
                is_marked,
                plain.starts_with("failed after")
                    || ["db-admin", "would allow", "denied connect", "denied look-up", "tcp = ["]
                        .iter()
                        .any(|word| plain.contains(word)),
                "{marked}"
            );
        }
    }

    const RECORD: &str = include_str!("testdata/record.json");

    #[test]
    fn summary_of_denied_run_shows_allowing_lines() {
        let record: RunRecord = serde_json::from_str(RECORD).unwrap();
        let shown = plain(&record).join("\n") + "\n";
        let expected = include_str!("testdata/summary.txt");
        assert_eq!(shown, expected, "\n{shown}");
    }

    #[test]
    fn grants_for_one_key_are_merged() {
        let lines = [
            "a = [\"get\"]",
            "\"db-*\" = [\"get\", \"list\"]",
            "a = [\"get\", \"set\"]",
            "b = { allow = [\"get\"], max-uses = 2 }",
            "b = { allow = [\"get\"], max-uses = 2 }",
        ];
        assert_eq!(
            merge_grants(lines.into_iter()),
            ["\"db-*\" = [\"get\", \"list\"]", "a = [\"get\", \"set\"]", "b = { allow = [\"get\"], max-uses = 2 }"]
        );
    }

    #[test]
    fn long_sections_are_cut_and_sentences_wrapped() {
        let mut record: RunRecord = serde_json::from_str(RECORD).unwrap();
        let output = record.outputs[0].clone();
        record.outputs = vec![output; SECTION_MAX + 3];
        record.reason = Some("word ".repeat(50));
        let lines = plain(&record);
        assert!(lines.iter().any(|line| line.contains("and 3 more")));
        assert!(lines.iter().all(|line| line.chars().count() <= SENTENCE_WIDTH + INDENT), "{lines:?}");
    }

    #[test]
    fn narrow_terminal_gets_short_lines() {
        let mut record: RunRecord = serde_json::from_str(RECORD).unwrap();
        record.reason = Some("word ".repeat(50));
        let lines = summary(&record, 40);
        assert!(lines.iter().filter(|line| line.contains("word")).all(|line| line.len() <= 40 + INDENT), "{lines:?}");
    }

    #[test]
    fn quoted_text_is_not_wrapped() {
        let quoted = format!("`component = \"{}\"`", "x".repeat(90));
        assert_eq!(
            sentence(&format!("one two three four five {quoted} six"), SENTENCE_WIDTH),
            ["one two three four five", &quoted, "six"]
        );
        assert_eq!(sentence("an odd ` backtick", 20), ["an odd ` backtick"]);
    }

    #[test]
    fn every_outcome_has_a_headline() {
        let mut record: RunRecord = serde_json::from_str(RECORD).unwrap();
        for outcome in
            [Outcome::Running, Outcome::Refused, Outcome::Limit, Outcome::Cancelled, Outcome::HostFault, Outcome::Lost]
        {
            record.outcome = outcome;
            assert!(!headline(&record).0.is_empty());
        }
    }
}
