//! A component that was read before its run: what was read is what runs, whatever its file holds by then.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::Digest;
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions, Sandbox, StartError};
use strongroom::runtime::component::COMPONENT_MAX;
use strongroom::runtime::{Candidate, Compile, LoadError, Loader, Silent, engine};
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};

/// A component whose `train` answers that all is well, or with an empty error.
fn component(well: bool) -> Vec<u8> {
    let answer = if well { 0 } else { 1 };
    wat::parse_str(format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "train") (result i32)
                    (i32.store (i32.const 16) (i32.const {answer}))
                    (i32.const 16)))
            (core instance $i (instantiate $m))
            (func $train (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $i "memory"))))
            (export "train" (func $train)))"#
    ))
    .unwrap()
}

struct Bench {
    home: tempfile::TempDir,
    runner: Runner,
}

impl Bench {
    fn new(sandbox: Sandbox) -> Self {
        let home = tempfile::tempdir().unwrap();
        let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile).unwrap();
        let audit = Audit::open(&home.path().join("audit"), SyncMode::Os).unwrap();
        let options = RunnerOptions::new(Arc::new(vault), audit, Compile::InProcess).temp(home.path());
        Self { runner: Runner::with_sandbox(sandbox, options).unwrap(), home }
    }

    async fn run(&self, candidate: Candidate, path: &Path, policy: Policy) -> Result<RunRecord, StartError> {
        self.runner.run_candidate(candidate, RunSpec::new(path), Arc::new(policy), Arc::new(Silent), pending()).await
    }
}

fn pinned(digest: &Digest) -> Policy {
    Policy::parse(&format!("version = 1\ncomponent = \"{digest}\"\n"), "policy.toml").unwrap()
}

// promise: A component that was loaded before its run is the one that is pinned, run and recorded,
// whatever its file contains by then.
#[tokio::test]
async fn what_was_read_runs_and_is_held_against_the_pin() {
    let bench = Bench::new(Sandbox::new(4).unwrap());
    let path = bench.home.path().join("component.wasm");
    let (well, badly) = (component(true), component(false));
    std::fs::write(&path, &well).unwrap();
    let candidate = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let (digest, other) = (*candidate.digest(), Digest::of(&badly));

    // Another component comes in its place.
    std::fs::write(&path, &badly).unwrap();
    let record = bench.run(candidate.clone(), &path, pinned(&digest)).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
    let error = bench.run(candidate.clone(), &path, pinned(&other)).await.unwrap_err();
    assert!(matches!(&error, StartError::Pin(pin) if pin.found == digest), "{error}");
    // Read anew, it is the other one.
    let again = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let record = bench.run(again, &path, pinned(&other)).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Failed, other));

    std::fs::remove_file(&path).unwrap();
    let record = bench.run(candidate, &path, Policy::empty()).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
}

#[tokio::test]
async fn what_was_read_for_another_world_or_bound_is_looked_at_once_more() {
    let bench = Bench::new(Sandbox::new(4).unwrap());
    let path = bench.home.path().join("component.wasm");
    std::fs::write(&path, wat::parse_str("(component)").unwrap()).unwrap();
    let options = strongroom::runtime::EngineOptions::default();
    let elsewhere = Loader::new(engine(&options).unwrap(), Compile::InProcess, None);
    let candidate = elsewhere.read_for_world(&path).await.unwrap();
    let error = bench.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Component(LoadError::Malformed { .. })), "{error}");

    // A custom section makes it large and changes nothing else.
    let mut large = component(true);
    let content = usize::try_from(COMPONENT_MAX).unwrap();
    large.push(0);
    for shift in [0, 7, 14, 21, 28] {
        large.push((content >> shift) as u8 & 0x7f | if shift < 28 { 0x80 } else { 0 });
    }
    large.resize(large.len() + content, 0);
    std::fs::write(&path, &large).unwrap();
    let candidate = Candidate::read(&path, 2 * COMPONENT_MAX).unwrap();
    let error = bench.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Component(LoadError::TooLarge { .. })), "{error}");
}

#[tokio::test]
async fn a_sandbox_made_before_says_how_many_runs_there_is_room_for() {
    let bench = Bench::new(Sandbox::new(0).unwrap());
    let path = bench.home.path().join("component.wasm");
    std::fs::write(&path, component(true)).unwrap();
    let candidate = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let error = bench.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Busy), "{error}");
}
