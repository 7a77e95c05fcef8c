//! Tests that an attacker who cannot rewrite the ledger cannot change a closed or recovered segment
//! undetected.

use proptest::prelude::*;

use super::*;

/// Returns the line of a byte, from 1.
fn line_of(bytes: &[u8], at: usize) -> u64 {
    bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1
}

fn write_lines(path: &Path, lines: &[Vec<u8>]) {
    fs::write(path, lines.concat()).unwrap();
}

/// Rebuilds the chain of some lines, like an attacker who knows the format.
fn rebuild_chain(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
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
fn changed_byte_is_reported_with_its_line() {
    for closed in [true, false] {
        with_log(|log| {
            let segment = if closed { log.closed(2) } else { log.killed(3) };
            if !closed {
                log.closed(0);
            }
            let genuine = if closed { Verdict::Intact } else { Verdict::Recovered };
            assert_eq!(log.verdict(&segment), genuine);
            let whole = fs::read(log.file(&segment)).unwrap();
            for at in 0..whole.len() {
                for change in [1, 0x20, whole[at] ^ b'\n'] {
                    if change == 0 {
                        continue;
                    }
                    let mut bytes = whole.clone();
                    bytes[at] ^= change;
                    fs::write(log.file(&segment), &bytes).unwrap();
                    let verdict = log.verdict(&segment);
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
fn recovery_does_not_hide_an_altered_line() {
    with_log(|log| {
        let segment = log.killed(4);
        let whole = lines(&log.file(&segment));
        let mut edited = whole.clone();
        edited[2] = String::from_utf8(edited[2].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&log.file(&segment), &edited);
        assert_eq!(log.verdict(&segment), Verdict::Altered { line: 3 });
        log.closed(0);
        // Neither a cut before the edit nor restoring the line makes the segment valid again.
        for repaired in [&whole[..2], &whole[..]] {
            write_lines(&log.file(&segment), repaired);
            assert_eq!(log.verdict(&segment), Verdict::Altered { line: 3 });
        }
    });
}

#[test]
fn removed_repeated_or_moved_line_is_reported() {
    with_log(|log| {
        let segment = log.closed(4);
        let path = log.file(&segment);
        let whole = lines(&path);
        let altered = |lines: &[Vec<u8>], line: usize| {
            write_lines(&path, lines);
            assert_eq!(log.verdict(&segment), Verdict::Altered { line: line as u64 });
        };
        for at in 0..whole.len() {
            let mut edited = whole.clone();
            edited.remove(at);
            if at + 1 < whole.len() {
                altered(&edited, at + 1);
            } else {
                write_lines(&path, &edited);
                assert_eq!(log.verdict(&segment), Verdict::Truncated);
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
fn rewritten_chain_contradicts_the_ledger() {
    with_log(|log| {
        let segment = log.closed(3);
        let path = log.file(&segment);
        let whole = lines(&path);
        let count = whole.len() as u64;

        let mut edited = whole.clone();
        edited[2] = String::from_utf8(edited[2].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&path, &rebuild_chain(&edited));
        assert_eq!(log.verdict(&segment), Verdict::Altered { line: count });

        let mut edited = whole.clone();
        edited.remove(2);
        write_lines(&path, &rebuild_chain(&edited));
        assert_eq!(log.verdict(&segment), Verdict::Truncated);

        let mut edited = whole.clone();
        edited.push(whole[2].clone());
        let mut longer = whole.clone();
        longer.push(rebuild_chain(&edited).pop().unwrap());
        // The `prev` of the last line must be the hash of the genuine line before it.
        let head = chain::segment_line(&whole[whole.len() - 1]).to_hex().to_string();
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(longer.last().unwrap()).unwrap();
        fields.insert("prev".into(), head.into());
        *longer.last_mut().unwrap() = [serde_json::to_vec(&fields).unwrap(), b"\n".to_vec()].concat();
        write_lines(&path, &longer);
        assert_eq!(log.verdict(&segment), Verdict::Altered { line: count + 1 });
        assert_eq!(log.report().segments[0].events, count + 1, "the chain itself is valid");
    });
}

#[test]
fn renamed_segments_are_altered() {
    with_log(|log| {
        let (one, two) = (log.closed(1), log.closed(1));
        let (first, second) = (fs::read(log.file(&one)).unwrap(), fs::read(log.file(&two)).unwrap());
        fs::write(log.file(&one), &second).unwrap();
        fs::write(log.file(&two), &first).unwrap();
        assert_eq!(log.verdict(&one), Verdict::Altered { line: 1 });
        assert_eq!(log.verdict(&two), Verdict::Altered { line: 1 });
    });
}

#[test]
fn missing_and_extra_files_are_reported() {
    with_log(|log| {
        let (kept, gone) = (log.closed(1), log.closed(1));
        let copy = ulid::Ulid::generate().to_string();
        fs::copy(log.file(&kept), log.file(&copy)).unwrap();
        fs::write(log.file("notes"), b"").unwrap();
        fs::remove_file(log.file(&gone)).unwrap();
        let report = log.report();
        assert_eq!(verdict_of(&report, &kept), Verdict::Intact);
        assert_eq!(verdict_of(&report, &copy), Verdict::Unlisted);
        assert_eq!(verdict_of(&report, "notes"), Verdict::Unlisted);
        assert_eq!(verdict_of(&report, &gone), Verdict::Missing);
        assert_eq!(report.overall(), Verdict::Missing);
        // Writing can continue, and the verdict stays.
        log.closed(0);
        assert_eq!(log.verdict(&gone), Verdict::Missing);
    });
}

#[test]
fn segment_without_ledger_is_unlisted() {
    with_log(|log| {
        let segment = log.closed(1);
        fs::remove_file(log.ledger()).unwrap();
        let report = log.report();
        assert_eq!((report.ledger, verdict_of(&report, &segment)), (Verdict::Missing, Verdict::Unlisted));
        log.closed(0);
        let report = log.report();
        assert_eq!((report.ledger, verdict_of(&report, &segment)), (Verdict::Intact, Verdict::Unlisted));
        assert_eq!(report.overall(), Verdict::Unlisted);
    });
}

#[test]
fn altered_ledger_is_reported_and_stays_altered() {
    with_log(|log| {
        log.closed(1);
        log.killed(1);
        log.closed(1);
        let whole = lines(&log.ledger());
        let altered = |lines: &[Vec<u8>], line: usize| {
            write_lines(&log.ledger(), lines);
            let line = line as u64;
            assert_eq!(log.report().ledger, Verdict::LedgerAltered { line });
            assert_eq!(log.report().overall(), Verdict::LedgerAltered { line });
            // A process that starts reads only the last line. Its entries do not hide the edit.
            match Audit::open(&log.dir(), SyncMode::Os) {
                Ok(audit) => {
                    fill(&audit, 1);
                    audit.close().unwrap();
                    assert_eq!(log.report().ledger, Verdict::LedgerAltered { line });
                    fs::remove_file(log.file(audit.segment())).unwrap();
                }
                Err(error) => assert!(matches!(error, AuditError::LedgerAltered { line: found, .. } if found == line)),
            }
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
fn changed_ledger_byte_is_reported() {
    with_log(|log| {
        log.closed(0);
        log.closed(0);
        let whole = fs::read(log.ledger()).unwrap();
        let last = whole.len() - lines(&log.ledger()).last().unwrap().len();
        let time = String::from_utf8_lossy(&whole[last..]).find("\"time\"").unwrap() + last;
        let entry = String::from_utf8_lossy(&whole[last..]).find("\"entry\"").unwrap() + last;
        for at in 0..whole.len() {
            for change in [1, 0x80, whole[at] ^ b'\n'] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(log.ledger(), &bytes).unwrap();
                let report = match verify(&log.dir(), None) {
                    // A line can come to state a newer format.
                    Err(AuditError::Newer(3)) => continue,
                    report => report.unwrap(),
                };
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
fn newer_format_is_rejected_as_newer() {
    with_log(|log| {
        log.closed(0);
        let text = fs::read_to_string(log.ledger()).unwrap().replace("\"format\":2", "\"format\":3");
        fs::write(log.ledger(), text).unwrap();
        let errors = [verify(&log.dir(), None).unwrap_err(), Audit::open(&log.dir(), SyncMode::Os).unwrap_err()];
        for error in errors {
            assert_eq!(
                error.to_string(),
                "the audit log has format 3, but this program supports only formats up to 2: use a newer strongroom"
            );
        }
    });
}

// promise: An audit segment that was rewritten as a whole does not match the positions in the run
// records.
#[test]
fn stored_positions_reveal_a_rewritten_segment() {
    with_log(|log| {
        let audit = log.open();
        let kept: Vec<Expect> =
            (0..5).map(|number| Expect::try_from(&audit.append_blocking(event(number)).unwrap()).unwrap()).collect();
        let segment = audit.segment().to_owned();
        audit.kill();
        let elsewhere = Expect::parse(&format!("01ARZ3NDEKTSV4RRFFQ69G5FAV:3:{:064}", 0)).unwrap();
        let check = |kept: &[Expect]| verify_with(&log.dir(), None, kept).unwrap();
        let verdict = |kept: &[Expect]| verdict_of(&check(kept), &segment);
        // Positions in any order and of any segment; an empty list has no effect.
        let mut all = [&kept[..], &[elsewhere]].concat();
        all.reverse();
        assert_eq!(
            (verdict(&all), verdict(&[]), check(&all).segments.len()),
            (Verdict::Recovered, Verdict::Recovered, 1)
        );

        let whole = lines(&log.file(&segment));
        let mut edited = whole.clone();
        edited[3] = String::from_utf8(edited[3].clone()).unwrap().replace("allowed", "denied").into_bytes();
        for at in 4..edited.len() {
            let [was, is] = [&whole, &edited].map(|lines| chain::segment_line(&lines[at - 1]).to_hex().to_string());
            edited[at] = String::from_utf8(edited[at].clone()).unwrap().replace(&was, &is).into_bytes();
        }
        write_lines(&log.file(&segment), &edited);
        assert_eq!(verdict(&[]), Verdict::Recovered);
        // The first mismatch is reported; positions before it match.
        assert_eq!(verdict(&all), Verdict::Altered { line: 4 });
        assert_eq!((verdict(&kept[..2]), verdict(&kept[3..])), (Verdict::Recovered, Verdict::Altered { line: 5 }));
        // Of two contradictory positions one must be wrong.
        write_lines(&log.file(&segment), &whole);
        let other = Expect::parse(&format!("{segment}:4:{:064}", 0)).unwrap();
        assert_eq!(verdict(&[&kept[..], &[other]].concat()), Verdict::Altered { line: 4 });

        write_lines(&log.file(&segment), &whole[..4]);
        assert_eq!((verdict(&kept[..3]), verdict(&all)), (Verdict::Recovered, Verdict::Truncated));
    });
}

#[test]
fn expected_position_reveals_unrecorded_changes() {
    with_log(|log| {
        let audit = log.open();
        let early = audit.append_blocking(event(0)).unwrap();
        let late = audit.append_blocking(event(1)).unwrap();
        let segment = audit.segment().to_owned();
        audit.kill();
        let check = |expect: &Expect| verdict_of(&verify(&log.dir(), Some(expect)).unwrap(), expect.segment());
        let (early, late) = (Expect::try_from(&early).unwrap(), Expect::try_from(&late).unwrap());
        assert_eq!((check(&early), check(&late)), (Verdict::Recovered, Verdict::Recovered));

        // The end is not recorded yet, so a cut at the end of a line looks like a crash, except
        // when compared with a stored position.
        let whole = lines(&log.file(&segment));
        write_lines(&log.file(&segment), &whole[..2]);
        assert_eq!(log.verdict(&segment), Verdict::Recovered);
        assert_eq!((check(&early), check(&late)), (Verdict::Recovered, Verdict::Truncated));

        let mut edited = whole.clone();
        edited[1] = String::from_utf8(edited[1].clone()).unwrap().replace("allowed", "denied").into_bytes();
        write_lines(&log.file(&segment), &rebuild_chain(&edited));
        assert_eq!(log.verdict(&segment), Verdict::Recovered);
        assert_eq!(check(&early), Verdict::Altered { line: 2 });
        assert_eq!(check(&late), Verdict::Altered { line: 3 });

        let mut unknown = early.clone();
        unknown.segment = ulid::Ulid::generate().to_string();
        assert_eq!(check(&unknown), Verdict::Missing);
        // If ledger and segment are both deleted, only the stored position reveals it.
        fs::remove_file(log.file(&segment)).unwrap();
        fs::remove_file(log.ledger()).unwrap();
        assert_eq!(log.report().overall(), Verdict::Intact);
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

/// Generates bytes that often look enough like lines to pass the first check.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
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
    fn arbitrary_bytes_do_not_panic(segment in hostile_bytes(), ledger in hostile_bytes()) {
        let log = TestLog::new();
        let name = log.closed(1);
        let genuine = fs::read(log.ledger()).unwrap();
        fs::write(log.file(&name), &segment).unwrap();
        let verdict = log.verdict(&name);
        prop_assert!(matches!(verdict, Verdict::Altered { .. } | Verdict::Truncated), "{}", verdict);
        fs::write(log.ledger(), &ledger).unwrap();
        prop_assert_ne!(log.report().overall(), Verdict::Live);
        let _ = Audit::open(&log.dir(), SyncMode::Os);
        prop_assert!(read(&log.dir()).unwrap().all(|item| item.is_ok()));
        fs::write(log.ledger(), [genuine, ledger].concat()).unwrap();
        let _ = log.report();
        let _ = Audit::open(&log.dir(), SyncMode::Os);
    }
}
