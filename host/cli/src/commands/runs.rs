//! `strongroom runs`: lists and shows runs, their logs and reports.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;

use super::context::{Context, existing_runs, find_run};
use super::failure::{Exit, Failure};
use super::page::{self, AuditLine, AuditVerdict, ReportInput};
use super::{audit as audit_command, out, show, summary};
use crate::config::Home;
use strongroom::audit::{self, Expect};
use strongroom::escape::{TerminalEscaper, escape_controls};
use strongroom::record::RunRecord;
use strongroom::runs::{LogLine, LogStream, RunStore};
use strongroom::runtime::Stream;

/// List runs, show a run, or print its log
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(alias = "ls")]
    List(List),
    Show(Show),
    Log(Log),
}

/// List runs, newest first
#[derive(Debug, clap::Args)]
struct List {
    /// Only the last COUNT runs; the table shows 100 by default
    #[arg(long, value_name = "COUNT", value_parser = super::audit::parse_count)]
    last: Option<usize>,
    /// Print a JSON array of run records
    #[arg(long)]
    json: bool,
}

/// Show a run
#[derive(Debug, clap::Args)]
struct Show {
    /// Run ID, a unique prefix of it, or `last`
    #[arg(default_value = "last")]
    id: String,
    /// Print the run record as JSON
    #[arg(long)]
    json: bool,
    /// Write an HTML report to this new file, or to standard output if it is `-`
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// Print the log of a run
///
/// Prints the component's output, as far as it was kept: both streams in the order of writing, with
/// the secrets that the run was given redacted and control characters escaped. Notes of the host go
/// to standard error.
#[derive(Debug, clap::Args)]
struct Log {
    /// Run ID, a unique prefix of it, or `last`
    #[arg(default_value = "last")]
    id: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let home = context.existing_home()?;
    match &args.command {
        Command::List(args) => list(args, existing_runs(&home)?),
        Command::Show(args) => show(args, &home),
        Command::Log(args) => {
            let (runs, record) = find_run(&home, &args.id)?;
            print_log(&record, &runs)
        }
    }
}

/// How many runs the table shows by default. Reading a record costs far more than finding it.
const ROWS_DEFAULT: usize = 100;

fn list(args: &List, runs: Option<RunStore>) -> Result<Exit, Failure> {
    let runs = match runs {
        Some(runs) if args.json => return list_json(&runs, args.last.unwrap_or(usize::MAX)),
        Some(runs) => runs,
        None if args.json => return out::line("[]").map(|()| Exit::Done),
        None => {
            out::note("no runs yet");
            return Ok(Exit::Done);
        }
    };
    let mut rows = Vec::new();
    let listed = runs.list()?;
    let shown = args.last.unwrap_or(ROWS_DEFAULT);
    let more = listed.len().saturating_sub(shown);
    for (id, record) in listed.take(shown) {
        match record {
            Ok(record) => rows.push(vec![
                id.to_string(),
                show::timestamp(record.started),
                record.outcome.as_str().to_owned(),
                summary::duration(&record).unwrap_or_default(),
                record.component.path,
            ]),
            Err(error) => {
                out::note(format!("warning: {error}"));
                rows.push(vec![id.to_string(), String::new(), "unreadable".to_owned()]);
            }
        }
    }
    if rows.is_empty() {
        out::note("no runs yet");
    } else {
        out::table_of_paths(&["RUN", "STARTED", "OUTCOME", "DURATION", "COMPONENT"], &mut rows, &[3])?;
    }
    if more > 0 {
        out::note(format!("{more} earlier runs are not shown; `--last COUNT` shows more"));
    }
    Ok(Exit::Done)
}

/// Writes one record at a time, because all of them together may be large.
fn list_json(runs: &RunStore, most: usize) -> Result<Exit, Failure> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut separator = "[\n";
    for (_, record) in runs.list()?.take(most) {
        match record {
            Ok(record) => {
                write!(stdout, "{separator}")?;
                serde_json::to_writer(&mut stdout, &record).map_err(io::Error::from)?;
                separator = ",\n";
            }
            Err(error) => out::note(format!("warning: {error}")),
        }
    }
    writeln!(stdout, "{}", if separator == "[\n" { "[]" } else { "\n]" })?;
    stdout.flush()?;
    Ok(Exit::Done)
}

fn show(args: &Show, home: &Home) -> Result<Exit, Failure> {
    if let Some(file) = args.html.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
        return Err(report_exists_error(file));
    }
    let (runs, record) = find_run(home, &args.id)?;
    if let Some(file) = &args.html {
        return write_report(file, &render_report(&record, &runs, home)?, &record);
    }
    if args.json {
        out::json(&record)?;
        return Ok(Exit::Done);
    }
    summary::lines(&record, Stream::Stdout).iter().try_for_each(out::line)?;
    let ended = record.ended.map_or_else(|| "-".to_owned(), show::timestamp);
    let times = [("started", show::timestamp(record.started)), ("ended", ended)];
    for (label, value) in times.into_iter().chain(summary::identities(&record)) {
        out::line(summary::row(label, &escape_controls(&value)))?;
    }
    Ok(Exit::Done)
}

/// Prints a log. It is stored escaped, and escaped again because the file may have been modified.
fn print_log(record: &RunRecord, runs: &RunStore) -> Result<Exit, Failure> {
    let Some(lines) = runs.log(&record.id)? else {
        out::note(match (&record.log_failure, record.log.kept) {
            (Some(cause), _) => format!("the log of run {} could not be written: {cause}", record.id),
            (None, 0) => format!("run {} printed nothing", record.id),
            (None, _) => format!("the log of run {} was not kept", record.id),
        });
        return Ok(Exit::Done);
    };
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut before = None;
    for line in &lines {
        let (stream, goes_on, text) = match line {
            LogLine::Text { stream, goes_on, text } => (*stream, *goes_on, text),
            LogLine::LeftOut(bytes) => {
                end_line(&mut stdout, &mut before)?;
                stdout.flush()?;
                out::note(format!("... {} omitted", show::size(*bytes)));
                continue;
            }
        };
        // A line that the other stream interrupted continues after that stream's line end, as on
        // the terminal.
        if !(goes_on && before == Some(stream)) {
            end_line(&mut stdout, &mut before)?;
        }
        let (mut escaper, mut shown) = (TerminalEscaper::new(), Vec::new());
        escaper.push(text.as_bytes(), &mut shown);
        escaper.finish(&mut shown);
        stdout.write_all(&shown)?;
        before = Some(stream);
    }
    end_line(&mut stdout, &mut before)?;
    stdout.flush()?;
    if record.log.dropped > 0 {
        out::note(format!("... {} dropped (limit `log-bytes`)", show::size(record.log.dropped)));
    }
    Ok(Exit::Done)
}

fn end_line(out: &mut impl Write, before: &mut Option<LogStream>) -> io::Result<()> {
    match before.take() {
        Some(_) => writeln!(out),
        None => Ok(()),
    }
}

/// Renders the HTML report of a run.
fn render_report(record: &RunRecord, runs: &RunStore, home: &Home) -> Result<String, Failure> {
    let (events, verdict) = audit_events(record, home)?;
    let log = runs.log(&record.id).map_err(|error| error.to_string());
    let input = ReportInput { record, log, events, verdict, created: Timestamp::now() };
    page::render(&input).map_err(|error| Failure::host(format!("could not create the report: {error}")))
}

/// Returns the events of a run, and whether the audit log that contains them can be trusted.
fn audit_events(record: &RunRecord, home: &Home) -> Result<(Vec<AuditLine>, AuditVerdict), Failure> {
    if !home.audit().exists() {
        let text = "The strongroom home contains no audit log.".to_owned();
        return Ok((Vec::new(), AuditVerdict { good: false, text }));
    }
    let mut events = Vec::new();
    for item in audit::read(&home.audit())? {
        if let Some(line) = item?.event.filter(|line| line.event.run == Some(record.id)) {
            let about = audit_command::about(&line.event, false);
            events.push(AuditLine { time: show::timestamp(line.time), kind: audit_command::kind(&line.event), about });
        }
    }
    // The audit log must contain the position in the record. The record of an interrupted run has
    // none.
    let expect = record.audit.as_ref().and_then(|position| Expect::try_from(position).ok());
    let report = audit::verify(&home.audit(), expect.as_ref())?;
    let overall = report.overall();
    let good = !overall.is_tampering();
    let place = if expect.is_some() { ", and the log contains the position at which this run ended" } else { "" };
    let text = match good {
        true => format!("The audit log was verified when this page was created: no tampering was detected{place}."),
        false => format!("TAMPERED. The audit log was verified when this page was created: {overall}."),
    };
    Ok((events, AuditVerdict { good, text }))
}

/// Writes a report to a new file, completely or not at all, or to standard output.
fn write_report(file: &Path, page: &str, record: &RunRecord) -> Result<Exit, Failure> {
    if file == Path::new("-") {
        let mut stdout = io::stdout().lock();
        stdout.write_all(page.as_bytes())?;
        stdout.flush()?;
        return Ok(Exit::Done);
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let problem = format!("could not write the report `{}`: its directory does not exist", file.display());
        return Err(Failure::invalid(problem).help("create the directory first"));
    }
    let failed =
        |cause: io::Error| Failure::invalid(format!("could not write the report `{}`: {cause}", file.display()));
    let mut temp = tempfile::Builder::new().prefix(".strongroom-page-").tempfile_in(dir).map_err(failed)?;
    temp.write_all(page.as_bytes()).and_then(|()| temp.as_file().sync_all()).map_err(failed)?;
    match temp.persist_noclobber(file) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(report_exists_error(file)),
        Err(error) => return Err(failed(error.error)),
    }
    out::note(format!("wrote the report of run {} to `{}`: open it in a browser", record.id, file.display()));
    Ok(Exit::Done)
}

fn report_exists_error(file: &Path) -> Failure {
    Failure::invalid(format!("the report `{}` already exists", file.display()))
        .help("choose a new file; existing files are never overwritten")
}
