//! `strongroom policy`: reads a policy and says what it means. Needs neither vault nor home.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;

use super::failure::{Exit, Failure};
use super::home::Surroundings;
use super::out;
use crate::ids::SecretName;
use crate::policy::{Operation, Policy, TEXT_MAX};

/// Check a policy, or ask it what it allows
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Explain(Explain),
}

/// Check a policy and print the limits that hold under it on this host
#[derive(Debug, clap::Args)]
struct Check {
    /// The policy
    file: PathBuf,
}

/// Say whether a policy allows an operation on a secret, and which line decides
///
/// Exit code 0 means yes, 3 means no.
#[derive(Debug, clap::Args)]
struct Explain {
    /// The policy
    file: PathBuf,
    /// get, set, list, describe or delete
    operation: String,
    /// The secret, as the component asks for it
    name: String,
}

pub(super) fn run(args: &Args, surroundings: &Surroundings) -> Result<Exit, Failure> {
    match &args.command {
        Command::Check(args) => check(args, surroundings),
        Command::Explain(args) => explain(args),
    }
}

fn check(args: &Check, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let policy = read(&args.file)?;
    let limits = policy.limits_under(&surroundings.config.ceilings).map_err(Failure::invalid)?;
    let file = crate::redact::escape_controls(&args.file.to_string_lossy());
    out::line(format!("`{file}` is a valid policy"))?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |label: &str, value: String| rows.push(vec![label.to_owned(), value]);
    row(
        "component",
        policy.component().map_or_else(|| "any: `component` does not name one".to_owned(), ToString::to_string),
    );
    if !policy.environment().is_empty() {
        let names: Vec<&str> = policy.environment().keys().map(String::as_str).collect();
        row("environment", names.join(", "));
    }
    if !policy.tcp().is_empty() {
        let targets: Vec<String> = policy.tcp().iter().map(ToString::to_string).collect();
        row("tcp", targets.join(", "));
    }
    for (name, value) in limits.rows() {
        row(&format!("limits.{name}"), value);
    }
    out::columns(None, &rows, &[]).iter().try_for_each(|line| out::line(format!("  {line}")))?;
    Ok(Exit::Done)
}

fn explain(args: &Explain) -> Result<Exit, Failure> {
    let operation = Operation::parse(&args.operation).ok_or_else(|| {
        let asked = crate::redact::escape_controls(&args.operation);
        Failure::invalid(format!("there is no operation `{asked}`"))
            .help("use one of `get`, `set`, `list`, `describe`, `delete`")
    })?;
    let name = SecretName::parse(&args.name).map_err(Failure::invalid)?;
    let explanation = read(&args.file)?.explain(operation, &name, Timestamp::now());
    out::line(&explanation)?;
    Ok(if explanation.allowed() { Exit::Done } else { Exit::Refused })
}

/// Reads a policy from a file.
pub(super) fn read(path: &Path) -> Result<Policy, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| Failure::invalid(format!("cannot read the policy `{shown}`: {cause}"));
    let mut bytes = Vec::new();
    let limit = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.starts_with(b"\0asm") {
        return Err(Failure::invalid(format!("`{shown}` is a component, not a policy"))
            .help("a policy is a TOML file: `strongroom run COMPONENT --policy FILE`"));
    }
    if bytes.len() > TEXT_MAX {
        return Err(Failure::invalid(format!(
            "the policy `{shown}` is over {}",
            crate::policy::show_size(TEXT_MAX as u64)
        ))
        .help("is it the right file?"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::invalid(format!("the policy `{shown}` is not UTF-8 text")).help("is it the right file?")
    })?;
    Policy::parse(&text, &path.to_string_lossy()).map_err(Failure::invalid)
}
