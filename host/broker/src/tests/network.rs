//! Network use: audited, in which order, and bounded.

use super::*;

fn connect<'a>(target: &'a str, entry: Option<&'a str>) -> Contact<'a> {
    let would_allow = entry.is_none().then(|| target.to_owned());
    Contact { operation: strongroom_core::record::NetworkOperation::Connect, target, entry, would_allow }
}

// promise: A connection is audited before it is opened.
#[tokio::test]
async fn a_connection_is_audited_before_it_is_opened() {
    let world = world("");
    assert!(world.run.contact(connect("10.0.0.1:5432", Some("db.example:5432"))).await);
    let trail = world.trail();
    assert!(
        trail.contains(r#""event":"network""#)
            && trail.contains(r#""decision":"allowed","rule":"tcp \"db.example:5432\"","#)
            && trail.contains(r#""target":"10.0.0.1:5432""#),
        "{trail}"
    );
    assert!(world.run.contact(connect("10.0.0.1:5432", Some("db.example:5432"))).await);
    assert!(!world.run.contact(connect("10.0.0.2:1", None)).await);
    assert!(!world.run.contact(connect("10.0.0.2:1", None)).await);
    assert_eq!(world.trail().matches(r#""event":"network""#).count(), 2, "once for each destination");
    let seen: Vec<_> = world.run.contacts().into_iter().map(|used| (used.target, used.count, used.denied)).collect();
    assert_eq!(seen, [("10.0.0.1:5432".to_owned(), 2, 0), ("10.0.0.2:1".to_owned(), 0, 2)]);
    world.audit.close().unwrap();
    assert!(
        !world.run.contact(connect("10.0.0.3:1", Some("10.0.0.3:1"))).await,
        "what cannot be audited is not opened"
    );
}

#[tokio::test]
async fn a_denial_that_is_shown_alike_does_not_stand_for_the_event_of_a_connection() {
    // The first has a flow label, which is not shown and was not granted.
    for granted_first in [false, true] {
        let world = world("");
        for granted in [granted_first, !granted_first, false, true] {
            let entry = granted.then_some("[::1]:5432");
            assert_eq!(world.run.contact(connect("[::1]:5432", entry)).await, granted);
        }
        let trail = world.trail();
        for decision in [r#""decision":"allowed""#, r#""decision":"denied""#] {
            assert_eq!(trail.matches(decision).count(), 1, "{trail}");
        }
        let seen: Vec<_> = world.run.contacts().into_iter().map(|used| (used.count, used.denied)).collect();
        assert_eq!(seen, [(2, 2)]);
    }
}

#[tokio::test]
async fn a_connection_that_is_given_up_and_begun_again_is_audited_once() {
    use futures_util::FutureExt as _;
    let world = world_synced("", 10_000, Repeats::Sum, SyncMode::Always);
    for _ in 0..50 {
        let _ = world.run.contact(connect("10.0.0.1:5432", Some("10.0.0.1:5432"))).now_or_never();
    }
    assert!(world.run.contact(connect("10.0.0.1:5432", Some("10.0.0.1:5432"))).await);
    let trail = world.trail();
    assert_eq!(trail.matches(r#""event":"network""#).count(), 1, "{trail}");
}

#[tokio::test]
async fn destinations_that_were_denied_are_bounded() {
    let world = world("");
    for port in 1..=DESTINATIONS_MAX + 50 {
        assert!(!world.run.contact(connect(&format!("10.0.0.1:{port}"), None)).await);
    }
    assert!(world.run.contact(connect("10.0.0.2:1", Some("10.0.0.2:1"))).await);
    let seen = world.run.contacts();
    assert_eq!(seen.len(), DESTINATIONS_MAX + 2);
    let others = seen.iter().find(|used| used.target == "(others)").unwrap();
    assert_eq!((others.denied, others.would_allow.as_deref()), (50, None));
    assert_eq!(world.trail().matches(r#""event":"network""#).count(), DESTINATIONS_MAX + 2);
}

#[tokio::test]
async fn a_value_in_a_name_that_is_looked_up_is_redacted() {
    let world = world(r#"key = ["get"]"#);
    world.vault.put("key", "hunter2hunter2");
    world.run.get("key").await.unwrap();
    let long = "x".repeat(300);
    for target in ["hunter2hunter2.evil.example", "a\u{1b}[2J\nb", long.as_str()] {
        let operation = strongroom_core::record::NetworkOperation::LookUp;
        let would_allow = Some(format!("{target}:PORT"));
        assert!(!world.run.contact(Contact { operation, target, entry: None, would_allow }).await);
    }
    let seen = format!("{:?}{}", world.run.contacts(), world.trail());
    assert!(!seen.contains("hunter2") && !seen.contains('\u{1b}') && !seen.contains(&long), "{seen}");
    assert!(world.run.contacts().iter().all(|used| used.would_allow.is_none()));
}
