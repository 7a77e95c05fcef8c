//! `strongroom secret set`: stores a value, or all variables of a `.env` file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{described, envfile, parse_name};
use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::operator::{OperatorAction, audited};
use crate::commands::value::{self, Source};
use crate::commands::{out, show};
use strongroom::ids::SecretName;
use strongroom::secret::{Secret, VALUE_MAX};
use strongroom::vault::{Attributes, Description, NewSecret, Operator, VaultError};

/// The maximum number of secrets in a file, as in a component's batch.
const COUNT_MAX: usize = 256;

/// The maximum size of a file: all values at their maximum length, with overhead.
const FILE_MAX: usize = COUNT_MAX * (VALUE_MAX + 4096);

/// Store a value as the newest version of a secret
///
/// The value comes from an environment variable, a file, or standard input. If standard input is a
/// terminal, the command prompts for the value without echoing it. The value is never an argument,
/// because other processes can read arguments.
///
/// With `--env-file`, every variable (`NAME=value`) of a file is stored: all of them or none.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Secret name: 1 to 127 characters of 0-9, a-z, A-Z and `-`; not case-sensitive
    name: Option<String>,
    /// Read the value from this environment variable
    #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
    from_env: Option<String>,
    /// Read the value from this file, without one trailing newline
    #[arg(long, value_name = "PATH")]
    from_file: Option<PathBuf>,
    /// Keep the trailing newline of a file or of standard input
    #[arg(long)]
    keep_newline: bool,
    /// Store all variables (`NAME=value`) of this `.env` file
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["name", "from_env", "from_file", "keep_newline"])]
    env_file: Option<PathBuf>,
    /// Convert names in the file to valid secret names: `DB_PASSWORD` becomes `db-password`
    #[arg(long)]
    rename: bool,
    /// Media type or other label to store with the value
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Do not serve the secret to runs from this time on: `2030-12-01` or `2030-12-01T08:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = show::parse_timestamp)]
    expires: Option<Timestamp>,
    /// Do not serve the secret to runs before this time
    #[arg(long, value_name = "TIME", value_parser = show::parse_timestamp)]
    not_before: Option<Timestamp>,
    /// If the vault retains a deleted secret of this name, recover it first
    #[arg(long, conflicts_with = "env_file")]
    recover: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A value on the command line: refused without being repeated
    #[arg(hide = true, allow_hyphen_values = true)]
    refused: Vec<OsString>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if !args.refused.is_empty() {
        return Err(Failure::invalid(
            "a secret value is never an argument: other processes can read arguments, and shells store them",
        )
        .help(
            "pass it on standard input or with `--from-file PATH` or `--from-env VAR`, and change it, because it was on a command line",
        ));
    }
    let name = args.name.as_deref().map(parse_name).transpose()?;
    if name.is_none() && args.env_file.is_none() {
        return Err(
            Failure::invalid("no secret name given").help("give a name, or a file of variables with `--env-file FILE`")
        );
    }
    // Not `requires`: clap ignores that if a name is given, which conflicts with the file.
    if args.rename && args.env_file.is_none() {
        return Err(Failure::invalid("`--rename` requires `--env-file`").help("give the file with `--env-file FILE`"));
    }
    if let (Some(from), Some(to)) = (args.not_before, args.expires)
        && from >= to
    {
        return Err(Failure::invalid("`--not-before` must be earlier than `--expires`"));
    }
    if args.expires.is_some_and(|expires| expires <= Timestamp::now()) {
        out::note("note: `--expires` is in the past, so this version is not served to runs");
    }
    // Checked before the prompt for the value.
    let closed = context.find_vault()?;
    let mut values = Vec::new();
    if let Some(name) = name {
        let value = read_value(args, &name)?;
        values.push((name, value));
    }
    if let Some(file) = &args.env_file {
        values.extend(from_env_file(file, args.rename)?);
    }
    let attributes =
        Attributes { content_type: args.content_type.clone(), not_before: args.not_before, expires: args.expires };
    let new: Vec<NewSecret> =
        values.into_iter().map(|(name, value)| NewSecret { name, value, attributes: attributes.clone() }).collect();
    let opened = context.open(closed)?;
    let mut action = OperatorAction::new("set", "written").changing().on(new.iter().map(|secret| secret.name.clone()));
    if args.recover {
        action = action.detail("recover", "where it was deleted");
    }
    let storing = store(opened.operator.as_ref(), new, args.recover);
    let stored = audited(&opened, &action, storing, |stored, at, event| {
        event.version = stored.get(at).map(|description| description.version.clone());
    })?;
    if args.json {
        out::json(&stored.iter().map(described).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for description in stored {
        out::line(format!("stored `{}` as version {}", description.name, description.version))?;
    }
    Ok(Exit::Done)
}

/// Stores secrets. With `recover`, stores a single secret and first recovers it if it is deleted.
async fn store(vault: &dyn Operator, new: Vec<NewSecret>, recover: bool) -> Result<Vec<Description>, VaultError> {
    if !recover {
        return vault.set_many(new).await;
    }
    match vault.set_many(new.clone()).await {
        Err(VaultError::Deleted(name)) => {
            vault.recover(&name).await?;
            vault.set_many(new).await
        }
        answer => answer,
    }
}

fn read_value(args: &Args, name: &SecretName) -> Result<Arc<Secret>, Failure> {
    let source = match (&args.from_env, &args.from_file) {
        (Some(variable), _) => Source::Variable(variable),
        (None, Some(path)) => Source::File(path),
        (None, None) => Source::Input,
    };
    let value = value::read(name, &source, args.keep_newline)?;
    if value.is_empty() {
        out::note("note: the value is empty");
    }
    Ok(value)
}

/// Reads and checks a whole file. Reports every problem by line and never shows a value.
fn from_env_file(path: &Path, rename: bool) -> Result<Vec<(SecretName, Arc<Secret>)>, Failure> {
    let shown = path.display();
    let failed = Failure::unreadable("", path);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let Some(bytes) = value::read_bounded(&file, FILE_MAX).map_err(failed)? else {
        return Err(Failure::invalid(format!(
            "`{shown}` is too large for {COUNT_MAX} secrets, the most that can be stored at once"
        ))
        .help("split it into several files"));
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(Failure::invalid(format!("`{shown}` is not UTF-8 text")).help("save it as UTF-8"));
    };
    let entries = envfile::parse(text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::invalid(format!("could not parse `{shown}`; nothing was stored\n{}", lines.join("\n")))
            .help("correct these lines and run the command again")
    })?;
    if meta.is_file() && meta.mode() & 0o044 != 0 {
        out::note(format!(
            "note: other users can read `{shown}`: run `chmod 600` on it, or delete it now that its values are in the vault"
        ));
    }
    assign_names(&shown, entries, rename)
}

/// Assigns a secret name to each variable.
fn assign_names(
    shown: &std::path::Display<'_>,
    entries: Vec<envfile::Entry>,
    rename: bool,
) -> Result<Vec<(SecretName, Arc<Secret>)>, Failure> {
    if entries.is_empty() {
        return Err(
            Failure::invalid(format!("`{shown}` contains no variables")).help("write each variable as `NAME=value`")
        );
    }
    let count = entries.len();
    let (mut problems, mut proposals, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen: BTreeMap<SecretName, (usize, String)> = BTreeMap::new();
    for mut entry in entries {
        let (line, written) = (entry.line, entry.name);
        let name = match (SecretName::parse(&written), proposed_name(&written)) {
            (Ok(name), _) => name,
            (Err(_), Some(name)) => {
                proposals.push(format!("line {line}: `{written}` would be `{name}`"));
                name
            }
            (Err(error), None) => {
                problems.push(format!("line {line}: could not convert `{written}` to a secret name: {error}"));
                continue;
            }
        };
        if let Some((first, other)) = seen.get(&name) {
            problems.push(format!("line {line}: `{written}` and `{other}` in line {first} would both be `{name}`"));
        }
        match Secret::new(std::mem::take(&mut *entry.value)) {
            Ok(value) => {
                if value.is_empty() {
                    out::note(format!("note: line {line}: the value of `{name}` is empty"));
                }
                values.push((name.clone(), Arc::new(value)));
            }
            Err(error) => problems.push(format!("line {line}: {error}")),
        }
        seen.entry(name).or_insert((line, written));
    }
    if count > COUNT_MAX {
        problems.push(format!("{count} variables, but at most {COUNT_MAX} can be stored at once"));
    }
    if !problems.is_empty() {
        return Err(Failure::invalid(format!(
            "invalid variables in `{shown}`; nothing was stored\n{}",
            problems.join("\n")
        ))
        .help("correct these lines and run the command again"));
    }
    if !rename && !proposals.is_empty() {
        return Err(Failure::invalid(format!(
            "`{shown}` contains invalid secret names; nothing was stored\n{}",
            proposals.join("\n")
        ))
        .help("add `--rename` to store them under these names"));
    }
    Ok(values)
}

/// Returns the secret name for a variable: lower case, with one `-` for each run of invalid
/// characters.
fn proposed_name(written: &str) -> Option<SecretName> {
    let words: Vec<&str> = written.split(['_', '.', '-']).filter(|word| !word.is_empty()).collect();
    SecretName::parse(&words.join("-")).ok()
}
