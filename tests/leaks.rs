//! Attempts to leak a secret. Shown and stored text does not contain it in a covered encoding.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::support::{Host, files_below, guest};

/// A long value of several lines, with characters that the encodings treat differently.
const VALUE: &str = "hunter2-\"Zwiebel\" & / +% correct\\horse\nsecond-line-of-the-secret\nthird=line?of&the:secret";

/// Returns the value and its encodings, for searching.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![value.as_bytes().to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()];
    for prefix in ["", "a", "ab"] {
        let encoded = BASE64_STANDARD.encode(format!("{prefix}{value}"));
        // Without the characters that depend on the surrounding text.
        forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
    }
    forms.extend(value.lines().map(|line| line.as_bytes().to_vec()));
    forms
}

fn find_leak(text: &[u8], value: &str) -> Option<String> {
    forms(value)
        .into_iter()
        .find(|form| text.windows(form.len()).any(|window| window == form.as_slice()))
        .map(|form| String::from_utf8_lossy(&form).into_owned())
}

// attack: leak: print a secret in an encoding, split across writes -> the redactor finds the
// covered encodings
#[test]
fn secret_printed_in_covered_encodings_is_redacted() {
    let host = Host::new();
    host.set("key", VALUE);
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]";
    for split in ["1", "2", "7", "100", "100000"] {
        let run = host.run("leak", policy, &["key", split]).finished();
        assert_eq!(find_leak(run.shown.as_bytes(), VALUE), None, "split {split}:\n{}", run.shown);
        for form in ["raw", "hex", "HEX", "percent", "percent-lower", "form", "percent-all", "json", "line", "base64"] {
            let lines: Vec<_> = run.shown.lines().filter(|line| line.starts_with(&format!("{form}: "))).collect();
            assert!(
                !lines.is_empty() && lines.iter().all(|line| line.contains("[redacted:key]")),
                "{form}, split {split}: {lines:?}"
            );
        }
        let record = serde_json::to_vec(&run.record).unwrap();
        assert_eq!(find_leak(&record, VALUE), None);
        assert!(run.record.redactions > 20);
        assert!(run.record.metrics.keys().all(|name| !name.contains("hunter2")));
        assert_eq!(run.record.logged_tags.values().collect::<Vec<_>>(), ["[redacted:key]"]);
        assert_eq!(run.record.logged_parameters.values().collect::<Vec<_>>(), ["[redacted:key]"]);
        assert_eq!(run.record.text_metrics.values().next().unwrap().points[0].value, "[redacted:key]");
        for shown in [host.ok(&["runs", "show"]), host.ok(&["runs", "show", "--html", "-"])] {
            assert_eq!(find_leak(shown.as_bytes(), VALUE), None);
        }
        assert!(run.record.outputs.iter().all(|output| !output.path.contains("hunter2")), "{:?}", run.record.outputs);
    }
}

// attack: leak: put a secret into a panic, an error, a metric, a tag, a progress text, a file name or
// a requested name -> all text of a component that is stored or shown passes the redactor
#[test]
fn secret_in_a_failure_message_is_redacted() {
    let host = Host::new();
    host.set("key", "hunter2-hunter2-hunter2");
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]";
    let run = host.run("leak", policy, &["key", "3", "fail"]).failed().never_shows("hunter2");
    run.shows("failing with [redacted:key]");
    host.run("trap", policy, &["key"]).failed().never_shows("hunter2").shows("something is wrong with [redacted:key]");
    let run = host.run_with("plugin", policy, &["--param", "secret=key"], &[]).failed().never_shows("hunter2");
    let reason = run.record.reason.unwrap();
    assert_eq!(reason, "cannot log in with [redacted:key]\\x1b[2J");
}

// promise: Control characters from a component are escaped before the command line prints them.
// attack: leak: forge the summary, set the terminal title or clipboard, or reverse text -> control
// and direction characters are shown escaped
#[test]
fn control_characters_in_stored_output_are_escaped() {
    let host = Host::new();
    let run = host.run_with("terminal", "version = 1", &["--output", "out"], &[]).finished();
    assert!(
        !run.shown
            .chars()
            .any(|c| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c)),
        "{:?}",
        run.shown
    );
    let run = run.shows("\\x1b]0;owned").shows("tab\tand newline stay");
    assert_eq!(run.record.logged_tags["tag\\u{202e}"], "\\x1b[31mred");
    assert_eq!(run.record.logged_parameters["parameter"], "\\x1b[1;1Houtcome  finished");
    assert_eq!(run.record.text_metrics["text"].points[0].value, "red\\u{202e}\\r");
    let record = serde_json::to_string(&run.record).unwrap();
    assert!(!record.contains("\\u001b") && !record.contains('\u{202e}'), "{record}");
    // And in what the host prints about the run later.
    let shown = host.ok(&["runs", "show", &run.record.id.to_string()]);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    for again in [&["runs", "log"][..], &["runs", "show", "--html", "-"]] {
        let shown = host.ok(again);
        let controls = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!shown.chars().any(controls) && shown.contains("\\x1b]0;owned"), "{shown:?}");
    }
    let events = host.ok(&["audit", "show"]);
    assert!(!events.chars().any(|c| c.is_control() && c != '\n'), "{events:?}");
}

// promise: Control characters from a component are escaped before the command line prints them.
// attack: leak: forge the summary, set the terminal title or clipboard, or reverse text -> control
// and direction characters are shown escaped
#[test]
fn control_characters_in_live_output_are_escaped() {
    let host = Host::new();
    // As a person sees it, with the summary at the end.
    let terminal = guest("terminal").display().to_string();
    let output = host.output(&["run", &terminal]);
    let shown = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}'), "{shown:?}");
    // The text that would have overwritten the host's output is escaped where it was printed,
    // before the summary.
    let forged = shown.find("\\x1b[2J\\x1b[1;1Houtcome  finished").unwrap();
    assert!(forged < shown.rfind("finished").unwrap(), "{shown}");
}

// promise: Nothing that a run leaves behind contains a secret value.
// attack: leak: make the host log a secret -> the log targets of the engine are capped in code
#[test]
fn trace_log_contains_no_secret_value() {
    let host = Host::new();
    host.set("key", VALUE);
    let policy = host.file("policy.toml", "version = 1\n[secrets]\nkey = [\"get\", \"set\"]");
    let leak = guest("leak").display().to_string();
    for filter in ["trace", "wasmtime=trace,wasmtime_wasi=trace,wasmtime_wasi_io=trace,strongroom=trace,info"] {
        let mut command = host.command(&["run", &leak, "--policy", policy.to_str().unwrap(), "--", "key", "100"]);
        let output = command.env("STRONGROOM_LOG", filter).output().unwrap();
        assert!(output.status.success());
        assert_eq!(find_leak(&output.stderr, VALUE), None, "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(find_leak(&output.stdout, VALUE), None);
    }
}

// promise: A process that holds secrets writes no core dump.
// attack: leak: crash the host for its core dump -> core dumps are disabled
#[test]
fn running_host_has_core_dumps_disabled() {
    use std::io::Read as _;
    let host = Host::new();
    let mut run = host.start("sleep", "version = 1", &[], &[]);
    run.stderr.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", run.id())).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let limits: Vec<_> = core.split_whitespace().take(2).collect();
    assert_eq!(limits, ["0", "0"], "{core}");
}

// attack: escape: read the vault's credential, the environment or files of the host, or `/proc` ->
// a run gets its own environment and two directories and inherits nothing
#[test]
fn thief_gets_only_granted_secrets() {
    let host = Host::new();
    host.set("dataset-key", "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L");
    host.set("model-key", "the-key-of-the-model");
    host.set("db-password", "correct-horse-battery");
    let run = host.run("thief", "version = 1\n[secrets]\ndataset-key = [\"get\"]", &[]).finished();
    assert_eq!(
        find_leak(run.shown.as_bytes(), "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
        None,
        "{}",
        run.shown
    );
    let run = run
        .never_shows("GOT IT")
        .never_shows("the-key-of-the-model")
        .never_shows("correct-horse")
        .never_shows("environment-of-the-host");
    let run = run.shows("error: denied: model-key").shows("environment             []");
    assert_eq!(run.shown.matches("error: denied: model-key").count(), 2);
}

/// The host's credential is in its environment and in files. A component sees neither, nor the
/// metadata address.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[test]
fn component_cannot_read_the_hosts_credential() {
    let host = Host::new();
    host.set("dataset-key", "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L");
    let token = host.file("federated-token", "token-of-the-pod");
    let secret = host.file("client-secret", "secret-of-the-application");
    let config = format!("[azure]\nclient-secret-file = \"{}\"\n", secret.display());
    let config = host.file("config.toml", config);
    let policy = host.file("policy.toml", "version = 1\n[secrets]\ndataset-key = [\"get\"]");
    let guest = guest("thief");
    let output = host
        .command(&["run", guest.to_str().unwrap(), "--policy", policy.to_str().unwrap()])
        .env("STRONGROOM_CONFIG", config)
        .env("AZURE_TENANT_ID", "tenant-of-the-host")
        .env("AZURE_CLIENT_ID", "client-of-the-host")
        .env("AZURE_CLIENT_SECRET", "secret-of-the-application")
        .env("AZURE_FEDERATED_TOKEN_FILE", token)
        .env("IDENTITY_ENDPOINT", "http://169.254.169.254/metadata/identity/oauth2/token")
        .env("IDENTITY_HEADER", "header-of-the-host")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("environment             []"), "{shown}");
    for word in ["of-the-pod", "of-the-application", "of-the-host", "GOT IT"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
}

// promise: Nothing that a run leaves behind contains a secret value.
// attack: leak: put a secret into a panic, an error, a metric, a tag, a progress text, a file name or
// a requested name -> all text of a component that is stored or shown passes the redactor
#[test]
fn files_left_by_a_run_contain_no_secret_value() {
    let host = Host::new();
    host.set("key", VALUE);
    let policy = "version = 1\n[secrets]\nkey = [\"get\", \"describe\"]\nmade = [\"set\", \"get\"]";
    let log = host.path().join("run.log");
    host.run_with("leak", policy, &["--log", log.to_str().unwrap(), "--output", "out"], &["key", "5", "fail"]).failed();
    let made = "made-in-the-run-and-never-written-down";
    host.run("exercise", policy, &[&format!("set=made={made}"), "get=made", "describe=key"]).finished();
    host.ok(&["audit", "show"]);
    let page = host.path().join("page.html");
    let runs: Vec<strongroom::record::RunRecord> = serde_json::from_str(&host.ok(&["runs", "list", "--json"])).unwrap();
    let leak = runs.last().unwrap().id.to_string();
    host.ok(&["runs", "show", &leak, "--html", page.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&page).unwrap().contains("[redacted:key]"));
    let log_text = std::fs::read_to_string(host.home().join(format!("runs/{leak}.log"))).unwrap();
    assert!(log_text.contains("out raw: [redacted:key]") && log_text.contains("err raw: [redacted:key]"), "{log_text}");
    let mut searched = 0;
    for file in files_below(host.path()) {
        let content = std::fs::read(&file).unwrap();
        for value in [VALUE, made] {
            assert_eq!(find_leak(&content, value), None, "{}", file.display());
            assert_eq!(find_leak(file.to_string_lossy().as_bytes(), value), None, "{}", file.display());
        }
        searched += 1;
    }
    // Vault, key, audit segment, ledger, two records and their logs, page, log, compiled code.
    assert!(searched >= 11, "only {searched} files searched");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
}

// attack: leak: see the values of a simultaneous run -> budgets, versions, redactor and names
// belong to one run
#[test]
fn concurrent_runs_do_not_share_values() {
    let host = Host::new();
    host.set("key-a", "value-of-the-first-run");
    host.set("key-b", "value-of-the-second-run");
    let start = |name: &str, own: &str, others: &str| {
        let policy = host.file(&format!("{name}.toml"), format!("version = 1\n[secrets]\n{own} = [\"get\"]"));
        let guest = guest("exercise");
        let mut command = host.command(&["run", guest.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--"]);
        command.args([format!("len={own}"), format!("get={others}")]).spawn().unwrap()
    };
    let (a, b) = (start("a", "key-a", "key-b"), start("b", "key-b", "key-a"));
    for (child, own, others) in [(a, "key-a", "key-b"), (b, "key-b", "key-a")] {
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(shown.contains(&format!("len {own}: ok: 2")), "{shown}");
        assert!(shown.contains(&format!("get {others}: error: denied: {others}")), "{shown}");
        assert!(!shown.contains("value-of"), "{shown}");
    }
    host.assert_audit_intact();
}
