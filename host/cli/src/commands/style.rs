//! Colors, and whether errors are printed as JSON.
//!
//! Only what users look for is colored: `error:`, `help:`, headings, the outcome of a run, and
//! denials. `out` removes the colors if the stream is not a terminal, unless `--color` or the
//! environment (`NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR`, `TERM`) says otherwise.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{ColorChoice, ValueEnum};

/// `error:` and bad outcomes.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Warnings.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Good outcomes.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Headings and `help:`.
pub(super) const HEADING: Style = Style::new().bold();

/// The styles of the help texts.
pub(super) const HELP: Styles =
    Styles::plain().header(HEADING).usage(HEADING).literal(HEADING).error(ERROR).valid(GOOD).invalid(WARNING);

static JSON: AtomicBool = AtomicBool::new(false);

/// Determines the settings of this process from the raw arguments, so that even errors in the
/// arguments are reported in the requested form.
pub(super) fn init(arguments: &[OsString]) {
    let (color, json) = scan(arguments);
    match color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    JSON.store(json, Ordering::Relaxed);
}

/// Scans the arguments for `--color` and `--json`. Arguments after `--` belong to the component.
fn scan(arguments: &[OsString]) -> (ColorChoice, bool) {
    let mut ours = arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    let (mut color, mut json) = (ColorChoice::Auto, false);
    while let Some(argument) = ours.next() {
        json |= argument == "--json";
        let value = match argument.strip_prefix("--color") {
            Some("") => ours.next(),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        // Invalid values are rejected later, when the arguments are parsed.
        color = value.and_then(|value| ColorChoice::from_str(value, false).ok()).unwrap_or(color);
    }
    (color, json)
}

/// Returns whether errors are printed as JSON.
pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Returns whether progress can be drawn on standard error: it is a terminal that can move its
/// cursor.
pub(super) fn draws() -> bool {
    io::stderr().is_terminal() && anstyle_query::term_supports_color()
}

/// Returns text in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_and_json_are_found_in_raw_arguments() {
        for (arguments, color, json) in [
            ("run x --color always", ColorChoice::Always, false),
            ("--color=never run --json x", ColorChoice::Never, true),
            ("--color never --color=auto", ColorChoice::Auto, false),
            ("--color=sometimes run", ColorChoice::Auto, false),
            ("run --color", ColorChoice::Auto, false),
            ("run --colour=always", ColorChoice::Auto, false),
            ("run x -- --color always --json", ColorChoice::Auto, false),
        ] {
            let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(scan(&arguments), (color, json), "{arguments:?}");
        }
    }
}
