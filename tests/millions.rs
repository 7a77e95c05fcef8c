//! Components that really do a million times, or print a gigabyte in one line, what is bounded elsewhere by a small limit: what the host keeps of it
//! does not grow with it.

use std::path::Path;

use strongroom::audit::{self, Kind, Verdict};
use strongroom::broker::REFUSALS_MAX;
use strongroom::record::{Limit, METRIC_NAMES_MAX, METRIC_POINTS_MAX};

use crate::support::inside::Inside;
use crate::support::{Ended, Host, apart, left_over};

const MILLION: u64 = 1_000_000;

/// A thousand events, each with a name, and a little more.
const AUDIT_MAX: u64 = 1 << 20;

/// How much the audit of a host has grown to.
fn audit_bytes(host: &Host) -> u64 {
    crate::support::files_below(&host.home().join("audit")).iter().map(|file| file.metadata().unwrap().len()).sum()
}

fn denied(run: &Ended) -> u64 {
    run.record.secrets.iter().map(|one| one.denied).sum()
}

/// The counts of the run's summaries in the audit.
fn summaries(host: &Host, run: &Ended) -> Vec<u64> {
    let events = host.events(&run.record);
    let summaries = events.iter().filter(|event| event["event"] == "summary");
    summaries.map(|event| event["count"].as_u64().unwrap()).collect()
}

// promise: The number of audit events for refused requests is bounded, however many requests a run
// makes.
// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn a_million_denied_requests_are_answered_and_audited_in_sum() {
    let host = Host::new();
    let policy = format!("version = 1\n[limits]\nrequests = {MILLION}");
    let run = host.run("requests", &policy, &[]).finished().shows("1000000 denied");
    assert_eq!(denied(&run), MILLION);
    assert!(run.record.secrets.len() <= 501, "{}", run.record.secrets.len());
    assert_eq!(summaries(&host, &run), [MILLION - REFUSALS_MAX]);
    assert_eq!(host.events(&run.record).len() as u64, REFUSALS_MAX + 3);
    assert!(audit_bytes(&host) < AUDIT_MAX, "{}", audit_bytes(&host));
    host.audit_is_whole();
}

// promise: The number of audit events for refused requests is bounded, however many requests a run
// makes.
// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn a_million_requests_of_every_shape_are_audited_in_sum() {
    let inside = Inside::new(&[("key", "a-value")]);
    let policy = format!("version = 1\n[limits]\nrequests = {MILLION}");
    let seen = inside.run("requests", &policy, &["shapes"]).finished().shows("1000000 denied");
    assert_eq!(inside.asked.so_far(), (0, 0));
    assert_eq!(seen.record.secrets.iter().map(|one| one.denied).sum::<u64>(), MILLION);
    let dir = inside.path().join("audit");
    let events: Vec<_> = audit::read(&dir).unwrap().map(|item| item.unwrap().event.unwrap().event).collect();
    let sums: Vec<_> = events.iter().filter(|event| event.event == Kind::Summary).collect();
    // Of each operation one.
    assert_eq!(sums.len(), 2, "{sums:?}");
    assert_eq!(sums.iter().map(|sum| sum.count.unwrap()).sum::<u64>(), MILLION - REFUSALS_MAX);
    assert!(!audit::verify(&dir, None).unwrap().overall().is_tampering());
    assert_ne!(audit::verify(&dir, None).unwrap().overall(), Verdict::Unlisted);
}

// attack: resources: make a million denied requests -> the `requests` limit of 10,000 by default,
// and one audit event for each operation beyond the first thousand denials
#[test]
fn of_a_million_denied_requests_the_usual_limit_answers_its_number() {
    let host = Host::new();
    let run = host.run("requests", "version = 1", &[]).stopped(Limit::Requests);
    assert_eq!(denied(&run), 10_000);
    // Those that have no event of their own, and the one that the limit cut off.
    let mut counts = summaries(&host, &run);
    counts.sort_unstable();
    assert_eq!(counts, [1, 10_000 - REFUSALS_MAX]);
}

// attack: resources: report a million metrics, metric names or progress messages -> the `metrics`
// limit, and a run record of bounded size
#[test]
fn a_million_reports_leave_a_bounded_record_and_nothing_in_the_audit() {
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
                let points = metrics["loss"].points.len();
                assert_eq!((points, metrics["loss"].dropped), (METRIC_POINTS_MAX, MILLION - points as u64));
                assert_eq!(metrics["loss"].last.map(|last| last.0), Some((MILLION - 1) as f64));
            }
            "names" => assert_eq!(metrics.len(), METRIC_NAMES_MAX),
            _ => assert_eq!(run.record.progress.map(|progress| progress.done), Some(MILLION - 1)),
        }
        // One more is over the limit.
        host.run("reports", &policy, &[kind, "1000001"]).stopped(Limit::Metrics);
    }
}

// attack: resources: fill the disk with large, sparse, appended, numerous or removed open files, or
// race with truncation -> quotas are charged before the call by apparent size, and freed only after
// pending writes have completed
#[test]
fn of_a_million_files_and_folders_the_usual_limit_makes_its_number() {
    let host = Host::new();
    for way in ["files", "folders"] {
        let run = host.run_with("fill", "version = 1", &["--output", "out"], &[way, "1000000"]);
        let run = run.stopped(Limit::OutputFiles).shows("made 10000").never_shows("made 11000");
        assert!(run.record.outputs.is_empty() && !host.path().join("out").exists());
    }
    assert_eq!(left_over(host.path(), &host.home()), Vec::<std::path::PathBuf>::new());
}

// attack: resources: print forever, with and without line ends, or a gigabyte in one line -> the
// `log-bytes` limit and a bounded queue
#[test]
fn a_line_of_a_gigabyte_is_cut_and_the_host_does_not_grow() {
    apart::passes("millions::a_gigabyte_in_one_line");
}

/// Two lines, in truth: one on each stream, both of half a gigabyte and at once.
#[test]
#[ignore = "looks at the whole process: `a_line_of_a_gigabyte_is_cut_and_the_host_does_not_grow` runs it apart"]
fn a_gigabyte_in_one_line() {
    const EACH: u64 = 1 << 29;
    const HOST_MAX: u64 = 64 << 10;
    let inside = Inside::new(&[("key", "a-value-that-the-line-is-searched-for")]);
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\ntime = \"10m\"\nlog-bytes = \"64KiB\"";
    // Whatever is made once is made.
    inside.run("flood", policy, &["line", "1024", "key"]).finished();
    let measured = apart::forget_the_peak();
    let before = apart::kilobytes("VmRSS:");
    let begun = std::time::Instant::now();
    let seen = inside.run("flood", policy, &["line", &EACH.to_string(), "key"]).finished();
    let took = apart::kilobytes("VmHWM:").saturating_sub(before);
    println!("{:?}, {took} KiB of the host's memory and the component's", begun.elapsed());
    assert_eq!((seen.record.log.kept, seen.record.log.dropped), (64 << 10, 2 * EACH - (64 << 10)));
    assert!(seen.shown.len() <= 64 << 10 && !seen.shown.contains('\n'), "{}", seen.shown.len());
    assert!(!measured || took < HOST_MAX, "{took} KiB");
    let kept = log_bytes(inside.path());
    assert!(kept < 1 << 20, "{kept} bytes of what it printed are kept");
}

fn log_bytes(home: &Path) -> u64 {
    let files = crate::support::files_below(&home.join("runs"));
    let logs = files.iter().filter(|file| file.extension().is_some_and(|end| end == "log"));
    logs.map(|log| log.metadata().unwrap().len()).sum()
}
