//! Renders a run as a self-contained HTML report: no network, no scripts, no other files.
//!
//! Rendering is a pure function of the record, the log and the audit events. Most of the text comes
//! from an untrusted component. The template engine escapes all of it, and `run.html` marks nothing
//! as safe. Plots are markup of the template filled with numbers. Control characters are escaped in
//! the page as a whole. A content security policy forbids everything except the page's own style.

mod plot;
mod scale;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use self::plot::{HEIGHT, Plot, WIDTH};
use super::{show, summary};
use strongroom::escape::TerminalEscaper;
use strongroom::record::{NetworkUse, Outcome, RunRecord, SecretUse};
use strongroom::runs::{LogLine, LogStream};

/// The maximum number of rows per table.
const ROWS_MAX: usize = 300;
/// The maximum number of plots. Other metrics are rows of a table.
const PLOTS_MAX: usize = 60;
/// The maximum length of a text of the component in a table, in characters.
const TEXT_SHOWN: usize = 500;
/// The number of bytes of the log that are shown, from its beginning and its end.
const LOG_SHOWN: usize = 1024 * 1024;
/// The size in bytes up to which the record is shown.
const RECORD_SHOWN: usize = 128 * 1024;

/// The contents of a report.
pub(super) struct ReportInput<'a> {
    pub(super) record: &'a RunRecord,
    /// The log: `None` if it was not kept, or the error that prevented reading it.
    pub(super) log: Result<Option<Vec<LogLine>>, String>,
    /// The run's events, as `audit show` prints them.
    pub(super) events: Vec<AuditLine>,
    /// The result of verifying the audit log.
    pub(super) verdict: AuditVerdict,
    /// When the report is created.
    pub(super) created: Timestamp,
}

/// An audit event.
#[derive(Serialize)]
pub(super) struct AuditLine {
    pub(super) time: String,
    pub(super) kind: String,
    pub(super) about: String,
}

/// Whether the audit log can be trusted.
#[derive(Serialize)]
pub(super) struct AuditVerdict {
    pub(super) good: bool,
    pub(super) text: String,
}

/// Renders the report of a run.
///
/// # Errors
/// The template does not match its data. Tests prevent this.
pub(super) fn render(input: &ReportInput<'_>) -> Result<String, minijinja::Error> {
    let record = input.record;
    let (plots, numbers) = metrics(record);
    let (log, log_cut) = log(input.log.as_ref().ok().and_then(Option::as_deref).unwrap_or_default());
    let (outcome, took) = summary::headline(record);
    let secrets = |count: fn(&SecretUse) -> u64| {
        let uses = record.secrets.iter().filter(move |used| count(used) > 0);
        rows(uses.map(move |used| [used.operation.clone(), used.name.clone(), show::times(count(used))]))
    };
    let network = |count: fn(&NetworkUse) -> u64| {
        let uses = record.network.iter().filter(move |used| count(used) > 0);
        rows(uses.map(move |used| [used.operation.as_str().to_owned(), used.target.clone(), show::times(count(used))]))
    };
    let denied = record.secrets.iter().filter(|used| used.denied > 0);
    let allowing = summary::merge_grants(denied.filter_map(|used| used.would_allow.as_deref()));
    let logged = summary::logged(record)
        .map(|(kind, name, value)| [kind, name, &show::shortened(value, TEXT_SHOWN)].map(str::to_owned));
    let texts = record.text_metrics.iter().map(|(name, metric)| {
        let last = metric.points.last().map_or("", |point| point.value.as_str());
        [name.clone(), show::shortened(last, TEXT_SHOWN), summary::text_facts(metric)]
    });
    let outputs = record.outputs.iter();
    let data = context! {
        record,
        mark => mark(record.outcome),
        headline => format!("{outcome}{took}"),
        blame => record.blame.map(summary::blame_text),
        without_policy => summary::has_no_policy(record),
        denied => secrets(|used| used.denied),
        these => if allowing.len() == 1 { "this line" } else { "these lines" },
        allowing,
        network_denied => network(|used| used.denied),
        allowing_tcp => summary::tcp_suggestion(&record.network),
        network_used => network(|used| used.count),
        progress_done => record.progress.as_ref().map_or(0, |progress| progress.done.min(progress.total)),
        served => secrets(|used| used.count),
        facts => facts(record),
        logged => rows(logged),
        plots,
        numbers,
        texts => rows(texts),
        outputs => rows(outputs.map(|output| [output.path.clone(), show::size(output.bytes), output.sha256.to_string()])),
        log,
        log_cut,
        log_error => input.log.as_ref().err(),
        log_absent => matches!(input.log, Ok(None)),
        events => rows(input.events.iter()),
        verdict => input.verdict,
        identities => summary::identities(record),
        json => serde_json::to_string_pretty(record).ok().filter(|json| json.len() <= RECORD_SHOWN),
        created => show::timestamp(input.created),
        version => env!("CARGO_PKG_VERSION"),
        width => WIDTH,
        height => HEIGHT,
    };
    let mut engine = Environment::new();
    // Set explicitly instead of derived from the template's name. An undefined variable is an
    // error.
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let page = engine.render_named_str("run.html", include_str!("run.html"), data)?;
    Ok(visible(&page))
}

/// Escapes control and direction characters, except newline and tab, as for a terminal. The
/// template contains none, so all of them come from component text. The result contains only
/// characters that XML allows.
fn visible(page: &str) -> String {
    let (mut escaper, mut shown) = (TerminalEscaper::new(), Vec::with_capacity(page.len()));
    escaper.push(page.as_bytes(), &mut shown);
    escaper.finish(&mut shown);
    // The escaper's output is text. XML also forbids these two noncharacters.
    String::from_utf8_lossy(&shown).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

/// The shown rows of a table, and the number of further rows.
#[derive(Serialize)]
struct Rows<T> {
    shown: Vec<T>,
    more: usize,
}

fn rows<T>(all: impl Iterator<Item = T>) -> Rows<T> {
    let mut all = all;
    let shown: Vec<T> = all.by_ref().take(ROWS_MAX).collect();
    Rows { shown, more: all.count() }
}

/// How an outcome is marked: a CSS class, and a sign that does not depend on color.
#[derive(Serialize)]
struct Mark {
    class: &'static str,
    sign: &'static str,
}

fn mark(outcome: Outcome) -> Mark {
    let (class, sign) = match outcome {
        Outcome::Finished => ("good", "✓"),
        Outcome::Running => ("open", "…"),
        Outcome::Cancelled => ("open", "■"),
        Outcome::Failed | Outcome::Refused | Outcome::Limit | Outcome::HostFault | Outcome::Lost => ("bad", "✕"),
    };
    Mark { class, sign }
}

/// Returns the facts of the summary section.
fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("started", show::timestamp(record.started)),
        ("ended", record.ended.map_or_else(|| "–".to_owned(), show::timestamp)),
        ("duration", summary::duration(record).unwrap_or_else(|| "–".to_owned())),
        ("peak memory", show::size(record.peak_memory_bytes)),
        ("CPU time", show::duration(Duration::from_micros(record.cpu_micros))),
    ];
    if let Some(code) = record.exit_code {
        facts.push(("exit code", code.to_string()));
    }
    if let Some(limit) = record.limit {
        facts.push(("stopped at limit", limit.as_str().to_owned()));
    }
    facts.push(("output printed", show::size(record.log.kept.saturating_add(record.log.dropped))));
    if record.redactions > 0 {
        facts.push(("values redacted", record.redactions.to_string()));
    }
    facts
}

/// Returns the plots, and the rows for metrics without a plot.
fn metrics(record: &RunRecord) -> (Vec<Plot>, Rows<(String, String)>) {
    let (mut plots, mut numbers) = (Vec::new(), Vec::new());
    for (name, metric) in &record.metrics {
        let plot = if plots.len() < PLOTS_MAX { plot::plot(plots.len(), name, metric) } else { None };
        match plot {
            Some(plot) => plots.push(plot),
            None => {
                let facts = plot::facts(metric);
                let single = metric.points.len() as u64 + metric.dropped <= 1;
                let of_value = |(label, value): (&str, String)| if single { value } else { format!("{label} {value}") };
                let facts: Vec<String> =
                    facts.into_iter().filter(|(label, _)| !single || *label == "last").map(of_value).collect();
                numbers.push((name.clone(), facts.join(", ")));
            }
        }
    }
    (plots, rows(numbers.into_iter()))
}

/// A block of the log: lines of one stream, or a note of the host.
#[derive(Debug, PartialEq, Serialize)]
struct Block {
    class: &'static str,
    text: String,
}

/// Returns the log as blocks, and whether its middle is left out.
fn log(lines: &[LogLine]) -> (Vec<Block>, bool) {
    let length = |line: &LogLine| match line {
        LogLine::Text { text, .. } => text.len() + 1,
        LogLine::LeftOut(_) => 0,
    };
    let all: usize = lines.iter().map(length).sum();
    let cut = all > LOG_SHOWN;
    let mut blocks = Vec::new();
    let (mut at, mut skipped) = (0, 0);
    for line in lines {
        let from = at;
        at += length(line);
        let middle = cut && at > LOG_SHOWN / 2 && from < all.saturating_sub(LOG_SHOWN / 2);
        match line {
            LogLine::Text { text, .. } if middle => skipped += text.len() + 1,
            LogLine::Text { stream, text, .. } => {
                push_skipped(&mut blocks, &mut skipped);
                let class = match stream {
                    LogStream::Out => "out",
                    LogStream::Err => "err",
                };
                match blocks.last_mut() {
                    Some(Block { class: last, text: so_far }) if *last == class => {
                        so_far.push('\n');
                        so_far.push_str(text);
                    }
                    _ => blocks.push(Block { class, text: text.clone() }),
                }
            }
            LogLine::LeftOut(bytes) => {
                push_skipped(&mut blocks, &mut skipped);
                blocks.push(Block { class: "gap", text: format!("{} not kept", show::size(*bytes)) });
            }
        }
    }
    push_skipped(&mut blocks, &mut skipped);
    (blocks, cut)
}

fn push_skipped(blocks: &mut Vec<Block>, skipped: &mut usize) {
    if *skipped > 0 {
        let text = format!("{} not shown on this page", show::size(*skipped as u64));
        blocks.push(Block { class: "gap", text });
        *skipped = 0;
    }
}
