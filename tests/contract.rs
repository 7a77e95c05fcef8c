//! The guest contract, tested with honest guests.

use std::collections::BTreeMap;

use strongroom::record::Outcome;

use crate::support::Host;

// attack: escape: read the vault's credential, the environment or files of the host, or `/proc` ->
// a run gets its own environment and two directories and inherits nothing
#[test]
fn program_gets_only_its_own_environment() {
    let host = Host::new();
    let run = host.run("hello", "version = 1\n[environment]\nEPOCHS = \"200\"", &["one", "two words"]).finished();
    let run = run
        .shows(r#"hello, ["one", "two words"]"#)
        .shows("env EPOCHS=200")
        .shows("standard error")
        .shows("stdin has 0 bytes");
    run.never_shows("HOST_ONLY").never_shows("STRONGROOM_HOME").never_shows("PATH=");
}

#[test]
fn failed_and_trapped_guests_are_blamed() {
    let host = Host::new();
    let run = host.run("fail", "version = 1", &[]).failed().shows("the data has no rows");
    assert_eq!(run.record.exit_code, Some(1));
    let run = host.run("trap", "version = 1", &[]).failed().shows("something is wrong");
    assert_eq!(run.record.exit_code, None);
    assert!(run.record.reason.unwrap().contains("unreachable"));
}

#[test]
fn component_without_main_runs_its_train_function() {
    let host = Host::new();
    host.run("plugin", "version = 1", &[]).finished().shows("trained");
    let run = host.run_with("plugin", "version = 1", &["--param", "error=no rows"], &[]).failed();
    assert_eq!(run.record.reason.as_deref(), Some("no rows"));
}

#[test]
fn secret_operations_follow_the_policy() {
    let host = Host::new();
    host.set("db-user", "alice-the-first");
    host.set("db-password", "correct horse battery");
    host.set("other", "not-for-this-run");
    let policy = r#"
        version = 1
        [secrets]
        "db-*" = ["get", "list", "describe"]
        model-key = { allow = ["get", "set", "delete", "list"], stored-as = "prod-model-key" }
    "#;
    let run = host
        .run(
            "exercise",
            policy,
            &[
                "len=db-user",
                "len=DB-User",
                "get-many=db-user,db-absent",
                "get=db-absent",
                "describe=db-user",
                "set=model-key=made-in-the-run",
                "len=model-key",
                "list",
                "get=other",
                "get=prod-model-key",
                "delete=db-user",
            ],
        )
        .finished();
    let run = run
        .shows("len db-user: ok: 15")
        .shows("len DB-User: ok: 15")
        .shows(r#"get-many db-user,db-absent: ok: [("db-user", Some("[redacted:db-user]")), ("db-absent", None)]"#)
        .shows("get db-absent: error: not-found: db-absent")
        .shows("describe db-user: ok: Description { version:")
        .shows("set model-key=[redacted:model-key]: ok: ()")
        .shows("len model-key: ok: 15")
        .shows(r#"list : ok: ["db-password", "db-user", "model-key"]"#)
        .shows("get other: error: denied: other")
        .shows("get prod-model-key: error: denied: prod-model-key")
        .shows("delete db-user: error: denied: db-user");
    let uses: Vec<_> = run
        .record
        .secrets
        .iter()
        .map(|usage| (usage.name.as_str(), usage.operation.as_str(), usage.count, usage.denied))
        .collect();
    assert!(uses.contains(&("db-user", "get", 3, 0)), "{uses:?}");
    assert!(uses.contains(&("other", "get", 0, 1)), "{uses:?}");
    let denied = run.record.secrets.iter().find(|usage| usage.name == "other").unwrap();
    assert_eq!(denied.would_allow.as_deref(), Some(r#"other = ["get"]"#));
    assert_eq!(host.get("prod-model-key"), "made-in-the-run");
    assert!(host.ok(&["secret", "list"]).contains("prod-model-key"));
    host.assert_audit_intact();
}

// attack: access: request a granted name together with one that is not granted -> a batch is
// decided as a whole
// attack: access: store a value that is one byte too long -> the type of a value enforces the limit
#[test]
fn batches_are_applied_completely_or_not_at_all() {
    let host = Host::new();
    host.set("a", "value-of-a");
    let policy = "version = 1\n[secrets]\na = [\"get\", \"set\", \"delete\"]\nb = [\"set\", \"delete\"]";
    let run = host.run(
        "exercise",
        policy,
        &[
            "set-many=a=new-a,c=new-c",
            "set-many=b=new-b,B=again",
            "delete-many=a,b",
            "set-long=a=25601",
            "set-many=a=new-a,b=new-b",
        ],
    );
    run.finished()
        .shows("set-many a=new-a,c=new-c: error: denied: c")
        .shows("error: invalid-batch: b twice")
        .shows("delete-many a,b: error: not-found: b")
        .shows("set-long a=25601: error: invalid-value")
        .shows("set-many a=[redacted:a],b=[redacted:b]: ok: ()");
    assert_eq!((host.get("a"), host.get("b")), ("new-a".to_owned(), "new-b".to_owned()));
}

// attack: access: read more often than the budget allows, or race for the last use -> uses are
// taken atomically before the vault is asked
#[test]
fn max_uses_versions_and_expiry_are_enforced() {
    let host = Host::new();
    host.set("key", "first-version");
    let described = host.ok(&["secret", "describe", "key", "--json"]);
    let version =
        serde_json::from_str::<serde_json::Value>(&described).unwrap()["version"].as_str().unwrap().to_owned();
    host.set("key", "the-second-version");
    let policy = "version = 1\n[secrets]\nkey = { allow = [\"get\"], max-uses = 2 }";
    host.run("exercise", policy, &["len=key", "len=key", "len=key"])
        .finished()
        .shows("len key: ok: 18")
        .shows("error: exhausted: key");
    let policy = format!("version = 1\n[secrets]\nkey = {{ allow = [\"get\"], secret-version = \"{version}\" }}");
    host.run("exercise", &policy, &["len=key"]).finished().shows("len key: ok: 13");
    let policy = "version = 1\n[secrets]\nkey = { allow = [\"get\"], expires = 2020-01-01T00:00:00Z }";
    host.run("exercise", policy, &["len=key"]).finished().shows("error: expired: key");
}

#[test]
fn context_has_parameters_and_accepts_reports() {
    let host = Host::new();
    let run = host.run_with("context", "version = 1", &["--param", "epochs=3", "--param", "a=b=c"], &[]).finished();
    let id = run.record.id.to_string();
    let run = run
        .shows(&format!("run {id}"))
        .shows(r#"parameter epochs Some("3")"#)
        .shows("parameter absent None")
        .shows(r#"parameters [("a", "b=c"), ("epochs", "3")]"#)
        .shows("empty name Err(")
        .shows("line break Err(")
        .shows("long Err(")
        .shows("long message Err(");
    let loss = &run.record.metrics["loss"];
    assert_eq!((loss.points.len(), loss.points[2].step), (3, Some(2)));
    assert_eq!(run.record.metrics["odd"].last.unwrap().0, f64::INFINITY);
    assert_eq!(run.record.progress.unwrap().message, "two of three");
}

#[test]
fn tags_parameters_and_text_metrics_are_recorded_and_shown() {
    let host = Host::new();
    let run = host.run("labels", "version = 1\n[limits]\ntime = \"1000h\"", &[]).finished();
    let run = run
        .shows("empty name Err(\"a tag's name is 1 to 128 bytes\")")
        .shows("line break Err(\"a parameter's name has no control characters\")")
        .shows("long name Err(\"a text metric's name is 1 to 128 bytes\")")
        .shows("long tag Err(\"a tag's value is at most 8192 bytes\")")
        .shows("long parameter Err(\"a parameter's value is at most 8192 bytes\")")
        .shows("long text Err(\"a text metric's value is at most 8192 bytes\")")
        .shows("time left: true, and it decreases: true");
    let seconds = run.shown.lines().find_map(|line| line.strip_prefix("seconds ")).unwrap();
    assert!((1..=3_600_000).contains(&seconds.parse::<u64>().unwrap()), "{seconds}");
    let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert_eq!(run.record.logged_tags, pair("team", "blue"));
    assert_eq!(run.record.logged_parameters, pair("learning_rate", "0.01"));
    let stage = &run.record.text_metrics["stage"];
    let values: Vec<_> = stage.points.iter().map(|point| (point.step, point.value.as_str())).collect();
    assert_eq!(values, [(Some(0), "read"), (Some(1), "fit"), (Some(2), "write")]);
    assert_eq!(stage.dropped, 0);
    assert_eq!(run.record.text_metrics["note"].points[0].step, None);

    let id = run.record.id.to_string();
    let stored: strongroom::record::RunRecord =
        serde_json::from_str(&host.ok(&["runs", "show", &id, "--json"])).unwrap();
    assert_eq!(stored, run.record);
    for shown in [host.ok(&["runs", "show", &id]), host.ok(&["runs", "show", &id, "--html", "-"])] {
        for part in ["learning_rate", "0.01", "team", "blue", "stage", "write", "step 2, 3 values"] {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
        assert!(!shown.contains("draft"), "{shown}");
    }
}

// promise: Components built for an earlier version of the guest contract run unchanged.
#[test]
fn component_for_first_version_of_contract_runs() {
    let host = Host::new();
    host.set("key", "a-value-to-be-read");
    let run = host.run("first-contract", "version = 1\n[secrets]\nkey = [\"get\"]", &[]).finished();
    let loss = &run.record.metrics["loss"].points;
    assert_eq!((loss.len(), loss[0].step, loss[0].value.0), (1, Some(7), 0.5));
    assert_eq!(run.record.progress.as_ref().map(|progress| progress.message.as_str()), Some("half"));
    assert_eq!((run.record.secrets.len(), run.record.secrets[0].count), (1, 1));
}

#[test]
fn record_is_stored_and_shown() {
    let host = Host::new();
    let run = host.run("hello", "version = 1", &[]).finished();
    let shown: strongroom::record::RunRecord =
        serde_json::from_str(&host.ok(&["runs", "show", &run.record.id.to_string(), "--json"])).unwrap();
    assert_eq!(shown, run.record);
    assert_eq!(shown.outcome, Outcome::Finished);
    assert!(shown.peak_memory_bytes > 0 && shown.cpu_micros > 0);
    let position = shown.audit.unwrap();
    let expect = format!("{}:{}:{}", position.segment, position.count, position.head);
    host.ok(&["audit", "verify", "--expect", &expect]);
    host.fails(
        5,
        &["audit", "verify", "--expect", &format!("{}:{}:{}", position.segment, position.count + 100, position.head)],
    );
}

// attack: access: read after the grant has expired, including a value that the run already read ->
// every read is decided again if its time matters
#[test]
fn grant_that_expires_during_a_run_is_refused() {
    let host = Host::new();
    host.set("key", "a-value-to-be-read");
    let run = |seconds: u64| {
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds.cast_signed());
        let all = "[\"get\", \"set\", \"list\", \"describe\", \"delete\"]";
        let policy = format!("version = 1\n[secrets]\nkey = {{ allow = {all}, expires = {expires:.0} }}");
        host.run("outlive", &policy, &["key"]).finished()
    };
    // The first run compiles. On a slow machine a longer grant is needed until a read succeeds.
    let reads = |run: &crate::support::EndedRun| {
        let line = run.shown.lines().find(|line| line.contains(" reads, then ")).unwrap().to_owned();
        line.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let ended = [1, 2, 8, 32].into_iter().map(run).find(|ended| reads(ended) > 0);
    let ended = ended.expect("a grant of half a minute serves a read").shows("reads, then error: expired: key");
    for operation in ["get", "get-many", "describe", "set", "delete"] {
        let answer = format!("{operation} error: expired: key");
        assert_eq!(ended.shown.matches(&answer).count(), 3, "{operation}:\n{}", ended.shown);
    }
    assert!(!ended.shown.contains("list ok: [\"key\"]"), "{}", ended.shown);
    assert_eq!(host.get("key"), "a-value-to-be-read");
    // Reads come before refusals in the audit log, and only the first read reached the vault.
    let events = host.events(&ended.record);
    let at = |outcome: &str| events.iter().position(|event| event["outcome"] == outcome).unwrap();
    assert!(at("released") < at("grant expired"));
    assert_eq!(events.iter().filter(|event| event["outcome"] == "released").count(), 1);
}
