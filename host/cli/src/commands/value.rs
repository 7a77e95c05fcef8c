//! Reads and writes secret values without leaving copies in memory.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::{out, prompt};
use crate::config;
use strongroom::escape::TerminalEscaper;
use strongroom::ids::SecretName;
use strongroom::secret::{Secret, VALUE_MAX};

const NEWLINE_REMOVED: &str = "note: removed the trailing newline (`--keep-newline` keeps it)";

/// The source of a value.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// An environment variable.
    Variable(&'a str),
    /// A file.
    File(&'a Path),
    /// Standard input; if it is a terminal, a hidden prompt.
    Input,
}

/// Reads a value. Removes one trailing line end from files and standard input, unless it is to be
/// kept.
pub(super) fn read(name: &SecretName, source: &Source<'_>, keep_newline: bool) -> Result<Arc<Secret>, Failure> {
    match source {
        Source::Variable(variable) => match config::variable(variable) {
            Some(value) => to_secret(Zeroizing::new(value.into_encoded_bytes())),
            // Not shown: with a leading `$`, the shell has substituted the value.
            None => Err(Failure::invalid(
                "the variable given with `--from-env` is not set (name not shown, because it may be the value)",
            )
            .help("export the variable and give its name without `$`")),
        },
        Source::File(path) => {
            let failed = Failure::unreadable("", path);
            read_stream(&File::open(path).map_err(failed)?, keep_newline, failed)
        }
        Source::Input if io::stdin().is_terminal() => {
            let question = format!("Value of `{name}` (not echoed): ");
            let mut bytes = prompt::hidden(&question, VALUE_MAX + 2)?;
            if !keep_newline && strip_line_end(&mut bytes) {
                out::note(NEWLINE_REMOVED);
            }
            let lines = bytes.split(|byte| *byte == b'\n').count();
            if lines > 1 {
                out::note(format!("note: the value has {lines} lines"));
            }
            to_secret(bytes)
        }
        Source::Input => {
            let failed = |cause: io::Error| Failure::invalid(format!("could not read standard input: {cause}"));
            read_stream(io::stdin(), keep_newline, failed)
        }
    }
}

fn read_stream(
    stream: impl AsFd,
    keep_newline: bool,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<Arc<Secret>, Failure> {
    let bytes = read_bounded(stream, VALUE_MAX + 2).map_err(failed)?;
    let mut bytes = bytes.ok_or_else(|| Failure::invalid(strongroom::secret::ValueTooLong))?;
    if !keep_newline && strip_line_end(&mut bytes) {
        out::note(NEWLINE_REMOVED);
    }
    to_secret(bytes)
}

fn to_secret(mut bytes: Zeroizing<Vec<u8>>) -> Result<Arc<Secret>, Failure> {
    if std::str::from_utf8(&bytes).is_err() {
        return Err(Failure::invalid("the value is not UTF-8 text").help("encode it first, for example with `base64`"));
    }
    // Already checked. The buffer is moved, not copied.
    let text = String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default();
    Ok(Arc::new(Secret::new(text).map_err(Failure::invalid)?))
}

/// Reads at most `max` bytes into a buffer that is zeroized on drop. Returns `None` if there are
/// more.
pub(super) fn read_bounded(stream: impl AsFd, max: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Larger than what is read, so that the buffer never grows and leaves no copies behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(max + 64));
    unbuffered(stream)?.take(max as u64 + 1).read_to_end(&mut buffer)?;
    Ok((buffer.len() <= max).then_some(buffer))
}

/// Returns a stream without the standard library's buffer, which would keep a copy.
fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Removes a trailing line end. Returns whether there was one.
pub(super) fn strip_line_end(bytes: &mut Vec<u8>) -> bool {
    if bytes.last() != Some(&b'\n') {
        return false;
    }
    bytes.pop();
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    true
}

/// Writes a value to standard output: exactly to a pipe or file, escaped and with a newline to a
/// terminal.
pub(super) fn write(secret: &Secret) -> Result<(), Failure> {
    let value = secret.expose().as_bytes();
    if !out::is_terminal() {
        return Ok(unbuffered(io::stdout())?.write_all(value)?);
    }
    // A component may have stored the value, so it must not control the terminal.
    let mut shown = Zeroizing::new(Vec::with_capacity(value.len() * 10 + 1));
    let mut escaper = TerminalEscaper::new();
    escaper.push(value, &mut shown);
    escaper.finish(&mut shown);
    shown.push(b'\n');
    Ok(unbuffered(io::stdout())?.write_all(&shown)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(content: &[u8], keep_newline: bool) -> Result<Arc<Secret>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        std::fs::write(&path, content).unwrap();
        read(&SecretName::parse("a").unwrap(), &Source::File(&path), keep_newline)
    }

    #[test]
    fn one_trailing_line_end_is_removed() {
        for (content, expected) in [
            ("pass", "pass"),
            ("pass\n", "pass"),
            ("pass\r\n", "pass"),
            ("pass\n\n", "pass\n"),
            ("pass \n", "pass "),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(from_file(content.as_bytes(), false).unwrap().expose(), expected, "{content:?}");
            assert_eq!(from_file(content.as_bytes(), true).unwrap().expose(), content);
        }
    }

    #[test]
    fn longest_value_with_line_end_is_accepted() {
        let mut content = vec![b'x'; VALUE_MAX];
        content.extend_from_slice(b"\r\n");
        assert_eq!(from_file(&content, false).unwrap().len(), VALUE_MAX);
        assert_eq!(from_file(&content, true).unwrap_err().exit(), super::super::failure::Exit::Invalid);
        assert!(from_file(&[b'x'; VALUE_MAX + 3], false).is_err());
    }

    #[test]
    fn value_with_invalid_utf8_is_rejected() {
        assert!(from_file(&[0xff, 0xfe], false).unwrap_err().to_string().contains("base64"));
    }

    #[test]
    fn missing_variable_is_error_without_name() {
        let name = SecretName::parse("a").unwrap();
        let error = read(&name, &Source::Variable("STRONGROOM_TEST_NO_SUCH_VARIABLE"), false).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("without `$`") && !error.contains("STRONGROOM_TEST"), "{error}");
    }
}
