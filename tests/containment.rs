//! Components that print, request and report without end, or spell names in many ways; and modified
//! files in the compiled-code cache.

use std::path::{Path, PathBuf};

use strongroom::record::Limit;

use crate::support::Host;

// attack: resources: print forever, with and without line ends, or a gigabyte in one line -> the
// `log-bytes` limit and a bounded queue
#[test]
fn endless_output_is_cut_at_log_bytes() {
    let host = Host::new();
    for way in ["lines", "line"] {
        let run = host
            .run("flood", "version = 1\n[limits]\ntime = \"1s\"\nlog-bytes = \"100KiB\"", &[way])
            .stopped(Limit::Time);
        assert_eq!(run.record.log.kept, 100 << 10);
        assert!(run.record.log.dropped > 0);
        // The kept output and a few lines of the host.
        assert!(run.shown.len() < (100 << 10) + 4096, "{}", run.shown.len());
    }
    // At the limit nothing is dropped.
    let run = host.run("flood", "version = 1\n[limits]\nlog-bytes = \"200KiB\"", &["102400"]).finished();
    assert_eq!((run.record.log.kept, run.record.log.dropped), (200 << 10, 0));
}

#[test]
fn requests_over_limit_stop_the_run_with_one_summary() {
    let host = Host::new();
    let run = host.run("requests", "version = 1\n[limits]\nrequests = 50", &[]).stopped(Limit::Requests);
    let denied: u64 = run.record.secrets.iter().map(|usage| usage.denied).sum();
    assert_eq!(denied, 50);
    let events = host.audit(&run.record.id.to_string());
    assert_eq!(events.matches(r#""summary""#).count(), 1, "{events}");
}

// attack: resources: write two values in turn, so that each is a new version -> the `secret-bytes`
// limit counts every write, and the local vault keeps a bounded number of versions
#[test]
fn alternating_writes_stop_at_secret_bytes() {
    let host = Host::new();
    let policy = |limits: &str| format!("version = 1\n[secrets]\nkey = [\"set\"]\n[limits]\n{limits}");
    let run = host.run("alternate", &policy("secret-bytes = \"100KiB\""), &[]).stopped(Limit::SecretBytes);
    let written: u64 = run.record.secrets.iter().map(|usage| usage.count).sum();
    assert_eq!(written, 4);
    let events = host.audit(&run.record.id.to_string());
    assert_eq!(events.matches("limits.secret-bytes").count(), 1, "{events}");
    let run = host.run("alternate", &policy("requests = 20000"), &[]).stopped(Limit::SecretBytes);
    let written: u64 = run.record.secrets.iter().map(|usage| usage.count).sum();
    assert_eq!(written, (16 << 20) / (24 << 10), "the default limit");
}

// attack: resources: report a million metrics, metric names or progress messages -> the `metrics`
// limit, and a run record of bounded size
#[test]
fn reports_over_limit_stop_the_run() {
    let host = Host::new();
    for kind in ["metrics", "progress", "tags", "parameters", "text-names", "texts"] {
        let run = host.run("reports", "version = 1\n[limits]\nmetrics = 1000", &[kind]).stopped(Limit::Metrics);
        // Only the start and the end: reports are in the record and do not make the audit log grow.
        assert_eq!(host.events(&run.record).len(), 2);
        let points = run.record.metrics.values().map(|metric| metric.points.len()).sum::<usize>();
        let values = run.record.text_metrics.values().map(|metric| metric.points.len()).sum::<usize>();
        let pairs = run.record.logged_tags.len() + run.record.logged_parameters.len();
        match kind {
            "progress" => assert!(run.record.progress.is_some()),
            // Values of 8 KiB, of which fewer fit into the record.
            "parameters" => assert!((100..1000).contains(&pairs), "{pairs}"),
            _ => assert_eq!(points + values + pairs, 1000, "{kind}"),
        }
    }
}

// promise: All spellings of a secret name are one name, so no spelling bypasses its policy entry.
// attack: access: bypass an entry by case, `../keys/x`, `a/b`, `%2e%2e`, an empty or overlong name,
// non-ASCII or NUL -> a name is 1 to 127 characters of `0-9 a-z A-Z -`, parsed and folded to lower
// case once
#[test]
fn name_in_any_spelling_gets_the_same_decision() {
    let host = Host::new();
    host.set("db-masks", "the-crown-jewels");
    // The exact entry denies; no spelling may fall through to the prefix.
    let policy =
        "version = 1\n[secrets]\n\"db-*\" = [\"get\", \"set\", \"list\", \"describe\", \"delete\"]\ndb-masks = []";
    let run = host.run("spell", policy, &["db-masks"]).finished().never_shows("crown").never_shows("redacted");
    assert!(!run.shown.contains("]: ok") && !run.shown.contains("\": ok"), "{}", run.shown);
    assert_eq!(run.shown.matches("error: denied: db-masks").count(), 3 * 7, "{}", run.shown);
    assert_eq!(host.get("db-masks"), "the-crown-jewels");

    // A name that does not exist gets the same answers.
    let absent = host.run("spell", policy.replace("db-masks", "db-tasks").as_str(), &["db-tasks"]).finished();
    assert_eq!(absent.shown.matches("error: denied: db-tasks").count(), 3 * 7);
}

#[test]
fn compile_time_limit_stops_the_run() {
    let host = Host::new();
    let run = host.run("thief", "version = 1\n[limits]\ncompile-time = \"1ms\"", &[]).stopped(Limit::Compile);
    assert!(run.record.reason.unwrap().contains("compile-time"));
    assert!(!run.shown.contains("I was let in"));
}

/// Returns the entries of the compiled-code cache, least recently used first.
fn entries(store: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = crate::support::files_below(store)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "code"))
        .collect();
    entries.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    entries
}

/// Runs `hello`, and returns whether it was compiled again because the cache entry was rejected.
fn recompiles(host: &Host) -> bool {
    let run = host.run("hello", "version = 1", &[]).finished().shows("hello, []");
    run.record.warnings.iter().any(|warning| warning.contains("compiled again"))
}

// promise: Compiled code is loaded only if its keyed hash matches.
// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn modified_compiled_code_is_not_loaded() {
    let host = Host::new();
    let store = host.home().join("code");
    host.run("hello", "version = 1", &[]).finished();
    let [hello] = entries(&store).try_into().unwrap();
    host.run("fail", "version = 1", &[]).failed();
    let fail = entries(&store).into_iter().find(|entry| *entry != hello).unwrap();
    let (whole, others) = (std::fs::read(&hello).unwrap(), std::fs::read(&fail).unwrap());
    assert!(!recompiles(&host));

    // One flipped bit in the header, at the start, in the middle and at the end; truncated,
    // extended and empty.
    for at in [0, 10, 40, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&hello, &changed).unwrap();
        assert!(recompiles(&host), "bit at {at}");
        assert!(!recompiles(&host), "the new code was not stored");
    }
    for changed in [&whole[..whole.len() - 1], &whole[..20], &[], &[whole.as_slice(), b"x"].concat()] {
        std::fs::write(&hello, changed).unwrap();
        assert!(recompiles(&host), "{} bytes", changed.len());
    }
    // Another component's code under this component's name.
    std::fs::write(&hello, &others).unwrap();
    assert!(recompiles(&host));
    // A link, even to the correct bytes.
    let elsewhere = host.file("elsewhere.code", &whole);
    std::fs::remove_file(&hello).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &hello).unwrap();
    assert!(recompiles(&host));
    assert!(!std::fs::symlink_metadata(&hello).unwrap().is_symlink(), "the link was not replaced");
    assert_eq!(std::fs::read(&elsewhere).unwrap(), whole, "the target of the link was changed");
    assert!(!recompiles(&host));
}

// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn compiled_code_folder_of_others_is_refused() {
    let host = Host::new();
    let store = host.home().join("code");
    host.run("hello", "version = 1", &[]).finished();
    let guest = crate::support::guest("hello").display().to_string();
    let refused = |why: &str| {
        let message = host.fails(5, &["run", &guest]);
        assert!(message.contains("cannot hold compiled code") && message.contains(why), "{message}");
    };
    // A link to a folder with the same content.
    let moved = host.path().join("moved");
    std::fs::rename(&store, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &store).unwrap();
    refused("it is a link");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&moved, &store).unwrap();
    assert!(!recompiles(&host));
    // Only the superuser can change a file's owner.
    if rustix::process::geteuid().is_root() {
        let [entry] = entries(&store).try_into().unwrap();
        let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
        give(&entry, 65534);
        assert!(recompiles(&host), "another user's entry was loaded");
        give(&store, 65534);
        refused("another user");
        give(&store, 0);
        let key = store.join("store.key");
        give(&key, 65534);
        refused("another user");
        give(&key, 0);
        assert!(!recompiles(&host));
    }
    // If others can read the folder, its key is not secret.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o755)).unwrap();
    refused("other users have access");
}
