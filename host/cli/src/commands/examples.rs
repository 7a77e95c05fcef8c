//! The examples of the help texts and manual pages. A test parses each of them.

use clap::Command;

use super::style::HEADING;

/// The width of help texts in columns.
pub(super) const WIDTH: usize = 80;

/// The help template of commands with a long description.
const TEMPLATE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The examples of the top-level help.
pub(super) const GETTING_STARTED: &[&str] = &[
    "strongroom init",
    "strongroom secret set dataset-key",
    "strongroom inspect train.wasm --starter-policy > policy.toml",
    "strongroom run train.wasm --policy policy.toml --input data --output model",
    "strongroom policy suggest",
    "strongroom runs show",
    "strongroom audit verify",
];

/// The examples of each command, by its path without `strongroom`.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    ("init", &["strongroom init", "strongroom init --passphrase --vault local:/srv/team/vault"]),
    (
        "secret set",
        &[
            "strongroom secret set db-password",
            "strongroom secret set model-key --from-file model.key --expires 2030-01-01",
            "pass show db | strongroom secret set db-password",
            "strongroom secret set --env-file prod.env --rename",
        ],
    ),
    ("secret get", &["strongroom secret get model-key > model.key", "strongroom secret get db-password --show"]),
    ("secret list", &["strongroom secret list"]),
    ("secret describe", &["strongroom secret describe db-password --json"]),
    ("secret versions", &["strongroom secret versions model-key"]),
    ("secret delete", &["strongroom secret delete db-password"]),
    ("secret recover", &["strongroom secret recover db-password --vault https://team.vault.azure.net"]),
    ("secret purge", &["strongroom secret purge db-password --vault https://team.vault.azure.net"]),
    (
        "run",
        &[
            "strongroom run train.wasm --policy policy.toml --input data --output model",
            "strongroom run train.wasm --policy policy.toml",
            "strongroom run train.wasm --policy policy.toml --param epochs=20 -- --verbose",
        ],
    ),
    ("runs list", &["strongroom runs list", "strongroom runs list --json | jq -r '.[].outcome'"]),
    ("runs log", &["strongroom runs log", "strongroom runs log 01ARZ3NDEK | less"]),
    (
        "runs show",
        &["strongroom runs show", "strongroom runs show --html run.html", "strongroom runs show 01ARZ3NDEK --json"],
    ),
    ("inspect", &["strongroom inspect train.wasm", "strongroom inspect train.wasm --starter-policy > policy.toml"]),
    ("policy check", &["strongroom policy check policy.toml"]),
    ("policy suggest", &["strongroom policy suggest", "strongroom policy suggest --run last > suggested.toml"]),
    ("policy schema", &["strongroom policy schema > policy.schema.json"]),
    ("policy explain", &["strongroom policy explain policy.toml get db-password"]),
    ("audit show", &["strongroom audit show --run last", "strongroom audit show --last 20 --json"]),
    ("audit verify", &["strongroom audit verify", "strongroom audit verify --json"]),
    (
        "vault status",
        &[
            "strongroom vault status",
            "strongroom vault status --verify --json",
            "strongroom vault status --vault https://team.vault.azure.net",
        ],
    ),
    ("vault backup", &["strongroom vault backup backups/monday"]),
    ("vault rekey", &["strongroom vault rekey", "strongroom vault rekey --passphrase"]),
    ("config show", &["strongroom config show", "STRONGROOM_HOME=/srv/strongroom strongroom config show --json"]),
    (
        "completions",
        &[
            "strongroom completions bash > ~/.local/share/bash-completion/completions/strongroom",
            "strongroom completions zsh > ~/.zfunc/_strongroom",
        ],
    ),
    ("man", &["strongroom man | man -l -", "strongroom man --dir ~/.local/share/man/man1"]),
];

/// Returns the examples of one command.
pub(super) fn for_command(path: &str) -> &'static [&'static str] {
    EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[], |(_, examples)| examples)
}

/// Adds examples to the help of all subcommands.
pub(super) fn add(command: Command) -> Command {
    add_at(command, "")
}

fn add_at(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |command| add_at(command, &path))
    });
    let examples = for_command(path);
    let command = if examples.is_empty() { command } else { command.after_help(section("Examples", examples)) };
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
        for (path, examples) in EXAMPLES.iter().copied().chain([("", GETTING_STARTED)]) {
            for example in examples {
                let commands = commands(example);
                assert!(!commands.is_empty(), "{example}");
                for words in commands {
                    assert!(words.join(" ").starts_with(format!("strongroom {path}").trim_end()), "{example}");
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
        let known: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
        for (path, _) in &found {
            assert!(known.contains(&path.as_str()), "`{path}` has no example: add one to the table");
        }
        assert_eq!(known.len(), found.len(), "the table has an example of a command that is not there");
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
