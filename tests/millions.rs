//! Components that do a million operations, or print a gigabyte in one line, where other tests use
//! small limits. What the host stores must not grow with them.

use std::path::Path;

use strongroom::audit::{self, Kind, Verdict};
use strongroom::broker::REFUSALS_MAX;
use strongroom::record::{Limit, METRIC_NAMES_MAX, METRIC_POINTS_MAX, RUN_POINTS_MAX, TEXT_POINTS_MAX};

use crate::support::in_process::InProcessHost;
use crate::support::{EndedRun, Host, isolated, leftovers};

const MILLION: u64 = 1_000_000;

/// Enough for a thousand events with a name each.
const AUDIT_MAX: u64 = 1 << 20;

/// Returns the size of a host's audit log.
fn audit_bytes(host: &Host) -> u64 {
    crate::support::files_below(&host.home().join("audit")).iter().map(|file| file.metadata().unwrap().len()).sum()
}

fn denied(run: &EndedRun) -> u64 {
    run.record.secrets.iter().map(|usage| usage.denied).sum()
}

/// Returns the counts of the run's summary events.
fn summaries(host: &Host, run: &EndedRun) -> Vec<u64> {
    let events = host.events(&run.record);
    let summaries = events.iter().filter(|event| event["event"] == "summary");
    summaries.map(|event| event["count"].as_u64().unwrap()).collect()
}

// promise: The number of audit events for refused requests is bounded, however many requests a run
// makes.
// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn million_denied_requests_are_audited_as_a_summary() {
    let host = Host::new();
    let policy = format!("version = 1\n[limits]\nrequests = {MILLION}");
    let run = host.run("requests", &policy, &[]).finished().shows("1000000 denied");
    assert_eq!(denied(&run), MILLION);
    assert!(run.record.secrets.len() <= 501, "{}", run.record.secrets.len());
    assert_eq!(summaries(&host, &run), [MILLION - REFUSALS_MAX]);
    assert_eq!(host.events(&run.record).len() as u64, REFUSALS_MAX + 3);
    assert!(audit_bytes(&host) < AUDIT_MAX, "{}", audit_bytes(&host));
    host.assert_audit_intact();
}

// promise: The number of audit events for refused requests is bounded, however many requests a run
// makes.
// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn million_requests_of_every_kind_are_audited_as_summaries() {
    let host = InProcessHost::new(&[("key", "a-value")]);
    let policy = format!("version = 1\n[limits]\nrequests = {MILLION}");
    let run = host.run("requests", &policy, &["shapes"]).finished().shows("1000000 denied");
    assert_eq!(host.vault_calls.counts(), (0, 0));
    assert_eq!(run.record.secrets.iter().map(|usage| usage.denied).sum::<u64>(), MILLION);
    let dir = host.path().join("audit");
    let events: Vec<_> = audit::read(&dir).unwrap().map(|item| item.unwrap().event.unwrap().event).collect();
    let summaries: Vec<_> = events.iter().filter(|event| event.event == Kind::Summary).collect();
    // One for each operation.
    assert_eq!(summaries.len(), 2, "{summaries:?}");
    assert_eq!(summaries.iter().map(|summary| summary.count.unwrap()).sum::<u64>(), MILLION - REFUSALS_MAX);
    assert!(!audit::verify(&dir, None).unwrap().overall().is_tampering());
    assert_ne!(audit::verify(&dir, None).unwrap().overall(), Verdict::Unlisted);
}

// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn million_denied_requests_stop_at_the_default_limit() {
    let host = Host::new();
    let run = host.run("requests", "version = 1", &[]).stopped(Limit::Requests);
    assert_eq!(denied(&run), 10_000);
    // The denials without an event of their own, and the request that the limit stopped.
    let mut counts = summaries(&host, &run);
    counts.sort_unstable();
    assert_eq!(counts, [1, 10_000 - REFUSALS_MAX]);
}

// attack: resources: report a million metrics, metric names or progress messages -> the `metrics`
// limit, and a run record of bounded size
#[test]
fn million_reports_leave_a_bounded_record() {
    let host = Host::new();
    let policy = format!("version = 1\n[limits]\nmetrics = {MILLION}");
    let names = METRIC_NAMES_MAX as u64;
    for (kind, refused) in [("metrics", 0), ("names", MILLION - names), ("progress", 0)] {
        let run = host.run("reports", &policy, &[kind, "1000000"]).finished();
        let run = run.shows(&format!("1000000 reported, {refused} refused"));
        assert_eq!(host.events(&run.record).len(), 2);
        let record = host.home().join("runs").join(format!("{}.json", run.record.id));
        assert!(record.metadata().unwrap().len() < 2 << 20, "{kind}: {}", record.metadata().unwrap().len());
        let metrics = &run.record.metrics;
        match kind {
            "metrics" => {
                let points = &metrics["loss"].points;
                assert!((METRIC_POINTS_MAX / 2..=METRIC_POINTS_MAX).contains(&points.len()), "{}", points.len());
                assert_eq!(metrics["loss"].dropped, MILLION - points.len() as u64);
                assert_eq!(metrics["loss"].last.map(|last| last.0), Some((MILLION - 1) as f64));
                // The extremes are kept, so the page shows them.
                assert_eq!((points[0].value.0, points[points.len() - 1].value.0), (0.0, (MILLION - 1) as f64));
            }
            "names" => assert_eq!(metrics.len(), METRIC_NAMES_MAX),
            _ => assert_eq!(run.record.progress.map(|progress| progress.done), Some(MILLION - 1)),
        }
        // One more exceeds the limit.
        host.run("reports", &policy, &[kind, "1000001"]).stopped(Limit::Metrics);
    }
}

// attack: resources: log a million tags, parameters or text metrics, or long ones -> their total size
// in the run record is bounded
#[test]
fn million_texts_leave_a_bounded_record() {
    let host = Host::new();
    let policy = format!("version = 1\n[limits]\nmetrics = {MILLION}");
    for (kind, count) in [("tags", MILLION), ("parameters", 10_000), ("text-names", MILLION), ("texts", MILLION)] {
        let run = host.run("reports", &policy, &[kind, &count.to_string()]).finished();
        assert_eq!(host.events(&run.record).len(), 2);
        let record = host.home().join("runs").join(format!("{}.json", run.record.id));
        assert!(record.metadata().unwrap().len() < 4 << 20, "{kind}: {}", record.metadata().unwrap().len());
        let kept = run.record.logged_tags.len() + run.record.logged_parameters.len() + run.record.text_metrics.len();
        match kind {
            "texts" => {
                let metric = &run.record.text_metrics["text"];
                assert_eq!((metric.points.len(), metric.dropped), (TEXT_POINTS_MAX, MILLION - TEXT_POINTS_MAX as u64));
                assert_eq!(metric.points.last().map(|last| last.value.as_str()), Some("999999"));
                run.shows(&format!("{count} reported, 0 refused"));
            }
            _ => {
                assert!((100..20_000).contains(&kept), "{kind}: {kept}");
                run.shows(&format!("{count} reported, {} refused", count - kept as u64));
            }
        }
        // The report shows a bounded part of it.
        let page = host.ok(&["runs", "show", "--html", "-"]);
        assert!(page.len() < 1 << 20, "{kind}: {}", page.len());
    }
}

// attack: resources: report a million metrics, metric names or progress messages -> metrics are
// downsampled while they arrive
#[test]
fn millions_of_points_use_bounded_host_memory() {
    isolated::assert_passes("millions::millions_of_points_in_this_process");
}

/// Reports four million points of a thousand metrics, which would take 96 MB.
#[test]
#[ignore = "inspects the whole process: `millions_of_points_use_bounded_host_memory` runs it in a process of its own"]
fn millions_of_points_in_this_process() {
    const HOST_MAX: u64 = 48 << 10;
    const POINTS: u64 = 4 * MILLION;
    let host = InProcessHost::new(&[]);
    let policy = "version = 1\n[limits]\ntime = \"10m\"\nmetrics = 4000000";
    // Initializes everything that is created once.
    host.run("reports", policy, &["spread", "1000"]).finished();
    let measured = isolated::reset_peak_memory();
    let before = isolated::kilobytes("VmRSS:");
    let run = host.run("reports", policy, &["spread", &POINTS.to_string()]).finished();
    let used = isolated::kilobytes("VmHWM:").saturating_sub(before);
    println!("{used} KiB of the host's memory and the component's");
    assert!(!measured || used < HOST_MAX, "{used} KiB");
    let metrics = run.record.metrics.values();
    let kept: usize = metrics.clone().map(|metric| metric.points.len()).sum();
    assert!(kept <= RUN_POINTS_MAX + 4 * METRIC_NAMES_MAX, "{kept}");
    assert_eq!(metrics.map(|metric| metric.points.len() as u64 + metric.dropped).sum::<u64>(), POINTS);
    let last = &run.record.metrics["loss-999"];
    assert_eq!((last.points[0].value.0, last.last.map(|last| last.0)), (999.0, Some((POINTS - 1) as f64)));
}

// attack: resources: fill the disk with large, sparse, appended, numerous or removed open files, or
// race with truncation -> quotas are charged before the call by apparent size, and freed only after
// pending writes have completed
#[test]
fn million_files_stop_at_the_default_limit() {
    let host = Host::new();
    for way in ["files", "folders"] {
        let run = host.run_with("fill", "version = 1", &["--output", "out"], &[way, "1000000"]);
        let run = run.stopped(Limit::OutputFiles).shows("made 10000").never_shows("made 11000");
        assert!(run.record.outputs.is_empty() && !host.path().join("out").exists());
    }
    assert_eq!(leftovers(host.path(), &host.home()), Vec::<std::path::PathBuf>::new());
}

// attack: resources: print forever, with and without line ends, or a gigabyte in one line -> the
// `log-bytes` limit and a bounded queue
#[test]
fn gigabyte_line_is_cut_with_bounded_host_memory() {
    isolated::assert_passes("millions::gigabyte_line_in_this_process");
}

/// Prints two lines, one on each stream, of half a gigabyte each and concurrently.
#[test]
#[ignore = "inspects the whole process: `gigabyte_line_is_cut_with_bounded_host_memory` runs it in a process of its own"]
fn gigabyte_line_in_this_process() {
    const EACH: u64 = 1 << 29;
    const HOST_MAX: u64 = 64 << 10;
    let host = InProcessHost::new(&[("key", "a-value-that-the-line-is-searched-for")]);
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\ntime = \"10m\"\nlog-bytes = \"64KiB\"";
    // Initializes everything that is created once.
    host.run("flood", policy, &["line", "1024", "key"]).finished();
    let measured = isolated::reset_peak_memory();
    let before = isolated::kilobytes("VmRSS:");
    let started = std::time::Instant::now();
    let run = host.run("flood", policy, &["line", &EACH.to_string(), "key"]).finished();
    let used = isolated::kilobytes("VmHWM:").saturating_sub(before);
    println!("{:?}, {used} KiB of the host's memory and the component's", started.elapsed());
    assert_eq!((run.record.log.kept, run.record.log.dropped), (64 << 10, 2 * EACH - (64 << 10)));
    assert!(run.shown.len() <= 64 << 10 && !run.shown.contains('\n'), "{}", run.shown.len());
    assert!(!measured || used < HOST_MAX, "{used} KiB");
    let stored = log_bytes(host.path());
    assert!(stored < 1 << 20, "{stored} bytes of its output are stored");
}

fn log_bytes(home: &Path) -> u64 {
    let files = crate::support::files_below(&home.join("runs"));
    let logs = files.iter().filter(|file| file.extension().is_some_and(|end| end == "log"));
    logs.map(|log| log.metadata().unwrap().len()).sum()
}
