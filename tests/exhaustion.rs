//! Components that use up: time, memory, tables, resources, what one call carries, and numbers at the edge of what they can be. Each is stopped
//! or told no, and the host's own memory stays within bounds.

use strongroom::record::{Limit, Outcome};

use crate::support::inside::Inside;
use crate::support::{Host, apart};

/// A short time limit, where the run is to be stopped by it.
const SHORT: &str = "version = 1\n[limits]\ntime = \"300ms\"";

/// The ways that a guest says it has.
fn ways(host: &Host, guest: &str, policy: &str) -> Vec<String> {
    let run = host.run(guest, policy, &[]).finished();
    run.shown.lines().filter_map(|line| line.strip_prefix("way: ")).map(str::to_owned).collect()
}

// promise: Limits stop a run in a loop, in a host call, and before and after its entry function.
// attack: resources: loop, call the host forever or sleep for an hour -> epoch interruption, and a
// timeout around everything that the component does
#[test]
fn what_does_not_end_is_ended() {
    let host = Host::new();
    for guest in ["spin", "spin-host", "sleep"] {
        host.run(guest, SHORT, &[]).stopped(Limit::Time);
    }
    host.audit_is_whole();
}

// promise: Limits stop a run in a loop, in a host call, and before and after its entry function.
// attack: resources: loop during instantiation, while it receives a reply or during cleanup -> the
// same timeout covers all of them
#[test]
fn loops_outside_the_call_are_ended_too() {
    let host = Host::new();
    // While it is instantiated, while the host hands over an answer, and while it cleans up.
    for guest in ["start", "realloc", "post-return"] {
        host.run(guest, SHORT, &[]).stopped(Limit::Time);
    }
}

// attack: resources: wait for a thousand timers -> the number of resources is capped, and waiting
// counts as run time
#[test]
fn waiting_for_many_timers_is_ended() {
    let host = Host::new();
    // Each is two resources to the host.
    host.run("handles", SHORT, &["poll", "450"]).stopped(Limit::Time).shows("waiting");
    host.run("handles", SHORT, &["poll", "1000"]).stopped(Limit::Resources).never_shows("waiting");
}

// attack: resources: grow one or several memories, tables or the stack -> one limiter for all
// memories, and the limits of the engine
#[test]
fn memory_is_bounded_and_measured() {
    let host = Host::new();
    for guest in ["grow", "memories"] {
        let run = host.run(guest, "version = 1\n[limits]\nmemory = \"64MiB\"", &[]).stopped(Limit::Memory);
        let peak = run.record.peak_memory_bytes;
        assert!((32 << 20..=64 << 20).contains(&peak), "{guest}: {peak}");
    }
}

// attack: resources: grow one or several memories, tables or the stack -> one limiter for all
// memories, and the limits of the engine
#[test]
fn tables_and_the_stack_are_bounded() {
    let host = Host::new();
    host.run("tables", "version = 1", &[]).stopped(Limit::Tables);
    host.run("recurse", "version = 1", &[]).stopped(Limit::Stack);
}

// attack: resources: hold files, streams, sockets, timers or its own resources -> both handle
// tables are capped
#[test]
fn resources_are_bounded() {
    let host = Host::new();
    let policy = "version = 1\ntcp = [\"127.0.0.1:9\"]";
    for kind in ["files", "folders", "readers", "writers", "streams", "networks", "sockets", "lookups", "timers"] {
        host.run("handles", policy, &[kind]).stopped(Limit::Resources).never_shows("a million are open");
    }
    // Those that the component makes for itself.
    host.run("own-resources", policy, &[]).stopped(Limit::Resources);
}

// promise: The host resources that a run can use are bounded.
// attack: resources: pass arguments of 128 MiB to each import, a million names or 20,000 existing
// names -> the size of a call, the size of a batch and the number of requests are limited
#[test]
fn what_one_call_carries_is_bounded() {
    let host = Host::new();
    let policy = "version = 1\n[secrets]\n\"n*\" = [\"get\", \"set\", \"delete\"]\nkey = [\"set\"]";
    let ways = ways(&host, "large", policy);
    assert_eq!(ways.len(), 32, "{ways:?}");
    for way in ways {
        // A million names are within what a call may carry and over the limit of requests: nothing is decided.
        let limit = if way.starts_with("names") { Limit::Requests } else { Limit::HostCall };
        let run = host.run("large", policy, &[&way]).stopped(limit).never_shows("came back");
        assert!(run.record.secrets.iter().all(|one| one.count == 0), "{way}");
    }
}

// attack: resources: pass arguments of 128 MiB to each import, a million names or 20,000 existing
// names -> the size of a call, the size of a batch and the number of requests are limited
#[test]
fn a_batch_of_many_names_that_exist_is_refused_whole() {
    let secrets: Vec<_> = (0..20_000).map(|n| (format!("n{n}"), format!("value-{n}"))).collect();
    let secrets: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let inside = Inside::new(&secrets);
    let policy = "version = 1\n[secrets]\n\"n*\" = [\"get\"]\n[limits]\nrequests = 100000";
    let seen = inside.run("batch", policy, &["20000"]).finished();
    let seen = seen.shows("20000: error: invalid-batch: at most 256 names");
    assert!(seen.record.secrets.iter().all(|one| one.count == 0), "{:?}", seen.record.secrets);
    assert_eq!(inside.asked.so_far(), (0, 0));
    inside.run("batch", policy, &["256"]).finished().shows("256: ok: 256 values");
    // Under the usual limit the run ends there.
    inside.run("batch", "version = 1\n[secrets]\n\"n*\" = [\"get\"]", &["20000"]).stopped(Limit::Requests);
}

// attack: resources: pass extreme numbers, such as 2⁶⁴ random bytes, as lengths, offsets, times or
// timers -> they are refused, limited or charged before anything is allocated
#[test]
fn numbers_at_the_edge_harm_nobody() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\noutput-bytes = \"1MiB\"\ntime = \"30s\"";
    let ways = ways(&host, "extremes", policy);
    assert_eq!(ways.len(), 22, "{ways:?}");
    for way in ways {
        let run = host.run("extremes", policy, &[&way]);
        let expected = match way.as_str() {
            "zeroes to a file"
            | "zeroes within the quota"
            | "write far"
            | "stream far"
            | "size"
            | "size that a file system takes" => (Outcome::Limit, Some(Limit::OutputBytes)),
            "nothing far" => (Outcome::Limit, Some(Limit::OutputBytes)),
            // The engine keeps a note of each handle that a call borrows.
            "poll one many times" => (Outcome::Limit, Some(Limit::Resources)),
            "random" | "insecure random" | "zeroes to stdout" | "blocking zeroes" | "poll nothing"
            | "write unasked" => (Outcome::Failed, None),
            _ => (Outcome::Finished, None),
        };
        assert_eq!((run.record.outcome, run.record.limit), expected, "{way}: {:?}\n{}", run.record.reason, run.shown);
        assert_eq!(run.shown.contains("and on"), expected.0 == Outcome::Finished, "{way}");
    }
}

// attack: resources: pass texts that grow when they are escaped, or return values outside its
// memory -> only the beginning of a long text is processed
#[test]
fn answers_that_are_none_are_the_component_s_failure() {
    let host = Host::new();
    let run = host.run("wrong-answer", "version = 1", &[]).failed();
    assert!(run.record.reason.unwrap().contains("out of bounds"));
    let run = host.run("huge-error", "version = 1", &[]).failed();
    let reason = run.record.reason.unwrap();
    assert!(reason.starts_with("\\x1b\\x1b") && reason.len() < 5000, "{}", reason.len());
    host.run("larger-error", "version = 1", &[]).stopped(Limit::HostCall);
}

// promise: The host resources that a run can use are bounded.
// attack: resources: pass texts that grow when they are escaped, or return values outside its
// memory -> only the beginning of a long text is processed
#[test]
fn the_memory_of_the_host_stays_bounded() {
    apart::passes("exhaustion::what_the_host_takes_for_a_run");
}

/// What a run makes the host take beyond the component's own memory is a copy of what one call may carry, which is 64 MiB, and little more.
#[test]
#[ignore = "looks at the whole process: `the_memory_of_the_host_stays_bounded` runs it apart"]
fn what_the_host_takes_for_a_run() {
    const HOST_MAX: u64 = 128 << 10;
    let inside = Inside::new(&[]);
    // Compiled beforehand, and whatever is made once is made.
    inside.run("hello", "version = 1", &[]).finished();
    let policy = "version = 1\n[limits]\nmemory = \"256MiB\"\ntime = \"30s\"\noutput-bytes = \"1GiB\"";
    if !apart::forget_the_peak() {
        println!("the peak cannot be forgotten here: nothing is measured");
        return;
    }
    let runs: &[(&str, &[&str])] = &[
        ("huge-error", &[]),
        ("larger-error", &[]),
        ("large", &["get-secret"]),
        ("large", &["set-secret value"]),
        ("large", &["poll"]),
        ("large", &["names to get"]),
        ("shouted", &["name"]),
        ("shouted", &["names"]),
        ("extremes", &["random"]),
        ("extremes", &["zeroes to stdout"]),
        ("extremes", &["zeroes within the quota"]),
        ("extremes", &["read much"]),
        ("extremes", &["poll one many times"]),
        ("flood", &["line"]),
        ("own-resources", &[]),
        ("tables", &[]),
    ];
    for (guest, args) in runs {
        apart::forget_the_peak();
        let before = apart::kilobytes("VmRSS:");
        let seen = inside.run(guest, &policy.replace("30s", if *guest == "flood" { "300ms" } else { "30s" }), args);
        let own = seen.record.peak_memory_bytes >> 10;
        let took = apart::kilobytes("VmHWM:").saturating_sub(before);
        println!("{guest} {args:?}: {:?}, own {own} KiB, host {took} KiB", seen.record.outcome);
        assert!(took.saturating_sub(own) < HOST_MAX, "{guest} {args:?}: {took} KiB, of which {own} KiB its own");
        assert_ne!(seen.record.outcome, Outcome::HostFault, "{:?}", seen.record.reason);
    }
}
