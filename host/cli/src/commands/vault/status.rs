//! `strongroom vault status`.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::commands::context::{ClosedVault, Context};
use crate::commands::failure::{Exit, Failure};
use crate::commands::operator::{OperatorAction, audited};
use crate::commands::{out, show};
use strongroom::audit::{self, AuditError, Kind};
use strongroom::vault::local::{KeySource, LocalVault, Status, Verification};

/// Show where the vault is, how it is protected, and any problems
///
/// Only `--verify` needs the passphrase. For a Key Vault, shows which credential authenticated and
/// what it may do. The exit code is 5 if there is a problem.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Decrypt every value to check that none was altered
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The output of `--json`, described in `docs/command-line.md`.
#[derive(Serialize)]
struct StatusJson<'a> {
    vault: &'a Path,
    format: i64,
    protection: &'static str,
    key_file: Option<KeyFile<'a>>,
    argon2id: Option<Argon2id>,
    secrets: u64,
    versions: u64,
    bytes: u64,
    verified: Option<bool>,
    last_backup: Option<LastBackup>,
    rekey_cut_off: bool,
    former_keys: &'a [std::path::PathBuf],
    cache_ttl_seconds: f64,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct KeyFile<'a> {
    path: &'a Path,
    fits: bool,
}

#[derive(Serialize)]
struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Serialize)]
struct LastBackup {
    time: Timestamp,
    to: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let closed = context.find_vault()?;
    if let ClosedVault::Azure(vault) = &closed {
        return super::azure::run(vault, args.verify, args.json, context);
    }
    let dir = context.vault_dir("choose a local vault with `--vault local:DIR`")?;
    let mut status = LocalVault::status(&dir)?;
    let mut broken = Vec::new();
    // A key that does not match is already a problem, and could not decrypt anything.
    let fits = !matches!(status.key, KeySource::KeyFile { fits: false, .. });
    let mut verified = None;
    if args.verify && fits {
        let opened = context.open(closed)?;
        let action = OperatorAction::new("verify", "verified").detail("vault", dir.display());
        let verification = audited(&opened, &action, opened.local()?.verify(), |verification, _, event| {
            event.count = Some(verification.contents.versions);
            event.detail.insert("broken".into(), verification.broken.len().to_string().into());
        })?;
        verified = Some(verification.is_whole());
        broken = verification_problems(&verification);
        // Opening the vault may have completed an interrupted rekey.
        status = LocalVault::status(&dir)?;
    }
    let last_backup = match context.config.home() {
        Ok(home) => last_backup(&home.audit(), &dir),
        Err(_) => Ok(None),
    };
    let unknown = last_backup.is_err();
    let report = StatusJson {
        vault: &status.dir,
        format: status.format,
        protection: protection(&status.key),
        key_file: key_file(&status.key),
        argon2id: argon2id(&status.key),
        secrets: status.contents.secrets,
        versions: status.contents.versions,
        bytes: status.size,
        verified,
        last_backup: last_backup.unwrap_or_default(),
        rekey_cut_off: status.rekey_cut_off,
        former_keys: &status.former_keys,
        cache_ttl_seconds: context.config.cache_ttl.as_secs_f64(),
        problems: status.problems.iter().cloned().chain(broken).collect(),
    };
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Host };
    if args.json {
        out::json(&report)?;
    } else {
        print(&report, &status, context, unknown, args.verify)?;
    }
    Ok(exit)
}

fn print(
    report: &StatusJson<'_>,
    status: &Status,
    context: &Context,
    unknown: bool,
    verify: bool,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut row = |label, text: String| rows.push((label, text));
    row("vault", report.vault.display().to_string());
    row("format", report.format.to_string());
    match &status.key {
        KeySource::KeyFile { path, fits } => {
            row("protection", format!("key file `{}`", path.display()));
            let state = if *fits { "permissions ok, matches the vault" } else { "does not open the vault" };
            row("key file", state.to_owned());
        }
        KeySource::Passphrase { memory_kib, passes, lanes } => {
            let memory = show::size(u64::from(*memory_kib).saturating_mul(1024));
            row("protection", format!("passphrase (Argon2id: {memory}, {passes} passes, {lanes} lanes)"));
        }
    }
    if status.rekey_cut_off {
        row("rekey", "interrupted; the next command that opens the vault completes it".to_owned());
    }
    for former in &status.former_keys {
        row("old key", format!("`{}` (opens copies made before a rekey)", former.display()));
    }
    row("contents", super::describe_contents(status.contents));
    row("size", show::size(report.bytes));
    row(
        "values",
        match report.verified {
            Some(true) => "all verified",
            Some(false) => "some are damaged or altered",
            None if verify => "not verified: the key does not open the vault",
            None => "not verified (use `--verify`)",
        }
        .to_owned(),
    );
    row(
        "last backup",
        match &report.last_backup {
            Some(backup) => format!("{} to `{}`", show::timestamp(backup.time), backup.to),
            None if unknown => "unknown: could not read the audit log".to_owned(),
            None => "none in the audit log".to_owned(),
        },
    );
    let ttl = context.config.cache_ttl;
    row("cache", if ttl.is_zero() { "off".to_owned() } else { format!("time to live {}", show::duration(ttl)) });
    out::facts(rows)?;
    for problem in &report.problems {
        out::line(format!("problem: {}", strongroom::escape::escape_controls(problem)))?;
    }
    Ok(())
}

/// Describes the problems that a verification found. Beyond a few, a backup is needed anyway.
fn verification_problems(verification: &Verification) -> Vec<String> {
    const SHOWN: usize = 10;
    let mut problems: Vec<String> = verification
        .broken
        .iter()
        .take(SHOWN)
        .map(|broken| {
            format!(
                "version {} of `{}` is damaged or was tampered with: restore a backup, or delete the secret and set it again",
                broken.version, broken.name
            )
        })
        .collect();
    let more = verification.broken.len().saturating_sub(SHOWN);
    if more > 0 {
        problems.push(format!("{more} more versions cannot be decrypted"));
    }
    problems.extend(
        verification.structure.as_ref().map(|said| format!("the database is damaged ({said}): restore a backup")),
    );
    problems
}

fn protection(key: &KeySource) -> &'static str {
    match key {
        KeySource::KeyFile { .. } => "key-file",
        KeySource::Passphrase { .. } => "passphrase",
    }
}

fn key_file(key: &KeySource) -> Option<KeyFile<'_>> {
    match key {
        KeySource::KeyFile { path, fits } => Some(KeyFile { path, fits: *fits }),
        KeySource::Passphrase { .. } => None,
    }
}

fn argon2id(key: &KeySource) -> Option<Argon2id> {
    match *key {
        KeySource::Passphrase { memory_kib, passes, lanes } => Some(Argon2id { memory_kib, passes, lanes }),
        KeySource::KeyFile { .. } => None,
    }
}

/// Returns the last backup of this vault that the audit log knows of.
fn last_backup(audit: &Path, vault: &Path) -> Result<Option<LastBackup>, AuditError> {
    let events = match audit::read(audit) {
        Ok(events) => events,
        Err(AuditError::Absent(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let vault = vault.display().to_string();
    let mut last: Option<LastBackup> = None;
    for item in events {
        let Some(line) = item?.event else { continue };
        let event = line.event;
        let is_ours = event.event == Kind::OperatorOutcome
            && event.operation.as_deref() == Some("backup")
            && event.outcome.as_deref() == Some("backed up")
            && event.detail.get("vault").is_some_and(|place| *place == vault);
        if is_ours && last.as_ref().is_none_or(|last| last.time < line.time) {
            last = Some(LastBackup {
                time: line.time,
                to: event.detail.get("to").cloned().unwrap_or_default().into_owned(),
            });
        }
    }
    Ok(last)
}
