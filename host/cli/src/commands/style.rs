//! How text is marked for people, and whether it is: color on a terminal that wants it, JSON where a program reads.
//!
//! Marked are the words that somebody looks for, and nothing else: `error:`, `help:`, headings, the outcome of a run, what was denied.
//! What is written to a pipe or a file has no marks unless `--color always` or the environment asks for them.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use clap::builder::Styles;

use crate::config::{self, Color};

/// `error:`, and what ended badly.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What ended well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Headings and `help:`.
pub(super) const HEADING: Style = Style::new().bold();

/// The styles of the help texts.
pub(super) const HELP: Styles =
    Styles::plain().header(HEADING).usage(HEADING).literal(HEADING).error(ERROR).valid(GOOD).invalid(WARNING);

/// The two streams that a command writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdStream {
    Out,
    Err,
}

/// What `--color` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// What was decided for this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settings {
    out: bool,
    err: bool,
    draws: bool,
    json: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Decides once, from the arguments as they stand: an argument that cannot be understood is reported in the form that was asked for too.
pub(super) fn init(arguments: &[OsString]) {
    let terminal = config::terminal();
    let (when, json) = asked(arguments);
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

/// What the arguments say of color, and whether they ask for JSON. Behind `--` they are the component's.
fn asked(arguments: &[OsString]) -> (Option<ColorWhen>, bool) {
    let mut ours = arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    let (mut when, mut json) = (None, false);
    while let Some(argument) = ours.next() {
        json |= argument == "--json";
        let value = match argument.strip_prefix("--color") {
            Some("") => ours.next(),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        // What is no such word is refused later, where the arguments are read in earnest.
        when = value.and_then(|value| ColorWhen::from_str(value, false).ok()).or(when);
    }
    (when, json)
}

fn settings() -> Settings {
    SETTINGS.get().copied().unwrap_or_default()
}

/// Whether text on this stream is marked.
pub(super) fn marks(to: StdStream) -> bool {
    match to {
        StdStream::Out => settings().out,
        StdStream::Err => settings().err,
    }
}

/// Whether errors are for a program.
pub(super) fn is_json() -> bool {
    settings().json
}

/// Whether standard error is a terminal on which something that changes can be drawn.
pub(super) fn draws() -> bool {
    settings().draws
}

/// Text with a mark, where the stream has any.
pub(super) fn paint(to: StdStream, style: Style, text: &str) -> String {
    if marks(to) { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_asked_before_they_are_read() {
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
            assert_eq!(asked(&arguments), (when, json), "{arguments:?}");
        }
    }

    #[test]
    fn without_a_decision_nothing_is_marked() {
        assert_eq!(paint(StdStream::Out, ERROR, "x"), "x");
        assert!(!draws() && !is_json());
    }
}
