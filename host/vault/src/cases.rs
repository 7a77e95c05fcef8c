//! Conformance cases that every vault backend must pass. A case states the abilities that it needs,
//! and a vault runs all cases that its abilities allow. The feature `cases` exports them for
//! backends outside this crate.
//!
//! Each case uses its own secret names, so that it can run against a vault that contains other
//! secrets or keeps deleted names. Like a run, it uses grants made by a policy. It panics if the
//! vault fails the case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed case panics"
)]

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError};
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::{Secret, VALUE_MAX};
use strongroom_policy::{Decisions, Grant, ListGrant, Operation, Policy};

/// The vault under test on both paths, and a prefix for the names of one case.
#[derive(Clone)]
struct Bench {
    vault: Arc<dyn Vault>,
    /// `None` if only the guest-facing path is tested.
    operator: Option<Arc<dyn Operator>>,
    prefix: String,
}

type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is available to a case.
#[derive(Clone, Copy)]
struct Available {
    vault: Abilities,
    operator: bool,
}

struct Case {
    name: &'static str,
    needs: fn(Available) -> bool,
    run: fn(Bench) -> CaseFuture,
}

/// Runs every case that the abilities of the vault allow, on both paths. `unique` distinguishes the
/// names of this call from those of other calls. Returns the names of the cases that ran.
///
/// # Panics
/// If the vault fails a case.
pub async fn run_all(vault: Arc<dyn Vault>, operator: Arc<dyn Operator>, unique: &str) -> Vec<&'static str> {
    run(vault, Some(operator), unique).await
}

/// Runs the cases that need no [`Operator`], for a vault that does not implement it.
///
/// # Panics
/// If the vault fails a case.
pub async fn run_guest_path(vault: Arc<dyn Vault>, unique: &str) -> Vec<&'static str> {
    run(vault, None, unique).await
}

async fn run(vault: Arc<dyn Vault>, operator: Option<Arc<dyn Operator>>, unique: &str) -> Vec<&'static str> {
    let available = Available { vault: vault.abilities(), operator: operator.is_some() };
    let mut ran = Vec::new();
    for case in CASES.iter().filter(|case| (case.needs)(available)) {
        // Printed because the panic of a failed case does not state its name.
        eprintln!("case: {}", case.name);
        let prefix = format!("{unique}-{}", case.name.replace('_', "-"));
        (case.run)(Bench { vault: Arc::clone(&vault), operator: operator.clone(), prefix }).await;
        ran.push(case.name);
    }
    ran
}

/// Returns the number of cases.
pub fn count() -> usize {
    CASES.len()
}

macro_rules! cases {
    ($($name:ident needs $needs:expr;)*) => {
        const CASES: &[Case] = &[$(Case { name: stringify!($name), needs: $needs, run: |bench| Box::pin($name(bench)) }),*];
    };
}

cases! {
    set_secret_can_be_read needs |_| true;
    missing_secret_is_not_found needs |_| true;
    get_returns_newest_version needs |_| true;
    old_version_can_be_read needs |available| available.vault.versions;
    version_of_other_secret_is_not_found needs |available| available.vault.versions;
    versions_are_listed_newest_first needs |available| available.vault.versions && available.operator;
    attributes_are_stored needs |available| available.operator;
    guest_write_drops_old_attributes needs |available| available.operator;
    invalid_content_type_is_rejected needs |available| available.operator;
    values_are_stored_unchanged needs |_| true;
    batch_results_are_in_order needs |_| true;
    empty_batch_does_nothing needs |_| true;
    delete_removes_every_version needs |_| true;
    deleted_name_can_be_set_again needs |available| !available.vault.soft_delete;
    batch_delete_is_atomic needs |available| available.vault.transactions;
    rejected_batch_writes_nothing needs |available| available.operator;
    guest_lists_only_granted_names needs |_| true;
    operator_lists_newest_versions needs |available| available.operator;
    dropped_write_is_atomic needs |available| available.vault.transactions;
}

/// Returns the decisions of a policy with these entries in `[secrets]`.
fn decisions(entries: &str) -> Decisions {
    let policy = Policy::parse(&format!("version = 1\n[secrets]\n{entries}"), "cases");
    Decisions::new(Arc::new(policy.expect("the policy of a case is valid")))
}

/// Returns a grant for one operation on one name, from a policy that allows only that. For tests of
/// a vault.
///
/// # Panics
/// If `name` is not a valid secret name.
pub fn grant(operation: Operation, name: &str) -> Grant {
    let decisions = decisions(&format!("{name} = [\"{operation}\"]"));
    let name = SecretName::parse(name).expect("the name is a valid secret name");
    decisions.decide(operation, &name, Timestamp::UNIX_EPOCH).expect("the entry grants it")
}

/// Returns a grant to list names, from a policy with these entries in `[secrets]`, one per line.
/// For tests of a vault.
///
/// # Panics
/// If the entries are invalid or do not grant `list`.
pub fn list_grant(entries: &str) -> ListGrant {
    decisions(entries).decide_list(Timestamp::UNIX_EPOCH).expect("the entries grant `list`")
}

/// Returns a grant to list these pairs of names (as the component and as the vault knows them) and
/// these prefixes, which are given without `*`.
fn list_of(exact: &[(&str, &str)], prefixes: &[&str]) -> ListGrant {
    let exact = exact.iter().map(|(asked, stored)| match asked == stored {
        true => format!("{asked} = [\"list\"]\n"),
        false => format!("{asked} = {{ allow = [\"list\"], stored-as = \"{stored}\" }}\n"),
    });
    let prefixes = prefixes.iter().map(|prefix| format!("\"{prefix}*\" = [\"list\"]\n"));
    let entries: String = exact.chain(prefixes).collect();
    list_grant(&entries)
}

impl Bench {
    fn text(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn name(&self, name: &str) -> SecretName {
        SecretName::parse(&self.text(name)).unwrap()
    }

    fn grant(&self, operation: Operation, name: &str) -> Grant {
        grant(operation, &self.text(name))
    }

    /// Returns the operator. Only for cases that require one.
    fn operator(&self) -> &dyn Operator {
        self.operator.as_deref().expect("the case declares that it needs an operator")
    }

    async fn get(&self, name: &str) -> Result<Stored, VaultError> {
        self.vault.get(&self.grant(Operation::Get, name)).await
    }

    async fn get_at(&self, name: &str, version: &SecretVersion) -> Result<Stored, VaultError> {
        self.vault.get(&self.grant(Operation::Get, name).at_version(version.clone())).await
    }

    async fn value(&self, name: &str) -> String {
        self.get(name).await.unwrap().value.expose().to_owned()
    }

    async fn set(&self, name: &str, value: &str) -> Description {
        let batch = vec![(self.grant(Operation::Set, name), secret(value))];
        self.vault.set_many(&batch).await.unwrap().pop().unwrap()
    }

    fn new_secret(&self, name: &str, value: &str, attributes: Attributes) -> NewSecret {
        NewSecret { name: self.name(name), value: secret(value), attributes }
    }

    /// Lists the secrets of this case as an operator.
    async fn listed(&self) -> Vec<Description> {
        let mut all = self.operator().list().await.unwrap();
        all.retain(|description| description.name.as_str().starts_with(&self.text("")));
        all
    }
}

fn secret(value: &str) -> Arc<Secret> {
    Arc::new(Secret::new(value.to_owned()).unwrap())
}

fn typed(content_type: &str) -> Attributes {
    Attributes { content_type: Some(content_type.to_owned()), ..Attributes::default() }
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(answer: Result<T, VaultError>, name: &SecretName) {
    assert!(matches!(&answer, Err(VaultError::NotFound(missing)) if missing == name), "{answer:?}");
}

async fn set_secret_can_be_read(bench: Bench) {
    let before = Timestamp::now().as_second() - 1;
    let set = bench.set("a", "hunter2").await;
    assert_eq!(set.name, bench.name("a"));
    assert_eq!(set.attributes, Attributes::default());
    assert!(set.enabled);
    assert!(set.created.as_second() >= before && set.created.as_second() <= Timestamp::now().as_second() + 1);

    let got = bench.get("a").await.unwrap();
    assert_eq!(got.value.expose(), "hunter2");
    assert_eq!(got.description, set);
    assert_eq!(bench.vault.describe(&bench.grant(Operation::Describe, "a")).await.unwrap(), set);
    if let Some(operator) = &bench.operator {
        assert_eq!(operator.get(&bench.name("a"), None).await.unwrap().description, set);
    }
}

async fn missing_secret_is_not_found(bench: Bench) {
    let name = bench.name("a");
    let nothing = SecretVersion::parse("0123456789abcdef0123456789abcdef").unwrap();
    assert_not_found(bench.get("a").await, &name);
    assert_not_found(bench.get_at("a", &nothing).await, &name);
    assert_not_found(bench.vault.describe(&bench.grant(Operation::Describe, "a")).await, &name);
    assert_not_found(bench.vault.delete_many(&[bench.grant(Operation::Delete, "a")]).await, &name);
    if let Some(operator) = &bench.operator {
        assert_not_found(operator.get(&name, None).await, &name);
        assert_not_found(operator.versions(&name).await, &name);
        assert_not_found(operator.delete(&name).await, &name);
    }
    bench.set("a", "there").await;
    assert_not_found(bench.get_at("a", &nothing).await, &name);
    assert_eq!(bench.value("a").await, "there", "the secret is found once it is set");
}

async fn get_returns_newest_version(bench: Bench) {
    let mut seen = Vec::new();
    for round in 0..5 {
        let set = bench.set("a", &format!("value {round}")).await;
        assert_eq!(bench.get("a").await.unwrap().description, set);
        assert_eq!(bench.value("a").await, format!("value {round}"));
        assert!(!seen.contains(&set.version), "versions are unique");
        seen.push(set.version);
    }
    // A name twice in one batch: the last value wins.
    let batch =
        vec![(bench.grant(Operation::Set, "a"), secret("first")), (bench.grant(Operation::Set, "a"), secret("second"))];
    bench.vault.set_many(&batch).await.unwrap();
    assert_eq!(bench.value("a").await, "second");
}

async fn old_version_can_be_read(bench: Bench) {
    let old = bench.set("a", "old").await;
    let new = bench.set("a", "new").await;
    let got = bench.get_at("a", &old.version).await.unwrap();
    assert_eq!((got.value.expose(), &got.description), ("old", &old));
    let got = bench.get_at("a", &new.version).await.unwrap();
    assert_eq!((got.value.expose(), &got.description), ("new", &new));
    let pinned = bench.grant(Operation::Describe, "a").at_version(old.version.clone());
    assert_eq!(bench.vault.describe(&pinned).await.unwrap(), old);
    if let Some(operator) = &bench.operator {
        let got = operator.get(&bench.name("a"), Some(&old.version)).await.unwrap();
        assert_eq!(got.value.expose(), "old");
    }
}

async fn version_of_other_secret_is_not_found(bench: Bench) {
    let other = bench.set("a", "of a").await;
    bench.set("b", "of b").await;
    assert_not_found(bench.get_at("b", &other.version).await, &bench.name("b"));
}

async fn versions_are_listed_newest_first(bench: Bench) {
    let mut made = Vec::new();
    for round in 0..4 {
        made.push(bench.set("a", &round.to_string()).await);
    }
    bench.set("b", "of another").await;
    made.reverse();
    let listed = bench.operator().versions(&bench.name("a")).await.unwrap();
    assert_eq!(listed.first(), made.first());
    // Versions that a vault with coarse timestamps created at the same time may be in any order.
    let older = |one: &Description, other: &Description| one.created < other.created;
    assert!(listed.is_sorted_by(|one, other| !older(one, other)), "{listed:?}");
    if made.is_sorted_by(|one, other| older(other, one)) {
        assert_eq!(listed, made);
    }
    let by_name = |mut versions: Vec<Description>| {
        versions.sort_by(|one, other| one.version.cmp(&other.version));
        versions
    };
    assert_eq!(by_name(listed), by_name(made));
}

async fn attributes_are_stored(bench: Bench) {
    let attributes = Attributes {
        content_type: Some("application/json; ä".into()),
        not_before: Some(Timestamp::from_second(1_000_000_000).unwrap()),
        expires: Some(Timestamp::from_second(1_000_000_001).unwrap()),
    };
    let set = bench.operator().set_many(vec![bench.new_secret("a", "{}", attributes.clone())]).await.unwrap();
    assert_eq!(set[0].attributes, attributes);
    // The secret expired long ago and is still returned: the broker enforces validity periods.
    assert_eq!(bench.get("a").await.unwrap().description, set[0]);
    assert_eq!(bench.vault.describe(&bench.grant(Operation::Describe, "a")).await.unwrap(), set[0]);
    assert_eq!(bench.listed().await, set);
}

async fn guest_write_drops_old_attributes(bench: Bench) {
    bench.operator().set_many(vec![bench.new_secret("a", "old", typed("text/plain"))]).await.unwrap();
    let set = bench.set("a", "new").await;
    assert_eq!(set.attributes, Attributes::default());
    assert_eq!(bench.get("a").await.unwrap().description.attributes, Attributes::default());
}

async fn invalid_content_type_is_rejected(bench: Bench) {
    let longest = "ä".repeat(255);
    bench.operator().set_many(vec![bench.new_secret("a", "x", typed(&longest))]).await.unwrap();
    assert_eq!(bench.get("a").await.unwrap().description.attributes.content_type, Some(longest));
    for bad in ["x".repeat(256), "a\nb".into(), "\u{1b}[31m".into(), "\u{9b}31m".into()] {
        let answer = bench.operator().set_many(vec![bench.new_secret("b", "x", typed(&bad))]).await;
        assert!(matches!(answer, Err(VaultError::Invalid(_))), "{bad:?}: {answer:?}");
    }
    assert_not_found(bench.get("b").await, &bench.name("b"));
}

async fn values_are_stored_unchanged(bench: Bench) {
    let long = "ü".repeat(VALUE_MAX / 2);
    for value in ["x", " leading and trailing ", "line\r\nline\n", "{\"a\":\"\\u0000\"}", "\u{1f511}", &long] {
        bench.set("a", value).await;
        assert_eq!(bench.value("a").await, value);
    }
}

async fn batch_results_are_in_order(bench: Bench) {
    let batch = ["c", "a", "b"].map(|name| (bench.grant(Operation::Set, name), secret(&format!("value of {name}"))));
    let set = bench.vault.set_many(&batch).await.unwrap();
    assert_eq!(
        set.iter().map(|set| set.name.clone()).collect::<Vec<_>>(),
        ["c", "a", "b"].map(|name| bench.name(name))
    );
    // The first round reads an uncached batch; in the second, a cache may hold part of it.
    bench.get("a").await.unwrap();
    for _ in 0..2 {
        let grants = ["b", "none", "c", "a"].map(|name| bench.grant(Operation::Get, name));
        let got = bench.vault.get_many(&grants).await.unwrap();
        let got: Vec<_> = got
            .iter()
            .map(|got| got.as_ref().map(|got| got.value.expose().to_owned()).map_err(|missing| *missing))
            .collect();
        let value = |name: &str| Ok(format!("value of {name}"));
        assert_eq!(got, [value("b"), Err(Missing::NotFound), value("c"), value("a")]);
    }
}

async fn empty_batch_does_nothing(bench: Bench) {
    assert!(bench.vault.get_many(&[]).await.unwrap().is_empty());
    assert!(bench.vault.set_many(&[]).await.unwrap().is_empty());
    bench.vault.delete_many(&[]).await.unwrap();
    if let Some(operator) = &bench.operator {
        assert!(operator.set_many(Vec::new()).await.unwrap().is_empty());
    }
}

async fn delete_removes_every_version(bench: Bench) {
    let old = bench.set("a", "old").await;
    bench.set("a", "new").await;
    bench.set("b", "stays").await;
    bench.get("a").await.unwrap();
    bench.vault.delete_many(&[bench.grant(Operation::Delete, "a")]).await.unwrap();
    assert_not_found(bench.get("a").await, &bench.name("a"));
    assert_not_found(bench.get_at("a", &old.version).await, &bench.name("a"));
    assert_eq!(bench.value("b").await, "stays");
    if let Some(operator) = &bench.operator {
        assert_not_found(operator.versions(&bench.name("a")).await, &bench.name("a"));
        operator.delete(&bench.name("b")).await.unwrap();
        assert!(bench.listed().await.is_empty());
    }
}

async fn deleted_name_can_be_set_again(bench: Bench) {
    let old = bench.set("a", "old").await;
    bench.vault.delete_many(&[bench.grant(Operation::Delete, "a")]).await.unwrap();
    let new = bench.set("a", "new").await;
    assert_ne!(old.version, new.version);
    assert_eq!(bench.value("a").await, "new");
    if let Some(operator) = &bench.operator {
        assert_eq!(operator.versions(&bench.name("a")).await.unwrap(), [new]);
    }
}

async fn batch_delete_is_atomic(bench: Bench) {
    for name in ["a", "b"] {
        bench.set(name, name).await;
    }
    let grants = ["a", "none", "b", "nor-this"].map(|name| bench.grant(Operation::Delete, name));
    assert_not_found(bench.vault.delete_many(&grants).await, &bench.name("none"));
    assert_eq!(bench.value("a").await, "a");
    assert_eq!(bench.value("b").await, "b");
    bench.vault.delete_many(&["a", "b"].map(|name| bench.grant(Operation::Delete, name))).await.unwrap();
    assert_not_found(bench.get("a").await, &bench.name("a"));
    assert_not_found(bench.get("b").await, &bench.name("b"));
}

async fn rejected_batch_writes_nothing(bench: Bench) {
    bench.set("a", "old").await;
    let batch = vec![
        bench.new_secret("a", "new", Attributes::default()),
        bench.new_secret("b", "new", typed(&"x".repeat(256))),
    ];
    let answer = bench.operator().set_many(batch).await;
    assert!(matches!(answer, Err(VaultError::Invalid(_))), "{answer:?}");
    assert_eq!(bench.operator().get(&bench.name("a"), None).await.unwrap().value.expose(), "old");
    assert_not_found(bench.operator().get(&bench.name("b"), None).await, &bench.name("b"));
}

async fn guest_lists_only_granted_names(bench: Bench) {
    for name in ["z", "kept", "db-b", "db-a", "db-", "db-own", "other"] {
        bench.set(name, "x").await;
    }
    let texts = ["z", "none", "alias", "kept", "db-own", "gone"].map(|name| bench.text(name));
    let [z, none, alias, kept, own, gone] = texts.each_ref().map(String::as_str);
    let exact = list_of(&[(z, z), (none, none), (alias, kept)], &[]);
    assert!(!exact.needs_paging());
    // Names as the component knows them: `alias`, not the name in the vault.
    assert_eq!(bench.vault.list(&exact).await.unwrap(), [bench.name("alias"), bench.name("z")]);

    // A stored name with two grants gives two names; a name that two grants match gives one.
    let prefix = bench.text("db-");
    let both = list_of(&[(own, gone), (alias, kept)], &[&prefix, &bench.text("db")]);
    let expected = ["alias", "db-", "db-a", "db-b"].map(|name| bench.name(name));
    assert_eq!(bench.vault.list(&both).await.unwrap(), expected);
    assert!(bench.vault.list(&list_of(&[(none, none)], &[])).await.unwrap().is_empty());
}

async fn operator_lists_newest_versions(bench: Bench) {
    bench.set("b", "of b").await;
    bench.set("a", "old").await;
    let newest = bench.set("a", "new").await;
    let listed = bench.listed().await;
    assert_eq!(listed.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), [bench.name("a"), bench.name("b")]);
    assert_eq!(listed[0], newest);
}

async fn dropped_write_is_atomic(bench: Bench) {
    for round in 0..20 {
        let batch = ["a", "b"].map(|name| (bench.grant(Operation::Set, name), secret(&format!("round {round}"))));
        let mut write = bench.vault.set_many(&batch);
        // Start the write, and drop it where it first waits.
        let _ = futures_util::poll!(&mut write);
        drop(write);
        // The write may still happen, be complete or be rolled back, but never in part.
        let grants = ["a", "b"].map(|name| bench.grant(Operation::Get, name));
        let got = bench.vault.get_many(&grants).await.unwrap();
        let got: Vec<_> = got.iter().map(|got| got.as_ref().map(|got| got.value.expose())).collect();
        assert_eq!(got[0], got[1], "both or neither");
    }
}
