//! The suggestion as a person reads it.

use std::fmt::{Display, Write as _};

use super::Observed;
use super::amounts::limits;
use super::plan::{Plan, times};
use crate::Policy;
use crate::write::{comment, key, list, string};

/// How many lines one block of comments has before it says how many more there are.
const SHOWN_MAX: usize = 100;

struct Page(String);

impl Page {
    fn line(&mut self, text: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    /// A line of TOML with a remark.
    fn remarked(&mut self, line: &str, remark: &str) {
        self.line(format_args!("{line:<40} # {remark}"));
    }

    fn block(&mut self, lines: impl ExactSizeIterator<Item = (String, String)>) {
        let more = lines.len().saturating_sub(SHOWN_MAX);
        for (line, remark) in lines.take(SHOWN_MAX) {
            if remark.is_empty() { self.line(line) } else { self.remarked(&line, &remark) }
        }
        if more > 0 {
            self.line(format_args!("# and {more} more: `strongroom runs show --json`"));
        }
    }
}

pub(super) fn write(observed: &Observed, policy: Option<&Policy>, plan: &Plan) -> String {
    let mut page = Page(String::new());
    head(&mut page, observed, policy);
    tcp(&mut page, plan);
    secrets(&mut page, policy, plan);
    page.line("\n[environment]");
    match policy {
        Some(policy) => policy
            .environment()
            .iter()
            .for_each(|(name, value)| page.line(format_args!("{} = {}", key(name), string(value)))),
        None => page.line("# the run's policy cannot be read, so what it set is not known"),
    }
    page.line("\n# What one run may use at most. A line in a comment leaves room above what was used.\n[limits]");
    limits(&observed.usage, policy).iter().for_each(|(line, remark)| page.remarked(line, remark));
    page.0
}

fn head(page: &mut Page, observed: &Observed, policy: Option<&Policy>) {
    page.line(format_args!(
        "# Suggested from the run {}: it grants what that run was given, and no more.",
        comment(&observed.run)
    ));
    if let Some(how) = &observed.cut_off {
        page.line(format_args!(
            "# The run did not finish ({}), so the component may need more than stands here.",
            comment(how)
        ));
    }
    if policy.is_none() {
        page.line("# The policy of the run cannot be read: `stored-as`, `secret-version`, `expires`, `max-uses` and lists are not");
        page.line(
            "# carried over, and what is granted here is the record's word alone. Look it up before you use this.",
        );
    }
    page.line("version = 1");
    page.line(format_args!("component = \"{}\" # {}", observed.component, comment(&observed.path)));
}

fn tcp(page: &mut Page, plan: &Plan) {
    if !plan.tcp.is_empty() {
        page.line("\n# It connected to these.");
        page.line(line_of_tcp(plan.tcp.iter()));
    }
    let has_denied = !plan.tcp_denied.is_empty();
    if has_denied || !plan.names_denied.is_empty() {
        page.line("\n# DENIED. It tried these, which proves no need: decide for each. The line takes the place of any `tcp` above.");
        page.block(plan.tcp_denied.iter().map(|(target, count)| (format!("# {target}"), times(*count))));
        let names = plan.names_denied.iter();
        page.block(
            names.map(|(name, count)| {
                (format!("# {name}, looked up"), format!("{}; add it with its port", times(*count)))
            }),
        );
    }
    if has_denied {
        let denied = plan.tcp_denied.keys().take(SHOWN_MAX);
        page.line(format_args!("#{}", line_of_tcp(plan.tcp.iter().chain(denied))));
    }
    if !plan.tcp_unused.is_empty() {
        page.line("\n# Granted by the run's policy and not used:");
        page.block(plan.tcp_unused.iter().map(|target| (format!("# {target}"), String::new())));
    }
}

fn line_of_tcp<'a>(targets: impl Iterator<Item = &'a crate::TcpTarget>) -> String {
    let targets: Vec<String> = targets.map(ToString::to_string).collect();
    format!("tcp = {}", list(targets.iter().map(String::as_str)))
}

fn secrets(page: &mut Page, policy: Option<&Policy>, plan: &Plan) {
    page.line("\n[secrets]");
    for (entry, uses) in plan.entries.values() {
        let remark = match uses {
            _ if entry.allow.is_empty() => "stays denied".to_owned(),
            0 => "for the list".to_owned(),
            uses => format!("used {}", times(*uses)),
        };
        page.remarked(&entry.line(), &remark);
    }
    if plan.lists.served > 0 {
        let count = times(plan.lists.served);
        page.line(format_args!("# It listed secrets {count}: add \"list\" to the names that it is to see."));
    }
    if !plan.denied.is_empty() || plan.lists.denied > 0 || plan.nameless > 0 {
        page.line("\n# DENIED. The component asked for this and did not get it. Asking proves no need: whoever wrote it decides what it");
        page.line("# asks for. Take the `#` from a line only if you would have granted it unasked; it takes the place of any line");
        page.line("# above for the same name.");
        page.block(plan.denied.iter().map(|(entry, note)| (format!("#{}", entry.line()), note.clone())));
        if plan.lists.denied > 0 {
            page.line(format_args!(
                "# a list, denied {}: add \"list\" to the names that it is to see",
                times(plan.lists.denied)
            ));
        }
        if plan.nameless > 0 {
            let count = times(plan.nameless);
            page.line(format_args!(
                "# names that no secret can have, or that are not kept: {count} (`strongroom runs show`)"
            ));
        }
    }
    if policy.is_some() && !plan.unused.is_empty() {
        page.line("\n# Entries of the run's policy that this run did not need as they stood:");
        page.block(plan.unused.iter().map(|line| (format!("# {line}"), String::new())));
    }
}
