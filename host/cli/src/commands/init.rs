//! `strongroom init`: creates the local vault.

use super::context::Context;
use super::failure::{Exit, Failure};
use super::out::{self, object};
use super::passphrase;
use strongroom::vault::local::{LocalVault, Protection};

/// Create the local vault
///
/// By default, a key file next to the database opens the vault; it protects copies of the database
/// alone. With `--passphrase`, a passphrase opens the vault instead: the command prompts for it
/// twice, or reads it from `--passphrase-file`, which implies `--passphrase`. An existing vault is
/// never replaced.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Protect the vault with a passphrase instead of a key file
    #[arg(long)]
    passphrase: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let dir = context.vault_dir("create a Key Vault with `az keyvault create`; see docs/azure.md")?;
    // Checked before the passphrase prompt.
    if LocalVault::needs_passphrase(&dir).is_ok() {
        return Err(Failure::invalid(format!("there is already a vault at `{}`", dir.display()))
            .help("use it, or create another with `--vault local:DIR`"));
    }
    let with_passphrase = args.passphrase || context.has_passphrase_option();
    let protection = if with_passphrase {
        Protection::Passphrase(passphrase::new(context.passphrase_file(), passphrase::FILE_OPTION)?)
    } else {
        Protection::KeyFile
    };
    LocalVault::create(&dir, protection)?;
    if args.json {
        let protection = if with_passphrase { "passphrase" } else { "key-file" };
        out::json(&object! { vault: dir.to_string_lossy(), protection: protection })?;
        return Ok(Exit::Done);
    }
    out::line(format!("created a vault in `{}`", dir.display()))?;
    out::line(key_advice(with_passphrase))?;
    Ok(Exit::Done)
}

/// Returns the advice about the key of a new or rekeyed vault.
pub(super) fn key_advice(with_passphrase: bool) -> &'static str {
    if with_passphrase {
        "the passphrase opens it: without the passphrase, nobody can read the secrets"
    } else {
        "`vault.key` in that directory opens it: store a copy of the key apart from copies of the database"
    }
}
