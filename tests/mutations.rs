//! Components that are almost valid: small ones with random changes. Each is either invalid input,
//! or a run with a record for which the host is not to blame.

use strongroom::record::Outcome;
use strongroom::runner::StartError;

use crate::support::random::Random;
use crate::support::trial::Trial;
use crate::support::{files_below, guest, project};

/// The number of mutations of each component that is written by hand.
const MUTATIONS: usize = 150;

const POLICY: &str = "version = 1\n[secrets]\nkey = [\"get\", \"set\"]\n[limits]\ntime = \"30ms\"\nmemory = \"16MiB\"\nrequests = 100\nlog-bytes = \"4KiB\"";

/// The numbers of components by result.
#[derive(Default, Debug)]
struct Results {
    /// Rejected as input, before a run started.
    invalid: usize,
    /// A run that was refused before any of its code ran.
    refused: usize,
    /// Instantiated, at least in part.
    ran: usize,
}

// attack: resources: be nearly valid, or valid and absurd -> components are parsed within bounds,
// and compiled and run under limits
#[test]
fn mutated_component_is_rejected_or_has_a_run_record() {
    let trial = Trial::new(POLICY);

    let mut random = Random::for_this_test();
    let mut results = Results::default();
    for text in files_below(&project().join("tests/guests/wat")) {
        let original = std::fs::read(guest(text.file_stem().unwrap().to_str().unwrap())).unwrap();
        for _ in 0..MUTATIONS {
            let mutated = mutate(&original, &mut random);
            let context = || format!("{} became {}", text.display(), hex(&mutated));
            match trial.run(&mutated) {
                Err(StartError::Component(_) | StartError::Invalid { .. }) => results.invalid += 1,
                Err(other) => panic!("{other}: {}", context()),
                Ok(record) => match record.outcome {
                    Outcome::Refused => results.refused += 1,
                    Outcome::Finished | Outcome::Failed | Outcome::Limit => results.ran += 1,
                    _ => panic!("{:?}, {:?}: {}", record.outcome, record.reason, context()),
                },
            }
        }
    }
    println!("{results:?}");
    assert!(
        results.invalid > 0 && results.ran > 0,
        "the changes are too great, or too small, to tell anything: {results:?}"
    );
}

/// Makes one to three small changes: a bit, a byte, a boundary number, a part removed, doubled or
/// moved, or the end cut off.
fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(3) {
        let mut up_to = |length: usize| usize::try_from(random.below(length as u64 + 1)).unwrap();
        let (at, length) = (up_to(bytes.len().saturating_sub(1)), up_to(16));
        let part = at..(at + length).min(bytes.len());
        match up_to(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << up_to(7),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(up_to(255)).unwrap(),
            2 if !bytes.is_empty() => bytes[at] = [0x00, 0x7f, 0x80, 0xff][up_to(3)],
            3 => drop(bytes.drain(part)),
            4 => {
                let doubled = bytes[part].to_vec();
                bytes.splice(at..at, doubled);
            }
            5 => {
                let moved: Vec<u8> = bytes.drain(part).collect();
                let to = up_to(bytes.len());
                bytes.splice(to..to, moved);
            }
            // Rarely, because little is left to parse.
            _ if up_to(9) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
