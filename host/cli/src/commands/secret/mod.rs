//! `strongroom secret`: operator commands on secrets. Each is audited before and after; without a
//! writable audit log, nothing is done.

mod delete;
mod deleted;
mod envfile;
mod read;
mod set;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use strongroom::ids::{SecretName, SecretVersion};
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
    List(read::List),
    Describe(read::Describe),
    Versions(read::Versions),
    Delete(delete::Args),
    Recover(deleted::Recover),
    Purge(deleted::Purge),
}

/// The help text for invalid secret names.
pub(super) const NAME_HELP: &str = "use `-` in place of any other character, as in `db-password`";

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Set(args) => set::run(args, context),
        Command::Get(args) => read::get(args, context),
        Command::List(args) => read::list(args, context),
        Command::Describe(args) => read::describe(args, context),
        Command::Versions(args) => read::versions(args, context),
        Command::Delete(args) => delete::run(args, context),
        Command::Recover(args) => deleted::recover(args, context),
        Command::Purge(args) => deleted::purge(args, context),
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

/// A description as JSON, with all fields.
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
