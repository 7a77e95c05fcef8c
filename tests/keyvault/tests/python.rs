//! Microsoft's own client against the server, as another program would use both: the binary, its line of JSON, and the admin port.
//!
//! The environment is made in the target folder and kept. Where Python or the packages cannot be had the check says so and passes, except in
//! CI (`CI=true`): there it fails.

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

/// The interpreter of an environment that has the packages.
fn python() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let (place, done) = (target.join("venv"), target.join("venv/requirements.txt"));
    let python = place.join("bin/python");
    // The packages came whole if the list was written, and the interpreter behind them is still there if it answers.
    let kept = std::fs::read_to_string(&done).is_ok_and(|had| had == REQUIREMENTS);
    if kept && run(Command::new(&python).args(["-c", "import azure.keyvault.secrets, azure.identity"])).is_ok() {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&place);
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2", "-r"];
    run(Command::new(&python).args(pip).arg(requirements))?;
    std::fs::write(&done, REQUIREMENTS).unwrap();
    Ok(python)
}

/// A process that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn microsofts_client_works_against_the_server() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "Microsoft's client cannot be had: {why}");
            // Past the test's capture of what is printed: a skipped check has to be seen.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: Microsoft's client cannot be had, so nothing vouches for this server today: {why}"
            );
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
    // A proxy, or an identity of the machine that runs this, is none of the test's business.
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
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() > 25, "{said}");

    // It serves until its standard input ends.
    drop(server.0.stdin.take());
    assert!(server.0.wait().unwrap().success());
}
