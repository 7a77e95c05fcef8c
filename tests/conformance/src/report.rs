//! Writes the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Reason, Results};

const INTRODUCTION: &str = include_str!("introduction.md");

/// Returns the report as Markdown.
pub(crate) fn report(reasons: &[Reason], results: &BTreeMap<&str, Results>) -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Results\n\n| suite | tests | passed | not passed |\n|---|---:|---:|---:|\n");
    let mut totals = [0; 2];
    for (suite, tests) in results {
        let passed = tests.values().filter(|reason| reason.is_none()).count();
        totals = [totals[0] + tests.len(), totals[1] + passed];
        let _ = writeln!(text, "| {suite} | {} | {passed} | {} |", tests.len(), tests.len() - passed);
    }
    let [tests, passed] = totals;
    let _ = writeln!(text, "| total | {tests} | {passed} | {} |", tests - passed);
    text.push_str("\n## Tests that do not pass\n\n| reason | suite | tests |\n|---|---|---|\n");
    for reason in reasons {
        for (suite, tests) in results {
            let has_it = |(_, why): &(&String, &Option<String>)| why.as_ref() == Some(&reason.text);
            let names: Vec<_> = tests.iter().filter(has_it).map(|(name, _)| format!("`{name}`")).collect();
            if !names.is_empty() {
                let _ = writeln!(text, "| {} | {suite} | {} |", reason.text, names.join(" "));
            }
        }
    }
    text
}
