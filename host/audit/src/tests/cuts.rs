//! Tests of crashes after any byte, and of files cut at any byte.

use super::*;

fn cut(path: &Path, whole: &[u8], length: usize) {
    fs::write(path, &whole[..length]).unwrap();
}

/// Returns whether a file cut here ends with a complete line.
fn at_line_end(whole: &[u8], length: usize) -> bool {
    length == 0 || whole[length - 1] == b'\n'
}

#[test]
fn closed_segment_cut_anywhere_is_truncated() {
    with_log(|log| {
        let segment = log.closed(4);
        let whole = fs::read(log.file(&segment)).unwrap();
        for length in 0..whole.len() {
            cut(&log.file(&segment), &whole, length);
            assert_eq!(log.verdict(&segment), Verdict::Truncated, "at {length}");
        }
        log.closed(0);
        assert_eq!(log.report().overall(), Verdict::Truncated);
        cut(&log.file(&segment), &whole, whole.len());
        assert_eq!(log.report().overall(), Verdict::Intact);
    });
}

#[test]
fn crash_at_any_segment_byte_is_recovered() {
    with_log(|log| {
        let segment = log.killed(3);
        let whole = fs::read(log.file(&segment)).unwrap();
        let ledger = fs::read(log.ledger()).unwrap();
        for length in 0..=whole.len() {
            fs::write(log.ledger(), &ledger).unwrap();
            cut(&log.file(&segment), &whole, length);
            let expected = if at_line_end(&whole, length) { Verdict::Recovered } else { Verdict::TornLastLine };
            let events = whole[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
            let before = log.report();
            assert_eq!(before.overall(), expected, "at {length}");
            assert_eq!(before.segments[0].events, events);

            // The next process records the segment as it is and leaves the file unchanged; the
            // verdict stays.
            let next = log.closed(1);
            assert_eq!(fs::read(log.file(&segment)).unwrap(), whole[..length]);
            let after = log.report();
            assert_eq!(verdict_of(&after, &segment), expected, "at {length}");
            assert_eq!(verdict_of(&after, &next), Verdict::Intact);
            assert_eq!((after.overall(), after.ledger), (expected, Verdict::Intact));

            // Now a cut is detected, even of one byte of the torn line.
            if length > 0 {
                cut(&log.file(&segment), &whole, length - 1);
                assert_eq!(log.verdict(&segment), Verdict::Truncated, "at {length}");
            }
            if length < whole.len() {
                cut(&log.file(&segment), &whole, length + 1);
                let line = events + 1;
                assert_eq!(log.verdict(&segment), Verdict::Altered { line }, "at {length}");
            }
            fs::remove_file(log.file(&next)).unwrap();
        }
    });
}

#[test]
fn crash_at_any_ledger_byte_is_recovered() {
    with_log(|log| {
        let first = log.closed(1);
        let second = log.killed(1);
        let third = log.closed(1);
        let whole = fs::read(log.ledger()).unwrap();
        assert_eq!(lines(&log.ledger()).len(), 6);
        for length in 0..=whole.len() {
            cut(&log.ledger(), &whole, length);
            let whole_line = at_line_end(&whole, length);
            let known = lines(&log.ledger()).iter().filter(|line| line.ends_with(b"\n")).count();
            let report = log.report();
            assert_eq!(report.ledger, if whole_line { Verdict::Intact } else { Verdict::TornLastLine });
            let verdicts = [&first, &second, &third].map(|segment| verdict_of(&report, segment));
            let (none, gone, fine) = (Verdict::Unlisted, Verdict::Recovered, Verdict::Intact);
            let expected = match known {
                0 => [none, none, none],
                1 => [gone, none, none],
                2 => [fine, none, none],
                3 | 4 => [fine, gone, none],
                5 => [fine, gone, gone],
                _ => [fine, gone, fine],
            };
            assert_eq!(verdicts, expected, "at {length}");

            let next = log.closed(0);
            let kept = fs::read(log.ledger()).unwrap();
            assert_eq!(kept[..length], whole[..length], "the ledger is never truncated");
            let report = log.report();
            assert_eq!(report.ledger, if whole_line { Verdict::Intact } else { Verdict::Recovered }, "at {length}");
            assert_eq!([&first, &second, &third].map(|segment| verdict_of(&report, segment)), expected);
            assert_eq!(verdict_of(&report, &next), Verdict::Intact);
            fs::remove_file(log.file(&next)).unwrap();
        }
    });
}

#[test]
fn crash_during_ledger_repair_is_recovered() {
    with_log(|log| {
        let first = log.closed(1);
        let second = log.killed(1);
        let whole = fs::read(log.ledger()).unwrap();
        let torn = whole.len() - 20;
        cut(&log.ledger(), &whole, torn);
        let third = log.closed(0);
        let repaired = fs::read(log.ledger()).unwrap();
        for length in torn..repaired.len() {
            cut(&log.ledger(), &repaired, length);
            let next = log.closed(0);
            let again = log.closed(0);
            assert_eq!(fs::read(log.ledger()).unwrap()[..length], repaired[..length]);
            let report = log.report();
            assert_eq!(report.ledger, Verdict::Recovered, "at {length}");
            assert_eq!(verdict_of(&report, &first), Verdict::Intact);
            // Its announcement was never complete.
            assert_eq!(verdict_of(&report, &second), Verdict::Unlisted);
            assert_eq!([&next, &again].map(|segment| verdict_of(&report, segment)), [Verdict::Intact; 2]);
            assert!(matches!(verdict_of(&report, &third), Verdict::Unlisted | Verdict::Recovered));
            fs::remove_file(log.file(&next)).unwrap();
            fs::remove_file(log.file(&again)).unwrap();
        }
    });
}

#[test]
fn close_succeeds_after_torn_ledger_line() {
    with_log(|log| {
        let audit = log.open();
        let mut ledger = fs::read(log.ledger()).unwrap();
        ledger.extend_from_slice(b"{\"seq\":2,\"time\":");
        fs::write(log.ledger(), &ledger).unwrap();
        audit.close().unwrap();
        let report = log.report();
        assert_eq!((report.ledger, verdict_of(&report, audit.segment())), (Verdict::Recovered, Verdict::Intact));
    });
}

#[test]
fn line_of_zeros_is_torn() {
    with_log(|log| {
        // Some file systems leave zeros after a power failure.
        let segment = log.killed(1);
        let mut bytes = fs::read(log.file(&segment)).unwrap();
        bytes.extend_from_slice(&[0; 200_000]);
        fs::write(log.file(&segment), &bytes).unwrap();
        assert_eq!(log.verdict(&segment), Verdict::TornLastLine);
        let mut ledger = fs::read(log.ledger()).unwrap();
        ledger.extend_from_slice(&[0; 4096]);
        fs::write(log.ledger(), &ledger).unwrap();
        let next = log.closed(0);
        let report = log.report();
        assert_eq!(report.ledger, Verdict::Recovered);
        assert_eq!(verdict_of(&report, &segment), Verdict::TornLastLine);
        assert_eq!(verdict_of(&report, &next), Verdict::Intact);
    });
}

#[test]
fn empty_unannounced_file_is_not_reported() {
    with_log(|log| {
        log.closed(0);
        let name = ulid::Ulid::generate().to_string();
        fs::write(log.file(&name), b"").unwrap();
        assert_eq!(log.verdict(&name), Verdict::Recovered);
        fs::write(log.file(&name), b"x").unwrap();
        assert_eq!(log.verdict(&name), Verdict::Unlisted);
    });
}
