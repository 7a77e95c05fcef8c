//! Writes to the standard streams, and formats tables. Colors are removed from a stream that does
//! not show them.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::failure::Failure;
use strongroom::escape::escape_controls;
use strongroom::runtime::Stream;

/// The minimum number of characters to which a path is shortened.
const PATH_MIN: usize = 12;

/// Creates a JSON object whose fields keep their order.
macro_rules! object {
    ($($field:ident: $value:expr),* $(,)?) => {{
        #[allow(
            non_camel_case_types,
            clippy::let_and_return,
            reason = "the type of each field is a parameter with the field's name"
        )]
        let object = {
            #[derive(serde::Serialize)]
            struct Object<$($field),*> {
                $($field: $field),*
            }
            Object { $($field: $value),* }
        };
        object
    }};
}
pub(super) use object;

/// Writes a line to standard output. A closed standard output ends the command silently.
pub(super) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}

/// Writes a JSON document and a newline to standard output.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::host(format!("could not write JSON: {error}")))?;
    line(text)
}

/// Writes a line to standard error. Errors are ignored, because there is no other channel.
pub(super) fn note(text: impl fmt::Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Returns whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Formats rows as aligned columns without trailing spaces. Columns in `right` are right-aligned.
/// Control characters are escaped.
pub(super) fn columns(header: Option<&[&str]>, rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| escape_controls(cell)));
    }
    table.discover_columns();
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.column_count() == 0 {
        return Vec::new();
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Prints labels with their texts to standard output.
pub(super) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(label, text)| vec![label.to_owned(), text]).collect();
    columns(None, &rows, &[]).iter().try_for_each(line)
}

/// Prints a table to standard output.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> Result<(), Failure> {
    columns(Some(header), rows, right).iter().try_for_each(line)
}

/// Prints a table whose last column contains paths. On a narrow terminal, paths are shortened to
/// their end.
pub(super) fn table_of_paths(header: &[&str], rows: &mut [Vec<String>], right: &[usize]) -> Result<(), Failure> {
    if let Some(width) = width(Stream::Stdout) {
        fit(header, rows, right, width);
    }
    table(header, rows, right)
}

/// Returns the width of a stream in columns if it is a terminal.
pub(super) fn width(to: Stream) -> Option<usize> {
    let size = match to {
        Stream::Stdout => rustix::termios::tcgetwinsize(io::stdout()),
        Stream::Stderr => rustix::termios::tcgetwinsize(io::stderr()),
    };
    let size = size.ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Shortens the last column so that lines fit into `width`, if possible.
fn fit(header: &[&str], rows: &mut [Vec<String>], right: &[usize], width: usize) {
    let Some((last, before)) = header.split_last() else { return };
    let others: Vec<Vec<String>> = rows.iter().map(|row| row.iter().take(before.len()).cloned().collect()).collect();
    let taken = columns(Some(before), &others, right).iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(taken + 2).max(last.len()).max(PATH_MIN);
    for path in rows.iter_mut().filter_map(|row| row.get_mut(before.len())) {
        *path = end_of(&escape_controls(path), room);
    }
}

/// Returns the end of a path, at most `room` characters long.
fn end_of(path: &str, room: usize) -> String {
    let length = path.chars().count();
    if length <= room {
        return path.to_owned();
    }
    let end: String = path.chars().skip(length - room.saturating_sub(1)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_escaped() {
        let rows = [
            vec!["db-password".to_owned(), "2".to_owned(), "x".to_owned()],
            vec!["a\u{1b}[31m\n".to_owned(), "10".to_owned(), String::new()],
        ];
        assert_eq!(
            columns(Some(&["NAME", "N", ""]), &rows, &[1]),
            ["NAME          N", "db-password   2  x", "a\\x1b[31m\\n  10"]
        );
        assert_eq!(columns(None, &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn shortened_path_keeps_its_end() {
        let rows = |path: &str| vec![vec!["01ARZ3NDEK".to_owned(), "finished".to_owned(), path.to_owned()]];
        let header = ["RUN", "OUTCOME", "COMPONENT"];
        for (width, shown) in [(80, "/home/you/plugins/train.wasm"), (40, "…lugins/train.wasm"), (10, "…/train.wasm")]
        {
            let mut rows = rows("/home/you/plugins/train.wasm");
            fit(&header, &mut rows, &[], width);
            let lines = columns(Some(&header), &rows, &[]);
            assert!(lines[1].ends_with(shown), "{lines:?}");
            assert!(width < 40 || lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
        }
    }
}
