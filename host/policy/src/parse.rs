//! Parses the text of a policy.
//!
//! The parser walks the TOML tree by hand instead of using `serde`. This gives every problem its
//! line, column and field, reports all problems at once, and avoids repeating values that may be
//! misplaced secrets.

mod secrets;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::limits::{NAMES, StatedLimits, parse_memory, parse_time};
use super::problem::{Lines, Location, PolicyError, Problem, comma_separated, key, nearest, quoted};
use super::rules::Rules;
use super::tcp::{TARGETS_MAX, TcpTarget};
use super::units::{DURATION_FORM, SIZE_FORM, parse_size};
use strongroom_core::ids::Digest;

/// The maximum length of a policy in bytes.
pub const TEXT_MAX: usize = 1 << 20;
/// The maximum number of entries in `[secrets]`.
pub const ENTRIES_MAX: usize = 10_000;

const TOP: [&str; 6] = ["version", "component", "tcp", "secrets", "environment", "limits"];

/// The contents of a policy.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) component: Option<Digest>,
    pub(crate) tcp: Vec<TcpTarget>,
    pub(crate) rules: Rules,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) stated: StatedLimits,
}

/// Parses a policy.
///
/// # Errors
/// Returns every problem; for text that is not TOML, only the first.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Parsed, PolicyError> {
    let mut parser = Parser { lines: Lines::new(""), problems: Vec::new() };
    let mut parsed = Parsed::default();
    if text.len() > TEXT_MAX {
        parser.problems.push(Problem {
            location: None,
            field: String::new(),
            message: format!("the policy is longer than 1 MiB ({TEXT_MAX} bytes); check that this is the right file"),
        });
    } else {
        parser.lines = Lines::new(text);
        match DeTable::parse(text) {
            Ok(document) => parser.document(document.get_ref(), &mut parsed),
            Err(error) => parser.syntax(&error),
        }
    }
    PolicyError::unless_empty(origin, parser.problems).map_or(Ok(parsed), Err)
}

/// Collects problems while it walks the tree.
struct Parser<'a> {
    lines: Lines<'a>,
    problems: Vec<Problem>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Parser<'_> {
    fn problem(&mut self, span: &Range<usize>, field: impl Into<String>, message: impl Into<String>) {
        let location = Some(self.lines.location(span));
        self.problems.push(Problem { location, field: field.into(), message: message.into() });
    }

    fn location(&self, span: &Range<usize>) -> Location {
        self.lines.location(span)
    }

    /// Uses only the message of the TOML parser: its `Display` shows the line, which may contain a
    /// value.
    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or_default();
        let key = self.lines.line(&span).split('=').next().unwrap_or_default();
        let message = match error.message() {
            "duplicate key" => "duplicate name; keep one".to_owned(),
            _ if key.contains('*') && !key.contains(['"', '\'', '#']) => {
                "invalid TOML: a name with `*` must be quoted, such as \"db-*\"".to_owned()
            }
            other => format!("invalid TOML: {other}"),
        };
        self.problem(&span, "", message);
    }

    fn document(&mut self, document: &DeTable<'_>, parsed: &mut Parsed) {
        if !document.contains_key("version") {
            self.problem(&(0..0), "version", "missing: write `version = 1` at the top of the file");
        }
        for (name, value) in document {
            match name.get_ref().as_ref() {
                "version" => self.version(value),
                "component" => parsed.component = self.component(value),
                "tcp" => parsed.tcp = self.tcp(value),
                "secrets" => parsed.rules = self.secrets(value),
                "environment" => parsed.environment = self.environment(value),
                "limits" => parsed.stated = self.limits(value),
                other => self.unknown(&name.span(), "", other, &TOP),
            }
        }
    }

    fn unknown(&mut self, span: &Range<usize>, parent: &str, name: &str, known: &[&str]) {
        let field = if parent.is_empty() { key(name) } else { format!("{parent}.{}", key(name)) };
        let message = match nearest(name, known) {
            Some(meant) => format!("unknown field; did you mean `{meant}`?"),
            None => format!("unknown field; valid fields are {}", comma_separated(known)),
        };
        self.problem(span, field, message);
    }

    fn version(&mut self, value: &Value<'_>) {
        match value.get_ref() {
            DeValue::Integer(number) if whole(number) == Some(1) => {}
            other => {
                self.problem(
                    &value.span(),
                    "version",
                    format!("expected 1, the only supported version, found {}", found(other)),
                );
            }
        }
    }

    fn component(&mut self, value: &Value<'_>) -> Option<Digest> {
        let digest = value.get_ref().as_str().and_then(|text| Digest::parse(text).ok());
        if digest.is_none() {
            let found = found(value.get_ref());
            self.problem(
                &value.span(),
                "component",
                format!("expected \"sha256:\" and 64 hexadecimal digits, found {found}"),
            );
        }
        digest
    }

    fn tcp(&mut self, value: &Value<'_>) -> Vec<TcpTarget> {
        let DeValue::Array(array) = value.get_ref() else {
            let found = found(value.get_ref());
            self.problem(&value.span(), "tcp", format!("expected a list such as [\"127.0.0.1:5432\"], found {found}"));
            return Vec::new();
        };
        if array.len() > TARGETS_MAX {
            self.problem(
                &value.span(),
                "tcp",
                format!("expected at most {TARGETS_MAX} destinations, found {}", array.len()),
            );
            return Vec::new();
        }
        let mut targets = Vec::new();
        for item in array {
            let target = match item.get_ref() {
                DeValue::String(text) => {
                    TcpTarget::parse(text).map_err(|error| format!("{error}; found {}", quoted(text)))
                }
                other => Err(format!("expected a string such as \"127.0.0.1:5432\", found {}", found(other))),
            };
            match target {
                Ok(target) if targets.contains(&target) => {
                    self.problem(&item.span(), "tcp", format!("`{target}` is listed twice; keep one"));
                }
                Ok(target) => targets.push(target),
                Err(message) => self.problem(&item.span(), "tcp", message),
            }
        }
        targets
    }

    fn environment(&mut self, value: &Value<'_>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let Some(table) = self.table(value, "environment") else { return environment };
        for (name, value) in table {
            let text = name.get_ref().as_ref();
            if text.is_empty() || text.contains(['=', '\0']) {
                // Do not repeat the name: in the mistake `"NAME=value" = ...` it contains the
                // value.
                let message = "a variable name must not be empty or contain `=` or NUL";
                self.problem(&name.span(), "environment", message);
                continue;
            }
            let field = format!("environment.{}", key(text));
            match value.get_ref() {
                DeValue::String(content) if content.contains('\0') => {
                    self.problem(&value.span(), field, "expected a string without NUL");
                }
                DeValue::String(content) => {
                    environment.insert(text.to_owned(), content.as_ref().to_owned());
                }
                other => {
                    let kind = kind(other);
                    self.problem(
                        &value.span(),
                        field,
                        format!("expected a string (put the value in quotes), found {kind}"),
                    );
                }
            }
        }
        environment
    }

    fn limits(&mut self, value: &Value<'_>) -> StatedLimits {
        let mut stated = StatedLimits::default();
        let Some(table) = self.table(value, "limits") else { return stated };
        let size = |text: &str| parse_size(text).map_err(|error| error.to_string());
        for (name, value) in table {
            let field = name.get_ref().as_ref();
            match field {
                "memory" => stated.memory = self.amount(field, value, SIZE_FORM, parse_memory),
                "time" => stated.time = self.amount(field, value, DURATION_FORM, parse_time),
                "output-bytes" => stated.output_bytes = self.amount(field, value, SIZE_FORM, size),
                "output-files" => stated.output_files = self.count(field, value),
                "compile-time" => {
                    stated.compile_time = self.amount::<Duration>(field, value, DURATION_FORM, parse_time);
                }
                "log-bytes" => stated.log_bytes = self.amount(field, value, SIZE_FORM, size),
                "requests" => stated.requests = self.count(field, value),
                "secret-bytes" => stated.secret_bytes = self.amount(field, value, SIZE_FORM, size),
                "metrics" => stated.metrics = self.count(field, value),
                other => self.unknown(&name.span(), "limits", other, &NAMES),
            }
        }
        stated
    }

    fn amount<T>(
        &mut self,
        name: &str,
        value: &Value<'_>,
        form: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(T, Location)> {
        let result = match value.get_ref() {
            DeValue::String(text) => parse(text),
            _ => Err(format!("expected {form}")),
        };
        match result {
            Ok(amount) => Some((amount, self.location(&value.span()))),
            Err(message) => {
                let found = found(value.get_ref());
                self.problem(&value.span(), format!("limits.{name}"), format!("{message}, found {found}"));
                None
            }
        }
    }

    fn count(&mut self, name: &str, value: &Value<'_>) -> Option<(u64, Location)> {
        let number = if let DeValue::Integer(number) = value.get_ref() { whole(number) } else { None };
        if number.is_none() {
            let found = found(value.get_ref());
            self.problem(
                &value.span(),
                format!("limits.{name}"),
                format!("expected a whole number of at least 0, found {found}"),
            );
        }
        number.map(|number| (number, self.location(&value.span())))
    }

    fn table<'v, 'i>(&mut self, value: &'v Value<'i>, name: &str) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let kind = kind(value.get_ref());
            self.problem(&value.span(), name, format!("expected a table, `[{name}]`, found {kind}"));
        }
        table
    }
}

/// Returns a number that is not negative and fits into the 63 bits of TOML.
fn whole(number: &DeInteger<'_>) -> Option<u64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| u64::try_from(number).ok())
}

/// Describes a value by its type only.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Describes a value by its text if it is short. Use only for fields that cannot plausibly hold a
/// secret.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) if number.as_str().len() <= 20 => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}
