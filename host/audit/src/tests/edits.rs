//! Whoever cannot rewrite the ledger cannot change a closed or recovered segment unseen.

use proptest::prelude::*;

use super::*;

/// Which line a byte of a file stands in, from 1.
fn line_of(bytes: &[u8], at: usize) -> u64 {
    bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1
}

fn write_lines(path: &Path, lines: &[Vec<u8>]) {
    fs::write(path, lines.concat()).unwrap();
}

/// Writes the chain of some lines anew, as somebody who knows the format would.
fn rechain(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut chained: Vec<Vec<u8>> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).unwrap();
        fields.insert("seq".into(), (number + 1).into());
        if let Some(before) = chained.last() {
            fields.insert("prev".into(), chain::segment_line(before).to_hex().to_string().into());
        }
        let mut bytes = serde_json::to_vec(&fields).unwrap();
        bytes.push(b'\n');
        chained.push(bytes);
    }
    chained
}

#[test]
fn every_change_of_a_byte_shows_with_its_line() {
    for closed in [true, false] {
        with_home(|place| {
            let segment = if closed { place.closed(2) } else { place.killed(3) };
            if !closed {
                place.closed(0);
            }
            let genuine = if closed { Verdict::Intact } else { Verdict::Recovered };
            assert_eq!(place.verdict(&segment), genuine);
            let whole = fs::read(place.file(&segment)).unwrap();
            for at in 0..whole.len() {
                for change in [1, 0x20, whole[at] ^ b'\n'] {
                    if change == 0 {
                        continue;
                    }
                    let mut bytes = whole.clone();
                    bytes[at] ^= change;
                    fs::write(place.file(&segment), &bytes).unwrap();
                    let verdict = place.verdict(&segment);
                    if at == whole.len() - 1 {
                        assert_eq!(verdict, Verdict::Truncated, "the last newline");
                    } else {
                        assert_eq!(verdict, Verdict::Altered { line: line_of(&whole, at) }, "byte {at} xor {change}");
                    }
                }
            }
        });
    }
}

#[test]
fn an_altered_segment_is_not_laundered_by_recovery() {
    with_home(|place| {
        let segment = place.killed(4);
        let whole = lines(&place.file(&segment));
        let mut edited = whole.clone();
        edited[2] = String::from_utf8(edited[2].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&place.file(&segment), &edited);
        assert_eq!(place.verdict(&segment), Verdict::Altered { line: 3 });
        place.closed(0);
        // Neither a cut before the edit nor the old line makes it good again.
        for repaired in [&whole[..2], &whole[..]] {
            write_lines(&place.file(&segment), repaired);
            assert_eq!(place.verdict(&segment), Verdict::Altered { line: 3 });
        }
    });
}

#[test]
fn lines_removed_repeated_or_moved_show() {
    with_home(|place| {
        let segment = place.closed(4);
        let path = place.file(&segment);
        let whole = lines(&path);
        let altered = |lines: &[Vec<u8>], line: usize| {
            write_lines(&path, lines);
            assert_eq!(place.verdict(&segment), Verdict::Altered { line: line as u64 });
        };
        for at in 0..whole.len() {
            let mut edited = whole.clone();
            edited.remove(at);
            if at + 1 < whole.len() {
                altered(&edited, at + 1);
            } else {
                write_lines(&path, &edited);
                assert_eq!(place.verdict(&segment), Verdict::Truncated);
            }
            let mut edited = whole.clone();
            edited.insert(at, whole[at].clone());
            altered(&edited, at + 2);
            if at + 1 < whole.len() {
                let mut edited = whole.clone();
                edited.swap(at, at + 1);
                altered(&edited, at + 1);
            }
        }
        let mut edited = whole.clone();
        edited.push(b"\n".to_vec());
        altered(&edited, whole.len() + 1);
        edited.pop();
        edited.push(b"torn".to_vec());
        altered(&edited, whole.len() + 1);
        let mut long = vec![b'x'; 70_000];
        long.push(b'\n');
        edited[1] = long;
        altered(&edited, 2);
    });
}

#[test]
fn a_rewritten_chain_shows_by_the_ledger() {
    with_home(|place| {
        let segment = place.closed(3);
        let path = place.file(&segment);
        let whole = lines(&path);
        let count = whole.len() as u64;

        let mut edited = whole.clone();
        edited[2] = String::from_utf8(edited[2].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&path, &rechain(&edited));
        assert_eq!(place.verdict(&segment), Verdict::Altered { line: count });

        let mut edited = whole.clone();
        edited.remove(2);
        write_lines(&path, &rechain(&edited));
        assert_eq!(place.verdict(&segment), Verdict::Truncated);

        let mut edited = whole.clone();
        edited.push(whole[2].clone());
        let mut longer = whole.clone();
        longer.push(rechain(&edited).pop().unwrap());
        // The last line's `prev` has to be that of the genuine line before it.
        let head = chain::segment_line(&whole[whole.len() - 1]).to_hex().to_string();
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(longer.last().unwrap()).unwrap();
        fields.insert("prev".into(), head.into());
        *longer.last_mut().unwrap() = [serde_json::to_vec(&fields).unwrap(), b"\n".to_vec()].concat();
        write_lines(&path, &longer);
        assert_eq!(place.verdict(&segment), Verdict::Altered { line: count + 1 });
        assert_eq!(place.report().segments[0].events, count + 1, "the chain itself is right");
    });
}

#[test]
fn segments_are_bound_to_their_names() {
    with_home(|place| {
        let (one, two) = (place.closed(1), place.closed(1));
        let (first, second) = (fs::read(place.file(&one)).unwrap(), fs::read(place.file(&two)).unwrap());
        fs::write(place.file(&one), &second).unwrap();
        fs::write(place.file(&two), &first).unwrap();
        assert_eq!(place.verdict(&one), Verdict::Altered { line: 1 });
        assert_eq!(place.verdict(&two), Verdict::Altered { line: 1 });
    });
}

#[test]
fn files_missing_and_files_too_many_show() {
    with_home(|place| {
        let (kept, gone) = (place.closed(1), place.closed(1));
        let copy = ulid::Ulid::generate().to_string();
        fs::copy(place.file(&kept), place.file(&copy)).unwrap();
        fs::write(place.file("notes"), b"").unwrap();
        fs::remove_file(place.file(&gone)).unwrap();
        let report = place.report();
        assert_eq!(verdict_of(&report, &kept), Verdict::Intact);
        assert_eq!(verdict_of(&report, &copy), Verdict::Unlisted);
        assert_eq!(verdict_of(&report, "notes"), Verdict::Unlisted);
        assert_eq!(verdict_of(&report, &gone), Verdict::Missing);
        assert_eq!(report.overall(), Verdict::Missing);
        // Going on is possible, and the finding stays.
        place.closed(0);
        assert_eq!(place.verdict(&gone), Verdict::Missing);
    });
}

#[test]
fn a_trail_without_its_ledger_is_unlisted() {
    with_home(|place| {
        let segment = place.closed(1);
        fs::remove_file(place.ledger()).unwrap();
        let report = place.report();
        assert_eq!((report.ledger, verdict_of(&report, &segment)), (Verdict::Missing, Verdict::Unlisted));
        place.closed(0);
        let report = place.report();
        assert_eq!((report.ledger, verdict_of(&report, &segment)), (Verdict::Intact, Verdict::Unlisted));
        assert_eq!(report.overall(), Verdict::Unlisted);
    });
}

#[test]
fn an_altered_ledger_shows_and_stops_the_writing() {
    with_home(|place| {
        place.closed(1);
        place.killed(1);
        place.closed(1);
        let whole = lines(&place.ledger());
        let altered = |lines: &[Vec<u8>], line: usize| {
            write_lines(&place.ledger(), lines);
            let line = line as u64;
            assert_eq!(place.report().ledger, Verdict::LedgerAltered { line });
            assert_eq!(place.report().overall(), Verdict::LedgerAltered { line });
            let error = Audit::open(&place.dir(), SyncMode::Os).unwrap_err();
            assert!(error.to_string().contains(&format!("is altered at line {line}: ")), "{error}");
        };
        for at in 0..whole.len() - 1 {
            let mut edited = whole.clone();
            edited.remove(at);
            altered(&edited, at + 1);
            let mut edited = whole.clone();
            edited[at] = String::from_utf8(edited[at].clone()).unwrap().replacen("20", "21", 1).into_bytes();
            altered(&edited, at + 1);
            let mut edited = whole.clone();
            edited.swap(at, at + 1);
            altered(&edited, at + 1);
        }
        let mut edited = whole.clone();
        edited.push(whole[whole.len() - 1].clone());
        altered(&edited, whole.len() + 1);
    });
}

#[test]
fn every_change_of_a_byte_of_the_ledger_shows_but_in_its_last_time() {
    with_home(|place| {
        place.closed(0);
        place.closed(0);
        let whole = fs::read(place.ledger()).unwrap();
        let last = whole.len() - lines(&place.ledger()).last().unwrap().len();
        let time = String::from_utf8_lossy(&whole[last..]).find("\"time\"").unwrap() + last;
        let entry = String::from_utf8_lossy(&whole[last..]).find("\"entry\"").unwrap() + last;
        for at in 0..whole.len() {
            for change in [1, 0x80, whole[at] ^ b'\n'] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(place.ledger(), &bytes).unwrap();
                let report = place.report();
                if change == 0 || (time..entry).contains(&at) {
                    continue;
                }
                assert_ne!(report.overall(), Verdict::Intact, "byte {at} xor {change}");
                if at < last {
                    assert_eq!(report.ledger, Verdict::LedgerAltered { line: line_of(&whole, at) }, "byte {at}");
                }
            }
        }
    });
}

#[test]
fn a_newer_format_is_said_to_be_newer() {
    with_home(|place| {
        place.closed(0);
        let text = fs::read_to_string(place.ledger()).unwrap().replace("\"format\":1", "\"format\":2");
        fs::write(place.ledger(), text).unwrap();
        let errors = [verify(&place.dir(), None).unwrap_err(), Audit::open(&place.dir(), SyncMode::Os).unwrap_err()];
        for error in errors {
            assert_eq!(
                error.to_string(),
                "the audit has format 2, and this program knows formats up to 1: use a newer strongroom"
            );
        }
    });
}

// promise: An audit segment that was rewritten as a whole does not match the positions in the run
// records.
#[test]
fn positions_kept_beside_the_trail_find_a_segment_that_was_written_anew() {
    with_home(|place| {
        let audit = place.open();
        let kept: Vec<Expect> =
            (0..5).map(|number| Expect::try_from(&audit.append_blocking(event(number)).unwrap()).unwrap()).collect();
        let segment = audit.segment().to_owned();
        audit.kill();
        let elsewhere = Expect::parse(&format!("01ARZ3NDEKTSV4RRFFQ69G5FAV:3:{:064}", 0)).unwrap();
        let check = |kept: &[Expect]| verify_with(&place.dir(), None, kept).unwrap();
        let verdict = |kept: &[Expect]| verdict_of(&check(kept), &segment);
        // In any order, of any segment; none at all says nothing.
        let mut all = [&kept[..], &[elsewhere]].concat();
        all.reverse();
        assert_eq!(
            (verdict(&all), verdict(&[]), check(&all).segments.len()),
            (Verdict::Recovered, Verdict::Recovered, 1)
        );

        let whole = lines(&place.file(&segment));
        let mut edited = whole.clone();
        edited[3] = String::from_utf8(edited[3].clone()).unwrap().replace("allowed", "denied").into_bytes();
        for at in 4..edited.len() {
            let [was, is] = [&whole, &edited].map(|lines| chain::segment_line(&lines[at - 1]).to_hex().to_string());
            edited[at] = String::from_utf8(edited[at].clone()).unwrap().replace(&was, &is).into_bytes();
        }
        write_lines(&place.file(&segment), &edited);
        assert_eq!(verdict(&[]), Verdict::Recovered);
        // The first that differs is told, and those before it say nothing.
        assert_eq!(verdict(&all), Verdict::Altered { line: 4 });
        assert_eq!((verdict(&kept[..2]), verdict(&kept[3..])), (Verdict::Recovered, Verdict::Altered { line: 5 }));
        // Of two that contradict each other one is wrong.
        write_lines(&place.file(&segment), &whole);
        let other = Expect::parse(&format!("{segment}:4:{:064}", 0)).unwrap();
        assert_eq!(verdict(&[&kept[..], &[other]].concat()), Verdict::Altered { line: 4 });

        write_lines(&place.file(&segment), &whole[..4]);
        assert_eq!((verdict(&kept[..3]), verdict(&all)), (Verdict::Recovered, Verdict::Truncated));
    });
}

#[test]
fn a_position_kept_elsewhere_finds_what_the_ledger_cannot() {
    with_home(|place| {
        let audit = place.open();
        let early = audit.append_blocking(event(0)).unwrap();
        let late = audit.append_blocking(event(1)).unwrap();
        let segment = audit.segment().to_owned();
        audit.kill();
        let check = |expect: &Expect| verdict_of(&verify(&place.dir(), Some(expect)).unwrap(), expect.segment());
        let (early, late) = (Expect::try_from(&early).unwrap(), Expect::try_from(&late).unwrap());
        assert_eq!((check(&early), check(&late)), (Verdict::Recovered, Verdict::Recovered));

        // Nobody has recorded the end yet, so a cut at a line's end looks like a crash; not to whoever kept a position.
        let whole = lines(&place.file(&segment));
        write_lines(&place.file(&segment), &whole[..2]);
        assert_eq!(place.verdict(&segment), Verdict::Recovered);
        assert_eq!((check(&early), check(&late)), (Verdict::Recovered, Verdict::Truncated));

        let mut edited = whole.clone();
        edited[1] = String::from_utf8(edited[1].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&place.file(&segment), &rechain(&edited));
        assert_eq!(place.verdict(&segment), Verdict::Recovered);
        assert_eq!(check(&early), Verdict::Altered { line: 2 });
        assert_eq!(check(&late), Verdict::Altered { line: 3 });

        let mut unknown = early.clone();
        unknown.segment = ulid::Ulid::generate().to_string();
        assert_eq!(check(&unknown), Verdict::Missing);
        // Ledger, segment and all: only what was kept elsewhere is left to say so.
        fs::remove_file(place.file(&segment)).unwrap();
        fs::remove_file(place.ledger()).unwrap();
        assert_eq!(place.report().overall(), Verdict::Intact);
        assert_eq!(check(&early), Verdict::Missing);
    });
}

#[test]
fn expected_positions_are_parsed_strictly() {
    let head = "0".repeat(64);
    let good = format!("01D39ZY06FGSCTVN4T2V9PKHFZ:3:{head}");
    assert_eq!(Expect::parse(&good).unwrap().to_string(), good);
    for bad in [
        String::new(),
        "01D39ZY06FGSCTVN4T2V9PKHFZ:3".into(),
        format!("01D39ZY06FGSCTVN4T2V9PKHFZ:0:{head}"),
        format!("01D39ZY06FGSCTVN4T2V9PKHFZ:-1:{head}"),
        format!("01d39zy06fgsctvn4t2v9pkhfz:3:{head}"),
        format!("../../etc/passwd:3:{head}"),
        format!("01D39ZY06FGSCTVN4T2V9PKHFZ:3:{head}0"),
        format!("01D39ZY06FGSCTVN4T2V9PKHFZ:3:{head}:"),
    ] {
        assert_eq!(Expect::parse(&bad), Err(InvalidExpect), "{bad}");
    }
}

/// Bytes that look like lines often enough to get past the first check.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"\n".to_vec()),
        (0u64..4, "[a-z\"\\\\{}:,]{0,20}").prop_map(|(seq, text)| {
            format!("{{\"seq\":{seq},\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"torn\",\"bytes\":{seq},{text}")
                .into_bytes()
        }),
        (0u64..4).prop_map(|seq| {
            let prev = chain::ledger_genesis().to_hex();
            let head =
                "\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"start\",\"segment\":\"01D39ZY06FGSCTVN4T2V9PKHFZ\"";
            format!("{{\"seq\":{seq},{head},\"format\":1,\"prev\":\"{prev}\"}}\n").into_bytes()
        }),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_verify_or_read_panic(segment in hostile(), ledger in hostile()) {
        let place = Place::new();
        let name = place.closed(1);
        let genuine = fs::read(place.ledger()).unwrap();
        fs::write(place.file(&name), &segment).unwrap();
        let verdict = place.verdict(&name);
        prop_assert!(matches!(verdict, Verdict::Altered { .. } | Verdict::Truncated), "{}", verdict);
        fs::write(place.ledger(), &ledger).unwrap();
        prop_assert_ne!(place.report().overall(), Verdict::Live);
        let _ = Audit::open(&place.dir(), SyncMode::Os);
        prop_assert!(read(&place.dir()).unwrap().all(|item| item.is_ok()));
        fs::write(place.ledger(), [genuine, ledger].concat()).unwrap();
        let _ = place.report();
        let _ = Audit::open(&place.dir(), SyncMode::Os);
    }
}
