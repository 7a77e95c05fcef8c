//! How commands behave in a home with many runs.

use std::time::{Duration, Instant};

use strongroom::audit::{Audit, Event, Kind, SyncMode};
use strongroom::ids::RunId;
use strongroom::record::RunRecord;
use strongroom::runs::{LogStream, RunStore};

use crate::support::{Host, guest};

/// Adds runs to a home, each with a segment, a record and a log, as processes of their own would.
fn add_runs(host: &Host, template: &RunRecord, count: usize) {
    let runs = RunStore::open(&host.home().join("runs")).unwrap();
    for _ in 0..count {
        let audit = Audit::open(&host.home().join("audit"), SyncMode::Os).unwrap();
        let mut record = template.clone();
        (record.id, record.segment) = (RunId::generate(), audit.segment().to_owned());
        let event = |kind| {
            let mut event = Event::default();
            (event.event, event.run) = (kind, Some(record.id));
            event
        };
        audit.append_blocking(event(Kind::RunStart)).unwrap();
        record.audit = Some(audit.append_blocking(event(Kind::RunEnd)).unwrap());
        audit.close().unwrap();
        runs.finish(&record).unwrap();
        let mut log = runs.keep_log(&record.id).unwrap();
        log.write(LogStream::Out, b"trained\n");
        assert!(log.finish().is_none());
    }
}

fn template(host: &Host) -> RunRecord {
    host.ok(&["run", guest("hello").to_str().unwrap()]);
    serde_json::from_str(&host.ok(&["runs", "show", "--json"])).unwrap()
}

#[test]
fn list_shows_newest_runs_and_counts_others() {
    let host = Host::new();
    let template = template(&host);
    add_runs(&host, &template, 120);
    let rows = |args: &[&str]| host.ok(args).lines().count() - 1;
    assert_eq!(rows(&["runs", "list"]), 100);
    assert_eq!(rows(&["runs", "list", "--last", "5"]), 5);
    assert_eq!(rows(&["runs", "list", "--last", "500"]), 121);
    let json = |args: &[&str]| serde_json::from_str::<Vec<RunRecord>>(&host.ok(args)).unwrap();
    let all = json(&["runs", "list", "--json"]);
    assert_eq!(all.len(), 121);
    assert_eq!(json(&["runs", "list", "--json", "--last", "5"]), all[..5]);
    assert!(host.ok(&["audit", "verify"]).contains("audit log matches 121 run records"));
    // Operators' commands add no files, however many there are.
    let files = || std::fs::read_dir(host.home().join("audit")).unwrap().count();
    let before = files();
    for _ in 0..3 {
        host.set("key", "value");
        host.ok(&["secret", "list"]);
    }
    assert!(files() <= before + 1);
}

/// Prints the table of `docs/benchmarks.md`. `GROWTH=5000,100000` sets the numbers of runs.
#[test]
#[ignore = "a measurement: run it with `--ignored --nocapture`"]
fn measure_commands_with_many_runs() {
    let host = Host::new();
    let template = template(&host);
    let component = guest("hello");
    let counts = std::env::var("GROWTH").unwrap_or_else(|_| "5000,100000".to_owned());
    let counts = counts.split(',').map(|count| count.parse::<usize>().unwrap());
    println!("| runs | `run` | `secret list` | `runs list` | `audit verify` | ledger |");
    println!("|---|---|---|---|---|---|");
    let mut present = 0;
    for count in std::iter::once(0).chain(counts) {
        add_runs(&host, &template, count - present);
        present = count;
        let fastest = |args: &[&str], rounds: usize| {
            let time = |_| {
                let started = Instant::now();
                host.ok(args);
                started.elapsed()
            };
            (0..rounds).map(time).min().unwrap()
        };
        let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let run = shown(fastest(&["run", component.to_str().unwrap()], 10));
        let secrets = shown(fastest(&["secret", "list"], 10));
        let list = shown(fastest(&["runs", "list"], 5));
        let verify = shown(fastest(&["audit", "verify"], 1));
        let ledger = std::fs::metadata(host.home().join("audit/ledger.jsonl")).unwrap().len();
        println!("| {count} | {run} | {secrets} | {list} | {verify} | {:.1} MB |", ledger as f64 / 1e6);
    }
}
