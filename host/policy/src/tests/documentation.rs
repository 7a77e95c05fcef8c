//! The examples of `docs/policy.md` are valid policies.

use super::*;

const PAGE: &str = include_str!("../../../../docs/policy.md");

/// Returns the blocks fenced as `kind`.
pub(super) fn blocks(kind: &str) -> Vec<String> {
    let opening = format!("```{kind}");
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for line in PAGE.lines() {
        match &mut current {
            None if line == opening => current = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(current.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn documented_policy_parses() {
    let blocks = blocks("toml");
    assert!(blocks.len() >= 3, "the page has examples");
    for block in blocks {
        if let Err(error) = Policy::parse(&block, "docs/policy.md") {
            panic!("{error}\n{block}");
        }
    }
}

#[test]
fn documented_invalid_policy_gets_the_documented_errors() {
    let (wrong, said) = (blocks("toml wrong"), blocks("text"));
    assert!(!wrong.is_empty());
    assert_eq!(wrong.len(), said.len());
    for (block, said) in wrong.iter().zip(said) {
        let error = Policy::parse(block, "policy.toml").map(drop).unwrap_err().to_string();
        assert_eq!(format!("{error}\n"), said);
    }
}

#[test]
fn documented_limit_defaults_are_current() {
    for (limit, default) in Limits::default().rows() {
        let row = format!("| `{limit}` | ");
        let line = PAGE.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no row for {limit}"));
        assert!(line.contains(&format!("`{default}`")), "{limit}: {default}: {line}");
    }
}

/// Returns whether a line matches a pattern in which `[..]` stands for any text.
fn matches(wanted: &str, line: &str) -> bool {
    match wanted.split_once("[..]") {
        None => wanted == line,
        Some((before, rest)) => line.strip_prefix(before).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| matches(rest, &line[at..]))
        }),
    }
}

#[test]
fn documented_walk_through_matches_the_transcript() {
    // An integration test runs the transcript.
    let transcript = include_str!("../../../../tests/cases/policy-from-nothing.txt");
    let mut lines = transcript.lines();
    let blocks = blocks("console");
    assert!(blocks.len() >= 3);
    for wanted in blocks.iter().flat_map(|block| block.lines()) {
        assert!(lines.any(|line| matches(wanted, line)), "not in the transcript, or not in this order: {wanted}");
    }
}
