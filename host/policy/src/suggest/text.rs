//! Writes a suggestion as a TOML document.

use std::fmt::{Display, Write as _};

use super::ObservedRun;
use super::amounts::limits;
use super::plan::{Plan, times};
use crate::Policy;
use crate::write::{comment, key, list, string};

/// The maximum number of lines in one block of comments; further lines are counted.
const SHOWN_MAX: usize = 100;

struct Document(String);

impl Document {
    fn line(&mut self, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    /// Writes a line of TOML and a remark.
    fn remarked(&mut self, line: &str, remark: &str) {
        self.line(format_args!("{line:<40} # {remark}"));
    }

    fn block(&mut self, lines: impl ExactSizeIterator<Item = (String, String)>) {
        let more = lines.len().saturating_sub(SHOWN_MAX);
        for (line, remark) in lines.take(SHOWN_MAX) {
            if remark.is_empty() { self.line(line) } else { self.remarked(&line, &remark) }
        }
        if more > 0 {
            self.line(format_args!("# and {more} more in the run record"));
        }
    }
}

pub(super) fn write(observed: &ObservedRun, policy: Option<&Policy>, plan: &Plan) -> String {
    let mut document = Document(String::new());
    head(&mut document, observed, policy);
    tcp(&mut document, plan);
    secrets(&mut document, policy, plan);
    document.line("\n[environment]");
    match policy {
        Some(policy) => policy
            .environment()
            .iter()
            .for_each(|(name, value)| document.line(format_args!("{} = {}", key(name), string(value)))),
        None => document.line("# unknown, because the run's policy cannot be read"),
    }
    document.line("\n# Limits of one run. Commented lines leave headroom above the actual use.\n[limits]");
    limits(&observed.usage, policy).iter().for_each(|(line, remark)| document.remarked(line, remark));
    document.0
}

fn head(document: &mut Document, observed: &ObservedRun, policy: Option<&Policy>) {
    document
        .line(format_args!("# Suggested from run {}: it grants only what that run was given.", comment(&observed.run)));
    if let Some(how) = &observed.unfinished {
        document.line(format_args!(
            "# The run did not finish ({}), so the component may need more than this.",
            comment(how)
        ));
    }
    if policy.is_none() {
        document.line(
            "# The run's policy cannot be read: `stored-as`, `secret-version`, `expires`, `max-uses` and lists are not",
        );
        document.line("# carried over, and only the run record says what was granted. Check each line before use.");
    }
    document.line("version = 1");
    document.line(format_args!("component = \"{}\" # {}", observed.component, comment(&observed.path)));
}

fn tcp(document: &mut Document, plan: &Plan) {
    if !plan.tcp.is_empty() {
        document.line("\n# The run connected to these.");
        document.line(line_of_tcp(plan.tcp.iter()));
    }
    let has_denied = !plan.tcp_denied.is_empty();
    if has_denied || !plan.names_denied.is_empty() {
        document
            .line("\n# DENIED. The run tried these, which does not prove a need. The line replaces any `tcp` above.");
        document.block(plan.tcp_denied.iter().map(|(target, count)| (format!("# {target}"), times(*count))));
        let names = plan.names_denied.iter();
        document.block(
            names.map(|(name, count)| {
                (format!("# {name}, looked up"), format!("{}; add it with its port", times(*count)))
            }),
        );
    }
    if has_denied {
        let denied = plan.tcp_denied.keys().take(SHOWN_MAX);
        document.line(format_args!("#{}", line_of_tcp(plan.tcp.iter().chain(denied))));
    }
    if !plan.tcp_unused.is_empty() {
        document.line("\n# Granted by the run's policy but not used:");
        document.block(plan.tcp_unused.iter().map(|target| (format!("# {target}"), String::new())));
    }
}

fn line_of_tcp<'a>(targets: impl Iterator<Item = &'a crate::TcpTarget>) -> String {
    let targets: Vec<String> = targets.map(ToString::to_string).collect();
    format!("tcp = {}", list(targets.iter().map(String::as_str)))
}

fn secrets(document: &mut Document, policy: Option<&Policy>, plan: &Plan) {
    document.line("\n[secrets]");
    for (entry, uses) in plan.entries.values() {
        let remark = match uses {
            _ if entry.allow.is_empty() => "stays denied".to_owned(),
            0 => "used by the list".to_owned(),
            uses => format!("used {}", times(*uses)),
        };
        document.remarked(&entry.line(), &remark);
    }
    if plan.lists.served > 0 {
        let count = times(plan.lists.served);
        document
            .line(format_args!("# The run listed secrets {count}: add \"list\" to the names that it needs to see."));
    }
    if !plan.denied.is_empty() || plan.lists.denied > 0 || plan.invalid_names > 0 {
        document.line("\n# DENIED. The component requested this and did not get it. A request does not prove a need: the author of the");
        document.line("# component decides what it requests. Remove the `#` only from a line that you would have granted without the");
        document.line("# request; the line replaces any line above for the same name.");
        document.block(plan.denied.iter().map(|(entry, note)| (format!("#{}", entry.line()), note.clone())));
        if plan.lists.denied > 0 {
            document.line(format_args!(
                "# list denied {}: add \"list\" to the names that it needs to see",
                times(plan.lists.denied)
            ));
        }
        if plan.invalid_names > 0 {
            let count = times(plan.invalid_names);
            document.line(format_args!("# invalid secret names, and names that the record does not keep: {count}"));
        }
    }
    if policy.is_some() && !plan.unused.is_empty() {
        document.line("\n# Entries of the run's policy that this run did not need in full:");
        document.block(plan.unused.iter().map(|line| (format!("# {line}"), String::new())));
    }
}
