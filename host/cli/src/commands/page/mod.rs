//! A run as one page of HTML that needs nothing else: no network, no script, no other file.
//!
//! A pure function from a record, the kept log and the audited events to text. Most of what stands on a page was written by a component that nobody
//! trusts. The template engine escapes all of it by itself, and nothing in the template (`run.html`) is marked as safe; the pictures
//! are markup of the template with numbers of ours in it; control characters are made visible in the page as a whole; and the page forbids itself
//! everything but its own style.

mod plot;
mod scale;
#[cfg(test)]
mod tests;
mod visible;

use std::time::Duration;

use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use self::plot::{HEIGHT, Plot, WIDTH};
use super::{show, summary};
use strongroom::record::{NetworkUse, Outcome, RunRecord};
use strongroom::runs::{LogLine, LogStream};

/// How many rows one table has before it says how many more there are.
const ROWS_MAX: usize = 300;
/// How many metrics get a picture; the others are rows of a table.
const PLOTS_MAX: usize = 60;
/// How many bytes of the log are shown: its beginning and its end.
const LOG_SHOWN: usize = 1024 * 1024;
/// The largest record that is shown whole, in bytes.
const RECORD_SHOWN: usize = 128 * 1024;

/// What a page tells of.
pub(super) struct ReportInput<'a> {
    pub(super) record: &'a RunRecord,
    /// What the run printed; none where nothing was kept; the error where it cannot be read.
    pub(super) log: Result<Option<Vec<LogLine>>, String>,
    /// The events of the run, as `audit show` has them.
    pub(super) events: Vec<AuditLine>,
    /// What the verification of the trail says.
    pub(super) verdict: AuditVerdict,
    /// When the page is made.
    pub(super) made: Timestamp,
}

/// One audited event.
#[derive(Serialize)]
pub(super) struct AuditLine {
    pub(super) time: String,
    pub(super) kind: String,
    pub(super) about: String,
}

/// Whether the trail can be trusted.
#[derive(Serialize)]
pub(super) struct AuditVerdict {
    pub(super) good: bool,
    pub(super) text: String,
}

/// The page of a run.
///
/// # Errors
/// The template does not fit what it is filled with: a mistake of ours, which the tests find.
pub(super) fn render(input: &ReportInput<'_>) -> Result<String, minijinja::Error> {
    let record = input.record;
    let (plots, numbers) = metrics(record);
    let (log, log_cut) = log(input.log.as_ref().ok().and_then(Option::as_deref).unwrap_or_default());
    let (outcome, took) = summary::headline(record);
    let denied = || record.secrets.iter().filter(|used| used.denied > 0);
    let network = |denied: bool| {
        let count = move |used: &NetworkUse| if denied { used.denied } else { used.count };
        let uses = record.network.iter().filter(move |used| count(used) > 0);
        rows(uses.map(move |used| [used.operation.as_str().to_owned(), used.target.clone(), show::times(count(used))]))
    };
    let allowing = summary::merge_grants(denied().filter_map(|used| used.would_allow.as_deref()));
    let page = Page {
        record,
        mark: mark(record.outcome),
        headline: format!("{outcome}{took}"),
        blame: record.blame.map(summary::blame_text),
        without_policy: record.policy == strongroom::ids::Digest::of(b""),
        denied: rows(denied().map(|used| [used.operation.clone(), used.name.clone(), show::times(used.denied)])),
        these: if allowing.len() == 1 { "this line" } else { "these lines" },
        allowing,
        network_denied: network(true),
        allowing_tcp: summary::tcp_suggestion(&record.network),
        network_used: network(false),
        progress_done: record.progress.as_ref().map_or(0, |progress| progress.done.min(progress.total)),
        served: rows(
            record
                .secrets
                .iter()
                .filter(|used| used.count > 0)
                .map(|used| [used.operation.clone(), used.name.clone(), show::times(used.count)]),
        ),
        facts: facts(record),
        plots,
        numbers,
        outputs: rows(
            record
                .outputs
                .iter()
                .map(|output| [output.path.clone(), show::size(output.bytes), output.sha256.to_string()]),
        ),
        log,
        log_cut,
        log_error: input.log.as_ref().err().map(String::as_str),
        log_absent: matches!(input.log, Ok(None)),
        events: rows(input.events.iter()),
        verdict: &input.verdict,
        identities: identities(record),
        json: serde_json::to_string_pretty(record).ok().filter(|json| json.len() <= RECORD_SHOWN),
        made: show::timestamp(input.made),
        version: env!("CARGO_PKG_VERSION"),
        width: WIDTH,
        height: HEIGHT,
    };
    let mut engine = Environment::new();
    // Said here and not left to the name of the template: everything is escaped, and what is not there is a mistake.
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let page = engine.render_named_str("run.html", include_str!("run.html"), &page)?;
    Ok(visible::visible(&page))
}

/// What the template is filled with.
#[derive(Serialize)]
struct Page<'a> {
    record: &'a RunRecord,
    mark: Mark,
    headline: String,
    blame: Option<&'static str>,
    without_policy: bool,
    denied: Rows<[String; 3]>,
    allowing: Vec<String>,
    these: &'static str,
    network_denied: Rows<[String; 3]>,
    allowing_tcp: Option<String>,
    network_used: Rows<[String; 3]>,
    progress_done: u64,
    served: Rows<[String; 3]>,
    facts: Vec<(&'static str, String)>,
    plots: Vec<Plot>,
    numbers: Rows<(String, String)>,
    outputs: Rows<[String; 3]>,
    log: Vec<Block>,
    log_cut: bool,
    log_error: Option<&'a str>,
    log_absent: bool,
    events: Rows<&'a AuditLine>,
    verdict: &'a AuditVerdict,
    identities: Vec<(&'static str, String)>,
    json: Option<String>,
    made: String,
    version: &'static str,
    width: f64,
    height: f64,
}

/// Rows of a table, and how many there are besides.
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

/// How an outcome is marked: a word for the style, and a sign, so that no color has to be seen.
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

/// What is to be known at a glance.
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

/// What the run is, to the last digit.
fn identities(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("run", record.id.to_string()),
        ("component", format!("{}, {}", record.component.path, show::size(record.component.bytes))),
        ("", record.component.digest.to_string()),
        ("policy", record.policy.to_string()),
        ("specification", record.spec.to_string()),
    ];
    if let Some(vault) = &record.vault {
        rows.push(("vault", vault.clone()));
    }
    if let Some(audit) = &record.audit {
        rows.push(("audit position", format!("{}:{}:{}", audit.segment, audit.count, audit.head)));
    }
    rows
}

/// Metrics with a picture, and those that a few numbers tell.
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

/// A stretch of the log: lines of one stream, or a word of the host.
#[derive(Debug, PartialEq, Serialize)]
struct Block {
    class: &'static str,
    text: String,
}

/// The log in stretches, and whether it was too long to show all of it.
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
