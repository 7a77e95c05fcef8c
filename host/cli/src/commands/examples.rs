//! The examples of the help texts and manual pages. A test parses each of them.

use clap::Command;

use super::style::HEADING;

/// The width of help texts in columns.
pub(super) const WIDTH: usize = 80;

/// The help template of commands with a long description.
const TEMPLATE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The examples: a line with a command's path without `strongroom`, or `strongroom` for the program
/// itself, then its examples. A blank line follows each command.
const EXAMPLES: &str = include_str!("examples.txt");

/// Returns each command with its examples.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    EXAMPLES.split("\n\n").filter_map(|block| {
        let (path, examples) = block.split_once('\n')?;
        Some((path, examples.lines().map(str::trim_start).collect()))
    })
}

/// Returns the examples of one command, by its path without `strongroom`, or of the program.
pub(super) fn of(path: &str) -> Vec<&'static str> {
    let path = if path.is_empty() { "strongroom" } else { path };
    all().find(|(command, _)| *command == path).map(|(_, examples)| examples).unwrap_or_default()
}

/// Adds examples to the help of all subcommands of the command at `path`.
pub(super) fn add(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |command| add(command, &path))
    });
    let examples = of(path);
    let command = if examples.is_empty() { command } else { command.after_help(section("Examples", &examples)) };
    // The long description goes before the options, and each option stays on one line. By default,
    // clap would give every option a paragraph and push the examples off the screen.
    match command.get_long_about().cloned() {
        Some(about) => command.before_help(about).long_about(None).help_template(TEMPLATE),
        None => command,
    }
}

/// Formats a section of the help text.
pub(super) fn section(heading: &str, lines: &[&str]) -> String {
    let mut text = format!("{HEADING}{heading}:{HEADING:#}");
    for line in lines {
        text += &format!("\n  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{base_command, command};
    use super::*;

    /// Returns the strongroom commands of an example as argument lists. No example quotes an
    /// argument.
    fn commands(example: &str) -> Vec<Vec<&str>> {
        let of_ours = |part: &str| part.split_whitespace().any(|word| word == "strongroom");
        let parts = example.split(" | ").filter(|part| of_ours(part));
        parts
            .map(|part| {
                part.split(" > ").next().unwrap().split_whitespace().skip_while(|word| word.contains('=')).collect()
            })
            .collect()
    }

    /// Collects each command without subcommands, with its path.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name()).trim().to_owned();
            if below.get_subcommands().next().is_none() {
                found.push((path.clone(), below.clone()));
            }
            leaves(below, &path, found);
        }
    }

    // promise: Every example in a help text is a valid command.
    #[test]
    fn every_help_example_parses() {
        for (path, examples) in all() {
            for example in examples {
                let commands = commands(example);
                assert!(!commands.is_empty(), "{example}");
                for words in commands {
                    assert!(
                        words
                            .join(" ")
                            .starts_with(&format!("strongroom {path}").replace("strongroom strongroom", "strongroom")),
                        "{example}"
                    );
                    let parsed = command().try_get_matches_from(&words);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                }
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut found = Vec::new();
        leaves(&base_command(), "", &mut found);
        let known: Vec<&str> = all().map(|(path, _)| path).filter(|path| *path != "strongroom").collect();
        for (path, _) in &found {
            assert!(known.contains(&path.as_str()), "`{path}` has no example: add one to `examples.txt`");
        }
        assert_eq!(known.len(), found.len(), "`examples.txt` has a command that does not exist");
    }

    #[test]
    fn help_fits_80_columns() {
        let mut found = vec![(String::new(), command())];
        leaves(&command(), "", &mut found);
        for (path, _) in found {
            for flag in ["-h", "--help"] {
                let words = ["strongroom"].into_iter().chain(path.split_whitespace()).chain([flag]);
                let text = command().try_get_matches_from(words).unwrap_err().render().to_string();
                assert!(text.contains(if path.is_empty() { "Getting started" } else { "Examples" }), "{path}: {text}");
                let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
                assert!(widest.chars().count() <= WIDTH, "{path}: {widest}");
            }
        }
    }
}
