//! The common list of test cases: what every vault does alike. A case names the abilities that it needs, and a vault runs all
//! cases that its abilities allow. With the feature `vault-cases` a vault that is not of this crate can be held against it too.
//!
//! A case uses names of its own, so that it runs against a vault that holds other secrets, or that keeps deleted names. It asks as a run does,
//! with grants that a policy made, and panics where the vault does not answer as it should.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "cases of a test fail by panicking"
)]

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError};
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::{Secret, VALUE_MAX};
use strongroom_policy::{Decisions, Grant, ListGrant, Operation, Policy};

/// The vault under test, on both paths, and a prefix for the names of one case.
#[derive(Clone)]
struct Bench {
    vault: Arc<dyn Vault>,
    /// None where only the guest-facing path is tested.
    operator: Option<Arc<dyn Operator>>,
    prefix: String,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a case may need.
#[derive(Clone, Copy)]
struct Able {
    vault: Abilities,
    operator: bool,
}

struct Case {
    name: &'static str,
    needs: fn(Able) -> bool,
    run: fn(Bench) -> Running,
}

/// Runs every case that the vault's abilities allow, on both paths. `unique` sets the names apart from those of another time. Answers the names of
/// the cases that ran.
///
/// # Panics
/// Where the vault does not do what the case asks of it.
pub async fn run_all(vault: Arc<dyn Vault>, operator: Arc<dyn Operator>, unique: &str) -> Vec<&'static str> {
    run(vault, Some(operator), unique).await
}

/// Runs the cases that need no [`Operator`], for a vault that is filled in some other way than by this crate's command line.
///
/// # Panics
/// As [`run_all`].
pub async fn run_guest_path(vault: Arc<dyn Vault>, unique: &str) -> Vec<&'static str> {
    run(vault, None, unique).await
}

async fn run(vault: Arc<dyn Vault>, operator: Option<Arc<dyn Operator>>, unique: &str) -> Vec<&'static str> {
    let able = Able { vault: vault.abilities(), operator: operator.is_some() };
    let mut ran = Vec::new();
    for case in CASES.iter().filter(|case| (case.needs)(able)) {
        // Shown where a case fails: the panic does not name it.
        eprintln!("case: {}", case.name);
        let prefix = format!("{unique}-{}", case.name.replace('_', "-"));
        (case.run)(Bench { vault: Arc::clone(&vault), operator: operator.clone(), prefix }).await;
        ran.push(case.name);
    }
    ran
}

/// How many cases there are.
pub fn count() -> usize {
    CASES.len()
}

macro_rules! cases {
    ($($name:ident needs $needs:expr;)*) => {
        const CASES: &[Case] = &[$(Case { name: stringify!($name), needs: $needs, run: |bench| Box::pin($name(bench)) }),*];
    };
}

cases! {
    what_is_set_is_got needs |_| true;
    what_is_not_there_is_not_found needs |_| true;
    the_newest_version_is_got needs |_| true;
    an_old_version_is_got_by_its_name needs |able| able.vault.versions;
    a_version_belongs_to_its_secret needs |able| able.vault.versions;
    versions_are_listed_newest_first needs |able| able.vault.versions && able.operator;
    attributes_come_back needs |able| able.operator;
    a_guest_keeps_no_attributes_of_the_old_version needs |able| able.operator;
    a_content_type_has_limits needs |able| able.operator;
    values_come_back_whole needs |_| true;
    a_batch_answers_in_order needs |_| true;
    an_empty_batch_is_nothing needs |_| true;
    deleting_takes_every_version needs |_| true;
    a_deleted_name_can_be_set_again needs |able| !able.vault.soft_delete;
    a_batch_deletes_all_or_nothing needs |able| able.vault.transactions;
    a_refused_batch_writes_nothing needs |able| able.operator;
    a_guest_lists_what_the_grant_admits needs |_| true;
    an_operator_lists_the_newest needs |able| able.operator;
    a_dropped_write_is_done_or_undone needs |able| able.vault.transactions;
}

/// What a policy with these entries of `[secrets]` decides.
fn decisions(entries: &str) -> Decisions {
    let policy = Policy::parse(&format!("version = 1\n[secrets]\n{entries}"), "cases");
    Decisions::new(Arc::new(policy.expect("a case writes its policy rightly")))
}

/// A grant for one operation on one name, from a policy that allows just that. For tests of a vault.
///
/// # Panics
/// Where `name` is not a valid name of a secret.
pub fn grant(operation: Operation, name: &str) -> Grant {
    let decisions = decisions(&format!("{name} = [\"{operation}\"]"));
    let name = SecretName::parse(name).expect("a test names its secret rightly");
    decisions.decide(operation, &name, Timestamp::UNIX_EPOCH).expect("the entry grants it")
}

/// A grant to list names, from a policy with these entries of `[secrets]`, one a line. For tests of a vault.
///
/// # Panics
/// Where the entries are not valid, or do not grant `list`.
pub fn list_grant(entries: &str) -> ListGrant {
    decisions(entries).decide_list(Timestamp::UNIX_EPOCH).expect("the entries grant `list`")
}

/// A grant to list names, as the component and as the vault knows them, and prefixes without their `*`.
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

    /// For cases that need one.
    fn operator(&self) -> &dyn Operator {
        self.operator.as_deref().expect("the case said that it needs an operator")
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

    /// The operator's list without the secrets of other cases.
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

async fn what_is_set_is_got(bench: Bench) {
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

async fn what_is_not_there_is_not_found(bench: Bench) {
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
    assert_eq!(bench.value("a").await, "there", "what was missed before is seen once it is set");
}

async fn the_newest_version_is_got(bench: Bench) {
    let mut seen = Vec::new();
    for round in 0..5 {
        let set = bench.set("a", &format!("value {round}")).await;
        assert_eq!(bench.get("a").await.unwrap().description, set);
        assert_eq!(bench.value("a").await, format!("value {round}"));
        assert!(!seen.contains(&set.version), "a version is named once");
        seen.push(set.version);
    }
    // Twice in one batch: in order.
    let batch =
        vec![(bench.grant(Operation::Set, "a"), secret("first")), (bench.grant(Operation::Set, "a"), secret("second"))];
    bench.vault.set_many(&batch).await.unwrap();
    assert_eq!(bench.value("a").await, "second");
}

async fn an_old_version_is_got_by_its_name(bench: Bench) {
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

async fn a_version_belongs_to_its_secret(bench: Bench) {
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
    // Of versions that a vault with coarse times made in one moment, it cannot say which came first.
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

async fn attributes_come_back(bench: Bench) {
    let attributes = Attributes {
        content_type: Some("application/json; ä".into()),
        not_before: Some(Timestamp::from_second(1_000_000_000).unwrap()),
        expires: Some(Timestamp::from_second(1_000_000_001).unwrap()),
    };
    let set = bench.operator().set_many(vec![bench.new_secret("a", "{}", attributes.clone())]).await.unwrap();
    assert_eq!(set[0].attributes, attributes);
    // Expired long ago, and served: keeping times is the broker's part.
    assert_eq!(bench.get("a").await.unwrap().description, set[0]);
    assert_eq!(bench.vault.describe(&bench.grant(Operation::Describe, "a")).await.unwrap(), set[0]);
    assert_eq!(bench.listed().await, set);
}

async fn a_guest_keeps_no_attributes_of_the_old_version(bench: Bench) {
    bench.operator().set_many(vec![bench.new_secret("a", "old", typed("text/plain"))]).await.unwrap();
    let set = bench.set("a", "new").await;
    assert_eq!(set.attributes, Attributes::default());
    assert_eq!(bench.get("a").await.unwrap().description.attributes, Attributes::default());
}

async fn a_content_type_has_limits(bench: Bench) {
    let longest = "ä".repeat(255);
    bench.operator().set_many(vec![bench.new_secret("a", "x", typed(&longest))]).await.unwrap();
    assert_eq!(bench.get("a").await.unwrap().description.attributes.content_type, Some(longest));
    for bad in ["x".repeat(256), "a\nb".into(), "\u{1b}[31m".into(), "\u{9b}31m".into()] {
        let answer = bench.operator().set_many(vec![bench.new_secret("b", "x", typed(&bad))]).await;
        assert!(matches!(answer, Err(VaultError::Invalid(_))), "{bad:?}: {answer:?}");
    }
    assert_not_found(bench.get("b").await, &bench.name("b"));
}

async fn values_come_back_whole(bench: Bench) {
    let long = "ü".repeat(VALUE_MAX / 2);
    for value in ["x", " leading and trailing ", "line\r\nline\n", "{\"a\":\"\\u0000\"}", "\u{1f511}", &long] {
        bench.set("a", value).await;
        assert_eq!(bench.value("a").await, value);
    }
}

async fn a_batch_answers_in_order(bench: Bench) {
    let batch = ["c", "a", "b"].map(|name| (bench.grant(Operation::Set, name), secret(&format!("value of {name}"))));
    let set = bench.vault.set_many(&batch).await.unwrap();
    assert_eq!(
        set.iter().map(|set| set.name.clone()).collect::<Vec<_>>(),
        ["c", "a", "b"].map(|name| bench.name(name))
    );
    // Once as a whole, and once more, where a cache may hold a part.
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

async fn an_empty_batch_is_nothing(bench: Bench) {
    assert!(bench.vault.get_many(&[]).await.unwrap().is_empty());
    assert!(bench.vault.set_many(&[]).await.unwrap().is_empty());
    bench.vault.delete_many(&[]).await.unwrap();
    if let Some(operator) = &bench.operator {
        assert!(operator.set_many(Vec::new()).await.unwrap().is_empty());
    }
}

async fn deleting_takes_every_version(bench: Bench) {
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

async fn a_deleted_name_can_be_set_again(bench: Bench) {
    let old = bench.set("a", "old").await;
    bench.vault.delete_many(&[bench.grant(Operation::Delete, "a")]).await.unwrap();
    let new = bench.set("a", "new").await;
    assert_ne!(old.version, new.version);
    assert_eq!(bench.value("a").await, "new");
    if let Some(operator) = &bench.operator {
        assert_eq!(operator.versions(&bench.name("a")).await.unwrap(), [new]);
    }
}

async fn a_batch_deletes_all_or_nothing(bench: Bench) {
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

async fn a_refused_batch_writes_nothing(bench: Bench) {
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

async fn a_guest_lists_what_the_grant_admits(bench: Bench) {
    for name in ["z", "kept", "db-b", "db-a", "db-", "db-own", "other"] {
        bench.set(name, "x").await;
    }
    let texts = ["z", "none", "alias", "kept", "db-own", "gone"].map(|name| bench.text(name));
    let [z, none, alias, kept, own, gone] = texts.each_ref().map(String::as_str);
    let exact = list_of(&[(z, z), (none, none), (alias, kept)], &[]);
    assert!(!exact.needs_paging());
    // As the component knows them: `alias`, and not the name in the vault.
    assert_eq!(bench.vault.list(&exact).await.unwrap(), [bench.name("alias"), bench.name("z")]);

    // One stored name on two ways is two names of the component's; one name on two ways is one.
    let prefix = bench.text("db-");
    let both = list_of(&[(own, gone), (alias, kept)], &[&prefix, &bench.text("db")]);
    let expected = ["alias", "db-", "db-a", "db-b"].map(|name| bench.name(name));
    assert_eq!(bench.vault.list(&both).await.unwrap(), expected);
    assert!(bench.vault.list(&list_of(&[(none, none)], &[])).await.unwrap().is_empty());
}

async fn an_operator_lists_the_newest(bench: Bench) {
    bench.set("b", "of b").await;
    bench.set("a", "old").await;
    let newest = bench.set("a", "new").await;
    let listed = bench.listed().await;
    assert_eq!(listed.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), [bench.name("a"), bench.name("b")]);
    assert_eq!(listed[0], newest);
}

async fn a_dropped_write_is_done_or_undone(bench: Bench) {
    for round in 0..20 {
        let batch = ["a", "b"].map(|name| (bench.grant(Operation::Set, name), secret(&format!("round {round}"))));
        let mut write = bench.vault.set_many(&batch);
        // Begun, and cut off where it first waits.
        let _ = futures_util::poll!(&mut write);
        drop(write);
        // Whether it is still to come, done or undone: never one half of it.
        let grants = ["a", "b"].map(|name| bench.grant(Operation::Get, name));
        let got = bench.vault.get_many(&grants).await.unwrap();
        let got: Vec<_> = got.iter().map(|got| got.as_ref().map(|got| got.value.expose())).collect();
        assert_eq!(got[0], got[1], "both or neither");
    }
}
