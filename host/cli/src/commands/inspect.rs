//! `strongroom inspect`: shows a component's imports and exports, without running or compiling it.

use std::path::PathBuf;

use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{component, out, script, show};
use strongroom::escape::escape_controls;
use strongroom::ids::Digest;
use strongroom::policy::{Imports, starter};
use strongroom::runtime::imports::Entry;
use strongroom::runtime::{Candidate, LoadError};

/// Show a component's imports and exports, and generate a starter policy
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Component file (`.wasm`), or Python script (`.py`), which is built if it has changed
    #[arg(value_name = "COMPONENT|SCRIPT")]
    component: PathBuf,
    /// Print only the starter policy
    #[arg(long, conflicts_with = "json")]
    starter_policy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let built = script::component(&args.component, !args.json, context)?;
    let candidate = component::read(built.as_ref().unwrap_or(&args.component))?;
    if args.json {
        out::json(&InspectJson::of(args, &candidate))?;
        return Ok(Exit::Done);
    }
    if args.starter_policy {
        if let Err(why) = candidate.interfaces().check_entry() {
            return Err(LoadError::Malformed { path: args.component.clone(), why }.into());
        }
        return match candidate.refused().first() {
            None => out::line(policy(args, &candidate).trim_end()).map(|()| Exit::Done),
            Some(refused) => Err(Failure::refused(format!("no policy can allow this component: {refused}"))
                .help("run `strongroom inspect COMPONENT` to list all imports that would be refused")),
        };
    }
    print_description(args, &candidate)?;
    Ok(Exit::Done)
}

fn print_description(args: &Args, candidate: &Candidate) -> Result<(), Failure> {
    out::line(format!("{}, {}", escape_controls(&args.component.to_string_lossy()), show::size(candidate.len())))?;
    out::line(format!("  {}", candidate.digest()))?;
    match candidate.interfaces().entry() {
        Some(Entry::Run(name)) => out::line(format!("  entry point `{}` (program)", escape_controls(name)))?,
        Some(Entry::Train) => out::line("  entry point `train` (plugin)")?,
        None => {}
    }
    out::line("\nimports")?;
    let imports: Vec<Vec<String>> = candidate
        .interfaces()
        .imports
        .iter()
        .map(|item| {
            let is_refused = candidate.refused().iter().any(|refused| refused.import == item.name);
            vec![item.name.clone(), if is_refused { "REFUSED".to_owned() } else { String::new() }]
        })
        .collect();
    print_indented(&imports)?;
    out::line("\nexports")?;
    let exports: Vec<Vec<String>> =
        candidate.interfaces().exports.iter().map(|item| vec![item.name.clone(), item.kind.to_string()]).collect();
    print_indented(&exports)?;
    let entry = candidate.interfaces().check_entry();
    if entry.is_err() || !candidate.refused().is_empty() {
        out::line("\na run would be refused:")?;
        if let Err(why) = entry {
            out::line(format!("  the component {}", escape_controls(&why.to_string())))?;
        }
        for refused in candidate.refused() {
            out::line(format!("  {}", escape_controls(&refused.to_string())))?;
        }
        return Ok(());
    }
    out::line("\nstarter policy (`--starter-policy` prints only this)\n")?;
    out::line(policy(args, candidate).trim_end())
}

/// Returns the starter policy.
fn policy(args: &Args, candidate: &Candidate) -> String {
    let imports = |interface: &str| {
        candidate.interfaces().imports.iter().any(|item| item.name.split('@').next() == Some(interface))
    };
    let imported = Imports {
        secrets: imports("strongroom:training/secrets"),
        tcp: imports("wasi:sockets/tcp"),
        environment: imports("wasi:cli/environment"),
    };
    starter(&args.component.to_string_lossy(), candidate.digest(), imported)
}

fn print_indented(rows: &[Vec<String>]) -> Result<(), Failure> {
    out::columns(None, rows, &[]).iter().try_for_each(|line| out::line(format!("  {line}")))
}

/// The output of `--json`, described in `docs/command-line.md`.
#[derive(Serialize)]
struct InspectJson<'a> {
    component: String,
    digest: &'a Digest,
    bytes: u64,
    /// `run` or `train`.
    starts_at: Option<&'static str>,
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
    /// Why the component would be refused whatever it imports.
    refused: Option<String>,
    /// `None` if no policy can allow the component.
    starter_policy: Option<String>,
}

#[derive(Serialize)]
struct Import<'a> {
    name: &'a str,
    kind: String,
    /// Why the import would be refused.
    refused: Option<&'a str>,
}

#[derive(Serialize)]
struct Export<'a> {
    name: &'a str,
    kind: String,
}

impl<'a> InspectJson<'a> {
    fn of(args: &Args, candidate: &'a Candidate) -> Self {
        let why = |name: &str| candidate.refused().iter().find(|refused| refused.import == name);
        let imports = candidate.interfaces().imports.iter().map(|item| Import {
            name: &item.name,
            kind: item.kind.to_string(),
            refused: why(&item.name).map(|refused| refused.why.as_str()),
        });
        let exports =
            candidate.interfaces().exports.iter().map(|item| Export { name: &item.name, kind: item.kind.to_string() });
        let refused = candidate.interfaces().check_entry().err().map(|why| format!("the component {why}"));
        let is_runnable = refused.is_none() && candidate.refused().is_empty();
        Self {
            component: args.component.to_string_lossy().into_owned(),
            digest: candidate.digest(),
            bytes: candidate.len(),
            starts_at: candidate.interfaces().entry().map(|entry| match entry {
                Entry::Run(_) => "run",
                Entry::Train => "train",
            }),
            imports: imports.collect(),
            exports: exports.collect(),
            refused,
            starter_policy: is_runnable.then(|| policy(args, candidate)),
        }
    }
}
