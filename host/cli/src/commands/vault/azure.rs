//! `strongroom vault status` of a Key Vault.

use serde::Serialize;

use crate::commands::failure::{Exit, Failure};
use crate::commands::home::Surroundings;
use crate::commands::{block_on, out, show};
use strongroom_vault_azure::{AzureVault, Status};

/// What is told. `docs/command-line.md` has the fields.
#[derive(Serialize)]
struct Told<'a> {
    vault: String,
    authority: &'a str,
    audience: &'a str,
    emulator: bool,
    #[serde(flatten)]
    status: &'a Status,
    cache_ttl_seconds: f64,
    cache_grace_seconds: f64,
}

pub(super) fn run(vault: &AzureVault, verify: bool, json: bool, surroundings: &Surroundings) -> Result<Exit, Failure> {
    if verify {
        return Err(Failure::invalid("`--verify` is for the local vault: Azure keeps what a Key Vault holds")
            .help("leave it out"));
    }
    let place = vault.location();
    let status = block_on(vault.status())?.map_err(|error| {
        Failure::from(error)
            .help("docs/azure.md has what each kind of credential needs; `--credential KIND` chooses one")
    })?;
    let config = &surroundings.config;
    let exit = if status.problems.is_empty() { Exit::Done } else { Exit::Host };
    if json {
        out::json(&Told {
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
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "its token does not say".to_owned());
    let cache = match (config.cache_ttl.is_zero(), config.cache_grace.is_zero()) {
        (true, _) => "off".to_owned(),
        (false, true) => format!("answers runs for {}", show::duration(config.cache_ttl)),
        (false, false) => format!(
            "answers runs for {}, and for {} more while the vault cannot be reached",
            show::duration(config.cache_ttl),
            show::duration(config.cache_grace)
        ),
    };
    let is_emulator = if place.emulator().is_some() { " (an emulator)" } else { "" };
    let rows = [
        ("vault", format!("{place}{is_emulator}")),
        ("signed in by", format!("`{}`", status.credential)),
        ("tenant", or_unknown(&status.tenant)),
        ("client", or_unknown(&status.client)),
        ("object", or_unknown(&status.object)),
        ("token until", status.token_expires.map_or_else(|| "-".to_owned(), show::moment)),
        ("may read", status.get.to_string()),
        ("may list", status.list.to_string()),
        ("may write", "not tried: only writing would tell".to_owned()),
        ("cache", cache),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(label, text)| vec![label.to_owned(), text]).collect();
    out::columns(None, &rows, &[]).iter().try_for_each(out::line)?;
    for problem in &status.problems {
        out::line(format!("problem: {}", strongroom::escape::escape_controls(problem)))?;
    }
    Ok(exit)
}
