//! Terminal settings from the environment. They are read first, so that even errors in the
//! arguments are shown as requested.

use std::ffi::OsString;

/// When to use color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal settings, whether or not there is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// When to use color, unless an option says otherwise.
    pub(crate) color: Color,
    /// Whether the terminal can move its cursor.
    pub(crate) moves_cursor: bool,
}

impl Terminal {
    /// Reads the usual variables: `NO_COLOR` (not empty: never), then `CLICOLOR_FORCE` (neither
    /// empty nor `0`: always), then `TERM` (`dumb` or unset: never) and `CLICOLOR` (`0`: never).
    pub(super) fn from_variables(variable: &dyn Fn(&'static str) -> Option<OsString>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let moves_cursor = variable("TERM").is_some_and(|term| term != "dumb");
        let color = if variable("NO_COLOR").is_some() {
            Color::Never
        } else if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            Color::Always
        } else if !moves_cursor || variable("CLICOLOR").is_some_and(|value| value == "0") {
            Color::Never
        } else {
            Color::Auto
        };
        Self { color, moves_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(variables: &[(&str, &str)]) -> Terminal {
        Terminal::from_variables(&|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn color_follows_standard_variables() {
        let term = ("TERM", "xterm-256color");
        for (variables, color) in [
            (&[term][..], Color::Auto),
            (&[], Color::Never),
            (&[("TERM", "dumb")], Color::Never),
            (&[term, ("NO_COLOR", "1")], Color::Never),
            (&[term, ("NO_COLOR", "0")], Color::Never),
            (&[term, ("NO_COLOR", "")], Color::Auto),
            (&[term, ("CLICOLOR", "0")], Color::Never),
            (&[term, ("CLICOLOR", "1")], Color::Auto),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], Color::Always),
            (&[term, ("CLICOLOR_FORCE", "0")], Color::Auto),
            (&[term, ("CLICOLOR_FORCE", "")], Color::Auto),
            (&[term, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "yes")], Color::Never),
        ] {
            assert_eq!(terminal(variables).color, color, "{variables:?}");
        }
    }

    #[test]
    fn dumb_terminal_does_not_move_cursor() {
        assert!(terminal(&[("TERM", "tmux"), ("NO_COLOR", "1")]).moves_cursor);
        assert!(!terminal(&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]).moves_cursor);
        assert!(!terminal(&[("TERM", "")]).moves_cursor);
    }
}
