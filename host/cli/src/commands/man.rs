//! `strongroom man`: generates manual pages from the same command definitions as the help texts.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::failure::{EXIT_CODES, Exit, Failure};
use super::{examples, out};

/// Print the manual page, or write all manual pages to a directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write one page per command to this directory; creates it if missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut command = super::base_command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        let page = page(&command, "")?;
        io::stdout().lock().write_all(&page)?;
        return Ok(Exit::Done);
    };
    let failed = |path: &Path, cause: io::Error| {
        Failure::invalid(format!("could not write `{}`: {cause}", path.display()))
            .help("choose a directory that you can write to")
    };
    fs::create_dir_all(dir).map_err(|cause| failed(dir, cause))?;
    let mut pages = Vec::new();
    collect(&command, "", &mut pages)?;
    for (name, page) in &pages {
        let path = dir.join(name);
        fs::write(&path, page).map_err(|cause| failed(&path, cause))?;
    }
    out::line(format!("wrote {} pages to `{}`", pages.len(), dir.display()))?;
    Ok(Exit::Done)
}

/// Collects the pages of a command and its subcommands, with their file names.
fn collect(command: &Command, path: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    let title = if path.is_empty() { "strongroom".to_owned() } else { format!("strongroom {path}") };
    pages.push((format!("{}.1", title.replace(' ', "-")), page(command, path)?));
    for below in command.get_subcommands() {
        let path = format!("{path} {}", below.get_name());
        collect(below, path.trim_start(), pages)?;
    }
    Ok(())
}

fn page(command: &Command, path: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::host(format!("could not generate the manual page: {error}"));
    // Without a date, the page is reproducible. The blank keeps its place in the title line.
    let man = Man::new(command.clone())
        .date(" ")
        .source(concat!("strongroom ", env!("CARGO_PKG_VERSION")))
        .manual("strongroom");
    let mut page = Vec::new();
    man.render(&mut page).map_err(failed)?;
    let examples = examples::of(path);
    let mut roff = Roff::new();
    if !examples.is_empty() {
        literal(&mut roff, "EXAMPLES", examples.iter().copied());
    }
    literal(&mut roff, "EXIT STATUS", EXIT_CODES.iter().copied());
    roff.control("SH", ["SEE ALSO"]);
    let others = if path.is_empty() { "strongroom-run" } else { "strongroom" };
    roff.text([
        bold(others),
        roman("(1); docs/command-line.md, docs/policy.md and docs/configuration.md in the source tree"),
    ]);
    roff.to_writer(&mut page).map_err(failed)?;
    Ok(page)
}

/// Adds a section whose line breaks are preserved.
fn literal<'a>(roff: &mut Roff, heading: &str, lines: impl Iterator<Item = &'a str>) {
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_manual_page_with_examples() {
        let mut command = super::super::base_command().disable_help_subcommand(true);
        command.build();
        let mut pages = Vec::new();
        collect(&command, "", &mut pages).unwrap();
        for (path, examples) in examples::all() {
            let name =
                format!("strongroom-{}.1", path.replace(' ', "-")).replace("strongroom-strongroom", "strongroom");
            let (_, page) = pages.iter().find(|(page, _)| *page == name).unwrap_or_else(|| panic!("no page {name}"));
            let page = String::from_utf8(page.clone()).unwrap();
            let shown = page.replace("\\-", "-").replace("\\*(Aq", "'");
            assert!(examples.iter().all(|example| shown.contains(example)), "{name}:\n{shown}");
            assert!(!page.contains('\u{1b}'), "{name}");
        }
        assert!(pages.iter().all(|(name, _)| !name.contains("help")));
    }
}
