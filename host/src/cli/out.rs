//! Writing to the standard streams, and laying text out in columns.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::failure::Failure;
use crate::redact::escape_controls;

/// Writes a line to standard output. A reader that is gone ends the command quietly.
pub(super) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Writes one JSON document, and a newline, to standard output.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::host(format!("cannot write JSON: {error}")))?;
    line(text)
}

/// Writes a line to standard error. Where that is closed nobody can be told.
pub(super) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows as aligned lines, two spaces apart, none ending in a space. Columns in `right` are aligned to the right. Control characters in cells
/// are shown escaped.
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

/// Prints a table to standard output.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> Result<(), Failure> {
    columns(Some(header), rows, right).iter().try_for_each(line)
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
}
