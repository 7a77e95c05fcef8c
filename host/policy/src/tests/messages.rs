//! Error messages of invalid policies. Their texts are an interface.

use super::*;

/// Returns the only message about a policy.
fn message(text: &str) -> String {
    let error = Policy::parse(text, "policy.toml").map(drop).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

/// Returns the message about entries of `[secrets]`, which begin on line 3.
fn entries(text: &str) -> String {
    message(&format!("version = 1\n[secrets]\n{text}"))
}

// promise: An unknown field in a policy is an error.
#[test]
fn invalid_top_level_field_is_reported() {
    for (text, expected) in [
        ("", "policy.toml:1:1: version: missing: write `version = 1` at the top of the file"),
        ("version = 2", "policy.toml:1:11: version: expected 1, the only supported version, found 2"),
        ("version = \"1\"", "policy.toml:1:11: version: expected 1, the only supported version, found \"1\""),
        ("version = 1\nlimit = 3", "policy.toml:2:1: limit: unknown field; did you mean `limits`?"),
        (
            "version = 1\n[http]",
            "policy.toml:2:2: http: unknown field; valid fields are `version`, `component`, `tcp`, `secrets`, `environment` \
             and `limits`",
        ),
        ("version = 1\n[[secrets]]", "policy.toml:2:1: secrets: expected a table, `[secrets]`, found a list"),
        ("version = 1\nlimits = 3", "policy.toml:2:10: limits: expected a table, `[limits]`, found a number"),
        (
            "version = 1\ncomponent = \"sha256:12\"",
            "policy.toml:2:13: component: expected \"sha256:\" and 64 hexadecimal digits, found \"sha256:12\"",
        ),
        (
            "version = 1\ntcp = \"a:1\"",
            "policy.toml:2:7: tcp: expected a list such as [\"127.0.0.1:5432\"], found \"a:1\"",
        ),
        ("version = 1\ntcp = [5432]", "policy.toml:2:8: tcp: expected a string such as \"127.0.0.1:5432\", found 5432"),
        ("version = 1\ntcp = [\"db:1\", \"DB:1\"]", "policy.toml:2:16: tcp: `db:1` is listed twice; keep one"),
        (
            "version = 1\ntcp = [\n  \"[::ffff:a9fe:a9fe]:80\"]",
            "policy.toml:3:3: tcp: ::ffff:169.254.169.254 is a cloud metadata address, which no policy can grant; remove it; found \
             \"[::ffff:a9fe:a9fe]:80\"",
        ),
    ] {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn invalid_toml_is_reported() {
    assert_eq!(message("version = 1\nversion = 1"), "policy.toml:2:1: duplicate name; keep one");
    assert_eq!(message("version = 1\n[secrets]\na = [\"get\"]\na = []"), "policy.toml:4:1: duplicate name; keep one");
    assert_eq!(
        message("version = 1\n[secrets]\ndb-* = [\"get\"]"),
        "policy.toml:3:4: invalid TOML: a name with `*` must be quoted, such as \"db-*\""
    );
    assert!(message("version = 1\n[environment]\nTOKEN = \"hunter2").starts_with("policy.toml:3:17: invalid TOML: "));
}

#[test]
fn invalid_entry_name_is_reported() {
    for (text, expected) in [
        (
            "\"*\" = [\"get\"]",
            "secrets.\"*\": `*` alone would match every name; write at least one character before it",
        ),
        ("\"a*b\" = [\"get\"]", "secrets.\"a*b\": `*` is allowed only at the end"),
        ("\"a**\" = [\"get\"]", "secrets.\"a**\": only one `*` is allowed, at the end"),
        ("\"a_*\" = [\"get\"]", "secrets.\"a_*\": expected characters of 0-9, a-z, A-Z and `-` before the `*`"),
        (
            "db_password = [\"get\"]",
            "secrets.db_password: expected 1 to 127 characters of 0-9, a-z, A-Z and `-`, or such a prefix and a trailing `*`",
        ),
        (
            "\"../x\\u001b\" = []",
            "secrets.\"../x\\u{1b}\": expected 1 to 127 characters of 0-9, a-z, A-Z and `-`, or such a prefix and a trailing `*`",
        ),
        (
            "\"\" = []",
            "secrets.\"\": expected 1 to 127 characters of 0-9, a-z, A-Z and `-`, or such a prefix and a trailing `*`",
        ),
    ] {
        assert_eq!(entries(text), format!("policy.toml:3:1: {expected}"), "{text}");
    }
    assert!(entries(&format!("\"{}*\" = []", "a".repeat(127))).contains("too long"));
    assert!(Policy::parse(&format!("version = 1\nsecrets.\"{}*\" = []", "a".repeat(126)), "p").is_ok());
    assert_eq!(
        entries("DB-Admin = []\n\"x-*\" = []\ndb-admin = [\"get\"]"),
        "policy.toml:5:1: secrets.db-admin: line 3 already has an entry for this name (names are case-insensitive); keep one"
    );
    assert!(entries("\"X-*\" = []\n\"x-*\" = [\"get\"]").starts_with("policy.toml:4:1: secrets.\"x-*\": line 3"));
    assert!(
        entries("a.b = [\"get\"]\na.allow = []").contains("secrets.a.b: unknown field; valid fields are `allow`, ")
    );
}

// promise: An unknown field in a policy is an error.
#[test]
fn invalid_entry_field_is_reported() {
    let allow = "a list of operations, such as [\"get\"] (get, set, list, describe, delete)";
    for (text, expected) in [
        ("{}", format!("3:1: secrets.\"db-*\".allow: missing: expected {allow}")),
        ("{ allow = \"get\" }", format!("3:20: secrets.\"db-*\".allow: expected {allow}, found a string")),
        ("[1]", format!("3:11: secrets.\"db-*\": expected {allow}, found a number in it")),
        ("[\"read\"]", format!("3:11: secrets.\"db-*\": unknown operation: expected {allow}; did you mean \"get\"?")),
        ("[\"Get\"]", format!("3:11: secrets.\"db-*\": unknown operation: expected {allow}; did you mean \"get\"?")),
        ("[\"get\", \"get\"]", "3:18: secrets.\"db-*\": `get` is listed twice; keep one".into()),
        (
            "{ allow = [], max-uses = \"ten\" }",
            "3:35: secrets.\"db-*\".max-uses: expected a whole number of at least 1, found \"ten\"".into(),
        ),
        (
            "{ allow = [], max-uses = 0 }",
            "3:35: secrets.\"db-*\".max-uses: expected a whole number of at least 1, found 0; use an empty `allow` list to deny".into(),
        ),
        (
            "{ allow = [], max-uses = -1 }",
            "3:35: secrets.\"db-*\".max-uses: expected a whole number of at least 1, found -1".into(),
        ),
        (
            "{ allow = [], max-uses = 9223372036854775808 }",
            "3:35: secrets.\"db-*\".max-uses: expected a whole number of at least 1, found 9223372036854775808".into(),
        ),
        ("{ allow = [], max_uses = 1 }", "3:24: secrets.\"db-*\".max_uses: unknown field; did you mean `max-uses`?".into()),
        (
            "{ allow = [], expires = 2026-01-01T00:00:00 }",
            "3:34: secrets.\"db-*\".expires: expected a date and time with its offset, such as 2030-12-01T00:00:00Z, found no offset; \
             append Z for UTC, or an offset such as +01:00"
                .into(),
        ),
        (
            "{ allow = [], expires = 2026-01-01 }",
            "3:34: secrets.\"db-*\".expires: expected a date and time with its offset, such as 2030-12-01T00:00:00Z, found 2026-01-01".into(),
        ),
        (
            "{ allow = [], expires = \"2026-01-01T00:00:00Z\" }",
            "3:34: secrets.\"db-*\".expires: expected a date and time with its offset, such as 2030-12-01T00:00:00Z, without quotes, \
             found a string"
                .into(),
        ),
        (
            "{ allow = [], stored-as = \"x\" }",
            "3:24: secrets.\"db-*\".stored-as: not allowed for a prefix: an entry with `*` matches many names".into(),
        ),
        (
            "{ allow = [], secret-version = \"x\" }",
            "3:24: secrets.\"db-*\".secret-version: not allowed for a prefix: an entry with `*` matches many names".into(),
        ),
    ] {
        assert_eq!(entries(&format!("\"db-*\" = {text}")), format!("policy.toml:{expected}"), "{text}");
    }
    for (text, expected) in [
        (
            "{ allow = [\"get\"], stored-as = \"a/b\" }",
            "3:36: secrets.k.stored-as: expected the name of a secret in the vault: a secret name is 1 to 127 characters of 0-9, a-z, \
             A-Z and `-`",
        ),
        (
            "{ allow = [\"get\"], stored-as = 5 }",
            "3:36: secrets.k.stored-as: expected the name of a secret in the vault in quotes, found a number",
        ),
        (
            "{ allow = [\"get\"], secret-version = \"\" }",
            "3:41: secrets.k.secret-version: expected a version of the secret: a secret version is 1 to 64 characters of 0-9, a-z, \
             A-Z and `-`",
        ),
        (
            "{ allow = [\"get\", \"set\"], secret-version = \"1\" }",
            "3:48: secrets.k.secret-version: conflicts with `allow`: a pinned version can be read, but not set or deleted; remove one of \
             them",
        ),
    ] {
        assert_eq!(entries(&format!("k = {text}")), format!("policy.toml:{expected}"), "{text}");
    }
    assert!(entries("k = { secret-version = \"1\", allow = [\"delete\"] }").contains("conflicts with `allow`"));
}

#[test]
fn two_entries_for_one_secret_are_reported() {
    let cases = [
        (
            "a = { allow = [\"get\"], stored-as = \"x\" }\nb = { allow = [\"set\"], stored-as = \"X\" }",
            "4:1: secrets.b.stored-as: `x` is also granted by secrets.a (line 3)",
        ),
        (
            "a = { allow = [\"get\"], stored-as = \"x\" }\nx = [\"get\"]",
            "3:1: secrets.a.stored-as: `x` is also granted by secrets.x (line 4)",
        ),
        (
            "a = { allow = [\"get\"], stored-as = \"db-x\" }\n\"db-*\" = [\"list\"]",
            "3:1: secrets.a.stored-as: `db-x` is also granted by secrets.\"db-*\" (line 4)",
        ),
        (
            "\"a-*\" = [\"get\"]\na-k = { allow = [\"get\"], stored-as = \"a-z\" }",
            "4:1: secrets.a-k.stored-as: `a-z` is also granted by secrets.\"a-*\" (line 3)",
        ),
    ];
    for (text, expected) in cases {
        let message = entries(text);
        assert!(
            message
                .starts_with(&format!("policy.toml:{expected}, and two entries for one secret would have two budgets")),
            "{text}: {message}"
        );
    }
    for fine in [
        "a = { allow = [\"get\"], stored-as = \"x\" }\nx = []",
        "a = { allow = [\"get\"], stored-as = \"db-x\" }\n\"db-*\" = [\"get\"]\ndb-x = []",
        "a = { allow = [\"get\"], stored-as = \"b\" }\nb = { allow = [\"get\"], stored-as = \"a\" }",
        "a = { allow = [\"get\"], stored-as = \"a\" }",
        "a = { allow = [], stored-as = \"x\" }\nx = [\"get\"]",
    ] {
        policy(fine);
    }
}

// promise: An unknown field in a policy is an error.
#[test]
fn invalid_limit_is_reported() {
    let count = "expected a whole number of at least 0, found";
    for (text, expected) in [
        ("requests = \"5\"", format!("requests: {count} \"5\"")),
        ("metrics = 1.5", format!("metrics: {count} a number with a fraction")),
        ("output-files = -3", format!("output-files: {count} -3")),
        ("memory = \"1KiB\"", "memory: expected at least 64KiB, one page of WebAssembly memory, found \"1KiB\"".into()),
        ("time = \"0s\"", "time: expected at least 1ms, found \"0s\"".into()),
        (
            "output-bytes = 5",
            "output-bytes: expected a size: a whole number with B, KiB, MiB or GiB, such as \"512MiB\", found 5".into(),
        ),
        (
            "log-bytes = \"5MB\"",
            "log-bytes: expected a size: a whole number with B, KiB, MiB or GiB, such as \"512MiB\" (1MiB is 1,048,576 bytes), found \
             \"5MB\""
                .into(),
        ),
        (
            "compile-time = \"2 m\"",
            "compile-time: expected a duration of at most 365d: a whole number with ms, s, m, h or d, such as \"90s\", found \"2 m\"".into(),
        ),
        ("memmory = 1", "memmory: unknown field; did you mean `memory`?".into()),
    ] {
        let message = message(&format!("version = 1\n[limits]\n{text}"));
        assert!(message.ends_with(&format!(": limits.{expected}")), "{text}: {message}");
        assert!(message.starts_with("policy.toml:3:"), "{message}");
    }
}

#[test]
fn message_never_repeats_a_value() {
    for text in [
        "[environment]\n\"TOKEN=hunter2\" = \"x\"",
        "[environment]\nTOKEN = [\"hunter2\"]",
        "[environment]\nTOKEN = \"hunter2\\u0000\"",
        "[environment]\nTOKEN = \"hunter2",
        "[environment]\nTOKEN = hunter2",
        "[environment]\nTOKEN = \"hunter2\"\nTOKEN = \"hunter2\"",
        "[environment]\n\"\" = \"hunter2\"",
        "[secrets]\ndb-password = \"hunter2\"",
        "[secrets]\ndb-password = [\"hunter2\"]",
        "[secrets]\ndb-password = { value = \"hunter2\", allow = [] }",
        "[secrets]\ndb-password = { allow = \"hunter2\" }",
        "[secrets]\ndb-password = { allow = [], stored-as = \"hunter2!\" }",
        "[secrets]\ndb-password = { allow = [], secret-version = \"hunter2!\" }",
        "[secrets]\ndb-password = { allow = [], expires = \"hunter2\" }",
    ] {
        let message = message(&format!("version = 1\n{text}"));
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn problems_are_reported_in_file_order_up_to_twenty() {
    let error =
        Policy::parse("version = 3\n[secrets]\nz = [\"got\"]\na = 1\n[limits]\nx = 1", "p").unwrap_err().to_string();
    let places: Vec<&str> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["p:1:11", "p:3:6", "p:4:5", "p:6:1"]);

    let many: String = (0..50).map(|i| format!("a{i} = 1\n")).collect();
    let error = Policy::parse(&format!("version = 1\n[secrets]\n{many}"), "p").unwrap_err();
    assert_eq!(error.problems().len(), 20);
    assert_eq!(error.to_string().lines().count(), 21);
    assert!(error.to_string().ends_with("\np: and 30 more"));
}

#[test]
fn policy_above_a_size_bound_is_refused() {
    let entries = |count: usize| (0..count).map(|i| format!("a{i} = []\n")).collect::<String>();
    assert!(Policy::parse(&format!("version = 1\n[secrets]\n{}", entries(ENTRIES_MAX)), "p").is_ok());
    assert!(
        message(&format!("version = 1\n[secrets]\n{}", entries(ENTRIES_MAX + 1)))
            .contains("at most 10000 entries, found 10001")
    );
    let mut text = "version = 1\n#".to_owned();
    text.push_str(&"x".repeat(TEXT_MAX - text.len()));
    assert!(Policy::parse(&text, "p").is_ok());
    text.push('x');
    assert!(message(&text).starts_with("policy.toml: the policy is longer than 1 MiB"));
    let targets: Vec<String> = (0..=TARGETS_MAX).map(|i| format!("\"a{i}:1\"")).collect();
    assert!(message(&format!("version = 1\ntcp = [{}]", targets.join(","))).contains("at most 256 destinations"));
}

#[test]
fn long_list_of_errors_gets_few_messages() {
    let text = format!("version = 1\n[secrets]\nk = [{}]", "1,".repeat(200_000));
    assert_eq!(Policy::parse(&text, "p").unwrap_err().problems().len(), 6);
    let every = "\"get\", \"set\", \"list\", \"describe\", \"delete\"";
    assert!(Policy::parse(&format!("version = 1\n[secrets]\nk = [{every}]"), "p").is_ok());
    assert!(entries(&format!("k = [{every}, \"delete\"]")).ends_with("`delete` is listed twice; keep one"));
}

#[test]
fn byte_order_mark_and_crlf_are_accepted() {
    assert!(Policy::parse("\u{feff}version = 1\r\n[secrets]\r\na = []\r\n", "p").is_ok());
    let error = Policy::parse("\u{feff}version = 1\r\nx = 1\r\n", "p").unwrap_err();
    assert_eq!(error.problems()[0].location, Some(Location { line: 2, column: 1 }));
}

#[test]
fn control_characters_in_the_file_name_are_escaped() {
    let error = Policy::parse("", "a\u{1b}[2J.toml").unwrap_err().to_string();
    assert!(error.starts_with("a\\u{1b}[2J.toml:1:1: "), "{error}");
}
