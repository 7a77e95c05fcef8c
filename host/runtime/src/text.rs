//! Formats text that comes from a component, or from a library that has read one, for messages:
//! escaped, and bounded while it is formatted.

use std::fmt::{self, Display, Write};

use wasmtime::WasmBacktrace;

/// The maximum of an error's causes that are shown.
const CAUSES_MAX: usize = 8;

/// The maximum of calls of a backtrace that are shown, innermost first.
const FRAMES_MAX: usize = 8;

/// The longest module or function name in a backtrace, in characters.
const FRAME_NAME_MAX: usize = 80;

/// Escapes control characters and shortens to `max` characters. If text was cut, the last character
/// is an ellipsis.
pub(crate) fn bounded(text: &str, max: usize) -> String {
    display(text, max)
}

/// Formats a value as [`bounded`] does. Formatting stops at the bound, so that a name of 30 MB
/// inside an error costs nothing.
pub(crate) fn display(value: &(impl Display + ?Sized), max: usize) -> String {
    let mut writer = BoundedWriter { out: String::new(), left: max };
    // The only possible error is that the writer is full.
    if write!(writer, "{value}").is_err() {
        writer.out.push('…');
    }
    writer.out
}

/// Formats an error of the engine: its causes, outermost first and without the backtrace, then the
/// innermost calls.
///
/// `{:#}` must not be used for such errors: it formats the backtrace, in which the component
/// chooses every name.
pub(crate) fn error(error: &wasmtime::Error, max: usize) -> String {
    let is_backtrace = |cause: &str| cause.starts_with("error while executing at wasm backtrace:");
    let causes = error.chain().take(CAUSES_MAX).map(|cause| display(cause, max)).filter(|cause| !is_backtrace(cause));
    let causes = causes.collect::<Vec<_>>().join(": ");
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return bounded(&causes, max) };
    let calls: Vec<String> = backtrace.frames().iter().take(FRAMES_MAX).map(frame).collect();
    if calls.is_empty() {
        bounded(&causes, max)
    } else {
        bounded(&format!("{causes} (in {})", calls.join(", called by ")), max)
    }
}

fn frame(frame: &wasmtime::FrameInfo) -> String {
    let module = frame.module().name().map_or_else(|| "<unknown>".to_owned(), |name| bounded(name, FRAME_NAME_MAX));
    match frame.func_name() {
        Some(name) => format!("`{module}!{}`", bounded(name, FRAME_NAME_MAX)),
        None => format!("`{module}!<function {}>`", frame.func_index()),
    }
}

/// A writer that escapes its input and fails when it is full.
struct BoundedWriter {
    out: String,
    /// How many more characters fit, before escaping.
    left: usize,
}

impl Write for BoundedWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            if is_plain(c) { self.out.push(c) } else { self.out.extend(c.escape_unicode()) }
        }
        Ok(())
    }
}

/// Returns whether a character is visible and has no other effect: no control characters, and none
/// that reorders text or breaks lines.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_bounded() {
        assert_eq!(bounded("a\u{1b}[2J\nb\u{202e}", 100), "a\\u{1b}[2J\\u{a}b\\u{202e}");
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüß", 3), "äöü…");
    }

    #[test]
    fn formatting_ends_at_the_bound() {
        struct Endless<'a>(&'a std::cell::Cell<usize>);
        impl Display for Endless<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    self.0.set(self.0.get() + 1);
                    f.write_str("again ")?;
                }
            }
        }
        let writes = std::cell::Cell::new(0);
        assert_eq!(display(&Endless(&writes), 8), "again ag…");
        assert_eq!(writes.get(), 2);
    }

    #[test]
    fn causes_of_an_error_come_outermost_first() {
        let cause = wasmtime::Error::msg("no\nroom").context("could not grow").context("could not run");
        assert_eq!(error(&cause, 100), "could not run: could not grow: no\\u{a}room");
        assert_eq!(error(&cause, 13), "could not run…");
    }
}
