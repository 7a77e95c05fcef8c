//! Ten thousand concurrent runs that read the same secrets.

use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use serde_json::json;
use strongroom::vault::cache::Settings;
use tokio::sync::Semaphore;

use crate::support::azure::Gate;
use crate::support::in_process::InProcessHost;
use crate::support::{KeyVault, isolated};

const RUNS: usize = 10_000;

/// Memory mappings per run: its stack with a guard page, and its memory with the parts mapped from
/// the code.
const MAPPINGS: usize = 6;

// promise: Simultaneous reads of one secret are a single request to the vault.
// promise: A run holds no thread while it waits or has nothing to print.
#[test]
fn ten_thousand_runs_cause_one_vault_request_per_secret() {
    isolated::assert_passes("azure::load::ten_thousand_runs_in_this_process");
}

/// Descriptors per run: its staging directory and the parent of it. A component that requests its
/// directories would need another one; this one does not.
const DESCRIPTORS: usize = 2;

/// Memory per run in KiB, with a margin.
const MEMORY: usize = 400;

/// Returns how many runs can be alive concurrently within this machine's mappings, descriptors and
/// memory.
fn capacity() -> usize {
    let memory = std::fs::read_to_string("/proc/meminfo").expect("memory information");
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a field");
    let available: usize = available.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a limit on mappings");
    let mappings: usize = mappings.trim().parse().expect("a number");
    let descriptors = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    let fits = [
        RUNS,
        mappings.saturating_sub(4_000) / MAPPINGS,
        descriptors.saturating_sub(500) / DESCRIPTORS,
        available / MEMORY,
    ];
    fits.into_iter().min().unwrap_or(RUNS)
}

#[test]
#[ignore = "uses most of a process's resources: `ten_thousand_runs_cause_one_vault_request_per_secret` runs it in a process of its own"]
fn ten_thousand_runs_in_this_process() {
    let alive = capacity();
    let server = KeyVault::start();
    for name in ["first", "second", "third"] {
        server.put(name, &json!({"value": format!("the value of {name}")}));
    }
    let gate = Gate::new(server.cached(Settings::default()), &["first"]);
    let host = InProcessHost::with_vault(Arc::clone(&gate) as _, u32::try_from(alive).unwrap());
    let policy =
        "version = 1\n[secrets]\nfirst = [\"get\"]\nsecond = [\"get\"]\nthird = [\"get\"]\n[limits]\ntime = \"30m\"";
    // Compiles the component first, as in a process that has been running for a while.
    host.run("exercise", policy, &[]).finished();

    let began = Instant::now();
    // Further runs wait here, because the runner would refuse them.
    let permits = Arc::new(Semaphore::new(alive));
    let runs: Vec<_> = (0..RUNS)
        .map(|_| {
            let run = host.start("exercise", policy, &["len=first", "len=second", "len=third"]);
            let permits = Arc::clone(&permits);
            host.runtime().spawn(async move {
                let _permit = permits.acquire_owned().await.expect("an open semaphore");
                run.await
            })
        })
        .collect();
    // Before the first read is served, all runs have been spawned, and as many as possible are
    // alive and have requested the secret.
    host.runtime().block_on(gate.wait_for_arrivals("first", alive));
    let started = began.elapsed();
    assert_eq!(server.count("get-secret"), 0);
    let memory = isolated::kilobytes("VmRSS:");
    gate.open("first");
    for run in runs {
        let run = host.runtime().block_on(run).expect("no run panics").finished();
        run.shows("len first: ok: 18").shows("len second: ok: 19").shows("len third: ok: 18");
    }
    assert_eq!(server.count("get-secret"), 3, "{}", server.counters());
    println!(
        "{RUNS} runs, {alive} alive at once: {started:.1?} until all have asked, {:.1?} in total; {} MiB, at most {} MiB",
        began.elapsed(),
        memory >> 10,
        isolated::kilobytes("VmHWM:") >> 10
    );
}
