//! Runs the programs in `host/strongroom/examples`, and checks the guide that explains them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use strongroom::audit::{Audit, SyncMode};
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions, StartError};
use strongroom::runtime::{Compile, Silent};
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};

use crate::support::{guest, project};

/// Returns an example's program. `cargo test` builds the examples, but `cargo test --test all` does
/// not, so they are built here.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            // .../target/<profile>/deps/all-<hash>
            let test = std::env::current_exe().unwrap();
            let built = test.ancestors().nth(2).unwrap();
            let profile = match built.file_name().unwrap().to_str().unwrap() {
                "debug" => "dev",
                other => other,
            };
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--locked", "--quiet", "--package", "strongroom", "--examples", "--profile", profile]);
            cargo.arg("--target-dir").arg(built.parent().unwrap()).current_dir(project());
            // The variables that cargo set for this test must not reach the build.
            for (name, _) in std::env::vars().filter(|(name, _)| {
                ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
            }) {
                cargo.env_remove(name);
            }
            assert!(cargo.status().unwrap().success(), "the examples do not build");
            built.join("examples")
        })
        .join(name)
}

/// Runs an example, asserts that it succeeds, and returns what it printed.
fn run(name: &str, component: &str, args: &[&str]) -> String {
    let output = Command::new(example(name)).arg(guest(component)).args(args).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}:\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// Splits an example's output into the lines before the record and the record.
fn record(printed: &str) -> (&str, RunRecord) {
    let at = printed.find("{\n").unwrap_or_else(|| panic!("no record in:\n{printed}"));
    (&printed[..at], serde_json::from_str(&printed[at..]).unwrap())
}

/// Returns the record's uses of secrets.
fn uses(record: &RunRecord) -> Vec<String> {
    record.secrets.iter().map(|usage| format!("{} {} {}", usage.operation, usage.name, usage.count)).collect()
}

#[test]
fn example_run_prints_its_record() {
    let printed = run("run", "exercise", &[]);
    let (before, record) = record(&printed);
    assert_eq!(before, "");
    assert_eq!((record.outcome, record.redactions), (Outcome::Finished, 1));
    assert_eq!(uses(&record), ["get dataset-key 1"]);
}

// promise: A run in an embedder's own world is audited and redacted like any other run.
#[test]
fn run_in_own_world_is_audited_and_redacted() {
    let printed = run("own_world", "scorer", &[]);
    let (before, record) = record(&printed);
    assert_eq!(before, "component: looking for [redacted:mark]\n2 rows carry the mark\n");
    assert_eq!((record.outcome, record.redactions), (Outcome::Finished, 1));
    assert_eq!(uses(&record), ["get mark 1"]);
    assert!(record.peak_memory_bytes > 0 && record.log.kept > 0);
    // The segment's first event and the run's four: start, decision, outcome, end.
    assert_eq!(record.audit.unwrap().count, 5);
}

#[test]
fn own_world_with_missing_import_runs_no_code() {
    // The linker of this world has no `wasi:http`, so the run does not start.
    let output = Command::new(example("own_world")).arg(guest("http")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("wasi:http"), "{stderr}");
    assert!(output.stdout.is_empty());
}

// promise: All vault backends pass the same cases.
#[test]
fn own_vault_passes_its_conformance_cases() {
    let printed = run("own_vault", "exercise", &[]);
    let (before, record) = record(&printed);
    let (passed, all) = (before.split(' ').next().unwrap(), before.split(' ').nth(2).unwrap());
    let (passed, all): (usize, usize) = (passed.parse().unwrap(), all.parse().unwrap());
    assert!(passed >= 10 && passed < all, "{before}");
    assert_eq!(uses(&record), ["get dataset-key 1"]);
}

#[test]
fn many_runs_on_one_runner_finish() {
    let printed = run("many_runs", "exercise", &["200", "8"]);
    assert!(printed.starts_with("200 of 200 runs finished, at most 8 at once\n"), "{printed}");
    assert!(printed.contains(" runs a second; the host was busy "), "{printed}");
}

#[tokio::test]
async fn runner_at_capacity_starts_no_run() {
    let home = tempfile::tempdir().unwrap();
    let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile).unwrap();
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Os).unwrap();
    let before = audit.position();
    let options = RunnerOptions::new(Arc::new(vault), audit.clone(), Compile::InProcess).temp(home.path()).max_runs(0);
    let runner = Runner::new(options).unwrap();
    let spec = RunSpec::new("/no/such/component");
    let result = runner.run(spec, Arc::new(Policy::empty()), Arc::new(Silent), std::future::pending()).await;
    let Err(error) = result else { panic!("the run started") };
    assert!(matches!(error, StartError::Busy) && error.is_host_fault(), "{error}");
    assert_eq!(error.to_string(), "the host is busy: as many runs are alive as it has room for; try again later");
    assert_eq!(audit.position(), before);
}

/// Each line of the guide must appear in an example, which compiles and runs.
#[test]
fn guide_shows_lines_of_the_examples() {
    let examples: String = ["run", "own_world", "own_vault", "many_runs"]
        .map(|name| std::fs::read_to_string(project().join(format!("host/strongroom/examples/{name}.rs"))).unwrap())
        .join("\n");
    let lines: Vec<&str> = examples.lines().map(str::trim).collect();
    let guide = std::fs::read_to_string(project().join("docs/embedding.md")).unwrap();
    let mut shown = 0;
    for block in guide.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let block: Vec<&str> = block.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        for part in block.split(|line| *line == "// ...") {
            let shown_lines = lines.iter().copied().filter(|line| !line.is_empty()).collect::<Vec<_>>();
            assert!(
                shown_lines.windows(part.len()).any(|window| window == part),
                "no example contains:\n{}",
                part.join("\n")
            );
            shown += part.len();
        }
    }
    assert!(shown > 30, "only {shown} lines shown");
}

/// Each package holds what its build reads, although some of that lies outside its folder here.
#[test]
fn packages_are_complete() {
    for (package, needed) in [
        ("strongroom", &["examples/wit/scoring.wit", "LICENSE", "README.md", "src/lib.rs", "Cargo.lock"][..]),
        ("strongroom-runtime", &["wit/training.wit", "src/lib.rs"]),
    ] {
        let output = Command::new(env!("CARGO"))
            .args(["package", "--list", "--allow-dirty", "--locked", "--offline", "--package", package])
            .current_dir(project())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let files = String::from_utf8(output.stdout).unwrap();
        for file in needed {
            assert!(files.lines().any(|line| line == *file), "`{file}` is not in the package `{package}`:\n{files}");
        }
        assert!(files.lines().all(|line| !line.starts_with("target/")), "{files}");
    }
}
