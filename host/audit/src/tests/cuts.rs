//! A process may die between any two bytes, and a file may be cut at any of them.

use super::*;

fn cut(path: &Path, whole: &[u8], length: usize) {
    fs::write(path, &whole[..length]).unwrap();
}

/// Whether a file cut here ends with a whole line.
fn at_line_end(whole: &[u8], length: usize) -> bool {
    length == 0 || whole[length - 1] == b'\n'
}

#[test]
fn a_closed_segment_cut_anywhere_is_truncated() {
    with_home(|place| {
        let segment = place.closed(4);
        let whole = fs::read(place.file(&segment)).unwrap();
        for length in 0..whole.len() {
            cut(&place.file(&segment), &whole, length);
            assert_eq!(place.verdict(&segment), Verdict::Truncated, "at {length}");
        }
        place.closed(0);
        assert_eq!(place.report().overall(), Verdict::Truncated);
        cut(&place.file(&segment), &whole, whole.len());
        assert_eq!(place.report().overall(), Verdict::Intact);
    });
}

#[test]
fn a_process_may_die_after_any_byte_of_its_segment() {
    with_home(|place| {
        let segment = place.killed(3);
        let whole = fs::read(place.file(&segment)).unwrap();
        let ledger = fs::read(place.ledger()).unwrap();
        for length in 0..=whole.len() {
            fs::write(place.ledger(), &ledger).unwrap();
            cut(&place.file(&segment), &whole, length);
            let expected = if at_line_end(&whole, length) { Verdict::Recovered } else { Verdict::TornLastLine };
            let events = whole[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
            let before = place.report();
            assert_eq!(before.overall(), expected, "at {length}");
            assert_eq!(before.segments[0].events, events);

            // The next process records it as it is, leaves the file alone, and the verdict stays.
            let next = place.closed(1);
            assert_eq!(fs::read(place.file(&segment)).unwrap(), whole[..length]);
            let after = place.report();
            assert_eq!(verdict_of(&after, &segment), expected, "at {length}");
            assert_eq!(verdict_of(&after, &next), Verdict::Intact);
            assert_eq!((after.overall(), after.ledger), (expected, Verdict::Intact));

            // From then on a cut shows, down to a byte of the torn line.
            if length > 0 {
                cut(&place.file(&segment), &whole, length - 1);
                assert_eq!(place.verdict(&segment), Verdict::Truncated, "at {length}");
            }
            if length < whole.len() {
                cut(&place.file(&segment), &whole, length + 1);
                let line = events + 1;
                assert_eq!(place.verdict(&segment), Verdict::Altered { line }, "at {length}");
            }
            fs::remove_file(place.file(&next)).unwrap();
        }
    });
}

#[test]
fn a_process_may_die_after_any_byte_of_the_ledger() {
    with_home(|place| {
        let first = place.closed(1);
        let second = place.killed(1);
        let third = place.closed(1);
        let whole = fs::read(place.ledger()).unwrap();
        assert_eq!(lines(&place.ledger()).len(), 6);
        for length in 0..=whole.len() {
            cut(&place.ledger(), &whole, length);
            let whole_line = at_line_end(&whole, length);
            let known = lines(&place.ledger()).iter().filter(|line| line.ends_with(b"\n")).count();
            let report = place.report();
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

            let next = place.closed(0);
            let kept = fs::read(place.ledger()).unwrap();
            assert_eq!(kept[..length], whole[..length], "nothing is ever cut off");
            let report = place.report();
            assert_eq!(report.ledger, if whole_line { Verdict::Intact } else { Verdict::Recovered }, "at {length}");
            assert_eq!([&first, &second, &third].map(|segment| verdict_of(&report, segment)), expected);
            assert_eq!(verdict_of(&report, &next), Verdict::Intact);
            fs::remove_file(place.file(&next)).unwrap();
        }
    });
}

#[test]
fn a_process_may_die_while_it_mends_the_ledger() {
    with_home(|place| {
        let first = place.closed(1);
        let second = place.killed(1);
        let whole = fs::read(place.ledger()).unwrap();
        let torn = whole.len() - 20;
        cut(&place.ledger(), &whole, torn);
        let third = place.closed(0);
        let mended = fs::read(place.ledger()).unwrap();
        for length in torn..mended.len() {
            cut(&place.ledger(), &mended, length);
            let next = place.closed(0);
            let again = place.closed(0);
            assert_eq!(fs::read(place.ledger()).unwrap()[..length], mended[..length]);
            let report = place.report();
            assert_eq!(report.ledger, Verdict::Recovered, "at {length}");
            assert_eq!(verdict_of(&report, &first), Verdict::Intact);
            // Its announcement was never completed.
            assert_eq!(verdict_of(&report, &second), Verdict::Unlisted);
            assert_eq!([&next, &again].map(|segment| verdict_of(&report, segment)), [Verdict::Intact; 2]);
            assert!(matches!(verdict_of(&report, &third), Verdict::Unlisted | Verdict::Recovered));
            fs::remove_file(place.file(&next)).unwrap();
            fs::remove_file(place.file(&again)).unwrap();
        }
    });
}

#[test]
fn closing_goes_on_after_a_torn_ledger_line() {
    with_home(|place| {
        let audit = place.open();
        let mut ledger = fs::read(place.ledger()).unwrap();
        ledger.extend_from_slice(b"{\"seq\":2,\"time\":");
        fs::write(place.ledger(), &ledger).unwrap();
        audit.close().unwrap();
        let report = place.report();
        assert_eq!((report.ledger, verdict_of(&report, audit.segment())), (Verdict::Recovered, Verdict::Intact));
    });
}

#[test]
fn a_torn_line_of_zeros_is_torn() {
    with_home(|place| {
        // What some file systems leave after a power cut.
        let segment = place.killed(1);
        let mut bytes = fs::read(place.file(&segment)).unwrap();
        bytes.extend_from_slice(&[0; 200_000]);
        fs::write(place.file(&segment), &bytes).unwrap();
        assert_eq!(place.verdict(&segment), Verdict::TornLastLine);
        let mut ledger = fs::read(place.ledger()).unwrap();
        ledger.extend_from_slice(&[0; 4096]);
        fs::write(place.ledger(), &ledger).unwrap();
        let next = place.closed(0);
        let report = place.report();
        assert_eq!(report.ledger, Verdict::Recovered);
        assert_eq!(verdict_of(&report, &segment), Verdict::TornLastLine);
        assert_eq!(verdict_of(&report, &next), Verdict::Intact);
    });
}

#[test]
fn a_file_never_announced_and_empty_is_no_finding() {
    with_home(|place| {
        place.closed(0);
        let name = ulid::Ulid::generate().to_string();
        fs::write(place.file(&name), b"").unwrap();
        assert_eq!(place.verdict(&name), Verdict::Recovered);
        fs::write(place.file(&name), b"x").unwrap();
        assert_eq!(place.verdict(&name), Verdict::Unlisted);
    });
}
