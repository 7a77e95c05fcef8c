//! `strongroom secret delete`, `recover` and `purge`.

use super::{Named, described, parse_name};
use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::operator::{OperatorAction, audited};
use crate::commands::out::{self, object};
use strongroom::ids::SecretName;

pub(super) fn delete(args: &Named, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("delete", "deleted").changing().on([name.clone()]);
    audited(&opened, &action, opened.operator.delete(&name), |(), _, _| {})?;
    if args.json {
        out::json(&object! { name: name, deleted: true })?;
        return Ok(Exit::Done);
    }
    out::line(format!("deleted `{name}` and all its versions"))?;
    if opened.vault.abilities().soft_delete {
        out::line(format!("the vault retains it for a limited time: `strongroom secret recover {name}` recovers it"))?;
    }
    Ok(Exit::Done)
}

pub(super) fn recover(args: &Named, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("recover", "recovered").changing().on([name.clone()]);
    let recovered = audited(&opened, &action, opened.operator.recover(&name), |description, _, event| {
        event.version = Some(description.version.clone());
    });
    let soft_delete = opened.vault.abilities().soft_delete;
    let recovered = recovered.map_err(|failure| not_deleted_error(failure, soft_delete, &name))?;
    if args.json {
        out::json(&described(&recovered))?;
    } else {
        out::line(format!("recovered `{name}`; its newest version is {}", recovered.version))?;
    }
    Ok(Exit::Done)
}

pub(super) fn purge(args: &Named, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("purge", "purged").changing().on([name.clone()]);
    let purged = audited(&opened, &action, opened.operator.purge(&name), |(), _, _| {});
    let soft_delete = opened.vault.abilities().soft_delete;
    purged.map_err(|failure| not_deleted_error(failure, soft_delete, &name))?;
    if args.json {
        out::json(&object! { name: name, purged: true })?;
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
