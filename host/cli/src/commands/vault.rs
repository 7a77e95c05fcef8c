//! `strongroom vault`: the state of the vault; of the local one a copy, and a new key for it.

mod azure;
mod status;

use std::path::PathBuf;

use clap::Subcommand;

use super::failure::{Exit, Failure};
use super::home::Surroundings;
use super::operate::{Work, audited};
use super::{out, passphrase, show};
use strongroom::vault::local::{Contents, KeySource, LocalVault, Protection};

/// Look after the vault: its state; of the local one backups, a new key
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Args),
    Backup(Backup),
    Rekey(Rekey),
}

/// Copy the vault into a new folder while others may use it
///
/// The copy is laid out as a vault and opens as one: `--vault local:PATH`.
/// Every value in it was opened before the folder appears. The key file is not
/// in it: keep a copy of that somewhere else.
#[derive(Debug, clap::Args)]
struct Backup {
    /// The folder to make; nothing that is there is replaced
    path: PathBuf,
}

/// Give the vault a new key and seal every value anew
///
/// For when a key file or a passphrase was seen by somebody else. Programs that
/// have the vault open stop serving secrets and have to be started again.
/// Copies from before are still opened by the former key or passphrase.
#[derive(Debug, clap::Args)]
struct Rekey {
    /// Protect the vault by a new passphrase
    #[arg(long, conflicts_with = "key_file")]
    passphrase: bool,
    /// Protect the vault by a new key file
    #[arg(long)]
    key_file: bool,
    /// Take the new passphrase from this file;
    /// implies `--passphrase`
    #[arg(long, value_name = "PATH", conflicts_with = "key_file")]
    new_passphrase_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args, surroundings: &Surroundings) -> Result<Exit, Failure> {
    match &args.command {
        Command::Status(args) => status::run(args, surroundings),
        Command::Backup(args) => backup(args, surroundings),
        Command::Rekey(args) => rekey(args, surroundings),
    }
}

fn backup(args: &Backup, surroundings: &Surroundings) -> Result<Exit, Failure> {
    // Before anybody types a passphrase in vain.
    if args.path.symlink_metadata().is_ok() {
        return Err(Failure::invalid(format!("there is something at `{}` already", args.path.display()))
            .help("name a folder that is not there: a backup replaces nothing"));
    }
    if let Some(parent) = args.path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        return Err(Failure::invalid(format!("there is no folder `{}` to make a backup in", parent.display()))
            .help("make it first"));
    }
    let dir = surroundings
        .vault_dir("Azure keeps deleted secrets by itself; `az keyvault secret backup` copies single ones")?;
    let opened = surroundings.find_and_open()?;
    let to = std::path::absolute(&args.path).unwrap_or_else(|_| args.path.clone());
    let work = Work::on_vault("backup", "backed up", false).with("vault", dir.display()).with("to", to.display());
    let made = audited(&opened, &work, opened.local()?.backup(&args.path), |made, _, event| {
        event.count = Some(made.contents.versions);
    })?;
    opened.close()?;
    out::line(format!(
        "made the backup `{}`: {}, {}; every value in it opens",
        made.dir.display(),
        held(made.contents),
        show::size(made.size)
    ))?;
    match LocalVault::status(&dir)?.key {
        KeySource::KeyFile { path, .. } => out::line(format!(
            "the key is not in it: keep a copy of `{}` in another place, without it nobody can read the backup",
            path.display()
        ))?,
        KeySource::Passphrase { .. } => out::line("the passphrase of the vault opens it")?,
    }
    Ok(Exit::Done)
}

fn rekey(args: &Rekey, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let dir = surroundings.vault_dir("Azure keeps the keys of a Key Vault itself")?;
    let found = surroundings.find()?;
    if surroundings.has_passphrase_option() && !found.needs_passphrase() {
        return Err(Failure::invalid("the vault is opened by its key file, so that `--passphrase-file` has no use")
            .help("the new passphrase comes from `--new-passphrase-file PATH`"));
    }
    let asked = args.passphrase || args.new_passphrase_file.is_some();
    let with_passphrase = asked || (found.needs_passphrase() && !args.key_file);
    let opened = surroundings.open(found)?;
    let protection = if with_passphrase {
        Protection::Passphrase(passphrase::replacement(args.new_passphrase_file.as_deref())?)
    } else {
        Protection::KeyFile
    };
    let work = Work::on_vault("rekey", "given a new key", true)
        .with("vault", dir.display())
        .with("protection", if with_passphrase { "passphrase" } else { "key file" });
    let done = audited(&opened, &work, opened.local()?.rekey(protection), |done, _, event| {
        event.count = Some(done.contents.versions);
    })?;
    opened.close()?;
    out::line(format!(
        "the vault in `{}` has a new key, and everything is sealed anew: {}",
        dir.display(),
        held(done.contents)
    ))?;
    if with_passphrase {
        out::line("it is opened by the new passphrase: without it nobody can read the secrets again")?;
    } else {
        out::line(
            "it is opened by `vault.key` in that folder: keep a copy of the key apart from copies of the database",
        )?;
    }
    if let Some(former) = &done.former_key {
        out::line(format!(
            "the former key is now `{}`: it opens copies of the vault from before; remove it when there are none left",
            former.display()
        ))?;
    }
    if !done.old_ciphertext_erased {
        out::note(
            "note: another program has the vault open, so what the former key sealed stays in the vault's files until that ends",
        );
    }
    Ok(Exit::Done)
}

fn held(contents: Contents) -> String {
    let counted = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", counted(contents.secrets, "secret"), counted(contents.versions, "version"))
}
