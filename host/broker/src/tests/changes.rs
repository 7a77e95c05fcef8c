//! Changes that take effect in part or with an unknown result, and values that are withheld.

use super::*;

#[tokio::test]
async fn a_partial_batch_names_exactly_what_was_written() {
    let world = world("a = { allow = [\"set\"], stored-as = \"prod-a\" }\nb = [\"set\"]");
    let written = vec![SecretName::parse("prod-a").unwrap()];
    let cause = Box::new(VaultError::Unavailable("reset".into()));
    *world.vault.fail.lock().unwrap() = Some(VaultError::Partial { written, cause });
    let pairs = vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())];
    assert_eq!(answer(world.run.set_many(pairs).await), GuestError::Partial(vec!["a".into()]));
    let trail = world.trail();
    assert!(trail.contains(r#""outcome":"done""#) && trail.contains("the batch stopped half-way"), "{trail}");
    let counts: Vec<_> = world.run.uses().into_iter().map(|used| (used.name, used.count)).collect();
    assert_eq!(counts, [("a".to_owned(), 1)]);
}

#[tokio::test]
async fn after_a_partial_batch_the_run_sees_what_it_has_written() {
    let world = world("a = [\"get\", \"set\"]\nb = [\"get\", \"set\"]");
    for name in ["a", "b"] {
        world.vault.put(name, "former value");
        world.run.get(name).await.unwrap();
    }
    // The vault wrote the first name and failed at the second.
    world.vault.put("a", "latter value");
    let written = vec![SecretName::parse("a").unwrap()];
    let cause = Box::new(VaultError::Unavailable("reset".into()));
    *world.vault.fail.lock().unwrap() = Some(VaultError::Partial { written, cause });
    let pairs = ["a", "b"].map(|name| (name.to_owned(), "latter value".to_owned()));
    assert_eq!(answer(world.run.set_many(pairs.into()).await), GuestError::Partial(vec!["a".into()]));
    *world.vault.fail.lock().unwrap() = None;
    assert_eq!(world.run.get("a").await.unwrap().expose(), "latter value");
    assert_eq!(world.run.get("b").await.unwrap().expose(), "former value");
}

#[tokio::test]
async fn of_a_change_whose_answer_was_lost_nothing_is_said_that_is_not_known() {
    let world = world("a = [\"get\", \"set\", \"delete\"]\nb = [\"get\", \"set\"]");
    world.vault.piecemeal.store(true, Ordering::SeqCst);
    let lost = || VaultError::Unavailable("the answer was lost".into());
    let fail = |error| *world.vault.fail.lock().unwrap() = error;
    let partial = || VaultError::Partial { written: Vec::new(), cause: Box::new(lost()) };
    for (error, said) in [(lost(), "whether it was done is not known"), (partial(), "not known to be done")] {
        world.vault.put("a", "former value");
        fail(None);
        world.run.get("a").await.unwrap();
        // The vault executed the change, but its reply was lost.
        world.vault.put("a", "latter value");
        fail(Some(error));
        let pairs = ["a", "b"].map(|name| (name.to_owned(), "latter value".to_owned()));
        assert!(world.run.set_many(pairs.into()).await.is_err());
        fail(None);
        assert_eq!(world.run.get("a").await.unwrap().expose(), "latter value");
        assert!(world.trail().contains(said), "{}", world.trail());
        assert!(!world.trail().contains("not done: "), "{}", world.trail());
    }
    fail(Some(lost()));
    assert!(world.run.delete("a").await.is_err());
    fail(None);
    assert_eq!(world.run.get("a").await.unwrap().expose(), "latter value");
    assert_eq!(world.calls(), 7, "each time the vault was asked");
}

#[tokio::test]
async fn what_the_redactor_has_no_room_for_is_withheld_and_the_audit_says_so() {
    let world = world(r#""key-*" = ["get", "set"]"#);
    world.vault.put("key-there", "hunter2hunter2");
    world.run.redactor().fill();
    let full = "this run has reached the limit on secret text";
    assert_eq!(answer(world.run.get("key-there").await), GuestError::Exhausted(full.into()));
    assert_eq!(world.calls(), 1);
    let set = world.run.set("key-new", "correct horse battery".into()).await;
    assert_eq!(answer(set), GuestError::Exhausted(full.into()));
    assert_eq!(world.calls(), 1, "a value that cannot be watched for is not stored");
    let trail = world.trail();
    for name in ["key-there", "key-new"] {
        let last = trail.lines().rfind(|line| line.contains(name)).unwrap();
        assert!(last.contains("withheld: the redactor is full"), "{last}");
    }
    // No value of a batch is stored if one is withheld.
    let pairs = [("key-small", "x"), ("key-large", "correct horse battery")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(answer(world.run.set_many(pairs.into()).await).kind(), "exhausted");
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn a_component_takes_no_name_out_of_its_account() {
    let world = world("key = [\"set\"]\ndb-password = [\"get\"]\n\"db-*\" = [\"get\"]\n\"own-*\" = [\"get\", \"set\"]");
    world.vault.put("db-password", "hunter2");
    world.vault.put("db-user", "reader");
    for name in ["db-password", "db-user", "other", "own-secret"] {
        world.run.set("key", name.to_owned()).await.unwrap();
    }
    for name in ["db-password", "db-user"] {
        world.run.get(name).await.unwrap();
        world.run.get(name).await.unwrap();
    }
    // Names that it asks for and names that it makes up are text from the component.
    assert_eq!(answer(world.run.get("other").await).kind(), "denied");
    assert_eq!(answer(world.run.set("own-secret", "value".to_owned()).await).kind(), "invalid-name");
    assert_eq!(answer(world.run.get("own-secret").await).kind(), "not-found");
    let (trail, uses) = (world.trail(), world.run.uses());
    for name in ["db-password", "db-user"] {
        let released = trail.lines().filter(|line| line.contains("released")).find(|line| line.contains(name));
        assert!(released.is_some_and(|line| line.contains(&format!(r#""secret":"{name}""#))), "{trail}");
        assert_eq!(uses.iter().find(|used| used.name == name).map(|used| used.count), Some(2), "{uses:?}");
    }
    for name in ["other", "own-secret"] {
        assert!(!trail.contains(name) && !uses.iter().any(|used| used.name.contains(name)), "{trail} {uses:?}");
    }
}

// attack: leak: store a value as the name of a secret -> a name that the policy does not spell out
// and that contains a value of the run is refused before the audit event and the vault
#[tokio::test]
async fn name_that_contains_a_value_is_not_stored() {
    let world = world("db-password = [\"get\"]\n\"own-*\" = [\"set\"]\nspelled-out = [\"set\"]");
    world.vault.put("db-password", "hunter2hunter2");
    world.run.get("db-password").await.unwrap();
    let calls = world.calls();
    // A value that was read, and values that the same request stores.
    let own = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for secrets in [
        own("own-hunter2hunter2", "x"),
        own("own-correct-horse", "own-correct-horse"),
        own("own-correct-horse", "correct-horse"),
        [own("own-staple-battery", "x"), own("own-other", "staple-battery")].concat(),
    ] {
        assert_eq!(answer(world.run.set_many(secrets).await).kind(), "invalid-name");
    }
    assert_eq!(world.calls(), calls, "the vault is not asked");
    let (trail, uses) = (world.trail(), format!("{:?}", world.run.uses()));
    for value in ["hunter2", "correct-horse", "staple-battery"] {
        assert!(!trail.contains(value) && !uses.contains(value), "{trail} {uses}");
    }
    // The policy spells this name out, so it is not text from the component.
    world.run.set("spelled-out", "spelled-out".to_owned()).await.unwrap();
}

// promise: A run writes at most `secret-bytes` of secret values, as a total.
#[tokio::test]
async fn writes_over_secret_bytes_stop_before_the_vault() {
    let world = world("a = [\"set\"]\nb = [\"set\"]\n[limits]\nsecret-bytes = \"10B\"");
    for value in ["one", "two", "one"] {
        world.run.set("a", value.to_owned()).await.unwrap();
    }
    let calls = world.calls();
    let pairs = vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())];
    let error = world.run.set_many(pairs).await.unwrap_err();
    assert!(matches!(error, RequestError::Stop(Limit::SecretBytes)), "{error:?}");
    assert_eq!(world.calls(), calls, "nothing is written");
    let trail = world.trail();
    assert!(trail.contains(r#""rule":"limits.secret-bytes""#) && trail.contains("stopped at the limit"), "{trail}");
}
