use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::{Operation, RefusalReason};
use strongroom_core::ids::SecretName;

const USAGE: Usage = Usage {
    memory: Some(2_200_000),
    time: Some(Duration::from_millis(12)),
    output_bytes: Some(4_000),
    output_files: Some(2),
    log_bytes: Some(300),
    requests: Some(4),
    metrics: Some(13),
};

fn observed(secrets: &[(&str, &str, u64, u64)], tcp: &[(&str, u64, u64)]) -> ObservedRun {
    ObservedRun {
        run: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        unfinished: None,
        component: Digest::of(b"c"),
        path: "train.wasm".into(),
        secrets: secrets
            .iter()
            .map(|(name, operation, served, denied)| SecretRequests {
                name: (*name).into(),
                operation: (*operation).into(),
                served: *served,
                denied: *denied,
            })
            .collect(),
        tcp: tcp
            .iter()
            .map(|(entry, allowed, denied)| TcpAttempts { entry: (*entry).into(), allowed: *allowed, denied: *denied })
            .collect(),
        usage: USAGE,
    }
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, "policy.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns the lines of `[secrets]` that are not commented out.
fn granted(text: &str) -> Vec<String> {
    let parsed = policy(text);
    parsed.rules.iter().map(|(_, entry)| entry.line()).collect()
}

#[test]
fn suggestion_matches_the_golden_file() {
    let own = policy(
        "version = 1\ntcp = [\"db.example.com:5432\", \"127.0.0.1:1\"]\n[secrets]\n\"db-*\" = { allow = [\"get\"], max-uses = 10 }\n\
         model-key = { allow = [\"set\", \"get\"], stored-as = \"prod-model-key\", expires = 2030-01-01T00:00:00Z }\n\
         [environment]\nGREETING = \"a \\\"b\\\"\\n\\u001b\"\n[limits]\nmemory = \"64MiB\"\ncompile-time = \"30s\"\n",
    );
    let seen = observed(
        &[
            ("db-password", "get", 2, 0),
            ("db-password", "set", 0, 1),
            ("admin", "get", 0, 3),
            ("model-key", "set", 1, 0),
            ("../x\n[secrets]", "get", 0, 2),
        ],
        &[("db.example.com:5432", 2, 0), ("10.0.0.1:80", 0, 1), ("evil.example:PORT", 0, 1)],
    );
    let text = suggest(&seen, Some(&own)).unwrap();
    let expected = include_str!("suggestion.toml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/suggest/suggestion.toml"), &text).unwrap();
    }
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn suggestion_keeps_refinements_of_entries() {
    let own = policy(
        "version = 1\n[secrets]\na = { allow = [\"get\", \"describe\"], stored-as = \"b\", secret-version = \"7\" }\n\
         c = { allow = [\"get\"], max-uses = 5, expires = 2020-01-01T00:00:00Z }\n\"d-*\" = { allow = [\"get\"], max-uses = 9 }",
    );
    let seen = observed(
        &[("a", "get", 1, 0), ("c", "get", 2, 0), ("d-1", "get", 3, 0), ("d-2", "get", 1, 0), ("a", "set", 0, 1)],
        &[],
    );
    let text = suggest(&seen, Some(&own)).unwrap();
    assert_eq!(
        granted(&text),
        [
            "a = { allow = [\"get\"], stored-as = \"b\", secret-version = \"7\" }",
            "c = { allow = [\"get\"], max-uses = 5, expires = 2020-01-01T00:00:00Z }",
            "d-1 = { allow = [\"get\"], max-uses = 3 }",
            "d-2 = { allow = [\"get\"], max-uses = 1 }",
        ],
        "{text}"
    );
    assert!(text.contains("#a = { allow = [\"get\", \"set\"], stored-as = \"b\" }"), "{text}");
}

#[test]
fn suggestion_for_a_list_keeps_its_scope() {
    let own = policy(
        "version = 1\n[secrets]\n\"db-*\" = [\"get\", \"list\"]\ndb-admin = []\n\"db-prod-*\" = [\"get\"]\nother = [\"list\"]\n\
         unused = [\"get\"]",
    );
    let text = suggest(&observed(&[("*", "list", 1, 0), ("db-x", "get", 1, 0)], &[]), Some(&own)).unwrap();
    let mut lines = granted(&text);
    lines.sort();
    assert_eq!(
        lines,
        [
            "\"db-*\" = [\"list\"]",
            "\"db-prod-*\" = []",
            "db-admin = []",
            "db-x = [\"get\", \"list\"]",
            "other = [\"list\"]"
        ],
        "{text}"
    );
}

// promise: A suggested policy grants what was served and the policy of the run explains, never what
// was only requested.
#[test]
fn use_outside_the_runs_policy_is_not_suggested() {
    let own = policy("version = 1\n[secrets]\na = [\"get\"]\nb = []");
    let seen = observed(&[("a", "set", 4, 0), ("b", "get", 1, 0), ("c", "get", 1, 0)], &[("10.0.0.1:80", 1, 0)]);
    for own in [&own, &Policy::empty()] {
        let text = suggest(&seen, Some(own)).unwrap();
        assert!(granted(&text).is_empty() && policy(&text).tcp().is_empty(), "{text}");
        assert!(text.contains("the run's policy does not grant it"), "{text}");
    }
    // Without the policy, the record alone says what was granted, and the text says so.
    let text = suggest(&seen, None).unwrap();
    assert_eq!(granted(&text).len(), 3);
    assert!(text.contains("cannot be read"), "{text}");
}

#[test]
fn commented_lines_can_replace_the_granted_ones() {
    let own = policy("version = 1\ntcp = [\"10.0.0.2:1\"]\n[secrets]\na = { allow = [\"get\"], max-uses = 1 }");
    let seen = observed(&[("a", "get", 1, 4), ("b", "set", 0, 1)], &[("10.0.0.1:80", 0, 1), ("10.0.0.2:1", 1, 0)]);
    let text = suggest(&seen, Some(&own)).unwrap();
    // Keeping both lines of a pair is an error.
    let bare = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let both: String = text.lines().map(|line| bare(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    assert!(Policy::parse(&both, "p").unwrap_err().to_string().contains("duplicate name"), "{both}");
    let replaced: Vec<String> = text.lines().filter_map(bare).collect();
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let kept = text.lines().filter(|line| !replaced.iter().any(|other| key(other) == key(line)));
    let mended: String = kept.map(|line| bare(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let mended = policy(&mended);
    assert_eq!(mended.tcp().len(), 2);
    let lines: Vec<String> = mended.rules.iter().map(|(_, entry)| entry.line()).collect();
    assert_eq!(lines, ["a = { allow = [\"get\"], max-uses = 5 }", "b = [\"set\"]"]);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ab-]{1,3}", 1 => Just("*".to_owned()), 1 => "(?s).{0,20}", 1 => "(\"|'|\n|\r|#|=|\\[|\\]|x){0,12}"]
}

fn asked() -> impl Strategy<Value = SecretRequests> {
    let operation = prop_oneof![5 => select(&Operation::ALL).prop_map(|op| op.to_string()), 1 => ".{0,8}"];
    (text(), operation, 0..3u64, 0..3u64).prop_map(|(name, operation, served, denied)| SecretRequests {
        name,
        operation,
        served,
        denied,
    })
}

fn target() -> impl Strategy<Value = TcpAttempts> {
    let entry = prop_oneof![3 => "10\\.0\\.0\\.[1-3]:[1-3]", 1 => "[ab]{1,3}:PORT", 1 => "(?s).{0,20}", 1 => "169\\.254\\.1\\.1:80"];
    (entry, 0..3u64, 0..3u64).prop_map(|(entry, allowed, denied)| TcpAttempts { entry, allowed, denied })
}

/// Policies with few distinct names, so that they match the requests.
fn own() -> impl Strategy<Value = Option<Policy>> {
    let entry = (subsequence(Operation::ALL.to_vec(), 0..=5), prop::option::of(1..6u64));
    prop::option::of(prop::collection::btree_map("[ab-]{1,3}|[ab-]{1,2}\\*", entry, 0..6)).prop_map(|entries| {
        let entries = entries?;
        let mut text = "version = 1\ntcp = [\"10.0.0.1:1\", \"10.0.0.2:2\"]\n[secrets]\n".to_owned();
        for (key, (allow, uses)) in &entries {
            let allow: Vec<String> = allow.iter().map(|operation| format!("\"{operation}\"")).collect();
            let uses = uses.map(|uses| format!(", max-uses = {uses}")).unwrap_or_default();
            text.push_str(&format!("\"{key}\" = {{ allow = [{}]{uses} }}\n", allow.join(", ")));
        }
        Some(policy(&text))
    })
}

proptest! {
    /// For any record, the suggestion parses and grants exactly what was served and the run's
    /// policy explains: nothing that was only denied and, if the policy is known, nothing that it
    /// does not allow.
    // promise: A suggested policy grants what was served and the policy of the run explains, never
    // what was only requested.
    #[test]
    fn suggestion_grants_exactly_what_was_served(
        secrets in prop::collection::vec(asked(), 0..10), tcp in prop::collection::vec(target(), 0..6), own in own(),
        path in "(?s).{0,30}", unfinished in prop::option::of("(?s).{0,30}"), component in any::<[u8; 32]>(),
    ) {
        let seen = ObservedRun { secrets, tcp, path, unfinished, component: Digest::from_bytes(component), ..observed(&[], &[]) };
        let text = suggest(&seen, own.as_ref()).unwrap();
        let suggested = policy(&text);
        prop_assert_eq!(suggested.component(), Some(&seen.component));
        let now = jiff::Timestamp::UNIX_EPOCH;
        let letters = ["", "a", "b", "-"];
        let names = letters.iter().flat_map(|one| letters.map(|two| format!("{one}{two}")))
            .flat_map(|two| ["a", "b", "-"].map(|three| SecretName::parse(&format!("{two}{three}")).unwrap()));
        let listed = seen.secrets.iter().any(|one| one.name == "*" && one.operation == "list" && one.served > 0);
        for name in names {
            for operation in Operation::ALL {
                let of_both = |one: &&SecretRequests| {
                    one.operation == operation.as_str() && SecretName::parse(&one.name).as_ref() == Ok(&name)
                };
                let served = seen.secrets.iter().filter(of_both).any(|one| one.served > 0);
                let explained = own.as_ref().is_none_or(|own| own.explain(operation, &name, now).allowed());
                let allowed = suggested.explain(operation, &name, now).allowed();
                if operation == Operation::List {
                    prop_assert_eq!(allowed, listed && own.is_some() && explained, "{} {}\n{}", operation, name, text);
                } else {
                    prop_assert_eq!(allowed, served && explained, "{} {}\n{}", operation, name, text);
                }
                if !allowed {
                    prop_assert_eq!(suggested.explain(operation, &name, now).reason, Some(RefusalReason::Denied));
                }
            }
        }
        for target in suggested.tcp() {
            let connected = seen.tcp.iter().any(|one| one.allowed > 0 && one.entry == target.to_string());
            prop_assert!(connected && own.as_ref().is_none_or(|own| own.tcp().contains(target)), "{target}\n{text}");
        }
        // A control character could end a comment line and start a grant.
        let shown = strongroom_core::escape::escape_controls(&text.replace('\n', ""));
        prop_assert_eq!(shown, text.replace('\n', ""));
    }
}
