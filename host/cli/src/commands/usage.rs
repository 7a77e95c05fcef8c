//! Explains invalid command lines and suggests corrections.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::examples;
use super::failure::Failure;

/// The maximum nesting depth of commands.
const DEPTH_MAX: usize = 4;

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

fn message(error: &Error, line: &ParsedLine<'_>) -> String {
    let invalid = text(error, ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument if may_be_secret(&invalid, line) => {
            "unexpected argument (not shown, because it may be a secret value or a passphrase)".to_owned()
        }
        ErrorKind::UnknownArgument => format!("unexpected argument `{invalid}`"),
        ErrorKind::InvalidSubcommand => {
            let given = text(error, ContextKind::InvalidSubcommand);
            format!("`{}` has no command `{given}`", line.command())
        }
        ErrorKind::InvalidValue if text(error, ContextKind::InvalidValue).is_empty() => {
            format!("missing value for `{}`", option(&invalid))
        }
        ErrorKind::InvalidValue => {
            let value = text(error, ContextKind::InvalidValue);
            let valid = quoted(&all(error, ContextKind::ValidValue), ", ");
            format!("invalid value `{value}` for `{invalid}`: expected one of {valid}")
        }
        ErrorKind::ValueValidation => {
            let value = text(error, ContextKind::InvalidValue);
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            format!("invalid value `{value}` for `{invalid}`{why}")
        }
        ErrorKind::TooManyValues => {
            format!("`{}` takes no value (not shown, because it may be a secret)", option(&invalid))
        }
        ErrorKind::MissingRequiredArgument => {
            format!("`{}` requires {}", line.command(), quoted(&all(error, ContextKind::InvalidArg), " and "))
        }
        ErrorKind::ArgumentConflict if is_repeated(error) => format!("`{}` is given more than once", option(&invalid)),
        ErrorKind::ArgumentConflict => {
            let others: Vec<_> =
                all(error, ContextKind::PriorArg).iter().map(|other| option(other).to_owned()).collect();
            format!("`{}` cannot be used with {}", option(&invalid), quoted(&others, ", "))
        }
        // Rare errors use the first paragraph of clap's message, without its label.
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.split("\n\n").next().unwrap_or_default();
            first.trim_start_matches("error:").trim().to_owned()
        }
    }
}

fn help(error: &Error, line: &ParsedLine<'_>, command: &Command) -> String {
    let invalid = text(error, ContextKind::InvalidArg);
    let more = format!("run `{} --help` for usage", line.command());
    match error.kind() {
        ErrorKind::UnknownArgument => {
            if let Some(suggestion) = all(error, ContextKind::SuggestedArg).first() {
                return format!("did you mean `{suggestion}`?");
            }
            match line.path.as_str() {
                "run" => help_for_run(&invalid, line),
                "policy suggest" | "audit show" if !invalid.starts_with('-') => {
                    format!("select a run with `--run`: `{} --run {invalid}`", line.command())
                }
                _ => more,
            }
        }
        ErrorKind::InvalidSubcommand => {
            let given = text(error, ContextKind::InvalidSubcommand);
            if let Some(suggestion) = all(error, ContextKind::SuggestedSubcommand).first() {
                return format!("did you mean `{} {suggestion}`?", line.command());
            }
            if given.ends_with(".wasm") {
                return format!("run a component with `strongroom run {given} --policy FILE`");
            }
            if let Some(suggestion) = synonym(&given, &line.path) {
                return format!("did you mean `{} {suggestion}`?", line.command());
            }
            match commands_named(command, &given).as_slice() {
                suggestion @ ([_] | [_, _]) => format!("did you mean {}?", quoted(suggestion, " or ")),
                _ => more,
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => match all(error, ContextKind::SuggestedValue).first() {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => more,
        },
        ErrorKind::ArgumentConflict if is_repeated(error) => "give it once".to_owned(),
        ErrorKind::ArgumentConflict => "use only one of them".to_owned(),
        ErrorKind::MissingRequiredArgument => {
            match examples::for_command(&line.path).iter().min_by_key(|example| example.len()) {
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
    if let Some(suggestion) = long_form(unknown) {
        return format!("did you mean `{suggestion}`?");
    }
    // Options are abbreviated as `...`, because leaving them out would change the run.
    let options = if line.options.iter().any(|option| *option != unknown) { " ..." } else { "" };
    let own = format!("pass the component's own arguments after `--`: `strongroom run {first}{options} -- {unknown}`");
    if unknown.starts_with('-') {
        return own;
    }
    if unknown.ends_with(".wasm") && first.ends_with(".toml") {
        return format!(
            "put the component first and the policy after `--policy`: `strongroom run {unknown} --policy {first}`"
        );
    }
    if unknown.ends_with(".wasm") {
        return "run one component at a time".to_owned();
    }
    if unknown.ends_with(".toml") {
        return format!("pass a policy with `--policy`: `strongroom run {first} --policy {unknown}`");
    }
    if Path::new(unknown).is_dir() {
        return format!("pass a directory with `--input` or `--output`: `strongroom run {first} --input {unknown}`");
    }
    if unknown.contains('=') {
        return format!("pass a parameter with `--param`: `strongroom run {first} --param {unknown}`");
    }
    own
}

/// Returns the option of `run` that other programs abbreviate this way.
fn long_form(option: &str) -> Option<&'static str> {
    match option {
        "-p" => Some("--policy"),
        "-i" => Some("--input"),
        "-o" => Some("--output"),
        _ => None,
    }
}

/// Returns the subcommand that other programs call by another name.
fn synonym(given: &str, path: &str) -> Option<&'static str> {
    match (path, given) {
        ("secret", "rm" | "remove") => Some("delete"),
        ("secret" | "runs", "ls") => Some("list"),
        _ => None,
    }
}

/// Returns the paths of all commands with this name.
fn commands_named(command: &Command, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(command, command.get_name().to_owned(), 0)];
    while let Some((at, path, depth)) = waiting.pop() {
        for below in at.get_subcommands().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name());
            if below.get_name() == name {
                found.push(path.clone());
            }
            if depth < DEPTH_MAX {
                waiting.push((below, path, depth + 1));
            }
        }
    }
    found.sort();
    found
}

/// Returns the name of an option without its value placeholder.
fn option(argument: &str) -> &str {
    argument.split(' ').next().unwrap_or(argument).trim_matches(['[', ']'])
}

/// Returns whether an unexpected argument may be a secret value or a passphrase.
fn may_be_secret(argument: &str, line: &ParsedLine<'_>) -> bool {
    ["secret", "init", "vault"].iter().any(|command| line.path.starts_with(command)) && !argument.starts_with('-')
}

/// Returns whether an argument conflicts with itself.
fn is_repeated(error: &Error) -> bool {
    let others = all(error, ContextKind::PriorArg);
    others.is_empty() || others == all(error, ContextKind::InvalidArg)
}

fn quoted(words: &[String], between: &str) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(between)
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
