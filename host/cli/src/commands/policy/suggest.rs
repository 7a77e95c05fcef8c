//! `strongroom policy suggest`: suggests a policy from a run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::context::{Context, find_run};
use super::super::failure::{Exit, Failure};
use super::super::out;
use super::Suggest;
use crate::config::Home;
use strongroom::audit;
use strongroom::ids::Digest;
use strongroom::policy::{self, ObservedRun, Policy, SecretRequests, TcpAttempts, Usage};
use strongroom::record::{NetworkOperation, OUTPUTS_DISCARDED, Outcome, RunRecord};

pub(super) fn run(args: &Suggest, context: &Context) -> Result<Exit, Failure> {
    let home = context.existing_home()?;
    let (_, record) = find_run(&home, &args.run)?;
    match record.outcome {
        Outcome::Running => {
            return Err(Failure::invalid(format!("run {} has not ended yet", record.id)).help("wait until it ends"));
        }
        Outcome::Lost => {
            return Err(Failure::invalid(format!(
                "run {} was lost, so its record does not contain what it used",
                record.id
            ))
            .help(format!("run `strongroom audit show --run {}` to see its audit events", record.id)));
        }
        _ => {}
    }
    let policy = policy_of_run(&home, &record.policy)?;
    if policy.is_none() {
        out::note(
            "note: could not read the policy of that run; its `expires`, `max-uses` and other refinements are not carried over",
        );
    }
    let observed = observed(&record);
    let text = policy::suggest(&observed, policy.as_ref()).map_err(Failure::host)?;
    out::line(text.trim_end())?;
    let denied = observed.secrets.iter().any(|one| one.denied > 0) || observed.tcp.iter().any(|one| one.denied > 0);
    if denied {
        out::note("note: denied requests are listed as comments and are not granted; review each line");
    }
    Ok(Exit::Done)
}

/// Returns the policy of a run, from the copy that the audit log keeps.
fn policy_of_run(home: &Home, digest: &Digest) -> Result<Option<Policy>, Failure> {
    let empty = Policy::empty();
    if *digest == empty.digest() {
        return Ok(Some(empty));
    }
    let text = audit::kept_policy(&home.audit(), digest)?;
    Ok(text.and_then(|text| Policy::parse(&text, "the policy of the run").ok()))
}

/// Extracts what a run used from its record.
fn observed(record: &RunRecord) -> ObservedRun {
    let whole = matches!(record.outcome, Outcome::Finished | Outcome::Failed);
    let secrets = record.secrets.iter().map(|used| SecretRequests {
        name: used.name.clone(),
        operation: used.operation.clone(),
        served: used.count,
        denied: used.denied,
    });
    let tcp = record.network.iter().filter_map(|used| {
        // A granted name is used by connecting to it.
        let allowed = if used.operation == NetworkOperation::Connect { used.count } else { 0 };
        let entry = if allowed > 0 { used.entry.as_ref() } else { used.would_allow.as_ref() };
        entry.map(|entry| TcpAttempts { entry: entry.clone(), allowed, denied: used.denied })
    });
    ObservedRun {
        run: record.id.to_string(),
        unfinished: (record.outcome != Outcome::Finished).then(|| match record.limit {
            Some(limit) => format!("stopped at limit `{}`", limit.as_str()),
            None => record.outcome.as_str().to_owned(),
        }),
        component: record.component.digest,
        path: record.component.path.clone(),
        secrets: secrets.collect(),
        tcp: tcp.collect(),
        // The usage of an interrupted run says little about what it needs.
        usage: if whole { usage(record) } else { Usage::default() },
    }
}

fn usage(record: &RunRecord) -> Usage {
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0u64, u64::saturating_add);
    let span = record.ended.map(|ended| ended.duration_since(record.started));
    // Discarded outputs are not listed, and an oversized record lists only some.
    let discarded = record.warnings.iter().any(|text| text == OUTPUTS_DISCARDED);
    let listed = record.outcome == Outcome::Finished && record.outputs_omitted == 0 && !discarded;
    let dirs: BTreeSet<&str> = record
        .outputs
        .iter()
        .flat_map(|output| output.path.match_indices('/').filter_map(|(at, _)| output.path.get(..at)))
        .collect();
    let count = |points: usize, dropped: u64| (points as u64).saturating_add(dropped);
    let numbers = record.metrics.values().map(|metric| count(metric.points.len(), metric.dropped));
    let texts = record.text_metrics.values().map(|metric| count(metric.points.len(), metric.dropped));
    // Progress reports, tags and parameters count against this limit too, but the record contains
    // only the last of each.
    let complete = record.progress.is_none() && record.logged_tags.is_empty() && record.logged_parameters.is_empty();
    Usage {
        memory: Some(record.peak_memory_bytes),
        time: span.and_then(|span| Duration::try_from(span).ok()),
        output_bytes: listed.then(|| sum(&mut record.outputs.iter().map(|output| output.bytes))),
        output_files: listed.then(|| (record.outputs.len() as u64).saturating_add(dirs.len() as u64)),
        log_bytes: Some(record.log.kept.saturating_add(record.log.dropped)),
        requests: Some(sum(&mut record.secrets.iter().map(|used| used.count.saturating_add(used.denied)))),
        metrics: complete.then(|| sum(&mut numbers.chain(texts))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD: &str = include_str!("../testdata/record.json");

    #[test]
    fn suggestion_grants_what_record_used() {
        let record: RunRecord = serde_json::from_str(RECORD).unwrap();
        let text = policy::suggest(&observed(&record), None).unwrap();
        let policy = Policy::parse(&text, "suggestion").unwrap();
        let entries: Vec<String> =
            policy.entries().iter().map(|entry| format!("{} {}", entry.key, entry.allow.join(" "))).collect();
        assert_eq!(entries, ["dataset-key get", "model-key set"]);
        assert_eq!(policy.component(), Some(&record.component.digest));
        assert!(text.contains("#db-admin = [\"get\", \"describe\"]"), "{text}");
        assert_eq!(policy.tcp().len(), 1);
        assert!(text.contains("\"127.0.0.1:9\""), "{text}");
    }

    #[test]
    fn reports_are_counted_if_record_has_all_of_them() {
        let mut record: RunRecord = serde_json::from_str(RECORD).unwrap();
        record.progress = None;
        assert_eq!(usage(&record).metrics, None, "tags and parameters may have been replaced");
        record.logged_tags.clear();
        assert_eq!(usage(&record).metrics, None);
        record.logged_parameters.clear();
        // Three values of metrics, and one and three of text metrics.
        assert_eq!(usage(&record).metrics, Some(3 + 1 + 3));
    }

    proptest! {
        /// Whatever texts a record contains, the suggestion parses and contains none of them.
        // promise: Hostile text in a run record adds no grant to a suggested policy.
        #[test]
        fn hostile_record_adds_no_grant(
            texts in prop::collection::vec("(\"|'|\n|\r|#|\\]|=|\\PC|[a-z*-]){0,30}", 6), count in 0..3u64, denied in 0..3u64,
        ) {
            let mut record: RunRecord = serde_json::from_str(RECORD).unwrap();
            record.component.path = texts[0].clone();
            for used in &mut record.secrets {
                used.name = texts[1].clone();
                (used.count, used.denied) = (count, denied);
            }
            record.secrets[0].operation = texts[2].clone();
            record.secrets[1].would_allow = Some(texts[3].clone());
            for used in &mut record.network {
                (used.count, used.denied) = (count, denied);
                used.target = texts[4].clone();
                used.entry = Some(texts[4].clone());
                used.would_allow = Some(texts[5].clone());
            }
            record.outputs[0].path = texts[3].clone();
            let text = policy::suggest(&observed(&record), None).unwrap();
            let policy = Policy::parse(&text, "suggestion").unwrap();
            prop_assert!(count > 0 || policy.entries().is_empty(), "{}", text);
            prop_assert!(count > 0 || policy.tcp().is_empty(), "{}", text);
            prop_assert!(policy.environment().is_empty());
        }
    }
}
