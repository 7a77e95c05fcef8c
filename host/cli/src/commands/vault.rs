//! `strongroom vault`: shows vault status, and backs up, rekeys or prunes the local vault.

mod azure;
mod status;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::init::key_advice;
use super::operator::{OperatorAction, audited};
use super::{out, passphrase, show};
use strongroom::vault::local::{Contents, KeySource, LocalVault, Protection};

/// Show vault status; back up, rekey or prune the local vault
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
    Prune(Prune),
}

/// Back up the vault to a new directory, even while it is in use
///
/// The backup can be opened as a vault with `--vault local:PATH`. Every value in it is decrypted as
/// a check before the directory appears. It does not contain the key file: store a copy of the key
/// elsewhere.
#[derive(Debug, clap::Args)]
struct Backup {
    /// Directory to create; an existing path is never replaced
    path: PathBuf,
}

/// Give the vault a new key and re-encrypt all values
///
/// Use this if somebody else may have seen the key file or the passphrase. Processes that have the
/// vault open stop serving secrets and must be restarted. The old key or passphrase still opens
/// copies made before the rekey.
#[derive(Debug, clap::Args)]
struct Rekey {
    /// Protect the vault with a new passphrase
    #[arg(long, conflicts_with = "key_file")]
    passphrase: bool,
    /// Protect the vault with a new key file
    #[arg(long)]
    key_file: bool,
    /// Read the new passphrase from this file; implies `--passphrase`
    #[arg(long, value_name = "PATH", conflicts_with = "key_file")]
    new_passphrase_file: Option<PathBuf>,
}

/// Delete old versions of all secrets in the local vault
///
/// Keeps the newest versions of each secret and returns the disk space of the others. A write also
/// deletes the oldest versions of its secret beyond `local-vault.keep-versions`.
#[derive(Debug, clap::Args)]
struct Prune {
    /// Number of versions to keep of each secret [default: `local-vault.keep-versions`]
    #[arg(long, value_name = "NUMBER")]
    keep: Option<NonZeroU32>,
    /// Show how many versions would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Status(args) => status::run(args, context),
        Command::Backup(args) => backup(args, context),
        Command::Rekey(args) => rekey(args, context),
        Command::Prune(args) => prune(args, context),
    }
}

fn backup(args: &Backup, context: &Context) -> Result<Exit, Failure> {
    // Checked before the passphrase prompt.
    if args.path.symlink_metadata().is_ok() {
        return Err(Failure::invalid(format!("`{}` already exists", args.path.display()))
            .help("choose a path that does not exist; a backup never replaces anything"));
    }
    if let Some(parent) = args.path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        return Err(Failure::invalid(format!(
            "could not create the backup `{}`: the directory `{}` does not exist",
            args.path.display(),
            parent.display()
        ))
        .help("create the directory first"));
    }
    let dir = context
        .vault_dir("use `az keyvault secret backup` for single secrets; Azure itself retains deleted secrets")?;
    let opened = context.find_and_open()?;
    let to = std::path::absolute(&args.path).unwrap_or_else(|_| args.path.clone());
    let action = OperatorAction::new("backup", "backed up").detail("vault", dir.display()).detail("to", to.display());
    let backup = audited(&opened, &action, opened.local()?.backup(&args.path), |backup, _, event| {
        event.count = Some(backup.contents.versions);
    })?;
    out::line(format!(
        "created the backup `{}`: {}, {}; all values verified",
        backup.dir.display(),
        describe_contents(backup.contents),
        show::size(backup.size)
    ))?;
    match LocalVault::status(&dir)?.key {
        KeySource::KeyFile { path, .. } => out::line(format!(
            "the key is not included: store a copy of `{}` separately; without it, nobody can read the backup",
            path.display()
        ))?,
        KeySource::Passphrase { .. } => out::line("the vault passphrase opens it")?,
    }
    Ok(Exit::Done)
}

fn rekey(args: &Rekey, context: &Context) -> Result<Exit, Failure> {
    let dir = context.vault_dir("do not rekey a Key Vault: Azure manages its keys")?;
    let closed = context.find_vault()?;
    if context.has_passphrase_option() && !closed.needs_passphrase() {
        return Err(Failure::invalid("the vault uses a key file, so `--passphrase-file` does not apply")
            .help("pass the new passphrase with `--new-passphrase-file PATH`"));
    }
    let passphrase_requested = args.passphrase || args.new_passphrase_file.is_some();
    let with_passphrase = passphrase_requested || (closed.needs_passphrase() && !args.key_file);
    let opened = context.open(closed)?;
    let protection = if with_passphrase {
        Protection::Passphrase(passphrase::new(args.new_passphrase_file.as_deref(), "`--new-passphrase-file PATH`")?)
    } else {
        Protection::KeyFile
    };
    let action = OperatorAction::new("rekey", "given a new key")
        .changing()
        .detail("vault", dir.display())
        .detail("protection", if with_passphrase { "passphrase" } else { "key file" });
    let done = audited(&opened, &action, opened.local()?.rekey(protection), |done, _, event| {
        event.count = Some(done.contents.versions);
    })?;
    out::line(format!(
        "rekeyed the vault in `{}`: all values are re-encrypted ({})",
        dir.display(),
        describe_contents(done.contents)
    ))?;
    out::line(key_advice(with_passphrase))?;
    if let Some(former) = &done.former_key {
        out::line(format!(
            "the old key is now `{}`: it opens copies made before the rekey; delete it when none are left",
            former.display()
        ))?;
    }
    if !done.old_ciphertext_erased {
        out::note(
            "note: another process has the vault open; values encrypted with the old key stay in the vault's files until it ends",
        );
    }
    Ok(Exit::Done)
}

fn prune(args: &Prune, context: &Context) -> Result<Exit, Failure> {
    let dir =
        context.vault_dir("use `az keyvault secret` to disable old versions: Azure cannot delete single versions")?;
    let Some(keep) = args.keep.or(NonZeroU32::new(context.config.keep_versions)) else {
        return Err(Failure::invalid("the configuration keeps all versions").help("pass `--keep NUMBER`"));
    };
    let opened = context.find_and_open()?;
    let action = OperatorAction::new("prune", if args.dry_run { "counted" } else { "pruned" });
    let action = action.detail("vault", dir.display()).detail("keep", keep);
    let action = if args.dry_run { action } else { action.changing() };
    let pruned = audited(&opened, &action, opened.local()?.prune(keep, args.dry_run), |pruned, _, event| {
        event.count = Some(pruned.versions);
    })?;
    let did = if args.dry_run { "would delete" } else { "deleted" };
    out::line(format!(
        "{did} {} of {}; the newest {keep} of each secret are kept",
        counted(pruned.versions, "old version"),
        counted(pruned.secrets, "secret")
    ))?;
    Ok(Exit::Done)
}

fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn describe_contents(contents: Contents) -> String {
    format!("{}, {}", counted(contents.secrets, "secret"), counted(contents.versions, "version"))
}
