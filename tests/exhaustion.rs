//! Components that exhaust time, memory, tables, resources or the size of a call, or pass extreme
//! numbers. Each is stopped or refused, and the host's own memory stays bounded.

use strongroom::record::{Limit, Outcome};

use crate::support::in_process::InProcessHost;
use crate::support::{Host, isolated};

/// A short time limit, for runs that should reach it.
const SHORT: &str = "version = 1\n[limits]\ntime = \"300ms\"";

/// Returns the modes that a guest lists.
fn ways(host: &Host, guest: &str, policy: &str) -> Vec<String> {
    let run = host.run(guest, policy, &[]).finished();
    run.shown.lines().filter_map(|line| line.strip_prefix("way: ")).map(str::to_owned).collect()
}

// promise: Limits stop a run in a loop, in a host call, and before and after its entry function.
// attack: resources: loop, call the host forever or sleep for an hour -> epoch interruption, and a
// timeout around everything that the component does
#[test]
fn endless_run_is_stopped_at_its_time_limit() {
    let host = Host::new();
    for guest in ["spin", "spin-host", "sleep"] {
        host.run(guest, SHORT, &[]).stopped(Limit::Time);
    }
    host.assert_audit_intact();
}

// promise: Limits stop a run in a loop, in a host call, and before and after its entry function.
// attack: resources: loop during instantiation, while it receives a reply or during cleanup -> the
// same timeout covers all of them
#[test]
fn loop_outside_the_entry_function_is_stopped() {
    let host = Host::new();
    // During instantiation, while the host returns a result, and during cleanup.
    for guest in ["start", "realloc", "post-return"] {
        host.run(guest, SHORT, &[]).stopped(Limit::Time);
    }
}

// attack: resources: wait for a thousand timers -> the number of resources is capped, and waiting
// counts as run time
#[test]
fn waiting_for_many_timers_is_stopped() {
    let host = Host::new();
    // Each timer takes two resources of the host.
    host.run("handles", SHORT, &["poll", "450"]).stopped(Limit::Time).shows("waiting");
    host.run("handles", SHORT, &["poll", "1000"]).stopped(Limit::Resources).never_shows("waiting");
}

// attack: resources: grow one or several memories, tables or the stack -> one limiter for all
// memories, and the limits of the engine
#[test]
fn memory_is_limited_and_measured() {
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
fn tables_and_stack_are_limited() {
    let host = Host::new();
    host.run("tables", "version = 1", &[]).stopped(Limit::Tables);
    host.run("recurse", "version = 1", &[]).stopped(Limit::Stack);
}

// attack: resources: hold files, streams, sockets, timers or its own resources -> both handle
// tables are capped
#[test]
fn resources_are_limited() {
    let host = Host::new();
    let policy = "version = 1\ntcp = [\"127.0.0.1:9\"]";
    for kind in ["files", "folders", "readers", "writers", "streams", "networks", "sockets", "lookups", "timers"] {
        host.run("handles", policy, &[kind]).stopped(Limit::Resources).never_shows("a million are open");
    }
    // Resources that the component itself defines.
    host.run("own-resources", policy, &[]).stopped(Limit::Resources);
}

// promise: The host resources that a run can use are bounded.
// attack: resources: pass arguments of 128 MiB to each import, a million names or 20,000 existing
// names -> the size of a call, the size of a batch and the number of requests are limited
#[test]
fn size_of_a_host_call_is_limited() {
    let host = Host::new();
    let policy = "version = 1\n[secrets]\n\"n*\" = [\"get\", \"set\", \"delete\"]\nkey = [\"set\"]";
    let ways = ways(&host, "large", policy);
    assert_eq!(ways.len(), 37, "{ways:?}");
    for way in ways {
        // A million names fit in a call but exceed the limit on requests, so none is decided.
        let limit = if way.starts_with("names") { Limit::Requests } else { Limit::HostCall };
        let run = host.run("large", policy, &[&way]).stopped(limit).never_shows("came back");
        assert!(run.record.secrets.iter().all(|usage| usage.count == 0), "{way}");
    }
}

// attack: resources: pass arguments of 128 MiB to each import, a million names or 20,000 existing
// names -> the size of a call, the size of a batch and the number of requests are limited
#[test]
fn oversized_batch_of_existing_names_reads_nothing() {
    let secrets: Vec<_> = (0..20_000).map(|n| (format!("n{n}"), format!("value-{n}"))).collect();
    let secrets: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let host = InProcessHost::new(&secrets);
    let policy = "version = 1\n[secrets]\n\"n*\" = [\"get\"]\n[limits]\nrequests = 100000";
    let run = host.run("batch", policy, &["20000"]).finished();
    let run = run.shows("20000: error: invalid-batch: at most 256 names");
    assert!(run.record.secrets.iter().all(|usage| usage.count == 0), "{:?}", run.record.secrets);
    assert_eq!(host.vault_calls.counts(), (0, 0));
    host.run("batch", policy, &["256"]).finished().shows("256: ok: 256 values");
    // With the default limit on requests the run is stopped.
    host.run("batch", "version = 1\n[secrets]\n\"n*\" = [\"get\"]", &["20000"]).stopped(Limit::Requests);
}

// attack: resources: pass extreme numbers, such as 2⁶⁴ random bytes, as lengths, offsets, times or
// timers -> they are refused, limited or charged before anything is allocated
#[test]
fn extreme_numbers_are_refused_or_limited() {
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
            // The engine keeps an entry for each handle that a call borrows.
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
fn invalid_results_are_the_guests_failure() {
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
fn host_memory_stays_bounded() {
    isolated::assert_passes("exhaustion::host_memory_per_run_in_this_process");
}

/// Beyond the component's own memory, a run costs the host at most a copy of one call's data (64
/// MiB) and a little more.
#[test]
#[ignore = "inspects the whole process: `host_memory_stays_bounded` runs it in a process of its own"]
fn host_memory_per_run_in_this_process() {
    const HOST_MAX: u64 = 128 << 10;
    let host = InProcessHost::new(&[]);
    // Compiles the component and initializes everything that is created once.
    host.run("hello", "version = 1", &[]).finished();
    let policy = "version = 1\n[limits]\nmemory = \"256MiB\"\ntime = \"30s\"\noutput-bytes = \"1GiB\"";
    if !isolated::reset_peak_memory() {
        println!("the peak cannot be reset here: nothing is measured");
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
        isolated::reset_peak_memory();
        let before = isolated::kilobytes("VmRSS:");
        let run = host.run(guest, &policy.replace("30s", if *guest == "flood" { "300ms" } else { "30s" }), args);
        let own = run.record.peak_memory_bytes >> 10;
        let used = isolated::kilobytes("VmHWM:").saturating_sub(before);
        println!("{guest} {args:?}: {:?}, own {own} KiB, host {used} KiB", run.record.outcome);
        assert!(used.saturating_sub(own) < HOST_MAX, "{guest} {args:?}: {used} KiB, of which {own} KiB its own");
        assert_ne!(run.record.outcome, Outcome::HostFault, "{:?}", run.record.reason);
    }
}
