//! Components that print, ask and report without end, that ask under every spelling, and stored code that somebody has changed.

use std::path::{Path, PathBuf};

use strongroom::record::Limit;

use crate::support::Host;

// attack: resources: print forever, with and without line ends, or a gigabyte in one line -> the
// `log-bytes` limit and a bounded queue
#[test]
fn endless_output_is_cut() {
    let host = Host::new();
    for way in ["lines", "line"] {
        let run = host
            .run("flood", "version = 1\n[limits]\ntime = \"1s\"\nlog-bytes = \"100KiB\"", &[way])
            .stopped(Limit::Time);
        assert_eq!(run.record.log.kept, 100 << 10);
        assert!(run.record.log.dropped > 0);
        // What is shown is what was kept, and the host's own few lines.
        assert!(run.shown.len() < (100 << 10) + 4096, "{}", run.shown.len());
    }
    // Just within the limit nothing is lost.
    let run = host.run("flood", "version = 1\n[limits]\nlog-bytes = \"200KiB\"", &["102400"]).finished();
    assert_eq!((run.record.log.kept, run.record.log.dropped), (200 << 10, 0));
}

#[test]
fn requests_are_bounded_and_summed_up() {
    let host = Host::new();
    let run = host.run("requests", "version = 1\n[limits]\nrequests = 50", &[]).stopped(Limit::Requests);
    let denied: u64 = run.record.secrets.iter().map(|one| one.denied).sum();
    assert_eq!(denied, 50);
    let trail = host.audit(&run.record.id.to_string());
    assert_eq!(trail.matches(r#""summary""#).count(), 1, "{trail}");
}

// attack: resources: report a million metrics, metric names or progress messages -> the `metrics`
// limit, and a run record of bounded size
#[test]
fn reports_are_bounded() {
    let host = Host::new();
    for kind in ["metrics", "progress"] {
        let run = host.run("reports", "version = 1\n[limits]\nmetrics = 1000", &[kind]).stopped(Limit::Metrics);
        // Its start and its end: what it reports is in the record, and does not make the audit grow.
        assert_eq!(host.events(&run.record).len(), 2);
        let points = run.record.metrics.values().map(|metric| metric.points.len()).sum::<usize>();
        assert!(points == 1000 || run.record.progress.is_some(), "{points}");
    }
}

// promise: All spellings of a secret name are one name, so no spelling bypasses its policy entry.
// attack: access: bypass an entry by case, `../keys/x`, `a/b`, `%2e%2e`, an empty or overlong name,
// non-ASCII or NUL -> a name is 1 to 127 characters of `0-9 a-z A-Z -`, parsed and folded to lower
// case once
#[test]
fn a_name_in_every_spelling_is_one_name() {
    let host = Host::new();
    host.set("db-masks", "the-crown-jewels");
    // The exact entry denies; the prefix must not let another spelling through.
    let policy =
        "version = 1\n[secrets]\n\"db-*\" = [\"get\", \"set\", \"list\", \"describe\", \"delete\"]\ndb-masks = []";
    let run = host.run("spell", policy, &["db-masks"]).finished().never_shows("crown").never_shows("redacted");
    assert!(!run.shown.contains("]: ok") && !run.shown.contains("\": ok"), "{}", run.shown);
    assert_eq!(run.shown.matches("error: denied: db-masks").count(), 3 * 7, "{}", run.shown);
    assert_eq!(host.get("db-masks"), "the-crown-jewels");

    // The same answers for a name that does not exist.
    let absent = host.run("spell", policy.replace("db-masks", "db-tasks").as_str(), &["db-tasks"]).finished();
    assert_eq!(absent.shown.matches("error: denied: db-tasks").count(), 3 * 7);
}

#[test]
fn the_compiler_is_bounded_in_time() {
    let host = Host::new();
    let run = host.run("thief", "version = 1\n[limits]\ncompile-time = \"1ms\"", &[]).stopped(Limit::Compile);
    assert!(run.record.reason.unwrap().contains("compile-time"));
    assert!(!run.shown.contains("I was let in"));
}

/// The entries in the store of compiled code, the one used last at the end.
fn entries(store: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = crate::support::files_below(store)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "code"))
        .collect();
    entries.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    entries
}

/// Runs `hello`, which has to do what it always does, and tells whether it was compiled again because of what was in the store.
fn distrusted(host: &Host) -> bool {
    let run = host.run("hello", "version = 1", &[]).finished().shows("hello, []");
    run.record.warnings.iter().any(|warning| warning.contains("compiled again"))
}

// promise: Compiled code is loaded only if its keyed hash matches.
// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn compiled_code_that_was_changed_is_not_loaded() {
    let host = Host::new();
    let store = host.home().join("code");
    host.run("hello", "version = 1", &[]).finished();
    let [hello] = entries(&store).try_into().unwrap();
    host.run("fail", "version = 1", &[]).failed();
    let fail = entries(&store).into_iter().find(|entry| *entry != hello).unwrap();
    let (whole, others) = (std::fs::read(&hello).unwrap(), std::fs::read(&fail).unwrap());
    assert!(!distrusted(&host));

    // One bit, in the header, at the beginning, in the middle and at the end; cut; lengthened; nothing at all.
    for at in [0, 10, 40, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&hello, &changed).unwrap();
        assert!(distrusted(&host), "bit at {at}");
        assert!(!distrusted(&host), "it was not kept anew");
    }
    for changed in [&whole[..whole.len() - 1], &whole[..20], &[], &[whole.as_slice(), b"x"].concat()] {
        std::fs::write(&hello, changed).unwrap();
        assert!(distrusted(&host), "{} bytes", changed.len());
    }
    // Another component's code under its name.
    std::fs::write(&hello, &others).unwrap();
    assert!(distrusted(&host));
    // A link, even to the right bytes.
    let elsewhere = host.file("elsewhere.code", &whole);
    std::fs::remove_file(&hello).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &hello).unwrap();
    assert!(distrusted(&host));
    assert!(!std::fs::symlink_metadata(&hello).unwrap().is_symlink(), "the link is replaced");
    assert_eq!(std::fs::read(&elsewhere).unwrap(), whole, "and what it led to is left alone");
    assert!(!distrusted(&host));
}

// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn a_store_of_compiled_code_that_is_not_ours_is_not_used() {
    let host = Host::new();
    let store = host.home().join("code");
    host.run("hello", "version = 1", &[]).finished();
    let guest = crate::support::guest("hello").display().to_string();
    let refused = |why: &str| {
        let message = host.fails(5, &["run", &guest]);
        assert!(message.contains("cannot hold compiled code") && message.contains(why), "{message}");
    };
    // A link to a folder of the same content.
    let moved = host.path().join("moved");
    std::fs::rename(&store, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &store).unwrap();
    refused("it is a link");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&moved, &store).unwrap();
    assert!(!distrusted(&host));
    // Only the superuser can give files away.
    if rustix::process::geteuid().is_root() {
        let [entry] = entries(&store).try_into().unwrap();
        let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
        give(&entry, 65534);
        assert!(distrusted(&host), "another user's entry was loaded");
        give(&store, 65534);
        refused("another user");
        give(&store, 0);
        let key = store.join("store.key");
        give(&key, 65534);
        refused("another user");
        give(&key, 0);
        assert!(!distrusted(&host));
    }
    // Open to others: its key is no secret then.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o755)).unwrap();
    refused("other users have access");
}
