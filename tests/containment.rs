//! Components that do not end, take too much, or reach out: each is stopped, recorded, and blamed.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use strongroom::record::{Limit, NetworkOperation};

use crate::support::Host;

/// A short time limit, where the run is to be stopped by it.
const SHORT: &str = "version = 1\n[limits]\ntime = \"500ms\"";

#[test]
fn what_does_not_end_is_ended() {
    let host = Host::new();
    for guest in ["spin", "spin-host", "sleep"] {
        host.run(guest, SHORT, &[]).stopped(Limit::Time);
    }
    host.audit_is_whole();
}

#[test]
fn memory_is_bounded_and_measured() {
    let host = Host::new();
    let run = host.run("grow", "version = 1\n[limits]\nmemory = \"64MiB\"", &[]).stopped(Limit::Memory);
    let peak = run.record.peak_memory_bytes;
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak}");
}

#[test]
fn the_stack_is_bounded() {
    Host::new().run("recurse", "version = 1", &[]).stopped(Limit::Stack);
}

#[test]
fn resources_are_bounded() {
    let host = Host::new();
    for kind in ["timers", "files"] {
        host.run("handles", "version = 1", &[kind]).stopped(Limit::Resources);
    }
}

#[test]
fn what_one_call_carries_is_bounded() {
    let host = Host::new();
    for kind in ["name", "value"] {
        host.run("large", "version = 1", &[kind]).stopped(Limit::HostCall);
    }
    // A million names are over the limit of requests, and nothing is decided.
    host.run("large", "version = 1\n[secrets]\n\"n*\" = [\"get\"]", &["list"]).stopped(Limit::Requests);
}

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

#[test]
fn reports_are_bounded() {
    let host = Host::new();
    for kind in ["metrics", "progress"] {
        host.run("reports", "version = 1\n[limits]\nmetrics = 1000", &[kind]).stopped(Limit::Metrics);
    }
}

#[test]
fn a_name_in_every_spelling_is_one_name() {
    let host = Host::new();
    host.set("db-admin", "the-crown-jewels");
    // The exact entry denies; the prefix must not let another spelling through.
    let policy =
        "version = 1\n[secrets]\n\"db-*\" = [\"get\", \"set\", \"list\", \"describe\", \"delete\"]\ndb-admin = []";
    let run = host.run("spell", policy, &["db-admin"]).finished().never_shows("crown").never_shows("redacted");
    assert!(!run.shown.contains("]: ok") && !run.shown.contains("\": ok"), "{}", run.shown);
    assert_eq!(run.shown.matches("error: denied: db-admin").count(), 3 * 7, "{}", run.shown);
    assert_eq!(host.get("db-admin"), "the-crown-jewels");

    // The same answers for a name that does not exist.
    let absent = host.run("spell", policy.replace("db-admin", "db-nobody").as_str(), &["db-nobody"]).finished();
    assert_eq!(absent.shown.matches("error: denied: db-nobody").count(), 3 * 7);
}

#[test]
fn only_granted_addresses_are_reached() {
    let granted = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (granted_at, other_at) = (granted.local_addr().unwrap(), other.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = granted.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(b"pong\n").unwrap();
    });
    let host = Host::new();
    let policy = format!("version = 1\ntcp = [\"{granted_at}\"]");
    let mapped = format!("[::ffff:127.0.0.1]:{}", other_at.port());
    let run = host
        .run(
            "net",
            &policy,
            &[&granted_at.to_string(), &other_at.to_string(), &mapped, "169.254.169.254:80", "localhost:80"],
        )
        .finished();
    let account = run.record.network.clone();
    let of = |target: &str| account.iter().find(|used| used.target == target).unwrap_or_else(|| panic!("{account:?}"));
    let (granted, other_at) = (granted_at.to_string(), other_at.to_string());
    assert_eq!((of(&granted).count, of(&granted).denied, of(&granted).entry.as_ref()), (1, 0, Some(&granted)));
    assert_eq!(
        (of(&other_at).count, of(&other_at).denied, of(&other_at).would_allow.as_ref()),
        (0, 1, Some(&other_at))
    );
    assert_eq!((of("169.254.169.254:80").denied, of("169.254.169.254:80").would_allow.as_ref()), (1, None));
    assert_eq!((of("example.com").operation, of("example.com").denied), (NetworkOperation::LookUp, 1));
    let trail = host.audit(&run.record.id.to_string());
    assert_eq!(trail.matches(r#""event":"network""#).count(), account.len(), "{trail}");
    run.shows(&format!("connect {granted_at}: CONNECTED pong"))
        .never_shows(&format!("connect {other_at}: CONNECTED"))
        .never_shows("LISTENING")
        .shows("listen: Err")
        .shows("udp: Err")
        .shows("look up example.com:80: Err")
        .shows("look up localhost:80: Err");
    server.join().unwrap();
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "somebody has connected to the port that was not granted");

    // Without a grant nothing is connected, and it is said what would have been.
    let run = host.run("net", "version = 1", &[&other_at]).finished().never_shows("CONNECTED");
    assert!(run.record.network.iter().any(|used| used.target == other_at && used.denied == 1));
    assert!(other.accept().is_err());
}

#[test]
fn the_compiler_is_bounded_in_time() {
    let host = Host::new();
    let run = host.run("thief", "version = 1\n[limits]\ncompile-time = \"1ms\"", &[]).stopped(Limit::Compile);
    assert!(run.record.reason.unwrap().contains("compile-time"));
    assert!(!run.shown.contains("I was let in"));
}

#[test]
fn compiled_code_that_was_changed_is_not_loaded() {
    let host = Host::new();
    host.run("hello", "version = 1", &[]).finished();
    let entries: Vec<_> = crate::support::files_below(&host.home().join("code"))
        .into_iter()
        .filter(|path| std::fs::metadata(path).unwrap().len() > 10_000)
        .collect();
    let [entry] = entries.as_slice() else { panic!("one component is kept: {entries:?}") };
    let whole = std::fs::read(entry).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(entry, &changed).unwrap();
    let run = host.run("hello", "version = 1", &[]).finished().shows("hello, []");
    assert!(run.record.warnings.iter().any(|warning| warning.contains("compiled again")), "{:?}", run.record.warnings);
    // It was compiled again and kept anew.
    assert_eq!(std::fs::read(entry).unwrap().len(), whole.len());
    let run = host.run("hello", "version = 1", &[]).finished();
    assert!(!run.record.warnings.iter().any(|warning| warning.contains("compiled again")), "{:?}", run.record.warnings);
}
