//! The decision matrix as a file: every operation, for every kind of name, under every kind of entry. A change of what a policy means
//! shows as a change of `decisions.golden`; `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write as _;

use super::*;

/// Each kind of entries, the names that are interesting under it, and the moment.
const CASES: &[(&str, &str, &[&str])] = &[
    ("no entry", "", &["db-password"]),
    (
        "one operation each",
        "a-get = [\"get\"]\na-set = [\"set\"]\na-list = [\"list\"]\na-describe = [\"describe\"]\na-delete = [\"delete\"]",
        &["a-get", "a-set", "a-list", "a-describe", "a-delete", "a"],
    ),
    (
        "exact name",
        "db-password = [\"get\", \"list\"]",
        &["db-password", "DB-Password", "db-passwor", "db-password-2", "other"],
    ),
    ("exact name in mixed case", "DB-Password = [\"get\"]", &["db-password", "DB-PASSWORD"]),
    ("every operation", "k = [\"get\", \"set\", \"list\", \"describe\", \"delete\"]", &["k", "K", "kk"]),
    ("exact denial", "db-admin = []", &["db-admin", "DB-Admin"]),
    ("prefix", "\"db-*\" = [\"get\"]", &["db-x", "DB-X", "db-", "db", "db-x-y", "xdb-x"]),
    ("prefix in mixed case", "\"DB-*\" = [\"get\"]", &["db-x", "DB-X"]),
    ("prefix of one character", "\"d*\" = [\"get\"]", &["d", "db", "e"]),
    (
        "exact denial under a prefix",
        "\"db-*\" = [\"get\"]\ndb-admin = []",
        &["db-x", "db-admin", "db-ADMIN", "db-admin-2", "db-admi"],
    ),
    ("exact name under a prefix", "\"db-*\" = [\"get\", \"list\"]\ndb-key = [\"set\"]", &["db-x", "db-key"]),
    ("exact name under a denied prefix", "\"db-*\" = []\ndb-key = [\"get\"]", &["db-x", "db-key"]),
    (
        "longer prefix under a shorter one",
        "\"db-*\" = [\"get\"]\n\"db-prod-*\" = [\"describe\"]\n\"db-prod-eu-*\" = []",
        &["db-x", "db-prod", "db-prod-", "db-prod-x", "db-prod-eu-", "db-prod-eu-x"],
    ),
    ("exact name that equals a prefix", "\"db-*\" = [\"get\"]\ndb- = [\"set\"]", &["db-", "db-x"]),
    ("one use", "k = { allow = [\"get\", \"set\"], max-uses = 1 }", &["k"]),
    (
        "one use of a prefix",
        "\"db-*\" = { allow = [\"get\"], max-uses = 1 }\ndb-free = [\"get\"]",
        &["db-x", "db-free"],
    ),
    ("expired a moment ago", "k = { allow = [\"get\"], expires = 2026-06-01T12:00:00Z }", &["k"]),
    ("expires in a moment", "k = { allow = [\"get\"], expires = 2026-06-01T12:00:01Z }", &["k"]),
    ("expired, with uses", "k = { allow = [\"get\"], expires = 2026-01-01T00:00:00Z, max-uses = 5 }", &["k"]),
    (
        "expired under a prefix",
        "\"db-*\" = [\"get\"]\ndb-k = { allow = [\"get\"], expires = 2026-01-01T00:00:00Z }",
        &["db-k", "db-x"],
    ),
    ("stored under another name", "k = { allow = [\"get\", \"set\"], stored-as = \"prod-k\" }", &["k", "prod-k"]),
    (
        "stored under a name that is denied",
        "k = { allow = [\"get\"], stored-as = \"prod-k\" }\n\"prod-*\" = [\"get\"]\nprod-k = []",
        &["k", "prod-k", "prod-x"],
    ),
    ("one version", "k = { allow = [\"get\", \"describe\"], secret-version = \"7\" }", &["k"]),
    ("denial with other fields", "k = { allow = [], max-uses = 3, stored-as = \"x\" }", &["k", "x"]),
];

fn matrix() -> String {
    let mut out = String::from(
        "# What a policy decides: entries, names asked for, operations. Written by a test of the policy; read the differences.\n\
         # yes: the first request of a run is granted. yes/WORD: the second of that run is refused for that reason.\n\
         # Times are as of 2026-06-01T12:00:00Z.\n",
    );
    for (title, entries, names) in CASES {
        writeln!(out, "\n## {title}").unwrap();
        for line in entries.lines() {
            writeln!(out, "    {line}").unwrap();
        }
        write!(out, "{:<16}", "").unwrap();
        for operation in Operation::ALL {
            write!(out, "{:<15}", operation.as_str()).unwrap();
        }
        writeln!(out, "decided by").unwrap();
        for asked in *names {
            let name = name(asked);
            write!(out, "{asked:<16}").unwrap();
            let mut rules = Vec::new();
            let mut note = String::new();
            for operation in Operation::ALL {
                let decisions = decisions(entries);
                let cell = match decisions.decide(operation, &name, now()) {
                    Err(refusal) => {
                        rules.push(refusal.rule.unwrap_or("-".into()));
                        refusal.reason.to_string()
                    }
                    Ok(grant) => {
                        rules.push(grant.rule().to_owned());
                        note = format!(
                            "{}{}",
                            if grant.stored() == &name {
                                String::new()
                            } else {
                                format!(", stored as {}", grant.stored())
                            },
                            grant.version().map(|version| format!(", version {version}")).unwrap_or_default()
                        );
                        match decisions.decide(operation, &name, now()) {
                            Ok(_) => "yes".to_owned(),
                            Err(refusal) => format!("yes/{}", refusal.reason),
                        }
                    }
                };
                let explained = policy(entries).explain(operation, &name, now());
                assert_eq!(
                    explained.allowed(),
                    cell.starts_with("yes"),
                    "explaining and deciding agree: {title}, {asked}"
                );
                write!(out, "{cell:<15}").unwrap();
            }
            rules.dedup();
            writeln!(out, "{}{note}", rules.join(" ")).unwrap();
        }
    }
    out
}

// promise: Every policy decision is the one in the golden file of the decision matrix.
#[test]
fn the_decision_matrix_is_the_golden_file() {
    let found = matrix();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/decisions.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    assert!(
        found == expected,
        "the decisions changed; if that is meant, run with UPDATE_GOLDEN=1 and review the difference:\n{found}"
    );
}
