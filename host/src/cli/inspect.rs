//! `strongroom inspect`: what a component is, asks for and offers. Runs nothing and compiles nothing.

use std::path::PathBuf;

use super::failure::{Exit, Failure};
use super::{component, out, show};
use crate::redact::escape_controls;
use crate::runtime::imports::Entry;

/// Show what a component imports and exports, and what would be refused
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The component's `.wasm` file
    component: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let known = component::read(&args.component)?;
    out::line(format!("{}, {}", escape_controls(&args.component.to_string_lossy()), show::size(known.len())))?;
    out::line(format!("  {}", known.digest()))?;
    match known.interfaces().entry() {
        Some(Entry::Run(name)) => out::line(format!("  starts at `{}`, as a program", escape_controls(name)))?,
        Some(Entry::Train) => out::line("  starts at `train`")?,
        None => {}
    }
    out::line("\nimports")?;
    let imports: Vec<Vec<String>> = known
        .interfaces()
        .imports
        .iter()
        .map(|item| {
            let is_refused = known.refused().iter().any(|refused| refused.import == item.name);
            vec![item.name.clone(), if is_refused { "REFUSED".to_owned() } else { String::new() }]
        })
        .collect();
    indented(&imports)?;
    out::line("\nexports")?;
    let exports: Vec<Vec<String>> =
        known.interfaces().exports.iter().map(|item| vec![item.name.clone(), item.kind.to_string()]).collect();
    indented(&exports)?;
    if !known.refused().is_empty() {
        out::line("\na run of it would be refused:")?;
        for refused in known.refused() {
            out::line(format!("  {}", escape_controls(&refused.to_string())))?;
        }
        return Ok(Exit::Done);
    }
    out::line(format!(
        "\na policy for this component alone begins with\n  version = 1\n  component = \"{}\"",
        known.digest()
    ))?;
    Ok(Exit::Done)
}

fn indented(rows: &[Vec<String>]) -> Result<(), Failure> {
    out::columns(None, rows, &[]).iter().try_for_each(|line| out::line(format!("  {line}")))
}
