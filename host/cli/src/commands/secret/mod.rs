//! `strongroom secret`: operator commands on secrets. Each is audited before and after; without a
//! writable audit log, nothing is done.

mod envfile;
mod read;
mod remove;
mod set;

use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::out::object;
use strongroom::ids::SecretName;
use strongroom::vault::Description;

/// Store, read, list, describe and delete secrets
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Set(set::Args),
    Get(read::Get),
    /// List all secrets
    #[command(alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the metadata of a secret
    Describe(Named),
    /// List the versions of a secret, newest first
    Versions(Named),
    /// Delete a secret and all its versions
    #[command(aliases = ["rm", "remove"])]
    Delete(Named),
    /// Recover a deleted secret with all its versions
    ///
    /// Only for a Key Vault, which retains deleted secrets for 7 to 90 days.
    Recover(Named),
    /// Permanently delete a deleted secret, so that its name is free
    ///
    /// Only for a Key Vault. A purged secret cannot be recovered.
    Purge(Named),
}

// The arguments of commands on one secret. A documentation comment would replace their help.
#[derive(Debug, clap::Args)]
struct Named {
    /// Secret name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The help text for invalid secret names.
pub(super) const NAME_HELP: &str = "use `-` in place of any other character, as in `db-password`";

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Set(args) => set::run(args, context),
        Command::Get(args) => read::get(args, context),
        Command::List { json } => read::list(*json, context),
        Command::Describe(args) => read::describe(args, context),
        Command::Versions(args) => read::versions(args, context),
        Command::Delete(args) => remove::delete(args, context),
        Command::Recover(args) => remove::recover(args, context),
        Command::Purge(args) => remove::purge(args, context),
    }
}

fn parse_name(text: &str) -> Result<SecretName, Failure> {
    SecretName::parse(text).map_err(|error| {
        let failure = Failure::invalid(error);
        // Not shown, because the text after `=` may be the value.
        if text.contains('=') {
            return failure.help(
                "give only the name, pass the value on standard input or with `--from-file PATH` or `--from-env VAR`, and change the value if it was on this command line",
            );
        }
        failure.help(NAME_HELP)
    })
}

/// Returns a description as JSON, with all fields.
fn described(description: &Description) -> impl Serialize {
    object! {
        name: description.name.clone(),
        version: description.version.clone(),
        content_type: description.attributes.content_type.clone(),
        created: description.created,
        updated: description.updated,
        not_before: description.attributes.not_before,
        expires: description.attributes.expires,
        enabled: description.enabled,
    }
}
