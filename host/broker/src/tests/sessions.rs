//! Sessions: the lifecycle of a run around its use of secrets.

use super::*;
use crate::{Ended, SessionError};
use strongroom_core::ids::Digest;
use strongroom_core::record::{Blame, ComponentRef, Outcome};
use strongroom_core::spec::RunSpec;
use strongroom_policy::Ceilings;

fn component() -> ComponentRef {
    ComponentRef::new("train.wasm".as_ref(), Digest::of(b"component"), 9)
}

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(&format!("version = 1\n{text}"), "policy.toml").unwrap())
}

async fn start(world: &World, text: &str) -> Result<Session, SessionError> {
    let spec = RunSpec::new("train.wasm");
    world.run.broker.start(&spec, component(), policy(text), &Ceilings::default()).await
}

// promise: A run in an embedder's own world is audited and redacted like any other run.
#[tokio::test]
async fn a_session_is_a_run_from_its_first_event_to_its_record() {
    let world = world("");
    world.vault.put("key", "hunter2hunter2");
    let mut session = start(&world, "[secrets]\nkey = [\"get\"]").await.unwrap();
    let trail = world.trail();
    assert!(
        trail.contains(r#""event":"run-start""#) && trail.contains(&Digest::of(b"component").to_string()),
        "{trail}"
    );
    assert!(trail.contains(r#""vault":"memory:tests""#), "{trail}");
    assert_eq!((session.record().outcome, session.record().vault.as_deref()), (Outcome::Running, Some("memory:tests")));

    let run = Arc::clone(session.broker());
    assert_eq!(run.run_id(), session.id());
    for _ in 0..3 {
        run.get("key").await.unwrap();
    }
    session.record_mut().peak_memory_bytes = 7;
    let record = session.end(Ended::Finished).await;
    assert_eq!((record.outcome, record.blame, record.exit_code), (Outcome::Finished, None, Some(0)));
    assert_eq!((record.peak_memory_bytes, record.secrets[0].count), (7, 3));
    assert!(record.ended.is_some() && record.warnings[0].contains("component = "), "{record:?}");
    // The total of repeated reads, then the end, whose position in the audit log the record holds.
    let trail = world.trail();
    let kinds: Vec<&str> =
        trail.lines().filter_map(|line| line.split(r#""event":""#).nth(1)?.split('"').next()).collect();
    assert!(kinds.ends_with(&["run-start", "decision", "outcome", "repeats", "run-end"]), "{kinds:?}");
    assert_eq!(record.audit, Some(world.audit.position()));
    // A retained broker no longer serves requests.
    assert_eq!(answer(run.get("key").await).kind(), "unavailable");
    assert_eq!(answer(run.set("key", "x".into()).await).kind(), "unavailable");
    assert_eq!(world.trail(), trail);
}

#[tokio::test]
async fn a_session_that_may_not_start_leaves_no_event() {
    let world = world("");
    let before = world.trail();
    let other = Digest::of(b"other");
    assert!(matches!(start(&world, &format!("component = \"{other}\"")).await, Err(SessionError::Pin(_))));
    let low = Ceilings { requests: Some(5), ..Ceilings::default() };
    let spec = RunSpec::new("train.wasm");
    let asked = policy("[limits]\nrequests = 6");
    let answer = world.run.broker.start(&spec, component(), asked, &low).await;
    assert!(matches!(answer, Err(SessionError::Ceiling(_))), "{answer:?}");
    assert_eq!(world.trail(), before);
}

#[tokio::test]
async fn without_an_audit_no_session_starts_and_none_finishes() {
    let world = world("");
    let session = start(&world, "").await.unwrap();
    world.audit.close().unwrap();
    let error = start(&world, "").await.unwrap_err();
    assert!(error.to_string().starts_with("the run cannot be audited, so it was not started: "), "{error}");
    let record = session.end(Ended::Finished).await;
    assert_eq!((record.outcome, record.blame, record.audit), (Outcome::HostFault, Some(Blame::Host), None));
}

#[tokio::test]
async fn a_limit_is_put_into_words() {
    let world = world("");
    let session = start(&world, "[limits]\nrequests = 1").await.unwrap();
    session.broker().get("a").await.unwrap_err();
    let Err(RequestError::Stop(limit)) = session.broker().get("a").await else { panic!("the limit holds") };
    let record = session.end(Ended::Limit(limit)).await;
    assert_eq!((record.outcome, record.limit), (Outcome::Limit, Some(Limit::Requests)));
    assert_eq!(
        record.reason.unwrap(),
        "it asked for secrets more often than `requests` allows (1): raise it in the policy's [limits] if the component needs more"
    );
}
