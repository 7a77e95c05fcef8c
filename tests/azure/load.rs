//! Ten thousand runs at once that want the same secrets.

use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use serde_json::json;
use strongroom::vault::cache::Settings;
use tokio::sync::Semaphore;

use crate::support::azure::Gate;
use crate::support::inside::Inside;
use crate::support::{KeyVault, apart};

const RUNS: usize = 10_000;

/// Mappings that a run takes of the process: its stack with a guard page, its memory with the parts that are mapped from the code.
const MAPPINGS: usize = 6;

// promise: Simultaneous reads of one secret are a single request to the vault.
// promise: A run holds no thread while it waits or has nothing to print.
#[test]
fn ten_thousand_runs_that_want_the_same_secrets_ask_the_vault_once_for_each() {
    apart::passes("azure::load::ten_thousand_runs_in_this_process");
}

/// Descriptors of a run: its private output folder. Once more for the sandbox where the component asks for its folders, which this one does not.
const DESCRIPTORS: usize = 1;

/// What a run takes of the memory, in KiB, with some to spare.
const MEMORY: usize = 400;

/// How many runs can be alive at once on this machine: each has its mappings, its descriptors, and some memory.
fn room() -> usize {
    let memory = std::fs::read_to_string("/proc/meminfo").expect("the system tells");
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a field");
    let available: usize = available.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("the system has a limit");
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
#[ignore = "takes much of a process: `ten_thousand_runs_that_want_the_same_secrets_ask_the_vault_once_for_each` runs it apart"]
fn ten_thousand_runs_in_this_process() {
    let alive = room();
    let server = KeyVault::start();
    for name in ["first", "second", "third"] {
        server.put(name, &json!({"value": format!("the value of {name}")}));
    }
    let gate = Gate::new(server.cached(Settings::default()), &["first"]);
    let inside = Inside::around(Arc::clone(&gate) as _, u32::try_from(alive).unwrap());
    let policy =
        "version = 1\n[secrets]\nfirst = [\"get\"]\nsecond = [\"get\"]\nthird = [\"get\"]\n[limits]\ntime = \"30m\"";
    // Compiled beforehand, as in a process that has been up for a while.
    inside.run("exercise", policy, &[]).finished();

    let began = Instant::now();
    // Those beyond the room wait before the runner, which would turn them away.
    let door = Arc::new(Semaphore::new(alive));
    let runs: Vec<_> = (0..RUNS)
        .map(|_| {
            let run = inside.start("exercise", policy, &["len=first", "len=second", "len=third"]);
            let door = Arc::clone(&door);
            inside.runtime().spawn(async move {
                let _room = door.acquire_owned().await.expect("the door stands");
                run.await
            })
        })
        .collect();
    // All of them have been spawned, and as many as there is room for are alive and have asked, before the first is served.
    inside.runtime().block_on(gate.gathered("first", alive));
    let started = began.elapsed();
    assert_eq!(server.count("get-secret"), 0);
    let memory = apart::kilobytes("VmRSS:");
    gate.open("first");
    for run in runs {
        let seen = inside.runtime().block_on(run).expect("no run panics").finished();
        seen.shows("len first: ok: 18").shows("len second: ok: 19").shows("len third: ok: 18");
    }
    assert_eq!(server.count("get-secret"), 3, "{}", server.counters());
    println!(
        "{RUNS} runs, {alive} alive at once: {started:.1?} until all have asked, {:.1?} in all; {} MiB, at most {} MiB",
        began.elapsed(),
        memory >> 10,
        apart::kilobytes("VmHWM:") >> 10
    );
}
