//! A thousand hostile runs in one process. Its memory does not grow, and nothing of the runs is
//! left.

use std::time::Duration;

use strongroom::record::{Limit, Outcome};

use crate::support::in_process::{InProcessHost, RunRequest};
use crate::support::isolated::{self, ProcessResources};
use crate::support::leftovers;

/// The allowed growth of memory between early and late rounds, in KiB. Keeping 36 KiB of each run
/// would exceed it.
const GROWTH_MAX: u64 = 16 << 10;

const ROUNDS: usize = 22;
/// The number of warm-up rounds, which are not compared.
const WARM: usize = 3;
const AT_ONCE: usize = 4;

// promise: A run that has ended leaves no memory, threads, descriptors, processes or files in the
// host.
// attack: resources: exhaust the host over many runs -> a run leaves no memory, threads,
// descriptors, processes or files
#[test]
fn thousand_hostile_runs_leave_no_resources() {
    isolated::assert_passes("soak::hostile_runs_in_this_process");
}

/// The expected outcome of a run.
type Expected = (Outcome, Option<Limit>);

fn requests() -> Vec<(RunRequest, Expected)> {
    let limit = |limit| (Outcome::Limit, Some(limit));
    let (finished, failed, refused) = ((Outcome::Finished, None), (Outcome::Failed, None), (Outcome::Refused, None));
    let brief = "version = 1\n[limits]\ntime = \"20ms\"\nmemory = \"64MiB\"\nlog-bytes = \"10KiB\"";
    let small = "version = 1\n[limits]\ntime = \"60s\"\nmemory = \"16MiB\"\noutput-bytes = \"1MiB\"\noutput-files = 20\nrequests = 20\nmetrics = 50";
    let key = "version = 1\n[secrets]\nkey = [\"get\", \"set\", \"describe\"]";
    let all: Vec<(&str, &str, &[&str], Expected)> = vec![
        ("spin", brief, &[], limit(Limit::Time)),
        ("spin-host", brief, &[], limit(Limit::Time)),
        ("sleep", brief, &["left in a file"], limit(Limit::Time)),
        ("start", brief, &[], limit(Limit::Time)),
        ("realloc", brief, &[], limit(Limit::Time)),
        ("post-return", brief, &[], limit(Limit::Time)),
        ("flood", brief, &["line"], limit(Limit::Time)),
        ("handles", brief, &["poll", "400"], limit(Limit::Time)),
        ("grow", small, &[], limit(Limit::Memory)),
        ("memories", small, &[], limit(Limit::Memory)),
        ("tables", small, &[], limit(Limit::Tables)),
        ("recurse", small, &[], limit(Limit::Stack)),
        ("own-resources", small, &[], limit(Limit::Resources)),
        ("handles", small, &["timers"], limit(Limit::Resources)),
        ("handles", small, &["files"], limit(Limit::Resources)),
        ("handles", "version = 1\ntcp = [\"127.0.0.1:9\"]", &["sockets"], limit(Limit::Resources)),
        ("fill", small, &["file"], limit(Limit::OutputBytes)),
        ("fill", small, &["sparse"], limit(Limit::OutputBytes)),
        ("fill", small, &["removed"], limit(Limit::OutputBytes)),
        ("fill", small, &["files"], limit(Limit::OutputFiles)),
        ("fill", small, &["folders"], limit(Limit::OutputFiles)),
        ("requests", small, &[], limit(Limit::Requests)),
        ("reports", small, &["metrics"], limit(Limit::Metrics)),
        ("reports", small, &["progress"], limit(Limit::Metrics)),
        ("large", "version = 1", &["names to get"], limit(Limit::Requests)),
        ("extremes", small, &["random"], failed),
        ("extremes", small, &["timers"], finished),
        ("extremes", small, &["write far"], limit(Limit::OutputBytes)),
        ("pile", "version = 1", &["listings"], finished),
        ("escape", "version = 1", &[], finished),
        ("spell", "version = 1", &["key"], finished),
        ("leak", key, &["key", "7"], finished),
        ("leak", key, &["key", "100", "fail"], failed),
        ("trap", key, &["key"], failed),
        ("thief", key, &[], finished),
        ("terminal", "version = 1", &[], finished),
        ("exercise", key, &["len=key", "get=other", "set-long=key=25601"], finished),
        ("fresh", "version = 1", &[], finished),
        ("forge", "version = 1", &[], failed),
        ("wrong-answer", "version = 1", &[], failed),
        ("wrong-train", "version = 1", &[], failed),
        ("plugin", "version = 1", &[], finished),
        ("fail", "version = 1", &[], failed),
        ("http", "version = 1", &[], refused),
        ("unknown-import", "version = 1", &[], refused),
        ("wrong-import", "version = 1", &[], refused),
        ("wrong-run", "version = 1", &[], refused),
        ("hello", "version = 1", &[], finished),
    ];
    all.into_iter().map(|(guest, policy, args, expected)| ((guest, policy.to_owned(), args), expected)).collect()
}

#[test]
#[ignore = "inspects the whole process: `thousand_hostile_runs_leave_no_resources` runs it in a process of its own"]
fn hostile_runs_in_this_process() {
    let host = InProcessHost::new(&[("key", "hunter2-\"Zwiebel\" & / +% correct\\horse\nsecond-line-of-the-secret")]);
    let (requests, expected): (Vec<RunRequest>, Vec<Expected>) = requests().into_iter().unzip();
    let (mut memory, mut before) = (Vec::new(), None);
    for round in 0..ROUNDS {
        let all = host.run_all(&requests, AT_ONCE);
        for ((run, expected), (guest, _, args)) in all.iter().zip(&expected).zip(&requests) {
            let outcome = (run.record.outcome, run.record.limit);
            assert_eq!(outcome, *expected, "{guest} {args:?} in round {round}: {:?}", run.record.reason);
            assert!(!run.shown.contains("hunter2"), "{guest} {args:?}");
        }
        memory.push(isolated::kilobytes("VmRSS:"));
        // After the warm-up everything that is created once exists: compiled code, pools, thread
        // stacks.
        if round + 1 == WARM {
            before = Some(settled_resources(&host));
        }
    }
    // The allocator's reserves fluctuate, so the minima of several rounds are compared.
    let (_, measured) = memory.split_at(WARM);
    let (early, late) = measured.split_at(measured.len() / 2);
    let minimum = |rounds: &[u64]| rounds.iter().min().copied().unwrap();
    println!("{} runs, KiB after each round: {memory:?}", requests.len() * ROUNDS);
    let grown = minimum(late).saturating_sub(minimum(early));
    assert!(grown < GROWTH_MAX, "grown by {grown} KiB: {memory:?}");
    let before = before.unwrap();
    let mut after = settled_resources(&host);
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.children, Vec::<String>::new());
    // Threads for blocking work end by themselves after a while. A leaked thread would not.
    for _ in 0..600 {
        if after.threads <= before.threads {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        after = ProcessResources::now();
    }
    assert!(after.threads <= before.threads, "{} threads, {} before", after.threads, before.threads);
    assert_eq!(leftovers(host.path(), host.path()), Vec::<std::path::PathBuf>::new());
}

/// Returns the process's resources once background work of stopped runs has ended.
fn settled_resources(host: &InProcessHost) -> ProcessResources {
    let mut now = ProcessResources::now();
    for _ in 0..100 {
        host.run("hello", "version = 1", &[]).finished();
        let later = ProcessResources::now();
        if later.descriptors == now.descriptors {
            break;
        }
        now = later;
    }
    now
}
