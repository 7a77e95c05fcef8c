//! Reads events segment by segment, to show them. `verify` checks whether they are genuine.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::vec;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::chain::{LINE_MAX, Lines, Next};
use super::error::AuditError;
use super::event::Event;
use super::folder::{Folder, file_name};

/// An event with the fields that the writer adds.
#[derive(Clone, Debug, PartialEq)]
pub struct LineEvent {
    /// Sequence number in the segment, from 1.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The segment; for another file, its name without extension.
    pub segment: String,
    /// Line number in the file, from 1.
    pub line: u64,
    /// The event; `None` if the line is damaged or a newer program wrote it.
    pub event: Option<LineEvent>,
}

/// Iterates over the lines of an audit log in the order of segments.
pub struct LogReader {
    folder: Folder,
    segments: vec::IntoIter<String>,
    current: Option<Current>,
}

struct Current {
    segment: String,
    lines: Lines<BufReader<File>>,
    line: u64,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("remaining", &self.segments).finish_non_exhaustive()
    }
}

/// Opens the audit log in a directory for reading. Skips a segment's partial last line.
///
/// # Errors
/// [`AuditError::Absent`] if there is no audit log. If a segment cannot be read, the iterator
/// returns [`AuditError::Io`] and continues with the next one.
pub fn read(dir: &Path) -> Result<LogReader, AuditError> {
    let folder = Folder::open(dir)?;
    let segments = folder.segments()?.into_iter();
    Ok(LogReader { folder, segments, current: None })
}

impl Iterator for LogReader {
    type Item = Result<Item, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(current) = &mut self.current else {
                let segment = self.segments.next()?;
                match self.folder.read(&file_name(&segment)) {
                    Ok(Some(file)) => {
                        let lines = Lines::new(BufReader::with_capacity(LINE_MAX, file));
                        self.current = Some(Current { segment, lines, line: 0 });
                    }
                    // The file has disappeared or is not a regular file.
                    Ok(None) => {}
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            match current.next() {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => self.current = None,
                Err(error) => {
                    let path = self.folder.path_of(&file_name(&current.segment));
                    self.current = None;
                    return Some(Err(AuditError::io("read the audit segment", &path, error)));
                }
            }
        }
    }
}

impl Current {
    fn next(&mut self) -> std::io::Result<Option<Item>> {
        let next = self.lines.next()?;
        if matches!(next, Next::Tail(_) | Next::End) {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        let event = if next == Next::Line { parse(self.lines.line()) } else { None };
        Ok(Some(Item { segment: self.segment.clone(), line: self.line, event }))
    }
}

fn parse(line: &[u8]) -> Option<LineEvent> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let seq = fields.remove("seq")?.as_u64()?;
    let time = fields.remove("time")?.as_str()?.parse().ok()?;
    fields.remove("prev")?;
    let event = Event::deserialize(Value::Object(fields)).ok()?;
    Some(LineEvent { seq, time, event })
}
