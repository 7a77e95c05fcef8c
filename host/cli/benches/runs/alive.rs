//! The number of runs that can be alive concurrently, each waiting in a host call, and their cost.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom::audit::SyncMode;
use strongroom::ids::{SecretName, SecretVersion};
use strongroom::policy::{Grant, ListGrant};
use strongroom::record::Outcome;
use strongroom::runner::StartError;
use strongroom::runtime::Silent;
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::{Abilities, Description, Missing, Stored, Vault, VaultError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Size;
use crate::guests::{guest, settle};
use crate::host::{Host, policy, runtime};
use crate::packed::{Train, packed};
use crate::table::{row, shown};

pub(crate) fn measure(size: Size) {
    let descriptors = raise_descriptors();
    row("small guest", "");
    park(&guest("park", size), "16MiB", limited(size.choose(10_000, 20), descriptors, SMALL));
    row("large guest", "");
    let large = packed(size, Train::Park);
    settle(&large, size);
    park(&large, "64MiB", limited(size.choose(1_000, 3), descriptors, LARGE));
}

/// Upper estimates of what a run needs, to guess how many the machine allows: descriptors,
/// mappings, and memory in KiB.
struct RunCost {
    descriptors: usize,
    mappings: usize,
    memory: usize,
}

const SMALL: RunCost = RunCost { descriptors: 1, mappings: 4, memory: 256 };
const LARGE: RunCost = RunCost { descriptors: 1, mappings: 8, memory: 12 * 1024 };

/// Returns the wanted number of runs, or as many as the machine allows, and prints that limit.
fn limited(wanted: usize, descriptors: usize, each: RunCost) -> usize {
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let mappings: usize = read("/proc/sys/vm/max_map_count").trim().parse().unwrap();
    let meminfo = read("/proc/meminfo");
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let memory: usize = memory.trim().trim_end_matches(" kB").parse().unwrap();
    // The process itself needs some of each.
    let limits = [
        ("descriptors", descriptors.saturating_sub(200) / each.descriptors),
        ("mappings", mappings.saturating_sub(2_000) / each.mappings),
        ("memory", memory / 4 * 3 / each.memory),
    ];
    let (name, least) = limits.into_iter().min_by_key(|(_, runs)| *runs).unwrap();
    row("  wanted, and what the machine surely allows", &format!("{wanted}; {least}, for {name}"));
    wanted.min(least)
}

/// Starts one run and then `runs` more until all wait, lets them continue, and prints the cost of
/// each but the first.
fn park(component: &Path, memory: &str, runs: usize) {
    let grants = policy(&format!("[secrets]\nparked = ['get']\n[limits]\nmemory = '{memory}'"));
    let runtime = runtime();
    let (open, gate) = watch::channel(false);
    let waiting = Arc::new(Semaphore::new(0));
    let vault = Arc::new(Gate { gate, waiting: Arc::clone(&waiting) });
    let folder = tempfile::tempdir().unwrap();
    let max_runs = u32::try_from(runs + 1).unwrap();
    let host = Host::with_vault(&runtime, SyncMode::Os, folder, vault, |options| options.max_runs(max_runs));
    let start = |host: &Host| {
        let (runner, spec, policy) = (Arc::clone(&host.runner), RunSpec::new(component), Arc::clone(&grants));
        async move { runner.run(spec, policy, Arc::new(Silent), std::future::pending()).await }
    };
    let mut tasks = JoinSet::new();
    let mut quarters = Vec::new();
    runtime.block_on(async {
        // This run compiles the component.
        tasks.spawn(start(&host));
        waiting.acquire().await.unwrap().forget();
        let before = ProcessUsage::now();
        let started = Instant::now();
        for n in 1..=runs {
            tasks.spawn(start(&host));
            // In sequence, which shows the cost of one more start.
            waiting.acquire().await.unwrap().forget();
            if n % (runs / 4).max(1) == 0 {
                quarters.push(started.elapsed());
            }
        }
        let took = started.elapsed();
        let now = ProcessUsage::now();
        row("  alive at once", &(runs + 1).to_string());
        row("  started in", &shown(took));
        let mut last = Duration::ZERO;
        let each: Vec<_> = quarters
            .iter()
            .map(|quarter| {
                shown((*quarter - std::mem::replace(&mut last, *quarter)) / u32::try_from((runs / 4).max(1)).unwrap())
            })
            .collect();
        row("  one start, in each quarter of them", &each.join(", "));
        let each = |what: fn(&ProcessUsage) -> usize| (what(&now) as f64 - what(&before) as f64) / runs as f64;
        row("  resident memory a run", &format!("{:.0} KiB", each(|taken| taken.resident) / 1024.0));
        row(
            "  mappings a run, descriptors a run",
            &format!("{:.2}, {:.2}", each(|taken| taken.mappings), each(|taken| taken.descriptors)),
        );
        let one_more = start(&host).await;
        assert!(matches!(one_more, Err(StartError::Busy)), "one run more was not refused as busy: {one_more:?}");
        open.send_replace(true);
        let started = Instant::now();
        while let Some(record) = tasks.join_next().await {
            let record = record.unwrap().unwrap();
            assert_eq!(record.outcome, Outcome::Finished, "{:?}", record.reason);
        }
        row("  all ended in", &shown(started.elapsed()));
    });
}

/// A vault that answers once its gate is open.
struct Gate {
    gate: watch::Receiver<bool>,
    waiting: Arc<Semaphore>,
}

#[async_trait]
impl Vault for Gate {
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.waiting.add_permits(1);
        self.gate.clone().wait_for(|open| *open).await.unwrap();
        let value = Arc::new(Secret::new("what was waited for".to_owned()).unwrap());
        let version = SecretVersion::parse("1").unwrap();
        Ok(Stored::new(value, Description::new(grant.stored().clone(), version, Timestamp::now())))
    }

    async fn get_many(&self, _grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        unimplemented()
    }

    async fn describe(&self, _grant: &Grant) -> Result<Description, VaultError> {
        unimplemented()
    }

    async fn set_many(&self, _secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        unimplemented()
    }

    async fn delete_many(&self, _grants: &[Grant]) -> Result<(), VaultError> {
        unimplemented()
    }

    async fn list(&self, _grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        unimplemented()
    }
}

fn unimplemented<T>() -> Result<T, VaultError> {
    Err(VaultError::Refused("no guest of the benchmarks asks for this".to_owned()))
}

/// Raises the soft limit on descriptors to the hard one, and returns it.
fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    usize::try_from(hard.unwrap_or(1 << 20)).unwrap()
}

/// The resources that this process uses.
pub(crate) struct ProcessUsage {
    resident: usize,
    mappings: usize,
    descriptors: usize,
}

impl ProcessUsage {
    fn now() -> Self {
        Self {
            resident: status("VmRSS:") * 1024,
            mappings: std::fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }
}

/// Returns a field of this process's status in KiB.
pub(crate) fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
