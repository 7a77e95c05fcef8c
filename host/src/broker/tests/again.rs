//! Reads that are not decided anew, because they would be decided alike.

use super::*;

#[tokio::test]
async fn reads_under_a_decision_that_stands_are_counted_as_any() {
    let world = world_with(r#"key = ["get"]"#, 6, Repeats::Sum);
    world.vault.put("key", "value-value");
    assert!(world.run.read_again("key").is_none(), "nothing was decided yet");
    // The first is released, the others are read again: the same name in another spelling, and in a batch, goes the whole way.
    world.run.get("key").await.unwrap();
    assert!(world.run.read_again("key").is_some() && world.run.read_again("KEY").is_none());
    world.run.get("Key").await.unwrap();
    world.run.get_many(&["key".to_owned()]).await.unwrap();
    assert_eq!(world.run.uses()[0].count, 4);
    world.run.get("key").await.unwrap();
    world.run.get("key").await.unwrap();
    assert!(world.run.read_again("key").is_none(), "the limit on requests is for the whole way to tell");
    assert!(matches!(world.run.get("key").await, Err(RequestError::Stop(Limit::Requests))));
    world.run.finish().await.unwrap();
    assert!(world.trail().contains(r#""count":5"#), "{}", world.trail());
    assert_eq!((world.run.uses()[0].count, world.calls()), (6, 1));
}

#[tokio::test]
async fn a_decision_stands_only_where_nothing_is_counted_and_no_moment_matters() {
    let policies = [
        r#"key = { allow = ["get"], max-uses = 5 }"#,
        r#"key = { allow = ["get"], expires = 2100-01-01T00:00:00Z }"#,
        "key = [\"get\"]\nother = { allow = [\"get\"], expires = 2100-01-01T00:00:00Z }",
        r#"key = { allow = ["get"], secret-version = "v1" }"#,
    ];
    for (policy, stands) in policies.into_iter().zip([false, false, false, true]) {
        let world = world(policy);
        world.vault.put("key", "value-value");
        world.run.get("key").await.unwrap();
        assert_eq!(world.run.read_again("key").is_some(), stands, "{policy}");
    }
    let world = world_with(r#"key = ["get"]"#, 100, Repeats::Each);
    world.vault.put("key", "value-value");
    world.run.get("key").await.unwrap();
    assert!(world.run.read_again("key").is_none(), "each is to be audited");
}
