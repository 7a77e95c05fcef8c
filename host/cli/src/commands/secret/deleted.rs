//! `strongroom secret recover` and `purge`: handle deleted secrets that a vault retains.

use serde::Serialize;

use super::{Described, parse_name};
use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::operate::{Work, audited};
use crate::commands::out;
use strongroom::ids::SecretName;

/// Recover a deleted secret with all its versions
///
/// Only for a Key Vault, which retains deleted secrets for 7 to 90 days.
#[derive(Debug, clap::Args)]
pub(super) struct Recover {
    /// Secret name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Permanently delete a deleted secret, so that its name is free
///
/// Only for a Key Vault. A purged secret cannot be recovered.
#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    /// Secret name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was purged, as JSON.
#[derive(Serialize)]
struct Purged<'a> {
    name: &'a SecretName,
    purged: bool,
}

pub(super) fn recover(args: &Recover, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let work = Work::on_deleted("recover", &name, "recovered");
    let recovered = audited(&opened, &work, opened.operator.recover(&name), |description, _, event| {
        event.version = Some(description.version.clone());
    });
    let soft_delete = opened.vault.abilities().soft_delete;
    opened.close()?;
    let recovered = recovered.map_err(|failure| not_deleted_error(failure, soft_delete, &name))?;
    if args.json {
        out::json(&Described::from(&recovered))?;
    } else {
        out::line(format!("recovered `{name}`; its newest version is {}", recovered.version))?;
    }
    Ok(Exit::Done)
}

pub(super) fn purge(args: &Purge, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let work = Work::on_deleted("purge", &name, "purged");
    let purged = audited(&opened, &work, opened.operator.purge(&name), |(), _, _| {});
    let soft_delete = opened.vault.abilities().soft_delete;
    opened.close()?;
    purged.map_err(|failure| not_deleted_error(failure, soft_delete, &name))?;
    if args.json {
        out::json(&Purged { name: &name, purged: true })?;
    } else {
        out::line(format!("purged `{name}`; it cannot be recovered"))?;
    }
    Ok(Exit::Done)
}

/// Returns the failure for a name of which the vault retains nothing.
fn not_deleted_error(failure: Failure, soft_delete: bool, name: &SecretName) -> Failure {
    if failure.exit() != Exit::Invalid {
        return failure;
    }
    if soft_delete {
        Failure::invalid(format!("the vault retains no deleted secret `{name}`"))
            .help("run `az keyvault secret list-deleted` to list deleted secrets")
    } else {
        failure.help("restore a backup (see docs/vault.md); the local vault does not retain deleted secrets")
    }
}
