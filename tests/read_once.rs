//! A prepared run: what was read and checked is what runs, whatever the component's file contains by then.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::Digest;
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Checks, PreparedRun, Runner, RunnerOptions, StartError};
use strongroom::runtime::component::COMPONENT_MAX;
use strongroom::runtime::{Compile, LoadError, Silent};
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

struct Fixture {
    home: tempfile::TempDir,
    runner: Runner,
}

impl Fixture {
    fn new(max_runs: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile).unwrap();
        let audit = Audit::open(&home.path().join("audit"), SyncMode::Os).unwrap();
        let options = RunnerOptions::new(Arc::new(vault), audit, Compile::InProcess).temp(home.path());
        Self { runner: Runner::new(options.max_runs(max_runs)).unwrap(), home }
    }

    async fn prepare(&self, path: &Path, policy: Policy) -> Result<PreparedRun, StartError> {
        self.runner.prepare(RunSpec::new(path), Arc::new(policy)).await
    }

    async fn run(&self, prepared: PreparedRun) -> RunRecord {
        prepared.run(&self.runner, Arc::new(Silent), pending()).await.unwrap()
    }
}

fn pinned(digest: &Digest) -> Policy {
    Policy::parse(&format!("version = 1\ncomponent = \"{digest}\"\n"), "policy.toml").unwrap()
}

// promise: A component that was loaded before its run is the one that is pinned, run and recorded,
// whatever its file contains by then.
#[tokio::test]
async fn prepared_run_executes_the_bytes_that_were_checked() {
    let fixture = Fixture::new(4);
    let path = fixture.home.path().join("component.wasm");
    let (well, badly) = (component(true), component(false));
    let (digest, other) = (Digest::of(&well), Digest::of(&badly));
    std::fs::write(&path, &well).unwrap();
    let prepared = fixture.prepare(&path, pinned(&digest)).await.unwrap();
    let unpinned = fixture.prepare(&path, Policy::empty()).await.unwrap();
    assert_eq!(*prepared.component().digest(), digest);

    // Another component replaces the file.
    std::fs::write(&path, &badly).unwrap();
    let record = fixture.run(prepared).await;
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
    let error = fixture.prepare(&path, pinned(&digest)).await.unwrap_err();
    assert!(matches!(&error, StartError::Pin(pin) if pin.found == other), "{error}");
    // Prepared again, it is the other one that is read, checked and run.
    let record = fixture.run(fixture.prepare(&path, pinned(&other)).await.unwrap()).await;
    assert_eq!((record.outcome, record.component.digest), (Outcome::Failed, other));

    std::fs::remove_file(&path).unwrap();
    let record = fixture.run(unpinned).await;
    assert_eq!((record.outcome, record.component.digest), (Outcome::Finished, digest));
}

#[test]
fn component_without_an_entry_or_over_the_size_limit_is_not_prepared() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("component.wasm");
    let prepare = || Checks::default().prepare(RunSpec::new(&path), Arc::new(Policy::empty())).unwrap_err();
    std::fs::write(&path, wat::parse_str("(component)").unwrap()).unwrap();
    let error = prepare();
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
    let error = prepare();
    assert!(matches!(error, StartError::Component(LoadError::TooLarge { .. })), "{error}");
}

#[tokio::test]
async fn prepared_run_without_room_is_told_that_the_host_is_busy() {
    let fixture = Fixture::new(0);
    let path = fixture.home.path().join("component.wasm");
    std::fs::write(&path, component(true)).unwrap();
    let prepared = fixture.prepare(&path, Policy::empty()).await.unwrap();
    let error = prepared.run(&fixture.runner, Arc::new(Silent), pending()).await.unwrap_err();
    assert!(matches!(error, StartError::Busy), "{error}");
}
