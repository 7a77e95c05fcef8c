//! `strongroom policy check`: shows what a policy grants and which limits apply on this host.

use std::collections::BTreeMap;

use super::super::context::Context;
use super::super::failure::{Exit, Failure};
use super::super::out::{self, object};
use super::{Check, invalid_policy, read_text};
use strongroom::escape::escape_controls;
use strongroom::policy::{EntryInfo, Limits, Policy};

pub(super) fn run(args: &Check, context: &Context) -> Result<Exit, Failure> {
    let text = read_text(&args.file)?;
    let checked = Policy::parse(&text, &args.file.to_string_lossy()).and_then(|policy| {
        let limits = policy.limits_under(&context.config.ceilings)?;
        Ok((policy, limits))
    });
    match checked {
        Ok((policy, limits)) if args.json => {
            // As in a policy: counts as numbers, other values as text.
            let value = |text: String| text.parse::<u64>().map_or_else(|_| text.into(), serde_json::Value::from);
            let limits: BTreeMap<_, _> = limits.rows().into_iter().map(|(name, text)| (name, value(text))).collect();
            out::json(&object! {
                file: args.file.to_string_lossy(),
                valid: true,
                digest: policy.digest(),
                component: policy.component(),
                tcp: policy.tcp().iter().map(ToString::to_string).collect::<Vec<_>>(),
                secrets: policy.entries(),
                environment: policy.environment().keys().collect::<Vec<_>>(),
                limits: limits,
            })?;
            Ok(Exit::Done)
        }
        Ok((policy, limits)) => {
            out::line(format!("`{}` is a valid policy", escape_controls(&args.file.to_string_lossy())))?;
            out::columns(None, &rows(&policy, &limits), &[])
                .iter()
                .try_for_each(|line| out::line(format!("  {line}")))?;
            Ok(Exit::Done)
        }
        Err(error) if args.json => {
            let problems = error.problems().iter().map(|problem| {
                object! {
                    line: problem.location.map(|location| location.line),
                    column: problem.location.map(|location| location.column),
                    field: &problem.field,
                    message: &problem.message,
                }
            });
            let problems: Vec<_> = problems.collect();
            out::json(&object! { file: args.file.to_string_lossy(), valid: false, problems: problems })?;
            Ok(Exit::Invalid)
        }
        Err(error) => Err(invalid_policy(&error, &text)),
    }
}

fn rows(policy: &Policy, limits: &Limits) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |label: &str, value: String| rows.push(vec![label.to_owned(), value]);
    row("component", policy.component().map_or_else(|| "any (`component` is not set)".to_owned(), ToString::to_string));
    let targets: Vec<String> = policy.tcp().iter().map(ToString::to_string).collect();
    row("tcp", if targets.is_empty() { "no connections".to_owned() } else { targets.join(", ") });
    let entries = policy.entries();
    if entries.is_empty() {
        row("secrets", "none".to_owned());
    }
    for entry in &entries {
        row(&format!("secrets.{}", entry.key), describe_entry(entry));
    }
    if !policy.environment().is_empty() {
        let names: Vec<&str> = policy.environment().keys().map(String::as_str).collect();
        row("environment", names.join(", "));
    }
    for (name, value) in limits.rows() {
        row(&format!("limits.{name}"), value);
    }
    rows
}

/// Describes what an entry grants, with its refinements.
fn describe_entry(entry: &EntryInfo) -> String {
    let mut words = vec![if entry.allow.is_empty() { "denied".to_owned() } else { entry.allow.join(", ") }];
    words.extend(entry.max_uses.map(|uses| match uses {
        1 => "at most 1 use per run".to_owned(),
        _ => format!("at most {uses} uses per run"),
    }));
    words.extend(entry.expires.map(|expires| format!("expires {expires}")));
    words.extend(entry.stored_as.as_ref().map(|stored| format!("stored as `{stored}`")));
    words.extend(entry.secret_version.as_ref().map(|version| format!("version `{version}`")));
    words.join("; ")
}
