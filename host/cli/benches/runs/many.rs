//! Many runs under separate policies in one process, as fast as possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use strongroom::audit::SyncMode;
use strongroom::runtime::Silent;
use strongroom::spec::RunSpec;
use tokio::task::JoinSet;

use crate::Size;
use crate::guests::guest;
use crate::host::{Host, policy, runtime};
use crate::raw::Raw;
use crate::table::row;

pub(crate) fn measure(size: Size) {
    let runs = size.choose(10_000, 20);
    let runtime = runtime();
    let cores = std::thread::available_parallelism().unwrap().get();
    let (host, raw) = (Host::new(&runtime, SyncMode::Os), Raw::new(&runtime));
    let component = guest("calls", size);
    let ready = Arc::new(raw.ready(&component));
    let started = Instant::now();
    each(&runtime, cores, runs, move |_| {
        let ready = Arc::clone(&ready);
        async move { ready.run_in_task(&["1", "0"]).await }
    });
    let plain = started.elapsed();

    let policies: Vec<_> =
        (0..runs).map(|n| policy(&format!("[secrets]\nkey-0 = ['get']\nkey-of-{n} = ['get']"))).collect();
    host.run(&component, &policies[0], &["1", "0"]);
    host.run(&component, &policies[0], &["1", "0"]);
    let (policies, component) = (Arc::new(policies), Arc::new(component));
    let ours = || {
        let (runner, policies, component) = (Arc::clone(&host.runner), Arc::clone(&policies), Arc::clone(&component));
        let started = Instant::now();
        each(&runtime, cores, runs, move |n| {
            let (runner, policy) = (Arc::clone(&runner), Arc::clone(&policies[n]));
            let spec = RunSpec::new(component.as_path()).args(["1", "0"]);
            async move {
                let record = runner.run(spec, policy, Arc::new(Silent), std::future::pending()).await.unwrap();
                assert_eq!(record.exit_code, Some(0), "{:?}", record.reason);
            }
        });
        started.elapsed()
    };
    let (new, known) = (ours(), ours());
    let rate = |took: std::time::Duration| {
        format!("{:.0} runs a second a core", runs as f64 / took.as_secs_f64() / cores as f64)
    };
    row(&format!("{runs} runs, each reads one value: raw wasmtime"), &rate(plain));
    for (what, took) in [("a new policy for each, which the audit keeps", new), ("the same policies again", known)] {
        row(&format!("strongroom, {what}"), &rate(took));
        row("  over raw", &format!("{:.2} times the time", took.as_secs_f64() / plain.as_secs_f64()));
    }
}

/// Performs the work `runs` times, in sequence on each core.
fn each<F: Future<Output = ()> + Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    cores: usize,
    runs: usize,
    work: impl Fn(usize) -> F + Send + Sync + 'static,
) {
    let (next, work) = (Arc::new(AtomicUsize::new(0)), Arc::new(work));
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..cores {
            let (next, work) = (Arc::clone(&next), Arc::clone(&work));
            tasks.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= runs {
                        return;
                    }
                    work(n).await;
                }
            });
        }
        tasks.join_all().await;
    });
}
