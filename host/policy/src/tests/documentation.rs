//! The examples of `docs/policy.md` are policies that parse.

use super::*;

const PAGE: &str = include_str!("../../../../docs/policy.md");

/// The blocks fenced as `kind`.
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
fn every_example_parses() {
    let blocks = blocks("toml");
    assert!(blocks.len() >= 3, "the page has examples");
    for block in blocks {
        if let Err(error) = Policy::parse(&block, "docs/policy.md") {
            panic!("{error}\n{block}");
        }
    }
}

#[test]
fn every_wrong_example_is_refused_as_the_page_says() {
    let (wrong, said) = (blocks("toml wrong"), blocks("text"));
    assert!(!wrong.is_empty());
    assert_eq!(wrong.len(), said.len());
    for (block, said) in wrong.iter().zip(said) {
        let error = Policy::parse(block, "policy.toml").map(drop).unwrap_err().to_string();
        assert_eq!(format!("{error}\n"), said);
    }
}

#[test]
fn the_defaults_are_those_of_the_page() {
    for (limit, default) in Limits::default().rows() {
        let row = format!("| `{limit}` | ");
        let line = PAGE.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no row for {limit}"));
        assert!(line.contains(&format!("`{default}`")), "{limit}: {default}: {line}");
    }
}

/// Whether a line is as the page has it, `[..]` standing for any text.
fn fits(wanted: &str, line: &str) -> bool {
    match wanted.split_once("[..]") {
        None => wanted == line,
        Some((before, rest)) => line.strip_prefix(before).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| fits(rest, &line[at..]))
        }),
    }
}

#[test]
fn the_walk_through_is_what_the_program_prints() {
    // The transcript is played against the program by an integration test.
    let transcript = include_str!("../../../../tests/cases/policy-from-nothing.txt");
    let mut lines = transcript.lines();
    let blocks = blocks("console");
    assert!(blocks.len() >= 3);
    for wanted in blocks.iter().flat_map(|block| block.lines()) {
        assert!(lines.any(|line| fits(wanted, line)), "not in the transcript, or not in this order: {wanted}");
    }
}
