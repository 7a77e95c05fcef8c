//! Components that are nearly right: small ones, changed at random, from the reading of their bytes to their instantiation and beyond. Whatever a change
//! makes of one, it is invalid input, or a run with a record for which the host is not to blame.

use strongroom::record::Outcome;
use strongroom::runner::StartError;

use crate::support::random::Random;
use crate::support::trial::Trial;
use crate::support::{files_below, guest, project};

/// How many changed components there are of each that is written by hand.
const OF_EACH: usize = 150;

const POLICY: &str = "version = 1\n[secrets]\nkey = [\"get\", \"set\"]\n[limits]\ntime = \"30ms\"\nmemory = \"16MiB\"\nrequests = 100\nlog-bytes = \"4KiB\"";

/// What became of a component.
#[derive(Default, Debug)]
struct Seen {
    /// Refused as input, before there was a run.
    invalid: usize,
    /// A run that none of its code was in.
    refused: usize,
    /// Instantiated, at least in part.
    ran: usize,
}

// attack: resources: be nearly valid, or valid and absurd -> components are parsed within bounds,
// and compiled and run under limits
#[test]
fn a_component_that_was_changed_is_invalid_or_a_run_with_a_record() {
    let trial = Trial::new(POLICY);

    let mut random = Random::for_this_test();
    let mut seen = Seen::default();
    for text in files_below(&project().join("tests/guests/wat")) {
        let whole = std::fs::read(guest(text.file_stem().unwrap().to_str().unwrap())).unwrap();
        for _ in 0..OF_EACH {
            let changed = change(&whole, &mut random);
            let said = || format!("{} became {}", text.display(), hex(&changed));
            match trial.run(&changed) {
                Err(StartError::Component(_) | StartError::Invalid { .. }) => seen.invalid += 1,
                Err(other) => panic!("{other}: {}", said()),
                Ok(record) => match record.outcome {
                    Outcome::Refused => seen.refused += 1,
                    Outcome::Finished | Outcome::Failed | Outcome::Limit => seen.ran += 1,
                    _ => panic!("{:?}, {:?}: {}", record.outcome, record.reason, said()),
                },
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.invalid > 0 && seen.ran > 0, "the changes are too great, or too small, to tell anything: {seen:?}");
}

/// One to three small changes: a bit, a byte, a number at the edge, a part left out, doubled, or moved, an end cut off.
fn change(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(3) {
        let mut place = |length: usize| usize::try_from(random.below(length as u64 + 1)).unwrap();
        let (at, length) = (place(bytes.len().saturating_sub(1)), place(16));
        let part = at..(at + length).min(bytes.len());
        match place(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << place(7),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(place(255)).unwrap(),
            2 if !bytes.is_empty() => bytes[at] = [0x00, 0x7f, 0x80, 0xff][place(3)],
            3 => drop(bytes.drain(part)),
            4 => {
                let doubled = bytes[part].to_vec();
                bytes.splice(at..at, doubled);
            }
            5 => {
                let moved: Vec<u8> = bytes.drain(part).collect();
                let to = place(bytes.len());
                bytes.splice(to..to, moved);
            }
            // Seldom, for little is left to be read.
            _ if place(9) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
