//! Decides whether output is colored or JSON.
//!
//! Only what users look for is colored: `error:`, `help:`, headings, the outcome of a run, and
//! denials. Output to a pipe or a file is colored only with `--color always` or if the environment
//! asks for it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use clap::builder::Styles;

use crate::config::{self, Color};

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

/// The standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdStream {
    Out,
    Err,
}

/// The values of `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// The settings of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settings {
    out: bool,
    err: bool,
    draws: bool,
    json: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Determines the settings from the raw arguments, so that even errors in the arguments are
/// reported in the requested form.
pub(super) fn init(arguments: &[OsString]) {
    let terminal = config::terminal();
    let (when, json) = scan(arguments);
    let color = match when {
        None | Some(ColorWhen::Auto) => terminal.color,
        Some(ColorWhen::Always) => Color::Always,
        Some(ColorWhen::Never) => Color::Never,
    };
    let marks = |is_terminal: bool| match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_terminal,
    };
    let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
    let decided = Settings { out: marks(out), err: marks(err), draws: err && terminal.moves_cursor && !json, json };
    let _ = SETTINGS.set(decided);
}

/// Scans the arguments for `--color` and `--json`. Arguments after `--` belong to the component.
fn scan(arguments: &[OsString]) -> (Option<ColorWhen>, bool) {
    let mut ours = arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    let (mut when, mut json) = (None, false);
    while let Some(argument) = ours.next() {
        json |= argument == "--json";
        let value = match argument.strip_prefix("--color") {
            Some("") => ours.next(),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        // Invalid values are rejected later, when the arguments are parsed.
        when = value.and_then(|value| ColorWhen::from_str(value, false).ok()).or(when);
    }
    (when, json)
}

fn settings() -> Settings {
    SETTINGS.get().copied().unwrap_or_default()
}

/// Returns whether output to this stream is colored.
pub(super) fn marks(to: StdStream) -> bool {
    match to {
        StdStream::Out => settings().out,
        StdStream::Err => settings().err,
    }
}

/// Returns whether errors are printed as JSON.
pub(super) fn is_json() -> bool {
    settings().json
}

/// Returns whether progress can be drawn on standard error.
pub(super) fn draws() -> bool {
    settings().draws
}

/// Returns text in a style, if the stream is colored.
pub(super) fn paint(to: StdStream, style: Style, text: &str) -> String {
    if marks(to) { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_and_json_are_found_in_raw_arguments() {
        for (arguments, when, json) in [
            ("run x --color always", Some(ColorWhen::Always), false),
            ("--color=never run --json x", Some(ColorWhen::Never), true),
            ("--color never --color=auto", Some(ColorWhen::Auto), false),
            ("--color=sometimes run", None, false),
            ("run --color", None, false),
            ("run --colour=always", None, false),
            ("run x -- --color always --json", None, false),
        ] {
            let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(scan(&arguments), (when, json), "{arguments:?}");
        }
    }

    #[test]
    fn text_without_settings_is_plain() {
        assert_eq!(paint(StdStream::Out, ERROR, "x"), "x");
        assert!(!draws() && !is_json());
    }
}
