mod again;
mod changes;
mod network;
mod sessions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use strongroom_audit::SyncMode;
use strongroom_core::ids::SecretVersion;
use strongroom_core::record::Limit;
use strongroom_policy::{Grant, ListGrant};
use strongroom_vault::{Abilities, Attributes, Missing, Stored, VaultError};

/// A vault in memory that counts its calls and records for each how many events the audit log held.
#[derive(Default)]
struct Memory {
    secrets: Mutex<BTreeMap<SecretName, Vec<Stored>>>,
    calls: AtomicUsize,
    fail: Mutex<Option<VaultError>>,
    cached: AtomicBool,
    audit: Mutex<Option<PathBuf>>,
    events_at_call: Mutex<Vec<String>>,
    piecemeal: AtomicBool,
}

impl Memory {
    fn put(&self, name: &str, value: &str) -> Description {
        self.put_with(name, value, Attributes::default(), true)
    }

    fn put_with(&self, name: &str, value: &str, attributes: Attributes, enabled: bool) -> Description {
        let name = SecretName::parse(name).unwrap();
        let mut secrets = self.secrets.lock().unwrap();
        let versions = secrets.entry(name.clone()).or_default();
        let description = Description {
            name,
            version: SecretVersion::parse(&format!("v{}", versions.len() + 1)).unwrap(),
            attributes,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
            enabled,
        };
        let value = Arc::new(Secret::new(value.to_owned()).unwrap());
        versions.push(Stored { value, description: description.clone(), stale: false });
        description
    }

    fn called(&self) -> Result<(), VaultError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(audit) = &*self.audit.lock().unwrap() {
            self.events_at_call.lock().unwrap().push(text_below(audit));
        }
        self.fail.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn find(&self, grant: &Grant) -> Result<Stored, VaultError> {
        let secrets = self.secrets.lock().unwrap();
        let versions = secrets.get(grant.stored()).filter(|versions| !versions.is_empty());
        let versions = versions.ok_or_else(|| VaultError::NotFound(grant.stored().clone()))?;
        let found = match grant.version() {
            Some(version) => versions.iter().find(|stored| stored.description.version == *version),
            None => versions.last(),
        };
        found.cloned().ok_or_else(|| VaultError::NotFound(grant.stored().clone()))
    }
}

#[async_trait]
impl Vault for Memory {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: !self.piecemeal.load(Ordering::SeqCst), versions: true, soft_delete: false }
    }

    fn address(&self) -> Option<String> {
        Some("memory:tests".to_owned())
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        self.cached.load(Ordering::SeqCst).then(|| self.find(grant))
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.called()?;
        self.find(grant)
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        self.called()?;
        grants.iter().map(|grant| Missing::separate(self.find(grant))).collect()
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        self.called()?;
        self.find(grant).map(|stored| stored.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        self.called()?;
        Ok(secrets.iter().map(|(grant, value)| self.put(grant.stored().as_str(), value.expose())).collect())
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        self.called()?;
        for grant in grants {
            self.find(grant)?;
        }
        for grant in grants {
            self.secrets.lock().unwrap().remove(grant.stored());
        }
        Ok(())
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        self.called()?;
        let secrets = self.secrets.lock().unwrap();
        Ok(secrets.keys().filter(|name| grant.admits(name)).cloned().collect())
    }
}

fn text_below(folder: &std::path::Path) -> String {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let files = files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "jsonl"));
    files.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

struct World {
    folder: tempfile::TempDir,
    vault: Arc<Memory>,
    audit: Audit,
    run: RunBroker,
}

fn world(policy: &str) -> World {
    world_with(policy, 10_000, Repeats::Sum)
}

fn world_with(policy: &str, requests: u64, repeats: Repeats) -> World {
    world_synced(policy, requests, repeats, SyncMode::Os)
}

fn world_synced(policy: &str, requests: u64, repeats: Repeats, mode: SyncMode) -> World {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(&folder.path().join("audit"), mode).unwrap();
    let vault = Arc::new(Memory::default());
    let broker = Broker::new(vault.clone(), audit.clone(), repeats);
    let policy = Arc::new(Policy::parse(&format!("version = 1\n[secrets]\n{policy}"), "policy.toml").unwrap());
    let limits = Limits { requests, ..*policy.limits() };
    let run = broker.for_run(RunId::generate(), policy, Redactor::new(), &limits);
    World { folder, vault, audit, run }
}

impl World {
    fn trail(&self) -> String {
        text_below(&self.folder.path().join("audit"))
    }

    fn calls(&self) -> usize {
        self.vault.calls.load(Ordering::SeqCst)
    }
}

fn answer<T>(result: Result<T, RequestError>) -> GuestError {
    match result {
        Ok(_) => panic!("the request was served"),
        Err(RequestError::Answer(answer)) => answer.into_guest(),
        Err(RequestError::Stop(limit)) => panic!("the run was stopped: {}", limit.as_str()),
    }
}

// promise: The broker handles a request in a fixed order: decide, audit, fetch, audit, register
// with the redactor, release.
#[tokio::test]
async fn the_order_is_decide_audit_fetch_audit_register_release() {
    let world = world(r#"key = ["get"]"#);
    world.vault.put("key", "hunter2hunter2");
    *world.vault.audit.lock().unwrap() = Some(world.folder.path().join("audit"));
    let value = world.run.get("KEY").await.unwrap();
    assert_eq!(value.expose(), "hunter2hunter2");
    let at_fetch = world.vault.events_at_call.lock().unwrap()[0].clone();
    assert!(at_fetch.contains(r#""event":"decision""#) && at_fetch.contains(r#""decision":"allowed""#), "{at_fetch}");
    assert!(!at_fetch.contains(r#""event":"outcome""#), "{at_fetch}");
    assert!(world.trail().contains(r#""outcome":"released""#));
    assert_eq!(world.run.redactor().redact("x hunter2hunter2"), "x [redacted:key]");
    assert!(!world.trail().contains("hunter2"));
}

// promise: A read that the cache answers is one audit event, written before the value is released.
#[tokio::test]
async fn a_use_from_the_cache_is_one_event() {
    let world = world(r#"key = ["get"]"#);
    world.vault.put("key", "hunter2hunter2");
    world.vault.cached.store(true, Ordering::SeqCst);
    world.run.get("key").await.unwrap();
    assert_eq!(world.calls(), 0);
    let trail = world.trail();
    assert_eq!(trail.matches(r#""event":"use""#).count(), 1, "{trail}");
    assert!(!trail.contains(r#""event":"decision""#));
}

// promise: The reply for a name that is not granted does not depend on whether the secret exists,
// and neither the cache nor the vault is asked.
// attack: access: use a secret that was not granted, or learn whether it exists from the reply or
// its timing -> the policy decides before the cache and the vault, which are not asked, and the
// reply is the same in both cases
#[tokio::test]
async fn a_name_not_granted_looks_the_same_whether_it_exists_or_not() {
    let world = world(r#"key = ["get"]"#);
    world.vault.put("there", "value-value");
    world.vault.cached.store(true, Ordering::SeqCst);
    for name in ["there", "absent", "THERE"] {
        assert_eq!(answer(world.run.get(name).await), GuestError::Denied(name.to_lowercase()));
        assert_eq!(answer(world.run.describe(name).await), GuestError::Denied(name.to_lowercase()));
        assert_eq!(answer(world.run.delete(name).await), GuestError::Denied(name.to_lowercase()));
        assert_eq!(answer(world.run.set(name, "x".into()).await), GuestError::Denied(name.to_lowercase()));
    }
    assert_eq!(answer(world.run.list().await), GuestError::Denied("*".into()));
    assert_eq!(world.calls(), 0);
}

// promise: While the audit log cannot be written, every request is denied.
#[tokio::test]
async fn without_an_audit_the_answer_is_no() {
    let world = world(r#"key = ["get", "set", "list", "describe", "delete"]"#);
    world.vault.put("key", "value-value");
    world.audit.close().unwrap();
    for cached in [false, true] {
        world.vault.cached.store(cached, Ordering::SeqCst);
        assert_eq!(answer(world.run.get("key").await).kind(), "unavailable");
    }
    assert_eq!(answer(world.run.set("key", "x".into()).await).kind(), "unavailable");
    assert_eq!(answer(world.run.describe("key").await).kind(), "unavailable");
    assert_eq!(answer(world.run.list().await).kind(), "unavailable");
    assert_eq!(answer(world.run.delete("key").await).kind(), "unavailable");
    assert_eq!(answer(world.run.get("other").await).kind(), "unavailable");
    assert_eq!(world.calls(), 0);
}

// promise: A batch is decided as a whole.
// attack: access: request a granted name together with one that is not granted -> a batch is
// decided as a whole
#[tokio::test]
async fn a_batch_is_decided_whole() {
    let world = world("a = [\"get\", \"set\", \"delete\"]\nb = { allow = [\"get\"], max-uses = 1 }");
    world.vault.put("a", "value-a");
    world.vault.put("b", "value-b");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(answer(world.run.get_many(&names(&["a", "b", "c"])).await), GuestError::Denied("c".into()));
    let pairs = vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())];
    assert_eq!(answer(world.run.set_many(pairs).await), GuestError::Denied("b".into()));
    assert_eq!(answer(world.run.delete_many(&names(&["a", "b"])).await), GuestError::Denied("b".into()));
    assert_eq!(world.calls(), 0);
    // The refused batch has not consumed b's only use.
    let values = world.run.get_many(&names(&["a", "b"])).await.unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!(answer(world.run.get("b").await), GuestError::Exhausted("b".into()));
}

#[tokio::test]
async fn the_form_of_a_batch_is_checked() {
    let world = world(r#""k*" = ["get"]"#);
    let many: Vec<String> = (0..=BATCH_MAX).map(|i| format!("k{i}")).collect();
    assert_eq!(answer(world.run.get_many(&many).await).kind(), "invalid-batch");
    assert!(world.run.get_many(&many[1..]).await.is_ok());
    let twice = vec!["k1".to_owned(), "K1".to_owned()];
    assert_eq!(answer(world.run.get_many(&twice).await), GuestError::InvalidBatch("k1 twice".into()));
    for bad in ["", "a/b", "../keys/x", "%2e%2e", "ä", "a\0", &"x".repeat(128)] {
        assert_eq!(answer(world.run.get(bad).await).kind(), "invalid-name", "{bad:?}");
    }
    assert_eq!(answer(world.run.set("k1", "x".repeat(25_601)).await).kind(), "invalid-value");
}

#[tokio::test]
async fn a_granted_name_without_a_secret_is_none_in_a_batch() {
    let world = world(r#""k*" = ["get"]"#);
    world.vault.put("k1", "value");
    let values = world.run.get_many(&["k1".to_owned(), "k2".to_owned()]).await.unwrap();
    assert!(values[0].is_some() && values[1].is_none());
    assert_eq!(answer(world.run.get("k2").await), GuestError::NotFound("k2".into()));
}

// promise: A run sees one version of a secret until it writes that secret itself.
#[tokio::test]
async fn a_run_sees_one_version_until_it_writes() {
    let world = world(r#"key = ["get", "set", "describe"]"#);
    world.vault.put("key", "first-value");
    assert_eq!(world.run.describe("key").await.unwrap().version.as_str(), "v1");
    world.vault.put("key", "second-value");
    assert_eq!(world.run.get("key").await.unwrap().expose(), "first-value");
    assert_eq!(world.run.describe("key").await.unwrap().version.as_str(), "v1");
    world.run.set("key", "third-value".into()).await.unwrap();
    assert_eq!(world.run.get("key").await.unwrap().expose(), "third-value");
    assert_eq!(world.run.describe("key").await.unwrap().version.as_str(), "v3");
}

// promise: Repeated reads of a secret are counted and audited as a total.
#[tokio::test]
async fn repeated_reads_are_audited_in_sum() {
    let world = world(r#"key = { allow = ["get"], max-uses = 5 }"#);
    world.vault.put("key", "value-value");
    for _ in 0..5 {
        world.run.get("key").await.unwrap();
    }
    assert_eq!(answer(world.run.get("key").await), GuestError::Exhausted("key".into()));
    assert_eq!(world.calls(), 1);
    assert_eq!(world.trail().matches(r#""outcome":"released""#).count(), 1);
    world.run.finish().await.unwrap();
    let trail = world.trail();
    assert!(trail.contains(r#""event":"repeats""#) && trail.contains(r#""count":4"#), "{trail}");
    let uses = world.run.uses();
    assert_eq!((uses[0].count, uses[0].denied), (5, 1));
}

// attack: leak: read a value often and then delete or replace it, so that the reads are not audited
// -> repeated reads are counted by version, apart from the values that the run holds
#[tokio::test]
async fn a_value_that_is_replaced_or_deleted_was_read_all_the_same() {
    let world = world(r#"key = ["get", "set", "delete"]"#);
    world.vault.put("key", "value-value");
    for _ in 0..4 {
        world.run.get("key").await.unwrap();
    }
    world.run.set("key", "another-value".to_owned()).await.unwrap();
    for _ in 0..2 {
        world.run.get("key").await.unwrap();
    }
    world.run.delete("key").await.unwrap();
    world.run.finish().await.unwrap();
    let trail = world.trail();
    let repeats: Vec<&str> = trail.lines().filter(|line| line.contains(r#""event":"repeats""#)).collect();
    // Three of the first version after its release, and two of the version that the run wrote.
    assert_eq!(repeats.len(), 2, "{trail}");
    for count in [r#""count":3"#, r#""count":2"#] {
        assert!(repeats.iter().any(|line| line.contains(count)), "{trail}");
    }
}

#[tokio::test]
async fn repeated_reads_can_be_audited_each() {
    let world = world_with(r#"key = ["get"]"#, 100, Repeats::Each);
    world.vault.put("key", "value-value");
    for _ in 0..3 {
        world.run.get("key").await.unwrap();
    }
    world.run.finish().await.unwrap();
    let trail = world.trail();
    assert_eq!(trail.matches("released again").count(), 2, "{trail}");
    assert!(!trail.contains("repeats"));
}

// promise: The number of audit events for refused requests is bounded, however many requests a run
// makes.
#[tokio::test]
async fn refusals_beyond_a_number_are_audited_in_sum() {
    let world = world_with(r#"other = ["get"]"#, u64::MAX, Repeats::Sum);
    for n in 0..REFUSALS_MAX {
        let name = if n % 2 == 0 { "a/b" } else { "key" };
        assert_ne!(answer(world.run.get(name).await).kind(), "unavailable");
    }
    let length = world.trail().len();
    for _ in 0..7 {
        assert_eq!(answer(world.run.get("key").await), GuestError::Denied("key".into()));
        assert_eq!(answer(world.run.set("a/b", String::new()).await).kind(), "invalid-name");
    }
    assert_eq!(world.trail().len(), length);
    // Granted requests still have their own events.
    world.vault.put("other", "value-value");
    world.run.get("other").await.unwrap();
    assert!(world.trail().contains(r#""outcome":"released""#));
    world.run.finish().await.unwrap();
    let trail = world.trail();
    let sums: Vec<&str> = trail.lines().filter(|line| line.contains(r#""event":"summary""#)).collect();
    assert_eq!(sums.len(), 2, "{trail}");
    assert!(sums.iter().all(|sum| sum.contains(r#""count":7"#)), "{sums:?}");
    // Only once, whoever ends the run.
    world.run.finish().await.unwrap();
    assert_eq!(world.trail().len(), trail.len());
    assert_eq!(world.run.uses().iter().map(|one| one.denied).sum::<u64>(), REFUSALS_MAX + 14);
}

#[tokio::test]
async fn over_the_request_limit_the_run_stops() {
    let world = world_with(r#""k*" = ["get"]"#, 3, Repeats::Sum);
    assert_eq!(answer(world.run.get("other").await).kind(), "denied");
    assert_eq!(answer(world.run.get("a/b").await).kind(), "invalid-name");
    let batch = ["k1".to_owned(), "k2".to_owned()];
    assert!(matches!(world.run.get_many(&batch).await, Err(RequestError::Stop(Limit::Requests))));
    assert_eq!(world.calls(), 0);
    assert_eq!(world.trail().matches(r#""event":"summary""#).count(), 1);
}

// promise: Uses of a budget are taken atomically.
// attack: access: read more often than the budget allows, or race for the last use -> uses are
// taken atomically before the vault is asked
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_reads_that_race_for_the_last_use_one_wins() {
    for cached in [false, true] {
        let world = world(r#"key = { allow = ["get", "describe"], max-uses = 3 }"#);
        world.vault.put("key", "hunter2hunter2");
        world.vault.cached.store(cached, Ordering::SeqCst);
        let run = Arc::new(world.run);
        let racing: Vec<_> = (0..40)
            .map(|n| {
                let run = Arc::clone(&run);
                tokio::spawn(async move {
                    if n % 2 == 0 { run.get("key").await.map(drop) } else { run.describe("KEY").await.map(drop) }
                })
            })
            .collect();
        let mut served = 0;
        for one in racing {
            match one.await.unwrap() {
                Ok(()) => served += 1,
                lost => assert_eq!(answer(lost), GuestError::Exhausted("key".into())),
            }
        }
        assert_eq!(served, 3, "cached: {cached}");
        assert!(world.vault.calls.load(Ordering::SeqCst) <= 3);
        assert_eq!(
            run.uses().iter().map(|one| (one.count, one.denied)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (3, 37)
        );
    }
}

// promise: A repeated read is decided again whenever the decision could differ.
// attack: access: read after the grant has expired, including a value that the run already read ->
// every read is decided again if its time matters
#[tokio::test]
async fn after_its_expiry_a_grant_reads_nothing_that_the_run_already_holds() {
    static NOW: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let mut world = world(r#"key = { allow = ["get", "describe", "list"], expires = 1970-01-01T00:01:00Z }"#);
    world.run.now = || Timestamp::from_second(NOW.load(Ordering::SeqCst)).unwrap();
    world.vault.put("key", "hunter2hunter2");
    NOW.store(59, Ordering::SeqCst);
    assert_eq!(world.run.get("key").await.unwrap().expose(), "hunter2hunter2");
    assert_eq!(world.run.get("key").await.unwrap().expose(), "hunter2hunter2");
    NOW.store(60, Ordering::SeqCst);
    world.vault.cached.store(true, Ordering::SeqCst);
    let calls = world.calls();
    let expired = GuestError::Expired("key".into());
    assert_eq!(answer(world.run.get("key").await), expired);
    assert_eq!(answer(world.run.get_many(&["key".to_owned()]).await), expired);
    assert_eq!(answer(world.run.describe("KEY").await), expired);
    assert_eq!(answer(world.run.list().await).kind(), "expired");
    assert_eq!(world.calls(), calls);
    assert_eq!(world.trail().matches("grant expired").count(), 4);
}

#[tokio::test]
async fn what_may_not_be_used_now_is_not_found() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let cases = [
        (Attributes { expires: at(1), ..Attributes::default() }, true, "expired in the vault"),
        (Attributes { not_before: at(32_503_680_000), ..Attributes::default() }, true, "not yet valid in the vault"),
        (Attributes::default(), false, "disabled in the vault"),
    ];
    for cached in [false, true] {
        for (attributes, enabled, outcome) in cases.clone() {
            let world = world(r#"key = ["get", "describe"]"#);
            world.vault.put_with("key", "value-value", attributes, enabled);
            world.vault.cached.store(cached, Ordering::SeqCst);
            assert_eq!(answer(world.run.get("key").await), GuestError::NotFound("key".into()));
            assert!(world.trail().contains(outcome), "{outcome}");
            assert_eq!(answer(world.run.describe("key").await), GuestError::NotFound("key".into()));
        }
    }
}

// promise: Text from a vault or another upstream service never reaches a component.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[tokio::test]
async fn upstream_text_stays_with_the_operator() {
    let world = world(r#"key = ["get", "set", "list", "describe", "delete"]"#);
    let internal = "disk /secret/path failed";
    *world.vault.fail.lock().unwrap() = Some(VaultError::Unavailable(internal.into()));
    for answer in [
        answer(world.run.get("key").await),
        answer(world.run.set("key", "x".into()).await),
        answer(world.run.describe("key").await),
        answer(world.run.list().await),
        answer(world.run.delete("key").await),
    ] {
        assert_eq!(answer, GuestError::Unavailable("the vault cannot serve now".into()));
    }
    assert!(!world.trail().contains("/secret/path"));
    match world.run.get("key").await {
        Err(RequestError::Answer(answer)) => assert_eq!(answer.internal(), internal),
        other => panic!("{other:?}"),
    }
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
#[tokio::test]
async fn the_audit_says_what_was_served_beyond_its_age() {
    let world = world("a = [\"get\"]\nb = [\"get\"]");
    world.vault.put("a", "fresh");
    world.vault.put("b", "old");
    for stored in world.vault.secrets.lock().unwrap().get_mut(&SecretName::parse("b").unwrap()).unwrap() {
        stored.stale = true;
    }
    world.run.get("a").await.unwrap();
    assert!(!world.trail().contains("overdue"));
    assert_eq!(world.run.get("b").await.unwrap().expose(), "old");
    let trail = world.trail();
    let line = trail.lines().find(|line| line.contains("overdue")).unwrap();
    assert!(line.contains(r#""secret":"b""#) && line.contains(r#""outcome":"released""#), "{line}");
}

#[tokio::test]
async fn what_a_run_sets_is_redacted_from_the_first_moment() {
    let world = world(r#"key = ["set"]"#);
    *world.vault.fail.lock().unwrap() = Some(VaultError::Unavailable("down".into()));
    assert!(world.run.set("key", "hunter2hunter2".into()).await.is_err());
    assert_eq!(world.run.redactor().redact("hunter2hunter2"), "[redacted:key]");
}

#[tokio::test]
async fn a_value_asked_for_as_a_name_is_not_written_down() {
    let world = world(r#"key = ["get"]"#);
    world.vault.put("key", "hunter2!hunter2!");
    world.run.get("key").await.unwrap();
    assert_eq!(answer(world.run.get("hunter2!hunter2!").await).kind(), "invalid-name");
    let uses = format!("{:?}", world.run.uses());
    assert!(!uses.contains("hunter2") && !world.trail().contains("hunter2"), "{uses}");
}

#[tokio::test]
async fn a_value_with_the_form_of_a_name_is_not_written_down() {
    let world = world("key = [\"get\"]\n\"log-*\" = [\"get\", \"set\"]");
    world.vault.put("key", "hunter2-hunter2");
    world.run.get("key").await.unwrap();
    assert_eq!(answer(world.run.get("Hunter2-Hunter2").await).kind(), "denied");
    assert_eq!(answer(world.run.get("hunter2-hunter2").await).kind(), "denied");
    assert_eq!(answer(world.run.get("log-hunter2-hunter2").await).kind(), "not-found");
    assert_eq!(answer(world.run.set("log-hunter2-hunter2", "x".into()).await).kind(), "invalid-name");
    world.run.finish().await.unwrap();
    let uses = format!("{:?}", world.run.uses());
    assert!(
        !uses.contains("hunter2-hunter2") && !world.trail().contains("hunter2-hunter2"),
        "{uses}\n{}",
        world.trail()
    );
    assert!(uses.contains("log-[redacted:key]"), "{uses}");
}

#[tokio::test]
async fn a_value_that_is_folded_as_a_name_is_not_written_down() {
    let world = world("key = [\"get\"]\n\"log-*\" = [\"get\", \"set\", \"describe\"]");
    let value = "HunterTwo-HUNTERtwo";
    world.vault.put("key", value);
    world.run.get("key").await.unwrap();
    let logged = format!("log-{value}");
    assert_eq!(answer(world.run.get(value).await).kind(), "denied");
    assert_eq!(answer(world.run.describe(value).await).kind(), "denied");
    assert_eq!(answer(world.run.get_many(&[value.to_owned(), value.to_owned()]).await).kind(), "invalid-batch");
    assert_eq!(answer(world.run.get(&logged).await).kind(), "not-found");
    assert_eq!(answer(world.run.set(&logged, "x".repeat(25_601)).await).kind(), "invalid-value");
    assert_eq!(answer(world.run.set(&logged, "x".into()).await).kind(), "invalid-name");
    world.run.finish().await.unwrap();
    let left = format!("{:?}{}", world.run.uses(), world.trail()).to_ascii_lowercase();
    assert!(!left.contains(&value.to_ascii_lowercase()), "{left}");
    assert!(left.contains("log-[redacted:key]"), "{left}");
}

#[tokio::test]
async fn name_with_two_values_is_shown_without_them() {
    let world = world("\"key-*\" = [\"get\"]\n\"log-*\" = [\"get\", \"set\"]");
    let (folded, plain) = ("HunterTwo-HUNTERtwo", "correct-horse");
    world.vault.put("key-folded", folded);
    world.vault.put("key-plain", plain);
    let name = format!("log-{folded}-{plain}");
    world.run.get("key-folded").await.unwrap();
    assert_eq!(answer(world.run.get(&name).await).kind(), "not-found");
    // From here on the name contains two values, one only in this spelling and the other in both.
    world.run.get("key-plain").await.unwrap();
    let before = world.trail().len();
    for spelling in [name.to_ascii_lowercase(), name.clone()] {
        assert_eq!(answer(world.run.get(&spelling).await).kind(), "not-found");
        assert_eq!(answer(world.run.set(&spelling, "y".into()).await).kind(), "invalid-name");
        assert_eq!(answer(world.run.describe(&spelling).await).kind(), "denied");
    }
    world.run.finish().await.unwrap();
    let trail = world.trail();
    let after = &trail[before..];
    let uses = world.run.uses();
    let used = uses.iter().rfind(|used| used.operation == "describe").unwrap();
    assert!(!after.contains(plain) && !used.name.contains(plain), "{after}{uses:?}");
    let left = format!("{uses:?}{trail}").to_ascii_lowercase();
    assert!(!left.contains(&folded.to_ascii_lowercase()), "{left}");
}

#[tokio::test]
async fn a_name_that_holds_a_value_is_one_redaction_of_a_request() {
    let world = world("key = [\"get\"]\n\"log-*\" = [\"get\", \"set\"]");
    world.vault.put("key", "hunter2-hunter2");
    world.run.get("key").await.unwrap();
    assert_eq!(answer(world.run.get("hunter2-hunter2").await).kind(), "denied");
    assert_eq!(answer(world.run.set("log-hunter2-hunter2", "x".into()).await).kind(), "invalid-name");
    assert_eq!(answer(world.run.get("a-hunter2-hunter2-B").await).kind(), "denied");
    world.run.finish().await.unwrap();
    let uses = world.run.uses();
    assert_eq!(world.run.redactor().count(), 3, "{uses:?}");
}
