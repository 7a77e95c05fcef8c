//! `strongroom secret`: an operator's own commands on secrets. Each is audited before it is done and after; without the audit it is not
//! done at all.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::home::{Opened, Surroundings};
use super::value::{self, Source};
use super::{block_on, out, show};
use crate::audit::{Event, Kind};
use crate::ids::{SecretName, SecretVersion};
use crate::policy::Operation;
use crate::vault::{Attributes, Description, NewSecret, Operator, VaultError};

/// Store, read, list, describe and delete secrets
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Set(Set),
    Get(Get),
    List(List),
    Describe(Describe),
    Delete(Delete),
}

/// Store a value as the newest version of a secret
///
/// The value comes from a variable, a file, or standard input; where that is a
/// terminal there is a hidden prompt. It is never an argument, because other
/// processes can read those.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct Set {
    /// The secret: 1 to 127 characters of 0-9, a-z, A-Z and `-`;
    /// case does not matter
    #[arg(verbatim_doc_comment)]
    name: String,
    /// Take the value from this environment variable
    #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
    from_env: Option<String>,
    /// Take the value from this file,
    /// without one newline at its end
    #[arg(long, verbatim_doc_comment, value_name = "PATH")]
    from_file: Option<PathBuf>,
    /// Keep a newline at the end of a file
    /// or of standard input
    #[arg(long, verbatim_doc_comment)]
    keep_newline: bool,
    /// A media type or other label to store with it
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// From this moment the secret is not served to runs:
    /// `2026-12-01` or `2026-12-01T08:00:00Z`
    #[arg(long, verbatim_doc_comment, value_name = "TIME", value_parser = show::parse_moment)]
    expires: Option<Timestamp>,
    /// Before this moment the secret is not served to runs
    #[arg(long, value_name = "TIME", value_parser = show::parse_moment)]
    not_before: Option<Timestamp>,
    /// A value on the command line: refused without being repeated
    #[arg(hide = true, allow_hyphen_values = true)]
    refused: Vec<OsString>,
}

/// Print a secret's value
///
/// To a pipe or a file goes the exact value, without a newline.
/// To a terminal it goes only with `--show`.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct Get {
    /// The secret
    name: String,
    /// Print it to a terminal too
    #[arg(long)]
    show: bool,
    /// This version instead of the newest
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// List all secrets
#[derive(Debug, clap::Args)]
struct List {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Show what is known about a secret apart from its value
#[derive(Debug, clap::Args)]
struct Describe {
    /// The secret
    name: String,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Delete a secret with all its versions
#[derive(Debug, clap::Args)]
struct Delete {
    /// The secret
    name: String,
}

pub(super) fn run(args: &Args, surroundings: &Surroundings) -> Result<Exit, Failure> {
    match &args.command {
        Command::Set(args) => set(args, surroundings),
        Command::Get(args) => get(args, surroundings),
        Command::List(args) => list(args, surroundings),
        Command::Describe(args) => describe(args, surroundings),
        Command::Delete(args) => delete(args, surroundings),
    }
}

fn name_of(text: &str) -> Result<SecretName, Failure> {
    SecretName::parse(text).map_err(Failure::invalid)
}

fn set(args: &Set, surroundings: &Surroundings) -> Result<Exit, Failure> {
    if !args.refused.is_empty() {
        return Err(Failure::invalid("a secret's value is never an argument: other processes can read those, and shells keep them").help(
            "give it on standard input, or use `--from-file PATH` or `--from-env VAR`; and change it, now that it was on a command line",
        ));
    }
    let name = name_of(&args.name)?;
    let attributes =
        Attributes { content_type: args.content_type.clone(), not_before: args.not_before, expires: args.expires };
    if let (Some(from), Some(to)) = (args.not_before, args.expires)
        && from >= to
    {
        return Err(Failure::invalid("`--not-before` is not before `--expires`, so the secret could never be used"));
    }
    if args.expires.is_some_and(|expires| expires <= Timestamp::now()) {
        out::note("note: `--expires` has passed already, so no run is served this version");
    }
    // The vault is looked for first, so that nobody types a value in vain.
    let found = surroundings.find()?;
    let source = match (&args.from_env, &args.from_file) {
        (Some(variable), _) => Source::Variable(variable),
        (None, Some(path)) => Source::File(path),
        (None, None) => Source::Input,
    };
    let value = value::read(&name, &source, args.keep_newline)?;
    if value.is_empty() {
        out::note("note: the value is empty");
    }
    let opened = surroundings.open(found)?;
    let vault = &opened.vault;
    let new = NewSecret { name: name.clone(), value, attributes };
    let stored =
        audited(&opened, Operation::Set, Some(&name), "written", vault.set_many(vec![new]), |stored, event| {
            event.version = stored.first().map(|description| description.version.clone());
        })?;
    opened.close()?;
    for description in stored {
        out::line(format!("stored `{}` as version {}", description.name, description.version))?;
    }
    Ok(Exit::Done)
}

fn get(args: &Get, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let name = name_of(&args.name)?;
    let version = args.version.as_deref().map(SecretVersion::parse).transpose().map_err(Failure::invalid)?;
    if out::is_terminal() && !args.show {
        return Err(Failure::invalid(format!("the value of `{name}` is not printed to a terminal"))
            .help("add `--show`, or send it to a file or another program"));
    }
    let opened = surroundings.open(surroundings.find()?)?;
    let work = Operator::get(&opened.vault, &name, version.as_ref());
    let stored = audited(&opened, Operation::Get, Some(&name), "released", work, |stored, event| {
        event.version = Some(stored.description.version.clone());
    });
    opened.close()?;
    let stored = stored.map_err(|failure| match &version {
        Some(version) if failure.exit() == Exit::Invalid => {
            Failure::invalid(format!("there is no version `{version}` of the secret `{name}`"))
                .help(format!("`strongroom secret describe {name}` shows its versions"))
        }
        _ => failure,
    })?;
    value::write(&stored.value)?;
    Ok(Exit::Done)
}

fn list(args: &List, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let opened = surroundings.open(surroundings.find()?)?;
    let work = Operator::list(&opened.vault);
    let secrets = audited(&opened, Operation::List, None, "listed", work, |secrets, event| {
        event.count = Some(secrets.len() as u64);
    })?;
    opened.close()?;
    if args.json {
        out::json(&secrets.iter().map(Described::from).collect::<Vec<_>>())?;
    } else if secrets.is_empty() {
        out::note("the vault holds no secrets: `strongroom secret set NAME` stores one");
    } else {
        let rows: Vec<Vec<String>> = secrets.iter().map(row).collect();
        out::table(&["NAME", "UPDATED", "EXPIRES", "TYPE"], &rows, &[])?;
    }
    Ok(Exit::Done)
}

fn row(secret: &Description) -> Vec<String> {
    vec![
        secret.name.to_string(),
        show::moment(secret.updated),
        secret.attributes.expires.map(show::moment).unwrap_or_default(),
        secret.attributes.content_type.clone().unwrap_or_default(),
    ]
}

fn describe(args: &Describe, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let name = name_of(&args.name)?;
    let opened = surroundings.open(surroundings.find()?)?;
    let work = opened.vault.versions(&name);
    let versions = audited(&opened, Operation::Describe, Some(&name), "described", work, |versions, event| {
        event.version = versions.first().map(|newest| newest.version.clone());
    })?;
    opened.close()?;
    if args.json {
        out::json(&versions.iter().map(Described::from).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let Some(newest) = versions.first() else {
        return Err(VaultError::NotFound(name).into());
    };
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), show::moment);
    let facts = [
        ("name", newest.name.to_string()),
        ("version", newest.version.to_string()),
        ("type", newest.attributes.content_type.clone().unwrap_or_else(|| "-".to_owned())),
        ("created", show::moment(newest.created)),
        ("updated", show::moment(newest.updated)),
        ("not before", time(newest.attributes.not_before)),
        ("expires", time(newest.attributes.expires)),
        ("enabled", if newest.enabled { "yes" } else { "no" }.to_owned()),
    ];
    let mut rows: Vec<Vec<String>> = facts.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    for (at, older) in versions.iter().skip(1).enumerate() {
        let label = if at == 0 { "older" } else { "" };
        rows.push(vec![label.to_owned(), format!("{} of {}", older.version, show::moment(older.created))]);
    }
    out::columns(None, &rows, &[]).iter().try_for_each(out::line)?;
    Ok(Exit::Done)
}

fn delete(args: &Delete, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let name = name_of(&args.name)?;
    let opened = surroundings.open(surroundings.find()?)?;
    let work = Operator::delete(&opened.vault, &name);
    audited(&opened, Operation::Delete, Some(&name), "deleted", work, |(), _| {})?;
    opened.close()?;
    out::line(format!("deleted `{name}` with all its versions"))?;
    Ok(Exit::Done)
}

/// Does an operator's command between two events. What it answers is handed on only once the second is written.
fn audited<T>(
    opened: &Opened,
    operation: Operation,
    name: Option<&SecretName>,
    done: &str,
    work: impl Future<Output = Result<T, VaultError>>,
    complete: impl FnOnce(&T, &mut Event),
) -> Result<T, Failure> {
    let about = Event { operation: Some(operation.as_str().to_owned()), secret: name.cloned(), ..Event::default() };
    opened.audit.append_blocking(Event { event: Kind::Operator, ..about.clone() })?;
    let answer = block_on(work)?;
    let mut event = Event { event: Kind::OperatorOutcome, ..about };
    let outcome = match &answer {
        Ok(answer) => {
            complete(answer, &mut event);
            done
        }
        Err(error) => error.kind(),
    };
    event.outcome = Some(outcome.to_owned());
    let written = opened.audit.append_blocking(event);
    let answer = answer?;
    match written {
        Ok(_) => Ok(answer),
        Err(error) if matches!(operation, Operation::Set | Operation::Delete) => {
            Err(Failure::host(format!("the vault was changed, but the audit does not say so: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A description as JSON: every field is there, `null` where it does not apply.
#[derive(Serialize)]
struct Described<'a> {
    name: &'a SecretName,
    version: &'a SecretVersion,
    content_type: Option<&'a str>,
    created: Timestamp,
    updated: Timestamp,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    enabled: bool,
}

impl<'a> From<&'a Description> for Described<'a> {
    fn from(description: &'a Description) -> Self {
        Self {
            name: &description.name,
            version: &description.version,
            content_type: description.attributes.content_type.as_deref(),
            created: description.created,
            updated: description.updated,
            not_before: description.attributes.not_before,
            expires: description.attributes.expires,
            enabled: description.enabled,
        }
    }
}
