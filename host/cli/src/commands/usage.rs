//! Explains invalid command lines and suggests corrections.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::examples;
use super::failure::Failure;

/// Returns the failure for an error in the arguments.
pub(super) fn failure(error: &Error, arguments: &[OsString], command: &Command) -> Failure {
    let line = ParsedLine::read(arguments, command);
    let failure = Failure::invalid(message(error, &line)).help(help(error, &line, command));
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            let usage = usage.to_string();
            failure.usage(usage.trim().trim_start_matches("Usage:").trim_start())
        }
        _ => failure,
    }
}

/// A command line, as far as it can be interpreted despite the error.
struct ParsedLine<'a> {
    /// The command path without `strongroom`.
    path: String,
    /// Other words that are not options.
    words: Vec<&'a str>,
    /// The options, without separate values.
    options: Vec<&'a str>,
}

impl<'a> ParsedLine<'a> {
    fn read(arguments: &'a [OsString], command: &Command) -> Self {
        let (mut path, mut words, mut options) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = command;
        let ours = arguments.iter().skip(1).take_while(|argument| *argument != "--");
        for word in ours.filter_map(|argument| argument.to_str()) {
            if word.starts_with('-') {
                options.push(word);
                continue;
            }
            match at.find_subcommand(word).filter(|_| words.is_empty()) {
                Some(below) => {
                    path.push(below.get_name());
                    at = below;
                }
                None => words.push(word),
            }
        }
        Self { path: path.join(" "), words, options }
    }

    /// Returns the full command path.
    fn command(&self) -> String {
        format!("strongroom {}", self.path).trim_end().to_owned()
    }
}

/// Returns clap's message, unless it would show text that may be secret.
fn message(error: &Error, line: &ParsedLine<'_>) -> String {
    let invalid = text(error, ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument if may_be_secret(&invalid, line) => {
            "unexpected argument (not shown, because it may be a secret value or a passphrase)".to_owned()
        }
        ErrorKind::UnknownArgument => format!("unexpected argument `{invalid}`"),
        ErrorKind::TooManyValues => {
            let option = invalid.split(['=', ' ', '[']).next().unwrap_or_default();
            format!("`{option}` takes no value (not shown, because it may be a secret)")
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.split("\n\n").next().unwrap_or_default();
            // In this program, names are in backticks.
            first.trim_start_matches("error:").trim().replace('\'', "`")
        }
    }
}

fn help(error: &Error, line: &ParsedLine<'_>, command: &Command) -> String {
    let suggested = |kind| all(error, kind).into_iter().next();
    if let Some(word) = suggested(ContextKind::SuggestedArg).or_else(|| suggested(ContextKind::SuggestedValue)) {
        return format!("did you mean `{word}`?");
    }
    if let Some(word) = suggested(ContextKind::SuggestedSubcommand) {
        return format!("did you mean `{} {word}`?", line.command());
    }
    let more = format!("run `{} --help` for usage", line.command());
    let invalid = text(error, ContextKind::InvalidArg);
    match (error.kind(), line.path.as_str()) {
        (ErrorKind::UnknownArgument, "run") => help_for_run(&invalid, line),
        (ErrorKind::UnknownArgument, "policy suggest" | "audit show") if !invalid.starts_with('-') => {
            format!("select a run with `--run`: `{} --run {invalid}`", line.command())
        }
        (ErrorKind::InvalidSubcommand, _) => {
            let given = text(error, ContextKind::InvalidSubcommand);
            if given.ends_with(".wasm") {
                return format!("run a component with `strongroom run {given} --policy FILE`");
            }
            match commands_named(command, command.get_name(), &given).as_slice() {
                found @ ([_] | [_, _]) => format!("did you mean {}?", found.join(" or ")),
                _ => more,
            }
        }
        (ErrorKind::MissingRequiredArgument, path) => {
            match examples::of(path).iter().min_by_key(|example| example.len()) {
                Some(example) => format!("try `{example}`"),
                None => more,
            }
        }
        _ => more,
    }
}

/// Returns help for an argument that `run` does not accept.
fn help_for_run(unknown: &str, line: &ParsedLine<'_>) -> String {
    // A value of an option may precede the component.
    let component = line.words.iter().find(|word| word.ends_with(".wasm") && **word != unknown);
    let first = component.or(line.words.first()).copied().unwrap_or("COMPONENT");
    let (what, arguments) = match unknown {
        _ if unknown.starts_with('-') => ("", String::new()),
        _ if unknown.ends_with(".wasm") && first.ends_with(".toml") => {
            ("put the component first and the policy after `--policy`", format!("{unknown} --policy {first}"))
        }
        _ if unknown.ends_with(".wasm") => return "run one component at a time".to_owned(),
        _ if unknown.ends_with(".toml") => ("pass a policy with `--policy`", format!("{first} --policy {unknown}")),
        _ if Path::new(unknown).is_dir() => {
            ("pass a directory with `--input` or `--output`", format!("{first} --input {unknown}"))
        }
        _ if unknown.contains('=') => ("pass a parameter with `--param`", format!("{first} --param {unknown}")),
        _ => ("", String::new()),
    };
    if !what.is_empty() {
        return format!("{what}: `strongroom run {arguments}`");
    }
    // Options are abbreviated as `...`, because leaving them out would change the run.
    let options = if line.options.iter().any(|option| *option != unknown) { " ..." } else { "" };
    format!("pass the component's own arguments after `--`: `strongroom run {first}{options} -- {unknown}`")
}

/// Returns the paths of all commands with this name, in backticks.
fn commands_named(command: &Command, path: &str, name: &str) -> Vec<String> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below
        .flat_map(|below| {
            let path = format!("{path} {}", below.get_name());
            let here = (below.get_name() == name).then(|| format!("`{path}`"));
            here.into_iter().chain(commands_named(below, &path, name))
        })
        .collect()
}

/// Returns whether an unexpected argument may be a secret value or a passphrase.
fn may_be_secret(argument: &str, line: &ParsedLine<'_>) -> bool {
    ["secret", "init", "vault"].iter().any(|command| line.path.starts_with(command)) && !argument.starts_with('-')
}

fn text(error: &Error, kind: ContextKind) -> String {
    all(error, kind).join(" ")
}

fn all(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
