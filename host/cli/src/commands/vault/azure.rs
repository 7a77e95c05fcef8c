//! `strongroom vault status` for a Key Vault.

use serde::Serialize;

use crate::commands::context::Context;
use crate::commands::failure::{Exit, Failure};
use crate::commands::{block_on, out, show};
use strongroom_vault_azure::{AzureVault, Status};

/// The output of `--json`, described in `docs/command-line.md`.
#[derive(Serialize)]
struct StatusJson<'a> {
    vault: String,
    authority: &'a str,
    audience: &'a str,
    emulator: bool,
    #[serde(flatten)]
    status: &'a Status,
    cache_ttl_seconds: f64,
    cache_grace_seconds: f64,
}

pub(super) fn run(vault: &AzureVault, verify: bool, json: bool, context: &Context) -> Result<Exit, Failure> {
    if verify {
        return Err(
            Failure::invalid("`--verify` supports only local vaults, not a Key Vault").help("remove `--verify`")
        );
    }
    let place = vault.location();
    let status = block_on(vault.status())?.map_err(|error| {
        Failure::from(error)
            .help("see docs/azure.md for what each credential type needs, or choose another with `--credential TYPE`")
    })?;
    let config = &context.config;
    let exit = if status.problems.is_empty() { Exit::Done } else { Exit::Host };
    if json {
        out::json(&StatusJson {
            vault: place.to_string(),
            authority: place.authority().as_str().trim_end_matches('/'),
            audience: place.audience(),
            emulator: place.emulator().is_some(),
            status: &status,
            cache_ttl_seconds: config.cache_ttl.as_secs_f64(),
            cache_grace_seconds: config.cache_grace.as_secs_f64(),
        })?;
        return Ok(exit);
    }
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "not in the token".to_owned());
    let cache = match (config.cache_ttl.is_zero(), config.cache_grace.is_zero()) {
        (true, _) => "off".to_owned(),
        (false, true) => format!("time to live {}", show::duration(config.cache_ttl)),
        (false, false) => format!(
            "time to live {}, plus a grace period of {} while the vault cannot be reached",
            show::duration(config.cache_ttl),
            show::duration(config.cache_grace)
        ),
    };
    let is_emulator = if place.emulator().is_some() { " (emulator)" } else { "" };
    let rows = [
        ("vault", format!("{place}{is_emulator}")),
        ("credential", format!("`{}`", status.credential)),
        ("tenant", or_unknown(&status.tenant)),
        ("client", or_unknown(&status.client)),
        ("object", or_unknown(&status.object)),
        ("token expires", status.token_expires.map_or_else(|| "-".to_owned(), show::timestamp)),
        ("read access", status.get.to_string()),
        ("list access", status.list.to_string()),
        ("write access", "not checked: only a write would show it".to_owned()),
        ("cache", cache),
    ];
    out::facts(rows)?;
    for problem in &status.problems {
        out::line(format!("problem: {}", strongroom::escape::escape_controls(problem)))?;
    }
    Ok(exit)
}
