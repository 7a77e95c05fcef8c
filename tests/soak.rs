//! A thousand hostile runs in one process: its memory does not grow, and nothing of them is left.

use std::time::Duration;

use strongroom::record::{Limit, Outcome};

use crate::support::apart::{self, Holdings};
use crate::support::inside::{Inside, Work};
use crate::support::left_over;

/// How far the memory may grow from the first rounds to the last, in KiB: what keeping 36 KiB of each run would come to.
const GROWTH_MAX: u64 = 16 << 10;

const ROUNDS: usize = 22;
/// Rounds before anything is compared.
const WARM: usize = 3;
const AT_ONCE: usize = 4;

// promise: A run that has ended leaves no memory, threads, descriptors, processes or files in the
// host.
// attack: resources: exhaust the host over many runs -> a run leaves no memory, threads,
// descriptors, processes or files
#[test]
fn a_thousand_hostile_runs_leave_nothing() {
    apart::passes("soak::hostile_runs_in_this_process");
}

/// What each run is to come to.
type Expected = (Outcome, Option<Limit>);

fn work() -> Vec<(Work, Expected)> {
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
#[ignore = "looks at the whole process: `a_thousand_hostile_runs_leave_nothing` runs it apart"]
fn hostile_runs_in_this_process() {
    let inside = Inside::new(&[("key", "hunter2-\"Zwiebel\" & / +% correct\\horse\nsecond-line-of-the-secret")]);
    let (work, expected): (Vec<Work>, Vec<Expected>) = work().into_iter().unzip();
    let (mut memory, mut before) = (Vec::new(), None);
    for round in 0..ROUNDS {
        let all = inside.run_all(&work, AT_ONCE);
        for ((seen, expected), (guest, _, args)) in all.iter().zip(&expected).zip(&work) {
            let came = (seen.record.outcome, seen.record.limit);
            assert_eq!(came, *expected, "{guest} {args:?} in round {round}: {:?}", seen.record.reason);
            assert!(!seen.shown.contains("hunter2"), "{guest} {args:?}");
        }
        memory.push(apart::kilobytes("VmRSS:"));
        // By then everything that is made once has been made: code is compiled, pools and thread stacks are there.
        if round + 1 == WARM {
            before = Some(held(&inside));
        }
    }
    // What the allocator keeps for the next large run comes and goes, so the least of some rounds is compared.
    let (_, measured) = memory.split_at(WARM);
    let (early, late) = measured.split_at(measured.len() / 2);
    let least = |rounds: &[u64]| rounds.iter().min().copied().unwrap();
    println!("{} runs, KiB after each round: {memory:?}", work.len() * ROUNDS);
    let grown = least(late).saturating_sub(least(early));
    assert!(grown < GROWTH_MAX, "grown by {grown} KiB: {memory:?}");
    let holdings = before.unwrap();
    let mut left = held(&inside);
    assert_eq!(left.descriptors, holdings.descriptors);
    assert_eq!(left.children, Vec::<String>::new());
    // The threads for blocking work come with it and end by themselves; one that was left behind does not, however long it is waited for.
    for _ in 0..600 {
        if left.threads <= holdings.threads {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        left = Holdings::now();
    }
    assert!(left.threads <= holdings.threads, "{} threads, {} before", left.threads, holdings.threads);
    assert_eq!(left_over(inside.path(), inside.path()), Vec::<std::path::PathBuf>::new());
}

/// What the process holds once what was under way has come to rest: what a stopped run has left to the background ends by itself.
fn held(inside: &Inside) -> Holdings {
    let mut now = Holdings::now();
    for _ in 0..100 {
        inside.run("hello", "version = 1", &[]).finished();
        let later = Holdings::now();
        if later.descriptors == now.descriptors {
            break;
        }
        now = later;
    }
    now
}
