//! Failures of commands: message, help and exit code. `remedies` converts errors of the library.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::out::{self, object};
use super::style::{self, paint};
use strongroom::record::Outcome;

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
    /// The component imports something that this host does not link; `policy explain`: denied.
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

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::Done,
            Outcome::Failed => Self::Failed,
            Outcome::Refused => Self::Refused,
            Outcome::Limit => Self::Limit,
            Outcome::Running | Outcome::HostFault | Outcome::Lost => Self::Host,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// The exit codes for `--help` and the manual pages.
pub(super) const EXIT_CODES: &[&str] = &[
    "0    success, or the component finished",
    "1    the component failed",
    "2    invalid usage or input",
    "3    refused: the component imports something that this host does not link",
    "4    the run was stopped at a limit",
    "5    the host or the vault failed, or the audit log was tampered with",
    "130  cancelled by SIGINT or SIGTERM",
];

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    /// What failed. Empty if nothing is reported.
    message: String,
    /// What to do.
    help: Option<String>,
    /// The usage line, for invalid arguments.
    usage: Option<String>,
}

impl Failure {
    /// Returns a failure with a message.
    pub(super) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), help: None, usage: None }
    }

    /// Returns a failure for an error with all its causes.
    pub(super) fn caused(exit: Exit, error: &dyn Error, help: Option<String>) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        Self { help, ..Self::new(exit, message) }
    }

    /// Returns a failure for invalid usage or input.
    pub(super) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// Returns a function that turns an error of reading a file into a failure. `kind` says what
    /// kind of file it is, with a blank at the end.
    pub(super) fn unreadable(kind: &str, path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |cause| Self::invalid(format!("could not read {kind}`{}`: {cause}", path.display())).help("check the path")
    }

    /// Returns a failure of the host or the vault.
    pub(super) fn host(message: impl fmt::Display) -> Self {
        Self::new(Exit::Host, message)
    }

    /// Returns a failure for a component whose imports no policy grants.
    pub(super) fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Sets what to do.
    #[must_use]
    pub(super) fn help(self, advice: impl fmt::Display) -> Self {
        Self { help: Some(advice.to_string()), ..self }
    }

    /// Sets the usage line.
    #[must_use]
    pub(super) fn usage(self, form: impl fmt::Display) -> Self {
        Self { usage: Some(form.to_string()), ..self }
    }

    /// Prints the failure to standard error, as JSON with `--json`.
    pub(super) fn print(&self) {
        let Self { exit, message, help, .. } = self;
        if message.is_empty() {
            return;
        }
        if style::is_json() {
            // On one line. JSON escapes control characters itself.
            let json = serde_json::to_string(&object! { error: message, help: help, exit_code: *exit as u8 });
            out::note(json.unwrap_or_default());
        } else {
            out::note(self);
        }
    }

    /// Returns the exit code.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", paint(style::ERROR, "error:"), indented(&self.message, 7))?;
        if let Some(help) = &self.help {
            write!(f, "\n  {} {}", paint(style::HEADING, "help:"), indented(help, 8))?;
        }
        if let Some(usage) = &self.usage {
            write!(f, "\n  {} {}", paint(style::HEADING, "usage:"), indented(usage, 9))?;
        }
        Ok(())
    }
}

/// Escapes control characters, and indents all lines except the first.
fn indented(text: &str, indent: usize) -> String {
    let lines: Vec<String> = text.lines().map(strongroom::escape::escape_controls).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

/// Maps errors of writing to standard output. If it was closed (EPIPE), nothing is reported.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Done, ""),
            _ => Self::host(format!("could not write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn failure_shows_error_then_help() {
        let failure = Failure::invalid("two\nlines").help("do this\nthen that");
        assert_eq!(plain(&failure), "error: two\n       lines\n  help: do this\n        then that");
        assert_eq!(failure.exit(), Exit::Invalid);
    }

    #[test]
    fn causes_follow_the_error() {
        let cause = io::Error::other(io::Error::other("disk on fire"));
        let failure = Failure::caused(Exit::Host, &cause, Some("put it out".into()));
        assert_eq!(plain(&failure), "error: disk on fire\n  help: put it out");
        #[derive(Debug, thiserror::Error)]
        #[error("could not write `x`")]
        struct Outer(#[source] io::Error);
        let failure = Failure::caused(Exit::Host, &Outer(io::ErrorKind::StorageFull.into()), None);
        assert_eq!(plain(&failure), "error: could not write `x`: no storage space");
    }

    #[test]
    fn control_characters_in_failure_are_escaped() {
        let failure = Failure::invalid("no file `a\u{1b}[31m\r\u{202e}`").help("\u{9b}2J");
        assert_eq!(plain(&failure), "error: no file `a\\x1b[31m\\r\\u{202e}`\n  help: \\u{9b}2J");
    }

    #[test]
    fn closed_pipe_exits_successfully() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.message.as_str()), (Exit::Done, ""));
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
