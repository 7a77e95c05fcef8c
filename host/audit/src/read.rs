//! Reads the trail's events, segment by segment, for showing. Whether they are what was written, `verify` says.

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

/// An event with what the writer added.
#[derive(Clone, Debug, PartialEq)]
pub struct LineEvent {
    /// Its number in the segment, from 1.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The segment it stands in; of a file that is no segment, the file name without its ending.
    pub segment: String,
    /// Its number in the file, from 1.
    pub line: u64,
    /// What it says; none where it is no event that this program knows: damaged, or of a newer program.
    pub event: Option<LineEvent>,
}

/// The events of a trail in the order of segments, read one line at a time.
pub struct Trail {
    folder: Folder,
    segments: vec::IntoIter<String>,
    current: Option<Current>,
}

struct Current {
    segment: String,
    lines: Lines<BufReader<File>>,
    line: u64,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("to_come", &self.segments).finish_non_exhaustive()
    }
}

/// Opens the trail of a folder. A segment's last piece without a newline is no event and is left out.
///
/// # Errors
/// [`AuditError::Absent`] where there is no audit; the iterator answers with [`AuditError::Io`] where a segment cannot be read, and
/// goes on with the next.
pub fn read(dir: &Path) -> Result<Trail, AuditError> {
    let folder = Folder::open(dir)?;
    let segments = folder.segments()?.into_iter();
    Ok(Trail { folder, segments, current: None })
}

impl Iterator for Trail {
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
                    // Another process's file that is gone, or no file at all: nothing to show.
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
