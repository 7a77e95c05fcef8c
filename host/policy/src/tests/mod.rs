//! Tests of the whole crate: messages, decisions and properties.

mod documentation;
mod golden;
mod messages;
mod properties;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use strongroom_core::ids::{SecretName, SecretVersion};

/// Returns a policy with these entries of `[secrets]`.
fn policy(entries: &str) -> Policy {
    Policy::parse(&format!("version = 1\n[secrets]\n{entries}"), "policy.toml")
        .unwrap_or_else(|error| panic!("{error}"))
}

fn decisions(entries: &str) -> Decisions {
    Decisions::new(Arc::new(policy(entries)))
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns a time for tests that do not depend on it.
fn now() -> Timestamp {
    at("2026-06-01T12:00:00Z")
}

const FULL: &str = r#"
version = 1
component = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
tcp = ["127.0.0.1:5432", "db.example.com:5432"]

[secrets]
db-password = ["get"]
"db-*" = { allow = ["get"], max-uses = 10 }
"db-admin" = []
model-key = { allow = ["set"], stored-as = "prod-model-key", expires = 2030-12-01T00:00:00Z }
api-token = { allow = ["get"], secret-version = "0123abCD" }

[environment]
EPOCHS = "200"

[limits]
memory = "512MiB"
time = "90s"
output-bytes = "10MiB"
output-files = 5
compile-time = "30s"
log-bytes = "1MiB"
requests = 100
secret-bytes = "2MiB"
metrics = 1000
"#;

#[test]
fn policy_with_every_field_is_parsed() {
    let policy = Policy::parse(FULL, "policy.toml").unwrap();
    assert_eq!(policy.text(), FULL);
    assert_eq!(policy.digest(), Digest::of(FULL.as_bytes()));
    assert_eq!(policy.component(), Some(&Digest::of(b"abc")));
    let targets: Vec<String> = policy.tcp().iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["127.0.0.1:5432", "db.example.com:5432"]);
    assert_eq!(policy.environment().get("EPOCHS").map(String::as_str), Some("200"));
    let rows: Vec<String> = policy.limits().rows().into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    let expected = [
        "memory 512MiB",
        "time 90s",
        "output-bytes 10MiB",
        "output-files 5",
        "compile-time 30s",
        "log-bytes 1MiB",
        "requests 100",
        "secret-bytes 2MiB",
        "metrics 1000",
    ];
    assert_eq!(rows, expected);

    let decisions = Decisions::new(Arc::new(policy));
    let grant = decisions.decide(Operation::Set, &name("Model-KEY"), now()).unwrap();
    assert_eq!(
        (grant.operation(), grant.asked(), grant.stored()),
        (Operation::Set, &name("model-key"), &name("prod-model-key"))
    );
    assert_eq!((grant.version(), grant.rule()), (None, "secrets.model-key"));
    let grant = decisions.decide(Operation::Get, &name("api-token"), now()).unwrap();
    assert_eq!(grant.version(), Some(&SecretVersion::parse("0123abCD").unwrap()));
    let grant = decisions.decide(Operation::Get, &name("db-host"), now()).unwrap();
    assert_eq!(grant.rule(), "secrets.\"db-*\"");
}

#[test]
fn pinned_policy_refuses_another_component() {
    let (pinned, other) = (Digest::of(b"abc"), Digest::of(b"other"));
    let policy = Policy::parse(FULL, "policy.toml").unwrap();
    assert_eq!(policy.check_component(&pinned), Ok(()));
    assert_eq!(policy.check_component(&other), Err(PinMismatch { expected: pinned, found: other }));
    assert_eq!(Policy::empty().check_component(&other), Ok(()));
}

// promise: An empty policy grants nothing.
#[test]
fn empty_policy_has_no_grants_and_default_limits() {
    let policy = Policy::empty();
    assert_eq!((policy.text(), policy.digest()), ("", Digest::of(b"")));
    assert_eq!(policy.limits(), &Limits::default());
    assert!(policy.tcp().is_empty() && policy.environment().is_empty() && policy.component().is_none());
}

#[test]
fn debug_output_omits_environment_values() {
    let policy = Policy::parse("version = 1\n[environment]\nTOKEN = \"hunter2\"", "policy.toml").unwrap();
    let policy = Arc::new(policy);
    let shown = format!("{policy:?}{:?}", Decisions::new(Arc::clone(&policy)));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn limit_above_a_ceiling_is_refused() {
    let ceilings: Ceilings =
        toml::from_str("memory = \"1GiB\"\ntime = \"2h\"\nrequests = 50\nlog-bytes = \"0B\"").unwrap();
    let policy = Policy::parse("version = 1\n[limits]\noutput-files = 20000\ntime = \"2h\"", "policy.toml").unwrap();
    let limits = policy.limits_under(&ceilings).unwrap();
    let expected = Limits {
        memory: 1 << 30,
        time: Duration::from_secs(7200),
        requests: 50,
        log_bytes: 0,
        output_files: 20_000,
        ..Limits::default()
    };
    assert_eq!(limits, expected);
    assert_eq!(Policy::empty().limits_under(&ceilings).unwrap().time, Duration::from_secs(3600));

    let error = Policy::parse(FULL, "policy.toml").unwrap().limits_under(&ceilings).unwrap_err().to_string();
    assert_eq!(
        error,
        "policy.toml:22:13: limits.log-bytes: 1MiB exceeds the ceiling of this host, 0B; lower the limit, or raise \
         `ceilings.log-bytes` in the configuration\n\
         policy.toml:23:12: limits.requests: 100 exceeds the ceiling of this host, 50; lower the limit, or raise \
         `ceilings.requests` in the configuration"
    );

    for (text, part) in [
        ("memory = \"1GB\"", "expected a size"),
        ("memory = 5", "expected a size"),
        ("memory = \"1B\"", "at least 64KiB"),
        ("time = \"0s\"", "at least 1ms"),
        ("time = \"1y\"", "expected a duration"),
        ("memroy = \"1GiB\"", "memroy"),
        ("requests = -1", "-1"),
    ] {
        let error = toml::from_str::<Ceilings>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn entry_budget_is_shared_by_its_names_and_operations() {
    let decisions = decisions("\"db-*\" = { allow = [\"get\", \"describe\"], max-uses = 2 }\nother = [\"get\"]");
    assert!(decisions.decide(Operation::Get, &name("db-a"), now()).is_ok());
    assert!(decisions.decide(Operation::Set, &name("db-a"), now()).is_err(), "a denial consumes no use");
    assert!(decisions.decide(Operation::Describe, &name("db-b"), now()).is_ok());
    let refusal = decisions.decide(Operation::Get, &name("db-c"), now()).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Exhausted);
    assert_eq!(refusal.rule.as_deref(), Some("secrets.\"db-*\""));
    assert_eq!(refusal.would_allow, "\"db-*\" = { allow = [\"get\", \"describe\"], max-uses = 3 }");
    assert_eq!(refusal.to_string(), "exhausted: `get` of `db-c`");
    assert!(decisions.decide(Operation::Get, &name("other"), now()).is_ok());
}

#[test]
fn refused_batch_consumes_no_use() {
    let decisions =
        decisions("\"db-*\" = { allow = [\"get\"], max-uses = 3 }\nx = { allow = [\"get\"], max-uses = 1 }");
    let batch = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|text| name(text)).collect();
        decisions.decide_all(Operation::Get, &names, now())
    };
    let refusal = batch(&["x", "db-a", "db-b", "nothing"]).unwrap_err();
    assert_eq!((refusal.reason, refusal.name), (RefusalReason::Denied, Some(name("nothing"))));
    let refusal = batch(&["x", "db-a", "db-b", "db-c", "db-d", "db-e"]).unwrap_err();
    assert_eq!((refusal.reason, refusal.name), (RefusalReason::Exhausted, Some(name("db-d"))));
    assert_eq!(refusal.would_allow, "\"db-*\" = { allow = [\"get\"], max-uses = 5 }");
    let grants = batch(&["db-c", "x", "db-a", "db-b"]).unwrap();
    let asked: Vec<_> = grants.iter().map(|grant| grant.asked().as_str()).collect();
    assert_eq!(asked, ["db-c", "x", "db-a", "db-b"]);
    assert_eq!(batch(&["x"]).unwrap_err().reason, RefusalReason::Exhausted);
    assert!(batch(&[]).unwrap().is_empty());
}

#[test]
fn expired_entry_stays_expired_when_the_clock_is_set_back() {
    let decisions = decisions("a = { allow = [\"get\"], expires = 2026-01-01T00:00:00+01:00, max-uses = 9 }");
    let decide = |time: &str| decisions.decide(Operation::Get, &name("a"), at(time)).map_err(|refusal| refusal.reason);
    assert!(decide("2025-12-31T22:59:59.999999999Z").is_ok());
    assert_eq!(decide("2025-12-31T23:00:00Z").unwrap_err(), RefusalReason::Expired);
    assert_eq!(decide("2025-12-31T20:00:00Z").unwrap_err(), RefusalReason::Expired, "the clock was set back");
    let refusal = decisions.decide(Operation::Get, &name("a"), at("2026-01-05T10:00:00.5Z")).unwrap_err();
    assert_eq!(refusal.would_allow, "a = { allow = [\"get\"], max-uses = 9, expires = 2026-01-06T10:00:00Z }");
}

#[test]
fn list_follows_the_most_specific_entries() {
    let grant = ListGrant::for_test(
        "\"db-*\" = [\"list\"]\n\"db-prod-*\" = [\"get\"]\n\"db-prod-eu-*\" = [\"list\"]\ndb-admin = []\n\
         db-own = [\"list\"]\nmine = { allow = [\"list\"], stored-as = \"theirs\" }\nread = [\"get\"]",
    );
    let exact: Vec<_> = grant.exact().map(|(stored, asked)| (stored.as_str(), asked.as_str())).collect();
    assert_eq!(exact, [("db-own", "db-own"), ("theirs", "mine")]);
    assert!(grant.needs_paging());
    for (stored, admitted) in [
        ("db-x", true),
        ("db-", false),
        ("db", false),
        ("db-prod-x", false),
        ("db-prod-eu-x", true),
        ("db-prod-eu-", false),
        ("db-prod-", true),
        ("db-admin", false),
        ("db-admin-2", true),
        ("db-own", false), // listed by `exact`
        ("theirs", false),
        ("mine", false),
        ("read", false),
        ("other", false),
    ] {
        assert_eq!(grant.admits(&name(stored)), admitted, "{stored}");
    }
    assert_eq!(grant.rule(), "secrets.\"db-*\", secrets.\"db-prod-eu-*\", secrets.db-own, secrets.mine");
    assert!(!ListGrant::for_test("a = [\"list\"]").needs_paging());
}

#[test]
fn list_consumes_one_use_of_every_granting_entry() {
    let decisions = decisions(
        "\"db-*\" = { allow = [\"list\"], max-uses = 1 }\na = { allow = [\"get\", \"list\"], max-uses = 2 }\n\
         b = { allow = [\"list\"], expires = 2026-01-01T00:00:00Z }\nc = [\"get\"]",
    );
    let listed = |grant: &ListGrant| grant.exact().map(|(_, asked)| asked.to_string()).collect::<Vec<_>>();
    let first = decisions.decide_list(now()).unwrap();
    assert!(first.needs_paging() && listed(&first) == ["a"], "{first:?}");
    let second = decisions.decide_list(now()).unwrap();
    assert!(!second.needs_paging() && !second.admits(&name("db-x")) && listed(&second) == ["a"], "{second:?}");
    let refusal = decisions.decide_list(now()).unwrap_err();
    assert_eq!((refusal.reason, refusal.name.clone()), (RefusalReason::Exhausted, None));
    assert_eq!(refusal.would_allow, "\"db-*\" = { allow = [\"list\"], max-uses = 2 }");
    assert_eq!(refusal.to_string(), "exhausted: `list`");
    assert_eq!(decisions.decide(Operation::Get, &name("a"), now()).unwrap_err().reason, RefusalReason::Exhausted);
}

#[test]
fn refused_list_names_the_reason() {
    let reason =
        |entries: &str| decisions(entries).decide_list(now()).map_err(|refusal| (refusal.reason, refusal.would_allow));
    let line = "NAME = [\"list\"]".to_owned();
    assert_eq!(reason("").unwrap_err(), (RefusalReason::Denied, line.clone()));
    assert_eq!(reason("a = [\"get\"]\n\"b-*\" = []").unwrap_err(), (RefusalReason::Denied, line));
    let expired = reason("a = { allow = [\"list\"], expires = 2026-01-01T00:00:00Z }").unwrap_err();
    assert_eq!(
        expired,
        (RefusalReason::Expired, "a = { allow = [\"list\"], expires = 2026-06-02T12:00:00Z }".to_owned())
    );
}

#[test]
fn list_rule_names_eight_entries_and_counts_the_rest() {
    let entries: String = (0..20).map(|i| format!("a{i:02} = [\"list\"]\n")).collect();
    let grant = ListGrant::for_test(&entries);
    assert!(
        grant.rule().starts_with("secrets.a00, ") && grant.rule().ends_with("secrets.a07 and 12 more"),
        "{}",
        grant.rule()
    );
}

// promise: Uses of a budget are taken atomically.
#[test]
fn budget_holds_under_concurrent_requests() {
    let decisions = Arc::new(decisions("\"db-*\" = { allow = [\"get\", \"list\"], max-uses = 301 }"));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let decisions = Arc::clone(&decisions);
            thread::spawn(move || {
                let own = name(&format!("db-{worker}"));
                let batch = [own.clone(), name("db-x"), name("db-y")];
                let mut taken = 0;
                for round in 0..90 {
                    taken += match round % 3 {
                        0 => usize::from(decisions.decide(Operation::Get, &own, now()).is_ok()),
                        1 => decisions.decide_all(Operation::Get, &batch, now()).map_or(0, |grants| grants.len()),
                        _ => usize::from(decisions.decide_list(now()).is_ok()),
                    };
                }
                taken
            })
        })
        .collect();
    let taken: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(taken, 301);
}

#[test]
fn explanation_describes_the_decision() {
    let policy = policy(
        "db-password = [\"get\"]\n\"db-*\" = { allow = [\"describe\"], max-uses = 3 }\nk = { allow = [\"get\"], stored-as = \"prod-k\", secret-version = \"7\" }",
    );
    let explain = |operation, asked: &str| policy.explain(operation, &name(asked), now()).to_string();
    assert_eq!(
        explain(Operation::Get, "K"),
        "yes: `get` of `k` is allowed\n  decided by secrets.k (line 5)\n  name in the vault: `prod-k`\n  version: `7`"
    );
    assert_eq!(
        explain(Operation::Get, "db-x"),
        "no: `get` of `db-x` is denied\n  decided by secrets.\"db-*\" (line 4)\n  uses per run, over all names and operations \
         of the entry: 3\n  this line under [secrets] would allow it:\n    db-x = { allow = [\"get\", \"describe\"], max-uses = 3 }"
    );
    assert_eq!(
        explain(Operation::Get, "other"),
        "no: `get` of `other` is denied\n  no entry of [secrets] matches this name\n  this line under [secrets] would allow it:\n    \
         other = [\"get\"]"
    );
    assert_eq!(
        policy.explain(Operation::Set, &name("k"), now()).would_allow.unwrap(),
        "k = { allow = [\"get\", \"set\"], stored-as = \"prod-k\" }"
    );
    assert_eq!(
        policy.explain(Operation::Get, &name("prod-k"), now()).would_allow.unwrap(),
        "prod-k = [\"get\"] # also change secrets.k so that it does not grant `prod-k`"
    );
}

#[test]
fn at_version_keeps_a_pinned_version() {
    let (one, two) = (SecretVersion::parse("1").unwrap(), SecretVersion::parse("2").unwrap());
    let grant = Grant::for_test(Operation::Get, "a").at_version(one.clone());
    assert_eq!(grant.at_version(two).version(), Some(&one));
}
