//! Runs Microsoft's own Python client against the server, through the program, its line of JSON,
//! and the admin port.
//!
//! The virtual environment is created once in the target folder. If Python or the packages are not
//! available, the test reports that and passes, except in CI (`CI=true`), where it fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// Returns the interpreter of a virtual environment with the packages.
fn python() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let (environment, installed) = (target.join("venv"), target.join("venv/requirements.txt"));
    let python = environment.join("bin/python");
    // The list is written after all packages were installed. The interpreter may have been removed
    // since.
    let is_complete = std::fs::read_to_string(&installed).is_ok_and(|list| list == REQUIREMENTS);
    if is_complete && run(Command::new(&python).args(["-c", "import azure.keyvault.secrets, azure.identity"])).is_ok() {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&environment);
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2", "-r"];
    run(Command::new(&python).args(pip).arg(requirements))?;
    std::fs::write(&installed, REQUIREMENTS).unwrap();
    Ok(python)
}

/// A process that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn microsofts_python_client_works_with_the_server() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "Microsoft's client is not available: {why}");
            // Not captured by the test harness, so that a skipped check is visible.
            let _ = writeln!(std::io::stderr(), "SKIPPED: Microsoft's client is not available: {why}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Command::new(env!("CARGO_BIN_EXE_keyvault-server"))
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Running(server);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/check.py");
    let mut check = Command::new(python);
    // The machine's proxies and Azure identities must not affect the test.
    for (name, _) in std::env::vars().filter(|(name, _)| {
        let name = name.to_ascii_uppercase();
        name.ends_with("_PROXY") || ["AZURE_", "MSI_", "IDENTITY_"].iter().any(|part| name.starts_with(part))
    }) {
        check.env_remove(name);
    }
    let output = check
        .arg("-B")
        .arg(script)
        .arg(line.trim())
        .env("REQUESTS_CA_BUNDLE", dir.path().join("ca.pem"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.lines().filter(|line| line.starts_with("ok ")).count() > 25, "{printed}");

    // The server runs until its standard input ends.
    drop(server.0.stdin.take());
    assert!(server.0.wait().unwrap().success());
}
