//! `strongroom audit`: shows and verifies the audit log. Neither command writes to it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufWriter, Write};

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::context::{Context, existing_runs};
use super::failure::{Exit, Failure};
use super::style;
use super::{out, show};
use crate::config::Home;
use strongroom::audit::{self, Event, Expect, Item, LineEvent, Report, SegmentReport, Verdict};
use strongroom::escape::escape_controls;
use strongroom::ids::RunId;
use strongroom::runs::RunStore;

/// Show or verify the audit log
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Verify(Verify),
}

/// Show audit events, oldest first
///
/// Events are shown as stored. Run `strongroom audit verify` to check whether they can be trusted.
#[derive(Debug, clap::Args)]
struct Show {
    /// Only events of this run: run ID, a unique prefix of it, or `last`
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Only the last COUNT events
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    last: Option<usize>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Verify the audit log: hash chains, ledger and run records
///
/// Exit code 0: no tampering was detected. Traces of a crash are reported, but are not tampering.
/// Exit code 5: something was altered, cut, removed or added.
#[derive(Debug, clap::Args)]
struct Verify {
    /// Position that the audit log must contain, stored elsewhere; `runs show` prints it in the
    /// row `audit`
    #[arg(long, value_name = "SEGMENT:COUNT:HASH", value_parser = Expect::parse)]
    expect: Option<Expect>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let home = context.existing_home()?;
    match &args.command {
        Command::Show(args) => show(args, &home),
        Command::Verify(args) => verify(args, &home),
    }
}

fn show(args: &Show, home: &Home) -> Result<Exit, Failure> {
    if !home.audit().exists() {
        out::note("no audit events yet");
        return Ok(Exit::Done);
    }
    let runs = existing_runs(home)?;
    let wanted = match &args.run {
        Some(text) => Some(match (RunId::parse(text), runs) {
            (Ok(id), _) => id,
            (Err(_), Some(runs)) => runs.find_by_prefix(text)?.id,
            (Err(error), None) => return Err(Failure::invalid(error)),
        }),
        None => None,
    };
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut shown = Printer { json: args.json, with_run: wanted.is_none(), segment: String::new() };
    // Segments overlap, so the newest events are not always in the last segment.
    let mut last: BTreeMap<(Timestamp, usize), Item> = BTreeMap::new();
    let mut time = Timestamp::MIN;
    for (at, item) in audit::read(&home.audit())?.enumerate() {
        let item = item?;
        let of_run = |event: &LineEvent| event.event.run == wanted;
        if wanted.is_some() && !item.event.as_ref().is_some_and(of_run) {
            continue;
        }
        let Some(count) = args.last else {
            shown.print(&mut stdout, &item)?;
            continue;
        };
        time = item.event.as_ref().map_or(time, |event| event.time);
        last.insert((time, at), item);
        if last.len() > count {
            last.pop_first();
        }
    }
    for item in last.values() {
        shown.print(&mut stdout, item)?;
    }
    stdout.flush()?;
    Ok(Exit::Done)
}

pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a whole number, such as `20`".to_owned())
}

/// Prints events, with a line before each new segment.
struct Printer {
    json: bool,
    with_run: bool,
    segment: String,
}

impl Printer {
    fn print(&mut self, out: &mut impl Write, item: &Item) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, &JsonLine::from(item)).map_err(io::Error::from)?;
            return writeln!(out);
        }
        if item.segment != self.segment {
            writeln!(out, "segment {}", escape_controls(&item.segment))?;
            self.segment.clone_from(&item.segment);
        }
        writeln!(out, "{}", line_of(item, self.with_run))
    }
}

/// Formats an event as one line.
fn line_of(item: &Item, with_run: bool) -> String {
    let Some(LineEvent { time, event, .. }) = &item.event else {
        return format!("{:>6}  (unreadable event: run `strongroom audit verify`)", item.line);
    };
    let text = format!("{:>6}  {}  {:<16}  {}", item.line, show::timestamp(*time), kind(event), about(event, with_run));
    escape_controls(text.trim_end())
}

/// Returns the kind of an event as the audit log spells it.
pub(super) fn kind(event: &Event) -> String {
    match serde_json::to_value(event.event) {
        Ok(serde_json::Value::String(kind)) => kind,
        _ => String::new(),
    }
}

/// Returns the contents of an event without its kind.
pub(super) fn about(event: &Event, with_run: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    let subject: Vec<&str> = [event.operation.as_deref(), event.secret.as_ref().map(|secret| secret.as_str())]
        .into_iter()
        .flatten()
        .collect();
    if !subject.is_empty() {
        parts.push(subject.join(" "));
    }
    let quoted = |label: &str, value: &str| format!("{label} {value}");
    parts.extend(event.asked.as_deref().map(|asked| quoted("asked as", asked)));
    let decision = event.decision.map(|decision| match decision {
        audit::Decision::Allowed => "allowed",
        audit::Decision::Denied => "denied",
    });
    parts.extend(decision.map(str::to_owned));
    parts.extend(event.rule.as_deref().map(|rule| quoted("by", rule)));
    parts.extend(event.outcome.as_deref().filter(|outcome| decision != Some(outcome)).map(str::to_owned));
    parts.extend(event.version.as_ref().map(|version| quoted("version", version.as_str())));
    parts.extend(event.count.map(|count| format!("count {count}")));
    parts.extend(event.detail.iter().map(|(name, value)| format!("{name}={value}")));
    if with_run {
        parts.extend(event.run.map(|run| format!("run {run}")));
    }
    parts.join(", ")
}

/// An event as JSON: its position, then its fields.
#[derive(Serialize)]
struct JsonLine<'a> {
    segment: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<jiff::Timestamp>,
    readable: bool,
    #[serde(flatten)]
    event: Option<&'a Event>,
}

impl<'a> From<&'a Item> for JsonLine<'a> {
    fn from(item: &'a Item) -> Self {
        let event = item.event.as_ref();
        Self {
            segment: &item.segment,
            line: item.line,
            time: event.map(|event| event.time),
            readable: event.is_some(),
            event: event.map(|event| &event.event),
        }
    }
}

/// A verification report as JSON: the worst verdict, then the details.
#[derive(Serialize)]
struct JsonReport<'a> {
    overall: Verdict,
    records: Records,
    #[serde(flatten)]
    report: &'a Report,
}

/// How the run records compare to the audit log. If `overall` is tampering, not all records that
/// count as agreeing were checked.
#[derive(Serialize)]
struct Records {
    /// Records whose segment exists.
    agreeing: usize,
    /// Records whose segment is missing.
    astray: usize,
}

fn verify(args: &Verify, home: &Home) -> Result<Exit, Failure> {
    // Damaged records must not prevent verification, which matters most when something is broken.
    let runs = existing_runs(home).unwrap_or_else(|failure| {
        out::note(failure);
        None
    });
    // Read before the audit log, so that the log is not behind these positions when a run ends
    // meanwhile.
    let kept = runs.map(|runs| positions(&runs)).unwrap_or_default();
    let report = audit::verify_with(&home.audit(), args.expect.as_ref(), &kept)?;
    let overall = report.overall();
    let segments: HashSet<&str> = report.segments.iter().map(|one| one.segment.as_str()).collect();
    let present = kept.iter().filter(|kept| segments.contains(kept.segment())).count();
    let missing = kept.len().saturating_sub(present);
    if args.json {
        out::json(&JsonReport { overall, records: Records { agreeing: present, astray: missing }, report: &report })?;
    } else {
        let mut lines = lines_of(&report);
        if let Some(sum) = lines.pop() {
            lines.push(colored(&sum));
        }
        lines.iter().try_for_each(out::line)?;
        if present > 0 && !overall.is_tampering() {
            out::line(format!("audit log matches {}", plural(present as u64, "run record")))?;
        }
        if let (Some(expect), false) = (&args.expect, overall.is_tampering()) {
            out::line(format!("expected position found in segment {}", expect.segment()))?;
        }
        if missing > 0 {
            let verdict = format!(
                "TAMPERED: {} that the audit log does not contain: the log was moved, or deleted and restarted",
                if missing == 1 {
                    "1 run record refers to a segment".to_owned()
                } else {
                    format!("{missing} run records refer to segments")
                }
            );
            out::line(colored(&verdict))?;
        }
    }
    Ok(if overall.is_tampering() || missing > 0 { Exit::Host } else { Exit::Done })
}

/// Returns the position of the audit log in each readable run record.
fn positions(runs: &RunStore) -> Vec<Expect> {
    let records = runs.list().into_iter().flatten().filter_map(|(_, record)| record.ok());
    records.filter_map(|record| Expect::try_from(record.audit.as_ref()?).ok()).collect()
}

/// Returns the verdict line with its first word colored.
fn colored(sum: &str) -> String {
    let (word, rest) = sum.split_once(':').unwrap_or((sum, ""));
    let style = match word {
        "intact" => style::GOOD,
        "recovered" => style::WARNING,
        _ => style::ERROR,
    };
    format!("{}:{rest}", style::paint(style, word))
}

/// Returns a line for each segment that is not intact, then the overall verdict.
fn lines_of(report: &Report) -> Vec<String> {
    let count = |wanted: fn(&SegmentReport) -> bool| report.segments.iter().filter(|segment| wanted(segment)).count();
    let intact = count(|segment| segment.verdict == Verdict::Intact);
    let live = count(|segment| segment.verdict == Verdict::Live);
    let tampered = count(|segment| segment.verdict.is_tampering());
    let crashed = report.segments.len() - intact - live - tampered;
    let events: u64 = report.segments.iter().map(|segment| segment.events).sum();
    let mut lines = Vec::new();
    if report.ledger != Verdict::Intact {
        lines.push(format!("ledger: {}", report.ledger));
    }
    for segment in report.segments.iter().filter(|segment| segment.verdict != Verdict::Intact) {
        lines.push(format!(
            "segment {}, {}: {}",
            escape_controls(&segment.segment),
            plural(segment.events, "event"),
            segment.verdict
        ));
    }
    let mut parts = vec![format!("{intact} intact")];
    for (number, word) in [(live, "live"), (crashed, "recovered after a crash"), (tampered, "tampered")] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let overall = match report.overall() {
        worst if worst.is_tampering() => "TAMPERED",
        Verdict::Recovered | Verdict::TornLastLine => "recovered",
        _ => "intact",
    };
    lines.push(format!(
        "{overall}: {} ({}), {}",
        plural(report.segments.len() as u64, "segment"),
        parts.join(", "),
        plural(events, "event")
    ));
    lines
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict], ledger: Verdict) -> Report {
        let segment =
            |verdict: &Verdict| SegmentReport { segment: "01A".into(), verdict: *verdict, events: 3, head: None };
        Report { ledger, segments: verdicts.iter().map(segment).collect() }
    }

    #[test]
    fn verdict_distinguishes_intact_crash_and_tampering() {
        for (verdicts, ledger, last) in [
            (&[Verdict::Intact, Verdict::Intact][..], Verdict::Intact, "intact: 2 segments (2 intact), 6 events"),
            (&[Verdict::Live], Verdict::Intact, "intact: 1 segment (0 intact, 1 live), 3 events"),
            (
                &[Verdict::Intact, Verdict::TornLastLine],
                Verdict::Intact,
                "recovered: 2 segments (1 intact, 1 recovered after a crash), 6 events",
            ),
            (
                &[Verdict::Recovered, Verdict::Altered { line: 2 }],
                Verdict::Intact,
                "TAMPERED: 2 segments (0 intact, 1 recovered after a crash, 1 tampered), 6 events",
            ),
            (&[Verdict::Intact], Verdict::LedgerAltered { line: 1 }, "TAMPERED: 1 segment (1 intact), 3 events"),
        ] {
            let lines = lines_of(&report(verdicts, ledger));
            assert_eq!(lines.last().unwrap(), last);
        }
        let lines = lines_of(&report(&[Verdict::Intact, Verdict::Altered { line: 7 }], Verdict::Intact));
        assert!(lines[0].contains("altered at line 7"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn event_line_has_no_control_characters() {
        let event = Event {
            event: audit::Kind::Use,
            operation: Some("get".into()),
            asked: Some("x\u{1b}[2J\n".into()),
            decision: Some(audit::Decision::Denied),
            ..Event::default()
        };
        let time = "2026-07-01T10:00:00Z".parse().unwrap();
        let item = Item { segment: "01A".into(), line: 7, event: Some(LineEvent { seq: 7, time, event }) };
        assert_eq!(
            line_of(&item, true),
            "     7  2026-07-01T10:00:00Z  use               get, asked as x\\x1b[2J\\n, denied"
        );
        let json = serde_json::to_string(&JsonLine::from(&item)).unwrap();
        assert!(
            json.starts_with(
                r#"{"segment":"01A","line":7,"time":"2026-07-01T10:00:00Z","readable":true,"event":"use""#
            ),
            "{json}"
        );
    }
}
