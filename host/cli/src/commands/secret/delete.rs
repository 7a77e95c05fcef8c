//! `strongroom secret delete`.

use serde::Serialize;

use super::parse_name;
use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::operate::{Work, audited};
use crate::commands::out;
use strongroom::ids::SecretName;
use strongroom::policy::Operation;

/// Delete a secret and all its versions
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Secret name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was deleted, as JSON.
#[derive(Serialize)]
struct Deleted<'a> {
    name: &'a SecretName,
    deleted: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let opened = context.find_and_open()?;
    let work = Work::on_secret(Operation::Delete, Some(&name), "deleted");
    audited(&opened, &work, opened.operator.delete(&name), |(), _, _| {})?;
    let soft_delete = opened.vault.abilities().soft_delete;
    opened.close()?;
    if args.json {
        out::json(&Deleted { name: &name, deleted: true })?;
    } else {
        out::line(format!("deleted `{name}` and all its versions"))?;
        if soft_delete {
            out::line(format!(
                "the vault retains it for a limited time: `strongroom secret recover {name}` recovers it"
            ))?;
        }
    }
    Ok(Exit::Done)
}
