//! Tests that a start does not depend on the history, and that shared segments and checkpoints hide
//! nothing.

use super::*;
use crate::folder::Folder;
use crate::ledger::Ledger;
use crate::lock;
use crate::writer::SHARED_MAX;

fn last_ledger_line(log: &TestLog) -> serde_json::Value {
    serde_json::from_slice(lines(&log.ledger()).last().unwrap()).unwrap()
}

/// Replaces the last line of the ledger, which no later line protects.
fn replace_last_ledger_line(log: &TestLog, line: &serde_json::Value) {
    let mut all = lines(&log.ledger());
    // The order of fields in a line is fixed.
    let field = |name: &str| line.get(name).map(|value| format!("\"{name}\":{value},")).unwrap_or_default();
    let fields = ["seq", "time", "entry", "segment", "format", "count", "head", "checkpoint"].map(field).concat();
    *all.last_mut().unwrap() = format!("{{{fields}\"prev\":{}}}\n", line["prev"]).into_bytes();
    fs::write(log.ledger(), all.concat()).unwrap();
}

// promise: The cost of a start does not grow with the number of earlier runs and commands.
#[test]
fn start_reads_only_the_end_of_the_ledger() {
    with_log(|log| {
        let dead = log.killed(1);
        for _ in 0..3 {
            log.closed(1);
        }
        // Nothing but the last line is valid, and yet a process can start and recover.
        let alive = log.open();
        let mut ledger = lines(&log.ledger());
        let last = ledger.len() - 1;
        ledger[..last].iter_mut().for_each(|line| line.fill(b'x'));
        ledger[..last].iter_mut().for_each(|line| *line.last_mut().unwrap() = b'\n');
        fs::write(log.ledger(), ledger.concat()).unwrap();
        let segment = alive.segment().to_owned();
        alive.kill();
        log.closed(1);
        let entries: Vec<String> = lines(&log.ledger())[last + 1..]
            .iter()
            .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap())
            .map(|line| format!("{} {}", line["entry"], line["segment"]))
            .collect();
        assert_eq!(entries[0], format!("\"recovered\" \"{segment}\""));
        assert_eq!(entries.len(), 3);
        assert_eq!(log.report().ledger, Verdict::LedgerAltered { line: 1 });
        let _ = dead;
    });
}

#[test]
fn checkpoint_without_an_open_segment_is_an_altered_line() {
    with_log(|log| {
        let dead = log.killed(2);
        let alive = log.open();
        // The dead segment was recovered when this one started; let it look open again.
        let mut line = last_ledger_line(log);
        assert_eq!(line["checkpoint"]["open"], serde_json::json!({}));
        drop(alive);
        let second = log.killed(1);
        line = last_ledger_line(log);
        assert_eq!(line["segment"], second.as_str());
        let number = line["seq"].as_u64().unwrap();
        for change in ["open", "format"] {
            let mut edited = line.clone();
            match change {
                "open" => {
                    edited["checkpoint"]["open"] = serde_json::json!({ dead.as_str(): { "genesis": line["prev"] } })
                }
                _ => edited["checkpoint"]["format"] = 1.into(),
            }
            replace_last_ledger_line(log, &edited);
            assert_eq!(log.report().ledger, Verdict::LedgerAltered { line: number }, "{change}");
        }
        // Later processes trust the line, but their entries do not hide it.
        log.closed(1);
        log.closed(1);
        assert_eq!(log.report().ledger, Verdict::LedgerAltered { line: number });
    });
}

#[test]
fn ledger_without_checkpoint_is_read_as_a_whole() {
    with_log(|log| {
        log.closed(1);
        let dead = log.killed(1);
        let mut line = last_ledger_line(log);
        line.as_object_mut().unwrap().remove("checkpoint");
        replace_last_ledger_line(log, &line);
        // Its genesis depends on the line that announced it.
        fs::write(log.file(&dead), b"").unwrap();
        assert_eq!((log.report().ledger, log.verdict(&dead)), (Verdict::Intact, Verdict::Recovered));
        log.closed(1);
        assert_eq!((log.report().ledger, log.verdict(&dead)), (Verdict::Intact, Verdict::Recovered));
        assert!(last_ledger_line(log)["checkpoint"]["open"].is_object());
        // Reading all of it finds an edit.
        let mut all = lines(&log.ledger());
        all[0] = String::from_utf8(all[0].clone()).unwrap().replacen("20", "21", 1).into_bytes();
        fs::write(log.ledger(), all.concat()).unwrap();
        let mut line = last_ledger_line(log);
        line.as_object_mut().unwrap().remove("checkpoint");
        replace_last_ledger_line(log, &line);
        let error = Audit::open(&log.dir(), SyncMode::Os).unwrap_err();
        assert!(matches!(error, AuditError::LedgerAltered { line: 1, .. }), "{error}");
    });
}

#[test]
fn log_of_format_1_is_continued() {
    with_log(|log| {
        fs::create_dir(log.dir()).unwrap();
        fs::set_permissions(log.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/format-1");
        let mut segments = Vec::new();
        for entry in fs::read_dir(old).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), log.dir().join(entry.file_name())).unwrap();
            segments.extend(entry.file_name().to_str().unwrap().strip_suffix(".jsonl").map(str::to_owned));
        }
        segments.retain(|segment| segment != "ledger");
        segments.sort();
        let verdicts = |log: &TestLog| segments.iter().map(|segment| log.verdict(segment)).collect::<Vec<_>>();
        let expected = [Verdict::Intact, Verdict::Recovered, Verdict::Intact, Verdict::TornLastLine];
        assert_eq!(verdicts(log), expected);
        let before = fs::read(log.ledger()).unwrap();
        log.shared(1);
        log.closed(1);
        assert!(fs::read(log.ledger()).unwrap().starts_with(&before));
        assert_eq!(verdicts(log), expected);
        assert_eq!(log.report().ledger, Verdict::Intact);
        assert!(read(&log.dir()).unwrap().all(|item| item.unwrap().event.is_some()));
    });
}

#[test]
fn too_many_open_segments_leave_the_checkpoint_out() {
    with_log(|log| {
        let folder = Folder::make(&log.dir()).unwrap();
        let mut ledger = Ledger::open(&folder).unwrap();
        let segments: Vec<String> = (0..700).map(|_| ulid::Ulid::generate().to_string()).collect();
        for segment in &segments {
            ledger.start(segment).unwrap();
        }
        drop(ledger);
        assert!(last_ledger_line(log).get("checkpoint").is_none());
        let ledger = Ledger::open(&folder).unwrap();
        assert_eq!(ledger.open_segments().len(), 700);
        drop(ledger);
        assert_eq!(log.report().ledger, Verdict::Intact);
    });
}

#[test]
fn shared_segment_is_continued_and_intact() {
    with_log(|log| {
        let segments: Vec<String> = (0..5).map(|_| log.shared(2)).collect();
        assert!(segments.iter().all(|segment| *segment == segments[0]), "{segments:?}");
        log.closed(1);
        assert_eq!(log.shared(2), segments[0]);
        let report = log.report();
        assert_eq!((report.overall(), report.segments.len()), (Verdict::Intact, 2));
        let kinds: Vec<Kind> = read(&log.dir())
            .unwrap()
            .map(Result::unwrap)
            .filter(|item| item.segment == segments[0])
            .map(|item| item.event.unwrap().event.event)
            .collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::SegmentResume).count(), 5);
        assert_eq!((kinds[0], kinds.len()), (Kind::SegmentStart, 6 * 3));
    });
}

#[test]
fn concurrent_processes_do_not_share_a_segment() {
    with_log(|log| {
        let first = log.open_shared();
        let second = log.open_shared();
        assert_ne!(first.segment(), second.segment());
        assert_eq!(log.verdict(first.segment()), Verdict::Live);
        fill(&first, 1);
        fill(&second, 1);
        first.close().unwrap();
        assert_eq!(log.shared(1), first.segment());
        second.close().unwrap();
        assert!([first.segment(), second.segment()].contains(&log.shared(1).as_str()));
        let report = log.report();
        assert_eq!((report.overall(), report.segments.len()), (Verdict::Intact, 2));
    });
}

#[test]
fn full_shared_segment_is_closed() {
    with_log(|log| {
        let first = log.shared(SHARED_MAX - 2);
        assert_eq!(log.shared(1), first);
        assert_eq!(lines(&log.file(&first)).len() as u64, SHARED_MAX + 2);
        assert_eq!(last_ledger_line(log)["entry"], "end");
        assert_ne!(log.shared(1), first);
        assert_eq!(log.report().overall(), Verdict::Intact);
    });
}

#[test]
fn crash_in_a_shared_segment_is_recovered() {
    with_log(|log| {
        let segment = log.shared(1);
        let before = fs::read(log.file(&segment)).unwrap();
        let audit = log.open_shared();
        assert_eq!(audit.segment(), segment);
        fill(&audit, 1);
        audit.kill();
        let whole = fs::read(log.file(&segment)).unwrap();
        let ledger = fs::read(log.ledger()).unwrap();
        for length in before.len()..=whole.len() {
            fs::write(log.ledger(), &ledger).unwrap();
            fs::write(log.file(&segment), &whole[..length]).unwrap();
            let expected = match whole[..length].last() {
                // As the last process left it.
                _ if length == before.len() => Verdict::Intact,
                Some(b'\n') => Verdict::Recovered,
                _ => Verdict::TornLastLine,
            };
            assert_eq!(log.verdict(&segment), expected, "at {length}");
            let next = log.shared(1);
            assert_eq!(next == segment, expected == Verdict::Intact, "at {length}");
            assert_eq!(log.verdict(&segment), expected, "at {length}");
            assert_eq!((log.verdict(&next), log.report().ledger), (Verdict::Intact, Verdict::Intact));
            if next != segment {
                assert_eq!(fs::read(log.file(&segment)).unwrap(), whole[..length]);
                fs::remove_file(log.file(&next)).unwrap();
            }
        }
    });
}

#[test]
fn edit_of_a_shared_segment_is_reported() {
    with_log(|log| {
        log.shared(2);
        let segment = log.shared(2);
        let whole = fs::read(log.file(&segment)).unwrap();
        let ledger = fs::read(log.ledger()).unwrap();
        for length in 0..whole.len() {
            fs::write(log.file(&segment), &whole[..length]).unwrap();
            assert_eq!(log.verdict(&segment), Verdict::Truncated, "at {length}");
        }
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(log.file(&segment), &bytes).unwrap();
            assert!(matches!(log.verdict(&segment), Verdict::Altered { .. }), "byte {at}");
        }
        // The next process does not continue what was edited, and the verdict stays.
        for edited in [&whole[..whole.len() / 2], &[&whole[..whole.len() - 2], b"x\n"].concat()] {
            fs::write(log.ledger(), &ledger).unwrap();
            fs::write(log.file(&segment), edited).unwrap();
            let verdict = log.verdict(&segment);
            assert!(verdict.is_tampering());
            let next = log.shared(1);
            assert_ne!(next, segment);
            assert_eq!(fs::read(log.file(&segment)).unwrap(), edited);
            assert!(log.verdict(&segment).is_tampering(), "{verdict} was hidden");
            fs::remove_file(log.file(&next)).unwrap();
        }
    });
}

// promise: A stopped process delays another one only for a bounded time, and the error names it.
#[test]
fn busy_ledger_is_reported_with_its_holder() {
    with_log(|log| {
        let audit = log.open();
        fill(&audit, 1);
        let held = fs::File::open(log.ledger()).unwrap();
        lock::acquire(&held, lock::Mode::Exclusive).unwrap();
        let own = Some(std::process::id());
        let errors = [
            Audit::open(&log.dir(), SyncMode::Os).unwrap_err(),
            verify(&log.dir(), None).unwrap_err(),
            audit.close().unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, AuditError::Busy { holder, .. } if holder == own), "{error:?}");
            assert!(error.to_string().contains(&format!("process {} holds its lock", std::process::id())), "{error}");
        }
        drop(held);
        // Its events are durable, and the next process records the end.
        assert!(!is_live(&log.dir(), audit.segment()));
        assert_eq!(log.verdict(audit.segment()), Verdict::Recovered);
        log.closed(0);
        assert_eq!(log.verdict(audit.segment()), Verdict::Recovered);
        assert_eq!(last_kind(log, audit.segment()), Kind::SegmentEnd);
    });
}

fn last_kind(log: &TestLog, segment: &str) -> Kind {
    let items = read(&log.dir()).unwrap().map(Result::unwrap).filter(|item| item.segment == segment);
    items.last().unwrap().event.unwrap().event.event
}
