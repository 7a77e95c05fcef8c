//! Components that the toolchains of Python, JavaScript and C build run in the host.
//!
//! `scripts/toolchains.sh` builds them once, into the target folder. A test whose toolchain is not
//! available is skipped, except in CI (`CI=true`), where it fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{EndedRun, Host, project};

const VALUE: &str = "correct-horse-battery-staple";

const POLICY: &str = "version = 1\n[secrets]\nkey = [\"get\"]\n";

/// The exit code with which the script reports that a toolchain is not available.
const UNAVAILABLE: i32 = 69;

/// Builds the guest in `tests/guests/<name>`. Returns `None` if its toolchain is not available.
fn component(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("toolchains");
    let script = project().join("scripts/toolchains.sh");
    let output = Command::new(script).arg(&folder).arg(name).stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    let available = output.status.code() != Some(UNAVAILABLE);
    if !available && std::env::var("CI").as_deref() != Ok("true") {
        // `eprintln!` would be captured by the test harness and shown for failed tests only.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the toolchain for {name} is not available: {message}");
        return None;
    }
    assert!(output.status.success(), "could not build the guest in {name}:\n{message}");
    Some(folder.join(name).with_extension("wasm"))
}

/// Runs a component with one granted secret, one parameter and an output folder.
fn run(host: &Host, component: &Path, args: &[&str]) -> EndedRun {
    host.set("key", VALUE);
    host.set("other", "not granted");
    let component = component.to_str().expect("a path in UTF-8");
    host.run_with(component, POLICY, &["--param", "epochs=3", "--output", "out"], args).finished()
}

/// Checks the record of a component that reads `key`, asks for `other` and logs the metric `mean`.
#[track_caller]
fn assert_secrets_and_context(run: &EndedRun) {
    let secrets = run.record.secrets.iter();
    let secrets: Vec<_> =
        secrets.map(|usage| (usage.operation.as_str(), usage.name.as_str(), usage.count, usage.denied)).collect();
    assert_eq!(secrets, [("get", "key", 1, 0), ("get", "other", 0, 1)]);
    let mean = &run.record.metrics["mean"];
    assert_eq!((mean.points.len(), mean.points[0].step, mean.points[0].value.0), (1, Some(1), 0.5));
    assert_eq!(run.record.redactions, 1, "{}", run.shown);
}

#[test]
fn python_component_uses_secrets_and_context() {
    let Some(component) = component("python") else { return };
    let run = run(&Host::new(), &component, &[])
        .shows("SHA-256 of key: 87cbebfeebc05f7c54ac9336c4b4bbec831227a641951a4bde7edd56020f8590")
        .shows("value of key: [redacted:key]")
        .shows("other: Error_Denied other")
        .shows(r#"parameters: {"epochs": "3"}"#)
        .never_shows(VALUE);
    assert_secrets_and_context(&run);
}

#[test]
fn javascript_component_uses_secrets_and_context() {
    let Some(component) = component("javascript") else { return };
    let run = run(&Host::new(), &component, &[])
        .shows(&format!("length of key: {}", VALUE.len()))
        .shows("value of key: [redacted:key]")
        .shows("other: denied other")
        .shows(r#"parameters: {"epochs":"3"}"#)
        .never_shows(VALUE);
    assert_secrets_and_context(&run);
}

#[test]
fn c_component_reads_arguments_and_writes_output() {
    let Some(component) = component("c") else { return };
    let host = Host::new();
    let run = run(&host, &component, &["first", "second one"])
        .shows("argument 1: first")
        .shows("argument 2: second one")
        .shows("sum of squares: 216474736")
        .shows("one third: 0.3333")
        .shows("read back: written by C")
        .shows("/etc/passwd: ");
    let outputs: Vec<_> = run.record.outputs.iter().map(|output| (output.path.as_str(), output.bytes)).collect();
    assert_eq!(outputs, [("result.txt", 13)]);
    assert_eq!(std::fs::read_to_string(host.path().join("out/result.txt")).unwrap(), "written by C\n");
    assert!(run.record.secrets.is_empty(), "{:?}", run.record.secrets);
}
