//! `strongroom config`: shows the effective configuration. Needs neither vault nor home.

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::out::{self, object};

/// Show the configuration
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
}

/// Show every effective setting and its source
///
/// Options take precedence over environment variables, variables over the configuration file, and
/// the file over defaults. An invalid configuration file is an error.
#[derive(Debug, clap::Args)]
struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let Command::Show(Show { json }) = &args.command;
    let settings = context.settings()?;
    let (file, file_found) = match context.config.file() {
        Some((path, found)) => (Some(path.to_string_lossy().into_owned()), found),
        None => (None, false),
    };
    if *json {
        out::json(&object! { file: file, file_found: file_found, settings: settings })?;
        return Ok(Exit::Done);
    }
    if let Some(file) = file {
        let missing = if file_found { "" } else { " (does not exist)" };
        out::line(format!("configuration file: `{}`{missing}\n", strongroom::escape::escape_controls(&file)))?;
    }
    let rows: Vec<Vec<String>> = settings
        .into_iter()
        // Unset Azure settings are left out to keep the table short.
        .filter(|setting| setting.value.is_some() || !setting.key.starts_with("azure."))
        .map(|setting| {
            let value = setting.value.unwrap_or_else(|| "-".to_owned());
            vec![setting.key.to_owned(), setting.origin.to_string(), value]
        })
        .collect();
    out::table(&["SETTING", "SOURCE", "VALUE"], &rows, &[])?;
    Ok(Exit::Done)
}
