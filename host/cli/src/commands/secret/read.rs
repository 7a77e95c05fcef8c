//! `strongroom secret get`, `list`, `describe` and `versions`.

use jiff::Timestamp;

use super::{Named, described, parse_name};
use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::operator::{OperatorAction, audited};
use crate::commands::{out, show, value};
use strongroom::ids::SecretVersion;
use strongroom::vault::{Description, VaultError};

/// Print the value of a secret
///
/// A pipe or file receives the exact value, without an added newline. The value is printed to a
/// terminal only with `--show`.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// Secret name
    name: String,
    /// Print the value even to a terminal
    #[arg(long)]
    show: bool,
    /// Version to print instead of the newest
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

pub(super) fn get(args: &Get, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let version = args.version.as_deref().map(SecretVersion::parse).transpose().map_err(Failure::invalid)?;
    if out::is_terminal() && !args.show {
        return Err(Failure::invalid(format!("refusing to print the value of `{name}` to a terminal"))
            .help("add `--show`, or redirect the output to a file or another program"));
    }
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("get", "released").on([name.clone()]);
    let doing = opened.operator.get(&name, version.as_ref());
    let stored = audited(&opened, &action, doing, |stored, _, event| {
        event.version = Some(stored.description.version.clone());
    });
    let stored = stored.map_err(|failure| match &version {
        Some(version) if failure.exit() == Exit::Invalid => {
            Failure::invalid(format!("there is no version `{version}` of the secret `{name}`"))
                .help(format!("run `strongroom secret versions {name}` to list its versions"))
        }
        _ => failure,
    })?;
    value::write(&stored.value)?;
    Ok(Exit::Done)
}

pub(super) fn list(json: bool, context: &Context) -> Result<Exit, Failure> {
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("list", "listed");
    let secrets = audited(&opened, &action, opened.operator.list(), |secrets, _, event| {
        event.count = Some(secrets.len() as u64);
    })?;
    if json {
        out::json(&secrets.iter().map(described).collect::<Vec<_>>())?;
    } else if secrets.is_empty() {
        out::note("the vault contains no secrets; store one with `strongroom secret set NAME`");
    } else {
        table(["NAME", "UPDATED", "EXPIRES", "TYPE"], &secrets, row)?;
    }
    Ok(Exit::Done)
}

/// Prints a table of descriptions, with a column STATE if any of them is disabled.
fn table(header: [&str; 4], all: &[Description], row: impl Fn(&Description) -> [String; 4]) -> Result<(), Failure> {
    let mut header = header.to_vec();
    let mut rows: Vec<Vec<String>> = all.iter().map(|one| row(one).into()).collect();
    if all.iter().any(|one| !one.enabled) {
        header.push("STATE");
        for (row, one) in rows.iter_mut().zip(all) {
            row.push(if one.enabled { "" } else { "disabled" }.to_owned());
        }
    }
    out::table(&header, &rows, &[])
}

fn row(secret: &Description) -> [String; 4] {
    [
        secret.name.to_string(),
        show::timestamp(secret.updated),
        secret.attributes.expires.map(show::timestamp).unwrap_or_default(),
        secret.attributes.content_type.clone().unwrap_or_default(),
    ]
}

pub(super) fn describe(args: &Named, context: &Context) -> Result<Exit, Failure> {
    let versions = all_versions(&args.name, context)?;
    let Some(newest) = versions.first() else {
        return Err(VaultError::NotFound(parse_name(&args.name)?).into());
    };
    if args.json {
        out::json(&described(newest))?;
        return Ok(Exit::Done);
    }
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), show::timestamp);
    let facts = [
        ("name", newest.name.to_string()),
        ("version", newest.version.to_string()),
        ("versions", versions.len().to_string()),
        ("type", newest.attributes.content_type.clone().unwrap_or_else(|| "-".to_owned())),
        ("created", show::timestamp(newest.created)),
        ("updated", show::timestamp(newest.updated)),
        ("not before", time(newest.attributes.not_before)),
        ("expires", time(newest.attributes.expires)),
        ("enabled", if newest.enabled { "yes" } else { "no" }.to_owned()),
    ];
    out::facts(facts)?;
    Ok(Exit::Done)
}

pub(super) fn versions(args: &Named, context: &Context) -> Result<Exit, Failure> {
    let versions = all_versions(&args.name, context)?;
    if args.json {
        out::json(&versions.iter().map(described).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let row = |version: &Description| {
        let attributes = &version.attributes;
        [
            version.version.to_string(),
            show::timestamp(version.created),
            attributes.expires.map(show::timestamp).unwrap_or_default(),
            attributes.content_type.clone().unwrap_or_default(),
        ]
    };
    table(["VERSION", "CREATED", "EXPIRES", "TYPE"], &versions, row)?;
    Ok(Exit::Done)
}

/// Returns all versions of a secret, newest first. Audited as `describe`.
fn all_versions(name: &str, context: &Context) -> Result<Vec<Description>, Failure> {
    let name = parse_name(name)?;
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("describe", "described").on([name.clone()]);
    audited(&opened, &action, opened.operator.versions(&name), |versions, _, event| {
        event.version = versions.first().map(|newest| newest.version.clone());
    })
}
