//! `strongroom init`: makes the local vault.

use serde::Serialize;

use super::failure::{Exit, Failure};
use super::home::Surroundings;
use super::{out, passphrase};
use strongroom::vault::local::{LocalVault, Protection};

/// Make the local vault
///
/// The vault is opened by a key file beside it, which protects a copy of the
/// database alone; or by a passphrase, which is asked for twice, or taken from
/// `--passphrase-file`, which implies `--passphrase`.
/// An existing vault is never replaced.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Protect the vault by a passphrase instead of a key file
    #[arg(long)]
    passphrase: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// What was made, as JSON.
#[derive(Serialize)]
struct Json {
    vault: String,
    protection: &'static str,
}

pub(super) fn run(args: &Args, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let dir = surroundings.vault_dir("a Key Vault is made with `az keyvault create`: docs/azure.md has the way")?;
    // Before anybody types a passphrase in vain.
    if LocalVault::needs_passphrase(&dir).is_ok() {
        return Err(Failure::invalid(format!("there is a vault at `{}` already", dir.display()))
            .help("use it, or name another place with `--vault local:DIR`"));
    }
    let with_passphrase = args.passphrase || surroundings.has_passphrase_option();
    let protection = if with_passphrase {
        Protection::Passphrase(passphrase::new(surroundings.passphrase_file())?)
    } else {
        Protection::KeyFile
    };
    LocalVault::create(&dir, protection)?;
    if args.json {
        let protection = if with_passphrase { "passphrase" } else { "key-file" };
        out::json(&Json { vault: dir.to_string_lossy().into_owned(), protection })?;
        return Ok(Exit::Done);
    }
    out::line(format!("made a vault in `{}`", dir.display()))?;
    if with_passphrase {
        out::line("it is opened by the passphrase: without it nobody can read the secrets again")?;
    } else {
        out::line(
            "it is opened by `vault.key` in that folder: keep a copy of the key apart from copies of the database",
        )?;
    }
    Ok(Exit::Done)
}
