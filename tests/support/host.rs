//! The real host, with a temporary home.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use strongroom::record::{Blame, Limit, Outcome, RunRecord};
use tempfile::TempDir;

use super::guest;

/// The program `strongroom` with a home in a temporary folder.
pub(crate) struct Host {
    folder: TempDir,
    /// Additional environment variables.
    env: Vec<(String, OsString)>,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct EndedRun {
    pub(crate) code: i32,
    /// The record that `--json` printed.
    pub(crate) record: RunRecord,
    /// The component's output, redacted and escaped, and the host's messages.
    pub(crate) shown: String,
}

impl Host {
    /// Creates a host with an empty vault.
    pub(crate) fn new() -> Self {
        let host = Self::without_vault();
        host.ok(&["init"]);
        host
    }

    /// Creates a host without a vault.
    pub(crate) fn without_vault() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), env: Vec::new() }
    }

    /// Adds a variable to the environment of every command.
    pub(crate) fn with_env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// Writes a file in the host's folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder for it");
        std::fs::write(&path, content).expect("a file can be written");
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("STRONGROOM_HOME", self.home())
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("HOST_ONLY", "environment-of-the-host")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the host starts")
    }

    /// Runs a command, asserts that it succeeds, and returns its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command, asserts that it exits with `code`, and returns its standard error.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.output(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}:\n{stderr}");
        stderr
    }

    /// Stores a secret in the vault as an operator.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let mut child = self
            .command(&["secret", "set", name, "--keep-newline"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the host starts");
        child.stdin.take().expect("a pipe").write_all(value.as_bytes()).expect("the host reads");
        let output = child.wait_with_output().expect("the host ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns a secret's value as an operator.
    pub(crate) fn get(&self, name: &str) -> String {
        self.ok(&["secret", "get", name])
    }

    fn run_args<'a>(&self, component: &'a str, policy: &str, more: &'a [&'a str], args: &'a [&'a str]) -> Vec<String> {
        let policy = self.file("policy.toml", policy);
        let mut all = vec!["run".to_owned(), guest(component).display().to_string(), "--json".to_owned()];
        all.extend(["--policy".to_owned(), policy.display().to_string()]);
        all.extend(more.iter().map(|arg| (*arg).to_owned()));
        all.push("--".to_owned());
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        all
    }

    /// Runs a guest under a policy.
    pub(crate) fn run(&self, component: &str, policy: &str, args: &[&str]) -> EndedRun {
        self.run_with(component, policy, &[], args)
    }

    /// Runs a guest under a policy, with additional options of `strongroom run`.
    pub(crate) fn run_with(&self, component: &str, policy: &str, more: &[&str], args: &[&str]) -> EndedRun {
        let all = self.run_args(component, policy, more, args);
        let output = self.output(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let ended = EndedRun::from(output);
        self.assert_audit_matches(&ended.record);
        self.assert_no_leftovers(&ended.record);
        ended
    }

    /// Asserts that the run's last audit event agrees with its record, and that the stored record
    /// equals the printed one.
    #[track_caller]
    fn assert_audit_matches(&self, record: &RunRecord) {
        let events = self.events(record);
        let end = events.last().expect("a run has events");
        assert_eq!(end["event"], "run-end", "{end}");
        assert_eq!(end["outcome"], record.outcome.as_str(), "{end}");
        let detail = |name: &str| end["detail"][name].as_str().map(str::to_owned);
        assert_eq!(detail("limit").as_deref(), record.limit.map(Limit::as_str), "{end}");
        assert_eq!(detail("blame"), record.blame.map(|blame| format!("{blame:?}").to_lowercase()), "{end}");
        let stored =
            std::fs::read(self.home().join("runs").join(format!("{}.json", record.id))).expect("a stored record");
        // Compared as JSON, because a metric may be NaN, which is not equal to itself.
        let printed = serde_json::to_value(record).expect("a record is JSON");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&stored).expect("a record"), printed);
    }

    /// Asserts that the run left no temporary files. Other runs may be active in the same home.
    #[track_caller]
    fn assert_no_leftovers(&self, record: &RunRecord) {
        let mut leftovers = super::leftovers(self.path(), &self.home());
        let (id, segment) = (record.id.to_string(), &record.segment);
        leftovers.retain(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.contains(&id) || name.contains(segment) || name.starts_with(".partial-")
        });
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }

    /// Returns a run's events from its process's audit segment.
    pub(crate) fn events(&self, record: &RunRecord) -> Vec<serde_json::Value> {
        events_in(&self.home().join("audit"), record)
    }

    /// Starts a run without waiting for its end.
    pub(crate) fn start(&self, component: &str, policy: &str, more: &[&str], args: &[&str]) -> Child {
        let all = self.run_args(component, policy, more, args);
        self.command(&all.iter().map(String::as_str).collect::<Vec<_>>()).spawn().expect("the host starts")
    }

    /// Returns a run's audit events as lines of JSON.
    pub(crate) fn audit(&self, run: &str) -> String {
        self.ok(&["audit", "show", "--json", "--run", run])
    }

    /// Asserts that the audit log is intact.
    pub(crate) fn assert_audit_intact(&self) {
        let verdict = self.ok(&["audit", "verify"]);
        assert!(!verdict.contains("altered"), "{verdict}");
    }
}

/// Returns a run's events from an audit folder.
pub(crate) fn events_in(audit: &Path, record: &RunRecord) -> Vec<serde_json::Value> {
    let segment = audit.join(format!("{}.jsonl", record.segment));
    let text = std::fs::read_to_string(segment).expect("a segment");
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an event"));
    events.filter(|event| event["run"] == record.id.to_string()).collect()
}

impl From<Output> for EndedRun {
    fn from(output: Output) -> Self {
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        let record = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no record ({error}), exit {:?}:\n{shown}", output.status.code()));
        Self { code: output.status.code().expect("not killed by a signal"), record, shown }
    }
}

impl EndedRun {
    /// Asserts that the run finished.
    #[track_caller]
    pub(crate) fn finished(self) -> Self {
        assert_eq!(self.record.outcome, Outcome::Finished, "{:?}\n{}", self.record.reason, self.shown);
        assert_eq!((self.code, self.record.blame, self.record.exit_code), (0, None, Some(0)));
        self
    }

    /// Asserts that the component failed and is to blame.
    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert_eq!(self.record.outcome, Outcome::Failed, "{:?}\n{}", self.record.reason, self.shown);
        assert_eq!((self.code, self.record.blame), (1, Some(Blame::Guest)));
        self
    }

    /// Asserts that the run was stopped at a limit and that the component is to blame.
    #[track_caller]
    pub(crate) fn stopped(self, limit: Limit) -> Self {
        assert_eq!(self.record.outcome, Outcome::Limit, "{:?}\n{}", self.record.reason, self.shown);
        assert_eq!((self.code, self.record.blame, self.record.limit), (4, Some(Blame::Guest), Some(limit)));
        self
    }

    /// Asserts that the text was shown.
    #[track_caller]
    pub(crate) fn shows(self, text: &str) -> Self {
        assert!(self.shown.contains(text), "`{text}` is not in:\n{}", self.shown);
        self
    }

    /// Asserts that the text was neither shown nor recorded.
    #[track_caller]
    pub(crate) fn never_shows(self, text: &str) -> Self {
        let record = serde_json::to_string(&self.record).expect("a record is JSON");
        assert!(!self.shown.contains(text) && !record.contains(text), "`{text}` is in:\n{}\n{record}", self.shown);
        self
    }
}
