//! `strongroom runs`: the records of runs.

use std::io::{self, Write};

use clap::Subcommand;

use super::failure::{Exit, Failure};
use super::home::{Surroundings, existing_runs};
use super::style::To;
use super::{out, show, summary};
use crate::record::RunRecord;
use crate::runs::{RunStore, RunStoreError};

/// List runs, or show one
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
}

/// List the runs, newest first
#[derive(Debug, clap::Args)]
struct List {
    /// Print a JSON document: an array of run records
    #[arg(long)]
    json: bool,
}

/// Show one run
#[derive(Debug, clap::Args)]
struct Show {
    /// The run: its identity or the beginning of it, or `last`
    #[arg(default_value = "last")]
    id: String,
    /// Print the run record
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let runs = existing_runs(&surroundings.existing_home()?)?;
    match (&args.command, runs) {
        (Command::List(args), Some(runs)) => list(args, &runs),
        (Command::List(List { json: true }), None) => out::line("[]").map(|()| Exit::Done),
        (Command::List(_), None) => {
            out::note("there are no runs yet");
            Ok(Exit::Done)
        }
        (Command::Show(args), Some(runs)) => show(args, &runs),
        (Command::Show(_), None) => Err(none_yet()),
    }
}

fn none_yet() -> Failure {
    Failure::invalid("there are no runs yet").help("`strongroom run COMPONENT --policy FILE` makes one")
}

fn list(args: &List, runs: &RunStore) -> Result<Exit, Failure> {
    if args.json {
        return list_json(runs);
    }
    let mut rows = Vec::new();
    for (id, record) in runs.list()? {
        match record {
            Ok(record) => rows.push(vec![
                id.to_string(),
                show::moment(record.started),
                record.outcome.as_str().to_owned(),
                summary::took(&record).unwrap_or_default(),
                record.component.path,
            ]),
            Err(error) => {
                out::note(format!("warning: {error}"));
                rows.push(vec![id.to_string(), String::new(), "unreadable".to_owned()]);
            }
        }
    }
    if rows.is_empty() {
        out::note("there are no runs yet");
    } else {
        out::table_of_paths(&["RUN", "STARTED", "OUTCOME", "TIME", "COMPONENT"], &mut rows, &[3])?;
    }
    Ok(Exit::Done)
}

/// One record at a time, because all of them together may be large.
fn list_json(runs: &RunStore) -> Result<Exit, Failure> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut separator = "[\n";
    for (_, record) in runs.list()? {
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

fn show(args: &Show, runs: &RunStore) -> Result<Exit, Failure> {
    let record = match runs.find_by_prefix(&args.id) {
        Err(RunStoreError::Absent(text)) if text == "last" => return Err(none_yet()),
        found => found?,
    };
    if args.json {
        out::json(&record)?;
        return Ok(Exit::Done);
    }
    summary::marked(&record, To::Out).iter().try_for_each(out::line)?;
    facts(&record).iter().try_for_each(|line| out::line(format!("  {line}")))?;
    Ok(Exit::Done)
}

/// What the table at the end of a run leaves out.
fn facts(record: &RunRecord) -> Vec<String> {
    let mut rows = vec![
        ("started", show::moment(record.started)),
        ("ended", record.ended.map_or_else(|| "-".to_owned(), show::moment)),
        ("component", format!("{}, {}", record.component.path, show::size(record.component.bytes))),
        ("", record.component.digest.to_string()),
        ("policy", record.policy.to_string()),
        ("spec", record.spec.to_string()),
    ];
    if let Some(audit) = &record.audit {
        rows.push(("audit", format!("{}:{}:{}", audit.segment, audit.count, audit.head)));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    out::columns(None, &rows, &[])
}
