//! Formats errors of the engine, bounded and escaped.

use wasmtime::WasmBacktrace;

use super::text::bounded;

/// The maximum number of causes shown for an error.
const CAUSES_MAX: usize = 8;

/// The maximum number of calls shown from a backtrace, innermost first.
const FRAMES_MAX: usize = 8;

/// The maximum length of a module's or function's name in a backtrace, in characters.
const FRAME_NAME_MAX: usize = 80;

/// Formats an error of the engine: its causes, outermost first and without the backtrace, then the
/// innermost calls.
///
/// Do not use `{:#}` for these errors: it formats the whole backtrace, in which the component
/// chooses every name.
pub(crate) fn format(error: &wasmtime::Error, max: usize) -> String {
    let is_backtrace = |cause: &str| cause.starts_with("error while executing at wasm backtrace:");
    let causes = error.chain().take(CAUSES_MAX).map(|cause| bounded(cause, max)).filter(|cause| !is_backtrace(cause));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_an_error_are_ordered_outermost_first() {
        let cause = wasmtime::Error::msg("no\nroom").context("could not grow").context("could not run");
        assert_eq!(format(&cause, 100), "could not run: could not grow: no\\u{a}room");
        assert_eq!(format(&cause, 13), "could not run…");
    }
}
