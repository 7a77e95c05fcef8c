//! Failures of commands: message, help and exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstyle::Style;
use serde::Serialize;

use super::out;
use super::style::{self, StdStream};
use crate::config::ConfigError;
use strongroom::audit::AuditError;
use strongroom::runs::RunStoreError;
use strongroom::vault::VaultError;

/// The exit codes, which scripts rely on. `docs/command-line.md` and `--help` list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Success; the component finished; `policy explain`: allowed.
    Done = 0,
    /// The component failed.
    Failed = 1,
    /// Invalid usage or input.
    Invalid = 2,
    /// The component imports something that the policy does not grant; `policy explain`: denied.
    Refused = 3,
    /// Stopped at a limit.
    Limit = 4,
    /// The host or the vault failed; `audit verify` found tampering.
    Host = 5,
    /// Cancelled by a signal.
    Cancelled = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The exit codes for `--help` and the manual pages.
pub(super) const EXIT_CODES: &[&str] = &[
    "0    success, or the component finished",
    "1    the component failed",
    "2    invalid usage or input",
    "3    refused: the component imports something that the policy does not grant",
    "4    the run was stopped at a limit",
    "5    the host or the vault failed, or the audit log was tampered with",
    "130  cancelled by SIGINT or SIGTERM",
];

/// A failed command.
#[derive(Debug)]
pub(super) enum Failure {
    /// A failure that is reported to the user.
    Message {
        /// The exit code.
        exit: Exit,
        /// What failed.
        message: String,
        /// What to do.
        help: Option<String>,
        /// The usage line, for invalid arguments.
        usage: Option<String>,
    },
    /// Standard output was closed (EPIPE). Nothing is reported.
    StdoutClosed,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self::Message { exit, message: message.to_string(), help: None, usage: None }
    }

    /// Returns a failure for invalid usage or input.
    pub(super) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// Returns a failure of the host or the vault.
    pub(super) fn host(message: impl fmt::Display) -> Self {
        Self::new(Exit::Host, message)
    }

    /// Returns a failure for a cancelled prompt.
    pub(super) fn cancelled(message: impl fmt::Display) -> Self {
        Self::new(Exit::Cancelled, message)
    }

    /// Returns a failure for a component whose imports no policy grants.
    pub(super) fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Sets what to do.
    #[must_use]
    pub(super) fn help(mut self, advice: impl fmt::Display) -> Self {
        if let Self::Message { help, .. } = &mut self {
            *help = Some(advice.to_string());
        }
        self
    }

    /// Sets the usage line.
    #[must_use]
    pub(super) fn usage(mut self, form: impl fmt::Display) -> Self {
        if let Self::Message { usage, .. } = &mut self {
            *usage = Some(form.to_string());
        }
        self
    }

    /// Prints the failure to standard error, as JSON with `--json`.
    pub(super) fn print(&self) {
        let Self::Message { exit, message, help, .. } = self else { return };
        if style::is_json() {
            let help = help.as_deref();
            let json = serde_json::to_string(&Json { error: message, help, exit_code: *exit as u8 });
            out::note(json.unwrap_or_default());
        } else {
            out::note(self.render(&|style, text| style::paint(StdStream::Err, style, text)));
        }
    }

    /// Formats the message. `paint` styles its labels.
    fn render(&self, paint: &dyn Fn(Style, &str) -> String) -> String {
        let Self::Message { message, help, usage, .. } = self else { return String::new() };
        let mut text = format!("{} {}", paint(style::ERROR, "error:"), Indented(message, 7));
        if let Some(help) = help {
            text += &format!("\n  {} {}", paint(style::HEADING, "help:"), Indented(help, 8));
        }
        if let Some(usage) = usage {
            text += &format!("\n  {} {}", paint(style::HEADING, "usage:"), Indented(usage, 9));
        }
        text
    }

    /// Returns the exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Message { exit, .. } => *exit,
            Self::StdoutClosed => Exit::Done,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&|_, text| text.to_owned()))
    }
}

/// A failure as JSON on one line. JSON escapes control characters itself.
#[derive(Serialize)]
struct Json<'a> {
    error: &'a str,
    help: Option<&'a str>,
    exit_code: u8,
}

/// Text whose continuation lines are indented.
struct Indented<'a>(&'a str, usize);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.0.lines().enumerate() {
            if at > 0 {
                write!(f, "\n{:width$}", "", width = self.1)?;
            }
            f.write_str(&strongroom::escape::escape_controls(line))?;
        }
        Ok(())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let help = error.help();
        let failure = Self::invalid(error);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::host(error)
    }
}

impl From<RunStoreError> for Failure {
    fn from(error: RunStoreError) -> Self {
        match error {
            RunStoreError::Absent(_) | RunStoreError::Ambiguous { .. } => Self::invalid(error),
            _ => Self::host(error),
        }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match &error {
            VaultError::NotFound(_) => Self::invalid(error).help("run `strongroom secret list` to list secrets"),
            VaultError::Disabled(name) => Self::invalid(&error)
                .help(format!("enable it with `az keyvault secret set-attributes --name {name} --enabled true`")),
            VaultError::Deleted(name) => Self::invalid(&error).help(format!(
                "run `strongroom secret set {name} --recover` to recover it and store the value as its newest version"
            )),
            VaultError::Partial { written, cause } => {
                let names: Vec<String> = written.iter().map(|name| format!("`{name}`")).collect();
                let cause = Self::from((**cause).clone());
                let Self::Message { exit, message, help, usage } = cause else { return cause };
                let message = format!("{message}\nonly these were written before the failure: {}", names.join(", "));
                Self::Message { exit, message, help, usage }
            }
            VaultError::Invalid(_) | VaultError::Conflict { .. } => Self::invalid(error),
            _ => Self::host(error),
        }
    }
}

/// Maps errors of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::StdoutClosed,
            _ => Self::host(format!("could not write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_shows_error_then_help() {
        let failure = Failure::invalid("two\nlines").help("do this\nthen that");
        assert_eq!(failure.to_string(), "error: two\n       lines\n  help: do this\n        then that");
        assert_eq!(failure.exit(), Exit::Invalid);
    }

    #[test]
    fn partial_batch_names_written_secrets() {
        let name = |text| strongroom::ids::SecretName::parse(text).unwrap();
        let cause = Box::new(VaultError::Deleted(name("c")));
        let failure = Failure::from(VaultError::Partial { written: vec![name("a"), name("b")], cause });
        assert_eq!(
            failure.to_string(),
            "error: the vault cannot write `c`: it was deleted, and the vault keeps it to be recovered: `strongroom secret recover c` brings \
             it back, `strongroom secret purge c` removes it for good\n       \
             only these were written before the failure: `a`, `b`\n  \
             help: run `strongroom secret set c --recover` to recover it and store the value as its newest version"
        );
        assert_eq!(failure.exit(), Exit::Invalid);
    }

    #[test]
    fn control_characters_in_failure_are_escaped() {
        let failure = Failure::invalid("no file `a\u{1b}[31m\r\u{202e}`").help("\u{9b}2J");
        assert_eq!(failure.to_string(), "error: no file `a\\x1b[31m\\r\\u{202e}`\n  help: \\u{9b}2J");
    }

    #[test]
    fn closed_pipe_exits_successfully() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.to_string()), (Exit::Done, String::new()));
    }

    #[test]
    fn every_exit_code_is_in_help() {
        use Exit::*;
        for exit in [Done, Failed, Invalid, Refused, Limit, Host, Cancelled] {
            let code = format!("{:<5}", exit as u8);
            assert!(EXIT_CODES.iter().any(|line| line.starts_with(&code)), "{exit:?}");
        }
    }
}
