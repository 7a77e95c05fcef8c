//! The time of a decision, and how it grows with the policy.

use std::fmt::Write as _;
use std::hint::black_box;

use jiff::Timestamp;
use strongroom::ids::SecretName;
use strongroom::policy::{Decisions, Operation};

use crate::Size;
use crate::host::policy;
use crate::table::{row, shown, take_turns, turn};

pub(crate) fn measure(size: Size) {
    for entries in [1, 100, size.choose(10_000, 1_000)] {
        // Realistic names, half of them prefixes.
        let mut text = "[secrets]\n".to_owned();
        for n in 0..entries {
            let pattern = if n % 2 == 0 { format!("'team-{n}-db-password'") } else { format!("'team-{n}-*'") };
            writeln!(text, "{pattern} = ['get']").unwrap();
        }
        let grants = policy(&text);
        let decisions = Decisions::new(grants);
        let name = |text: String| SecretName::parse(&text).unwrap();
        let (exact, unknown) =
            (name(format!("team-{}-db-password", (entries - 1) / 2 * 2)), name("another-name-that-is-longer".into()));
        let prefixed = name(format!("team-{}-api-token", entries / 2 * 2 - usize::from(entries > 1)));
        let now = Timestamp::now();
        let decide = |name: SecretName| {
            let decisions = &decisions;
            move |count: usize| (0..count).for_each(|_| drop(black_box(decisions.decide(Operation::Get, &name, now))))
        };
        let [exact, prefixed, unknown] = take_turns(
            [
                turn("by its name", decide(exact)),
                turn("by a prefix", decide(prefixed)),
                turn("refused", decide(unknown)),
            ],
            size.choose(50, 1),
            size.choose(2_000, 10),
        );
        let times = [&exact, &prefixed, &unknown].map(|taken| format!("{} {}", taken.name, shown(taken.fastest)));
        row(&format!("{entries} entries"), &times.join(", "));
    }
}
