//! Runs the test programs of wasmtime and of the wasi-testsuite in strongroom and writes
//! `docs/conformance.md`. See `make conformance`.
//!
//! `expectations.toml` holds the reason of each test that does not pass. A test that fails without a
//! reason, or passes despite one, is an error.

mod adapt;
mod report;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// What this project knows about the suites.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Expectations {
    /// Why tests do not pass.
    reason: Vec<Reason>,
    /// The exit codes of wasmtime's programs that must fail.
    exit_codes: BTreeMap<String, i64>,
    /// wasmtime's programs that expect a directory at `/`.
    at_root: Vec<String>,
    /// wasmtime's programs that never end. They pass if the time limit stops them.
    endless: Vec<String>,
    /// wasmtime's programs that pass if they trap.
    traps: Vec<String>,
}

/// Why some tests do not pass.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// `SUITE/TEST`, or `SUITE/PREFIX*`.
    pub(crate) tests: Vec<String>,
}

/// One test.
#[derive(Debug, Default)]
struct Test {
    program: PathBuf,
    args: Vec<String>,
    environment: BTreeMap<String, String>,
    root: Option<Root>,
    end: End,
    stdout: Option<String>,
}

/// How a test must end.
#[derive(Debug)]
enum End {
    Exit(i64),
    Trap,
    TimeLimit,
}

impl Default for End {
    fn default() -> Self {
        Self::Exit(0)
    }
}

/// The directory that a program finds at `/`.
#[derive(Debug)]
enum Root {
    /// A directory with files, which is read-only.
    Input(PathBuf),
    /// The writable directory, which is empty.
    Output,
}

/// A test's specification in the wasi-testsuite.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Specification {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    root: Option<String>,
    exit_code: i64,
    stdout: Option<String>,
}

/// A suite's results: the tests with the reason of each that does not pass.
pub(crate) type Results = BTreeMap<String, Option<String>>;

fn main() -> Result<()> {
    let [strongroom, expectations, report]: [PathBuf; 3] = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| anyhow::anyhow!("usage: strongroom-conformance STRONGROOM EXPECTATIONS REPORT"))?;
    let folder = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from).with_context(|| format!("{name} is not set: see docs/conformance.md"))
    };
    let (testsuite, programs) = (folder("WASI_TESTSUITE")?, folder("WASMTIME_PROGRAMS")?);
    let expectations: Expectations = toml::from_str(&fs::read_to_string(&expectations)?)?;
    let host = Host::new(strongroom)?;

    let mut suites = BTreeMap::new();
    for (suite, folder) in [
        ("wasi-testsuite/assemblyscript", "assemblyscript/testsuite/wasm32-wasip1"),
        ("wasi-testsuite/c", "c/testsuite/wasm32-wasip1"),
        ("wasi-testsuite/rust", "rust/testsuite/wasm32-wasip1"),
        ("wasi-testsuite/wasip3", "rust/testsuite/wasm32-wasip3"),
    ] {
        let folder = testsuite.join("tests").join(folder);
        let tests = programs_in(&folder, "")?.into_iter().map(|(name, path)| Ok((name, specified(path)?)));
        suites.insert(suite, tests.collect::<Result<BTreeMap<_, _>>>()?);
    }
    for (suite, prefix) in [("wasmtime/p1", "p1_"), ("wasmtime/p2", "p2_")] {
        let tests = programs_in(&programs, prefix)?.into_iter();
        suites.insert(suite, tests.map(|(name, path)| (name.clone(), expectations.test(&name, path))).collect());
    }

    let (mut results, mut surprises) = (BTreeMap::<&str, Results>::new(), Vec::new());
    for (suite, tests) in suites {
        ensure!(!tests.is_empty(), "the suite {suite} has no tests: wrong folder, or not built");
        for (name, test) in tests {
            let id = format!("{suite}/{name}");
            let reason = expectations.reason(&id).map(str::to_owned);
            match (host.run(&test), &reason) {
                (Ok(()), Some(reason)) => surprises.push(format!("{id} passes, despite: {reason}")),
                (Err(error), None) => surprises.push(format!("{id} does not pass: {error:#}")),
                (Err(error), Some(_)) => eprintln!("{id}: {error:#}"),
                (Ok(()), None) => {}
            }
            results.entry(suite).or_default().insert(name, reason);
        }
    }
    if !surprises.is_empty() {
        bail!("{} tests differ from what is expected:\n{}", surprises.len(), surprises.join("\n"));
    }
    fs::write(&report, report::report(&expectations.reason, &results)).context("the report cannot be written")?;
    let passed = results.values().flat_map(BTreeMap::values).filter(|reason| reason.is_none()).count();
    let total = results.values().map(BTreeMap::len).sum::<usize>();
    println!("{passed} of {total} tests pass; the others are listed in {}", report.display());
    Ok(())
}

/// Returns the programs in a folder by name.
fn programs_in(folder: &Path, prefix: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        if path.extension() == Some(OsStr::new("wasm")) && name.starts_with(prefix) && !name.contains('.') {
            programs.insert(name, path);
        }
    }
    Ok(programs)
}

/// Returns a test of the wasi-testsuite. A specification in steps, which only tests of WASI 0.3
/// have, counts as the default.
fn specified(program: PathBuf) -> Result<Test> {
    let text = fs::read_to_string(program.with_extension("json")).unwrap_or_else(|_| "{}".to_owned());
    let Specification { args, env, root, exit_code, stdout } = serde_json::from_str(&text)?;
    let root = match root.map(|root| program.with_file_name(root)) {
        None => None,
        Some(root) => {
            let mut files = fs::read_dir(&root)?.filter_map(Result::ok).map(|entry| entry.file_name());
            let is_empty = files.all(|name| name.to_string_lossy().starts_with('.'));
            Some(if is_empty { Root::Output } else { Root::Input(root) })
        }
    };
    Ok(Test { program, args, environment: env, root, end: End::Exit(exit_code), stdout })
}

impl Expectations {
    /// Returns a test of wasmtime's programs. Those that use files take the directory's name as their
    /// argument.
    fn test(&self, name: &str, program: PathBuf) -> Test {
        let has = |list: &[String]| list.iter().any(|other| other == name);
        Test {
            program,
            args: vec!["/output".to_owned()],
            environment: BTreeMap::from([("ERRNO_MODE_UNIX".to_owned(), "1".to_owned())]),
            root: has(&self.at_root).then_some(Root::Output),
            end: match self.exit_codes.get(name) {
                Some(code) => End::Exit(*code),
                None if has(&self.traps) => End::Trap,
                None if has(&self.endless) => End::TimeLimit,
                None => End::default(),
            },
            stdout: None,
        }
    }

    /// Returns why a test does not pass.
    fn reason(&self, id: &str) -> Option<&str> {
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => id.starts_with(prefix),
            None => id == pattern,
        };
        self.reason.iter().find(|reason| reason.tests.iter().any(is_meant)).map(|reason| reason.text.as_str())
    }
}

/// strongroom with a home of its own.
struct Host {
    strongroom: PathBuf,
    folder: tempfile::TempDir,
}

impl Host {
    fn new(strongroom: PathBuf) -> Result<Self> {
        let host = Self { strongroom, folder: tempfile::tempdir()? };
        let output = host.command().arg("init").output().context("strongroom does not start")?;
        ensure!(output.status.success(), "`strongroom init` failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(host)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.strongroom);
        command.current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command.env("STRONGROOM_HOME", self.folder.path().join("home"));
        command
    }

    /// Runs a test. An error says how it did not pass.
    fn run(&self, test: &Test) -> Result<()> {
        let mut component = adapt::component(&fs::read(&test.program)?).context("it cannot be made a component")?;
        let mut options = Vec::new();
        match &test.root {
            None => {}
            Some(Root::Output) => component = adapt::at_root(&component, "/output")?,
            Some(Root::Input(folder)) => {
                component = adapt::at_root(&component, "/input")?;
                options = vec![OsStr::new("--input"), folder.as_os_str()];
            }
        }
        let name = test.program.file_name().context("a program has a name")?;
        fs::write(self.folder.path().join(name), component)?;
        let time = if matches!(test.end, End::TimeLimit) { "1s" } else { "30s" };
        let environment = toml::to_string(&test.environment)?;
        let policy = format!("version = 1\n[limits]\ntime = \"{time}\"\n[environment]\n{environment}");
        fs::write(self.folder.path().join("policy.toml"), policy)?;
        let mut command = self.command();
        command.arg("run").arg(name).args(["--policy", "policy.toml"]).args(options).arg("--").args(&test.args);
        let output = command.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let show = self.command().args(["runs", "show", "last", "--json"]).output()?;
        // An error before the start leaves no record.
        let end: serde_json::Value = match output.status.code() {
            Some(2) => bail!("{}", stderr.trim_end()),
            _ => serde_json::from_slice(&show.stdout).with_context(|| format!("no record: {stderr}"))?,
        };
        fs::remove_file(self.folder.path().join(name))?;
        let is_as_expected = match test.end {
            End::TimeLimit => end["limit"] == "time",
            End::Exit(0) => end["outcome"] == "finished",
            End::Exit(code) => end["outcome"] == "failed" && end["exit_code"] == code,
            End::Trap => end["outcome"] == "failed" && end["exit_code"].is_null(),
        };
        ensure!(
            is_as_expected,
            "outcome {}, exit code {}, reason {}\n{}",
            end["outcome"],
            end["exit_code"],
            end["reason"],
            last_lines(&stderr)
        );
        if let Some(stdout) = &test.stdout {
            let found = String::from_utf8_lossy(&output.stdout);
            ensure!(found.trim_end() == stdout.trim_end(), "it printed {found:?}");
        }
        Ok(())
    }
}

/// Returns the end of a program's standard error.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
