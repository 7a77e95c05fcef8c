//! A component that was loaded before its run is what runs, even if its file changes afterwards.

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

/// Returns a component whose `train` succeeds, or fails with an empty error.
fn component(succeeds: bool) -> Vec<u8> {
    let result = if succeeds { 0 } else { 1 };
    wat::parse_str(format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "train") (result i32)
                    (i32.store (i32.const 16) (i32.const {result}))
                    (i32.const 16)))
            (core instance $i (instantiate $m))
            (func $train (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $i "memory"))))
            (export "train" (func $train)))"#
    ))
    .unwrap()
}

struct Fixture {
    home: tempfile::TempDir,
    runner: Runner,
}

impl Fixture {
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
async fn loaded_component_is_pinned_and_run() {
    let fixture = Fixture::new(Sandbox::new(4).unwrap());
    let path = fixture.home.path().join("component.wasm");
    let (succeeding, failing) = (component(true), component(false));
    std::fs::write(&path, &succeeding).unwrap();
    let candidate = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let (digest, other) = (*candidate.digest(), Digest::of(&failing));

    // Another component replaces the file.
    std::fs::write(&path, &failing).unwrap();
    let record = fixture.run(candidate.clone(), &path, pinned(&digest)).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
    let error = fixture.run(candidate.clone(), &path, pinned(&other)).await.unwrap_err();
    assert!(matches!(&error, StartError::Pin(pin) if pin.found == digest), "{error}");
    // Reading the file again returns the other component.
    let again = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let record = fixture.run(again, &path, pinned(&other)).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Failed, other));

    std::fs::remove_file(&path).unwrap();
    let record = fixture.run(candidate, &path, Policy::empty()).await.unwrap();
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
}

#[tokio::test]
async fn component_loaded_for_another_world_is_checked_again() {
    let fixture = Fixture::new(Sandbox::new(4).unwrap());
    let path = fixture.home.path().join("component.wasm");
    std::fs::write(&path, wat::parse_str("(component)").unwrap()).unwrap();
    let options = strongroom::runtime::EngineOptions::default();
    let elsewhere = Loader::new(engine(&options).unwrap(), Compile::InProcess, None);
    let candidate = elsewhere.read_for_world(&path).await.unwrap();
    let error = fixture.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Component(LoadError::Malformed { .. })), "{error}");

    // A custom section makes the component large without changing it otherwise.
    let mut large = component(true);
    let content = usize::try_from(COMPONENT_MAX).unwrap();
    large.push(0);
    for shift in [0, 7, 14, 21, 28] {
        large.push((content >> shift) as u8 & 0x7f | if shift < 28 { 0x80 } else { 0 });
    }
    large.resize(large.len() + content, 0);
    std::fs::write(&path, &large).unwrap();
    let candidate = Candidate::read(&path, 2 * COMPONENT_MAX).unwrap();
    let error = fixture.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Component(LoadError::TooLarge { .. })), "{error}");
}

#[tokio::test]
async fn sandbox_limits_the_number_of_concurrent_runs() {
    let fixture = Fixture::new(Sandbox::new(0).unwrap());
    let path = fixture.home.path().join("component.wasm");
    std::fs::write(&path, component(true)).unwrap();
    let candidate = Candidate::read(&path, COMPONENT_MAX).unwrap();
    let error = fixture.run(candidate, &path, Policy::empty()).await.unwrap_err();
    assert!(matches!(error, StartError::Busy), "{error}");
}
