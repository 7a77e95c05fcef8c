//! Many concurrent runs on one runner. Engine, compiled code, vault, cache and audit log are
//! shared; budgets, limits and redaction belong to each run.
//!
//! `cargo run --example many_runs -- COMPONENT [RUNS [AT_ONCE]]`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::SecretName;
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions, StartError};
use strongroom::runtime::{Compile, Silent};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{NewSecret, Operator as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const POLICY: &str = "
version = 1

[secrets]
dataset-key = ['get']

[limits]
memory = '64MiB'
time = '1m'
";

/// Runs a component. If the host is busy, waits and tries again; in that case nothing was started
/// or written.
async fn run(
    runner: &Runner,
    spec: &RunSpec,
    policy: &Arc<Policy>,
    busy: &AtomicUsize,
) -> Result<RunRecord, StartError> {
    loop {
        match runner.run(spec.clone(), Arc::clone(policy), Arc::new(Silent), std::future::pending()).await {
            Err(StartError::Busy) => {
                busy.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            ended => return ended,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let component = arguments.next().ok_or("name a component")?;
    let runs: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let at_once: u32 = arguments.next().map_or(Ok(32), |text| text.parse())?;

    let home = tempfile::tempdir()?;
    let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile)?;
    let value = Arc::new(Secret::new("correct horse battery staple".to_owned())?);
    vault.set_many(vec![NewSecret::new(SecretName::parse("dataset-key")?, value)]).await?;
    // One fetch serves all runs. Each use is still decided and audited.
    let vault = Arc::new(Cache::new(Arc::new(vault), Settings::default()));
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Always)?;
    let options = RunnerOptions::new(vault, audit.clone(), Compile::InProcess).temp(home.path()).max_runs(at_once);
    let runner = Arc::new(Runner::new(options)?);
    let spec = RunSpec::new(component).args(["get=dataset-key"]);
    let policy = Arc::new(Policy::parse(POLICY, "policy")?);

    // This program's queue admits twice as many runs as the runner, so that some find the host
    // busy.
    let queue = Arc::new(Semaphore::new(2 * usize::try_from(at_once)?));
    let busy = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..runs {
        let permit = Arc::clone(&queue).acquire_owned().await?;
        let (runner, spec, policy, busy) = (Arc::clone(&runner), spec.clone(), Arc::clone(&policy), Arc::clone(&busy));
        tasks.spawn(async move {
            let _permit = permit;
            run(&runner, &spec, &policy, &busy).await
        });
    }
    let mut finished = 0;
    while let Some(record) = tasks.join_next().await {
        let record = record??;
        match record.outcome {
            Outcome::Finished => finished += 1,
            _ => println!("{}: {}", record.id, record.reason.unwrap_or_default()),
        }
    }
    let elapsed = started.elapsed();

    audit.close()?;
    println!("{finished} of {runs} runs finished, at most {at_once} at once");
    println!(
        "{:.0} runs a second; the host was busy {} times",
        runs as f64 / elapsed.as_secs_f64(),
        busy.load(Ordering::Relaxed)
    );
    Ok(())
}
