//! `strongroom policy`: checks, explains and suggests policies. Needs no vault.

mod check;
mod explain;
mod suggest;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::out;
use strongroom::policy::{Policy, PolicyError, SCHEMA, TEXT_MAX};

/// Check or explain a policy, or suggest one for a run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Explain(Explain),
    Suggest(Suggest),
    Schema(Schema),
}

/// Check a policy, and show what it grants and which limits apply
#[derive(Debug, clap::Args)]
struct Check {
    /// Policy file
    file: PathBuf,
    /// Print JSON, also for an invalid policy
    #[arg(long)]
    json: bool,
}

/// Show whether a policy allows an operation on a secret, and which line decides
///
/// Exit code 0 means allowed, 3 means denied.
#[derive(Debug, clap::Args)]
struct Explain {
    /// Policy file
    file: PathBuf,
    /// Operation: get, set, list, describe or delete
    operation: String,
    /// Secret name, as the component requests it
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print a policy that grants what a run was given, and no more
///
/// Denied requests appear as comments: the component decides what it asks for, so a person must
/// decide what it gets. The command changes no policy and writes no file.
#[derive(Debug, clap::Args)]
struct Suggest {
    /// Run ID, a unique prefix of it, or `last`
    #[arg(long, value_name = "ID", default_value = "last")]
    run: String,
}

/// Print the JSON Schema of policies for editors
#[derive(Debug, clap::Args)]
struct Schema {}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Check(args) => check::run(args, context),
        Command::Explain(args) => explain::run(args),
        Command::Suggest(args) => suggest::run(args, context),
        Command::Schema(Schema {}) => out::line(SCHEMA.trim_end()).map(|()| Exit::Done),
    }
}

/// Reads a policy file.
pub(super) fn read(path: &Path) -> Result<Policy, Failure> {
    let text = read_text(path)?;
    Policy::parse(&text, &path.to_string_lossy()).map_err(|error| invalid_policy(&error, &text))
}

/// Returns the failure for an invalid policy.
fn invalid_policy(error: &PolicyError, text: &str) -> Failure {
    let failure = Failure::invalid(error);
    if is_env_file(text) {
        return failure.help(
            "store values with `strongroom secret set`: this looks like a `.env` file, and a policy contains no values",
        );
    }
    failure
}

/// Returns whether the first line that is not blank or a comment has the form `NAME=value`.
fn is_env_file(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let name =
        first.and_then(|line| line.strip_prefix("export ").unwrap_or(line).split_once('=')).map(|(name, _)| name);
    let of_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(of_name))
}

/// Reads the text of a policy file.
fn read_text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |cause| {
        Failure::invalid(format!("could not read the policy `{shown}`: {cause}"))
            .help("check the path, or create a policy with `strongroom inspect COMPONENT --starter-policy`")
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.starts_with(b"\0asm") {
        return Err(Failure::invalid(format!("`{shown}` is a component, not a policy"))
            .help("pass a TOML file: `strongroom run COMPONENT --policy FILE`"));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.len() <= TEXT_MAX => Ok(text),
        _ => {
            let max = strongroom::policy::show_size(TEXT_MAX as u64);
            Err(Failure::invalid(format!("the policy `{shown}` is not a text of at most {max} in UTF-8"))
                .help("check that it is the right file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_file_is_recognized() {
        for text in ["DB_PASSWORD=hunter2\n", "# mine\n\nexport A=\"b\"", "TOKEN = 1".trim_start_matches(' ')] {
            assert_eq!(is_env_file(text), !text.contains(" = "), "{text}");
        }
        for text in ["", "version = 1", "version=1", "[secrets]\nA=1", "=x"] {
            assert!(!is_env_file(text), "{text}");
        }
    }
}
