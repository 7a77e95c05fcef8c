//! Properties of every policy and every sequence of requests.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;

/// An entry of a random policy.
#[derive(Clone, Debug)]
struct Spec {
    allow: BTreeSet<Operation>,
    max_uses: Option<u64>,
    expires: Option<i64>,
}

/// Entries by key. Keys and names have few letters, so that they match often.
type Model = BTreeMap<String, Spec>;

/// One request of a run. The last field is the time in seconds since 1970.
#[derive(Clone, Debug)]
enum Request {
    Names(Operation, Vec<String>, i64),
    List(i64),
}

fn text(model: &Model) -> String {
    let mut text = "version = 1\n[secrets]\n".to_owned();
    for (key, spec) in model {
        let allow: Vec<String> = spec.allow.iter().map(|operation| format!("\"{operation}\"")).collect();
        text.push_str(&format!("\"{key}\" = {{ allow = [{}]", allow.join(", ")));
        if let Some(max_uses) = spec.max_uses {
            text.push_str(&format!(", max-uses = {max_uses}"));
        }
        if let Some(expires) = spec.expires {
            text.push_str(&format!(", expires = {}", seconds(expires)));
        }
        text.push_str(" }\n");
    }
    text
}

fn run(model: &Model) -> Decisions {
    let text = text(model);
    Decisions::new(Arc::new(Policy::parse(&text, "random").unwrap_or_else(|error| panic!("{error}\n{text}"))))
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn names(texts: &[String]) -> Vec<SecretName> {
    texts.iter().map(|text| name(text)).collect()
}

/// Returns the result of a request: `None` if refused; for a list, the names of the universe that
/// it shows.
fn answer(run: &Decisions, request: &Request) -> Option<BTreeSet<SecretName>> {
    match request {
        Request::Names(operation, texts, time) => {
            run.decide_all(*operation, &names(texts), seconds(*time)).ok().map(|_| BTreeSet::new())
        }
        Request::List(time) => run.decide_list(seconds(*time)).ok().map(|grant| {
            let exact = grant.exact().map(|(_, asked)| asked.clone());
            exact.chain(universe().into_iter().filter(|name| grant.admits(name))).collect()
        }),
    }
}

/// Returns every name of one to three letters that a request can contain.
fn universe() -> BTreeSet<SecretName> {
    let letters = ["", "a", "b", "-"];
    let pairs = letters.into_iter().flat_map(|one| letters.map(|two| format!("{one}{two}")));
    pairs.flat_map(|two| ["a", "b", "-"].map(|three| name(&format!("{two}{three}")))).collect()
}

fn operation() -> impl Strategy<Value = Operation> {
    select(&Operation::ALL)
}

fn spec() -> impl Strategy<Value = Spec> {
    let allow = subsequence(Operation::ALL.to_vec(), 0..=5);
    (allow, prop::option::of(1..6u64), prop::option::of(0..100i64)).prop_map(|(allow, max_uses, expires)| Spec {
        allow: allow.into_iter().collect(),
        max_uses,
        expires,
    })
}

fn model() -> impl Strategy<Value = Model> {
    prop::collection::btree_map("[ab-]{1,3}|[ab-]{1,2}\\*", spec(), 1..8)
}

fn by_name() -> impl Strategy<Value = Request> {
    (operation(), prop::collection::vec("[ab-]{1,3}", 1..4), 0..100i64)
        .prop_map(|(op, names, time)| Request::Names(op, names, time))
}

/// Narrows one entry in one of three ways; `None` if that way does not apply.
fn narrowed(model: &Model, which: Index, way: u8, index: Index) -> Option<Model> {
    let mut narrow = model.clone();
    let key = which.get(&model.keys().collect::<Vec<_>>()).to_string();
    let spec = narrow.get_mut(&key)?;
    match way {
        0 => {
            let removed = *spec.allow.iter().nth(index.index(spec.allow.len().max(1)))?;
            spec.allow.remove(&removed);
        }
        1 => {
            let most = spec.max_uses.unwrap_or(6);
            spec.max_uses = Some(1 + index.index(usize::try_from(most).unwrap()) as u64);
        }
        _ => spec.expires = Some(index.index(usize::try_from(spec.expires.unwrap_or(100)).unwrap() + 1) as i64),
    }
    Some(narrow)
}

/// Changes some letters of a name to upper case.
fn spelled(text: &str, upper: u32) -> String {
    let case = |(i, c): (usize, char)| if upper >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c };
    text.chars().enumerate().map(case).collect()
}

proptest! {
    // promise: An empty policy grants nothing.
    #[test]
    fn empty_policy_never_grants(op in operation(), asked in "[a-zA-Z0-9-]{1,127}", time in any::<i32>(), rest in "(\n|#[a-z]*\n){0,5}") {
        let written = Policy::parse(&format!("version = 1\n{rest}[secrets]\n"), "p").unwrap();
        for policy in [Policy::empty(), written] {
            let run = Decisions::new(Arc::new(policy));
            let (asked, time) = (name(&asked), seconds(i64::from(time)));
            prop_assert_eq!(run.decide(op, &asked, time).unwrap_err().reason, RefusalReason::Denied);
            prop_assert!(run.decide_all(op, std::slice::from_ref(&asked), time).is_err());
            prop_assert!(run.decide_list(time).is_err());
            prop_assert!(!run.policy().explain(op, &asked, time).allowed());
        }
    }

    /// Requests that a narrower policy grants are all granted by the wider policy, in the same
    /// order. (A single decision may differ: a request that is now denied leaves its use for a
    /// later one.)
    #[test]
    fn narrowed_entry_never_grants_more(
        model in model(), which in any::<Index>(), way in 0..3u8, index in any::<Index>(),
        requests in prop::collection::vec(by_name(), 1..30),
    ) {
        let Some(narrow) = narrowed(&model, which, way, index) else { return Ok(()) };
        let run_narrow = self::run(&narrow);
        let granted: Vec<_> = requests.iter().filter(|request| answer(&run_narrow, request).is_some()).collect();
        let run_wide = self::run(&model);
        for request in granted {
            prop_assert!(answer(&run_wide, request).is_some(), "{:?}\n{}\n{}", request, text(&model), text(&narrow));
        }
    }

    /// The same for lists: no list shows an additional name.
    #[test]
    fn narrowed_entry_never_lists_more(
        model in model(), which in any::<Index>(), way in 0..3u8, index in any::<Index>(),
        times in prop::collection::vec(0..100i64, 1..10),
    ) {
        let Some(narrow) = narrowed(&model, which, way, index) else { return Ok(()) };
        let (run_narrow, run_wide) = (self::run(&narrow), self::run(&model));
        for time in times {
            let before = answer(&run_wide, &Request::List(time)).unwrap_or_default();
            let after = answer(&run_narrow, &Request::List(time)).unwrap_or_default();
            prop_assert!(after.is_subset(&before), "{:?} {:?}\n{}\n{}", before, after, text(&model), text(&narrow));
        }
    }

    /// A list shows exactly the names whose deciding entry grants `list`.
    #[test]
    fn list_agrees_with_single_decisions(model in model(), time in 0..100i64) {
        let listed = answer(&self::run(&model), &Request::List(time)).unwrap_or_default();
        let policy = Policy::parse(&text(&model), "p").unwrap();
        for name in universe() {
            let alone = policy.explain(Operation::List, &name, seconds(time)).allowed();
            prop_assert_eq!(listed.contains(&name), alone, "{}\n{}", name, text(&model));
        }
    }

    // promise: All spellings of a secret name are one name, so no spelling bypasses its policy
    // entry.
    #[test]
    fn name_in_any_case_gets_the_same_decision(
        model in model(), upper in any::<u32>(), other in any::<u32>(),
        requests in prop::collection::vec(by_name(), 1..20),
    ) {
        let respelled: Vec<(String, Spec)> = model.iter().map(|(key, spec)| (spelled(key, upper), spec.clone())).collect();
        let respelled: Model = respelled.into_iter().collect();
        let (plain, spelt) = (self::run(&model), self::run(&respelled));
        for request in requests {
            let Request::Names(op, texts, time) = &request else { continue };
            let texts = texts.iter().map(|text| spelled(text, other)).collect();
            let same = Request::Names(*op, texts, *time);
            prop_assert_eq!(answer(&plain, &request), answer(&spelt, &same), "{:?}\n{}", request, text(&respelled));
        }
    }

    /// Recomputes the decision naively: among all matching keys, the exact one or else the longest
    /// decides.
    #[test]
    fn most_specific_entry_decides(model in model(), asked in "[ab-]{1,3}", op in operation()) {
        let matching = |key: &&String| match key.strip_suffix('*') {
            Some(prefix) => asked.len() > prefix.len() && asked.starts_with(prefix),
            None => **key == asked,
        };
        let decisive = model.keys().filter(matching).max_by_key(|key| (!key.ends_with('*'), key.len()));
        let allowed = decisive.is_some_and(|key| model[key].allow.contains(&op));
        let reason = self::run(&model).decide(op, &name(&asked), seconds(-1)).err().map(|refusal| refusal.reason);
        prop_assert_eq!(reason, (!allowed).then_some(RefusalReason::Denied), "{}", text(&model));
    }

    /// A refused batch leaves every budget unchanged; a granted one consumes one use per name.
    // promise: A batch is decided as a whole.
    #[test]
    fn batch_is_granted_or_refused_as_a_whole(
        model in model(), op in operation(),
        batches in prop::collection::vec(prop::collection::vec("[ab-]{1,3}", 0..6), 1..8),
    ) {
        let (batched, single) = (self::run(&model), self::run(&model));
        for batch in batches {
            let batch = names(&batch);
            let time = seconds(50);
            match batched.decide_all(op, &batch, time) {
                Ok(grants) => {
                    prop_assert_eq!(grants.iter().map(|grant| grant.asked().clone()).collect::<Vec<_>>(), batch.clone());
                    for name in &batch {
                        prop_assert!(single.decide(op, name, time).is_ok());
                    }
                }
                Err(refusal) => prop_assert!(batch.contains(refusal.name.as_ref().unwrap())),
            }
            // Both runs have the same remaining budgets.
            prop_assert_eq!(format!("{:?}", remaining(&batched, op)), format!("{:?}", remaining(&single, op)));
        }
    }

    /// The suggested line, in place of the entry with its key, allows the request.
    #[test]
    fn suggested_line_allows_the_request(model in model(), asked in "[ab-]{1,3}", op in operation(), time in 0..200i64) {
        let before = Policy::parse(&text(&model), "p").unwrap();
        let explained = before.explain(op, &name(&asked), seconds(time));
        prop_assert_eq!(explained.would_allow.is_none(), explained.allowed());
        let Some(line) = explained.would_allow else { return Ok(()) };
        let key = line.split(" = ").next().unwrap().trim_matches('"');
        let mut rest = model.clone();
        rest.remove(key);
        let amended = format!("{}{line}\n", text(&rest));
        let after = Policy::parse(&amended, "p").unwrap_or_else(|error| panic!("{error}\n{amended}"));
        prop_assert!(after.explain(op, &name(&asked), seconds(time)).allowed(), "{}", amended);
        // Every request that was allowed is still allowed.
        for other in universe() {
            for op in Operation::ALL {
                let (was, is) = (before.explain(op, &other, seconds(time)), after.explain(op, &other, seconds(time)));
                prop_assert!(is.allowed() || !was.allowed(), "{} {}\n{}", op, other, amended);
            }
        }
    }

    /// No two names lead to one stored secret, whatever `stored-as` says; otherwise a component
    /// could bypass a budget.
    #[test]
    fn stored_secret_is_reached_by_one_name_only(
        entries in prop::collection::btree_map("[ab]{1,2}|[ab]\\*", (any::<bool>(), prop::option::of("[abAB]{1,2}")), 1..6),
    ) {
        let mut text = "version = 1\n[secrets]\n".to_owned();
        for (key, (granted, stored)) in &entries {
            let stored = stored.iter().filter(|_| !key.ends_with('*')).map(|stored| format!(", stored-as = \"{stored}\""));
            text.push_str(&format!("\"{key}\" = {{ allow = [{}]", if *granted { "\"get\"" } else { "" }));
            text.extend(stored);
            text.push_str(" }\n");
        }
        let Ok(policy) = Policy::parse(&text, "p") else { return Ok(()) };
        let mut reached = BTreeSet::new();
        for asked in universe() {
            let explained = policy.explain(Operation::Get, &asked, now());
            if let Some(stored) = explained.stored {
                prop_assert!(reached.insert(stored.clone()), "{} is reached a second time by {}\n{}", stored, asked, text);
            }
            // The suggested line parses, or a comment in it says what else must change.
            if let Some(line) = explained.would_allow {
                let key = line.split(" = ").next().unwrap().trim_matches('"');
                let kept = |other: &&str| !other.starts_with(&format!("\"{key}\" = "));
                let amended: String = text.lines().filter(kept).chain([line.as_str()]).map(|line| format!("{line}\n")).collect();
                prop_assert_eq!(Policy::parse(&amended, "p").is_ok(), !line.contains('#'), "{}", amended);
            }
        }
    }

    #[test]
    fn random_text_never_panics_the_parser(text in "(?s).{0,400}", pieces in prop::collection::vec(piece(), 0..40)) {
        check_text(&text);
        check_text(&pieces.concat());
        check_text(&format!("version = 1\n{}", pieces.concat()));
    }

    #[test]
    fn mutated_policy_never_panics_the_parser(
        edits in prop::collection::vec((any::<Index>(), 0..12usize, piece()), 1..6),
    ) {
        let mut characters: Vec<char> = FULL.chars().collect();
        for (index, removed, piece) in edits {
            let at = index.index(characters.len().max(1)).min(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, piece.chars());
        }
        check_text(&characters.into_iter().collect::<String>());
    }
}

/// Probes what every entry still grants, without consuming uses.
fn remaining(run: &Decisions, op: Operation) -> Vec<Option<RefusalReason>> {
    // A batch that ends in a name without an entry is refused and consumes nothing, but reports the
    // first refused name.
    let nowhere = name("zzz");
    universe()
        .into_iter()
        .flat_map(|name| (1..7).map(move |count| vec![name.clone(); count]))
        .map(|mut batch| {
            batch.push(nowhere.clone());
            let refusal = run.decide_all(op, &batch, seconds(50)).unwrap_err();
            refusal.name.filter(|name| *name != nowhere).map(|_| refusal.reason)
        })
        .collect()
}

/// Parses a text and, if it is a policy, decides and explains. Messages are bounded.
fn check_text(text: &str) {
    match Policy::parse(text, "p") {
        Ok(policy) => {
            let run = Decisions::new(Arc::new(policy));
            let _ = (run.decide(Operation::Get, &name("db-x"), now()), run.decide_list(now()));
            let _ = run.policy().explain(Operation::Set, &name("db-x"), now()).to_string();
        }
        Err(error) => {
            assert!((1..=20).contains(&error.problems().len()));
            let shown = error.to_string();
            assert!(shown.lines().count() <= 21 && shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            assert!(shown.len() < 20_000, "{}", shown.len());
        }
    }
}

/// Fragments of policies, and some that never occur in policies.
fn piece() -> impl Strategy<Value = String> {
    let words: Vec<String> = [
        "version",
        "component",
        "tcp",
        "[secrets]",
        "[environment]",
        "[limits]",
        "[[secrets]]",
        "\n",
        " = ",
        ".",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "\"\"\"",
        "#",
        "allow",
        "max-uses",
        "expires",
        "stored-as",
        "secret-version",
        "\"get\"",
        "\"db-*\"",
        "\"*\"",
        "db-x",
        "memory",
        "\"2GiB\"",
        "time",
        "\"1h\"",
        "requests",
        "1",
        "0",
        "-1",
        "1e400",
        "0x",
        "0xffffffffffffffff",
        "nan",
        "inf",
        "true",
        "2030-12-01T00:00:00Z",
        "2030-12-01T00:00:00",
        "0000-00-00T99:99:99Z",
        "9999-12-31T23:59:60+23:59",
        "1979-05-27",
        "\u{feff}",
        "\\u0000",
        "\\uD800",
        "\0",
        "\u{1b}[2J",
        "\r",
        "ä",
        "\"127.0.0.1:1\"",
        "\"[::1]:1\"",
        "sha256:",
    ]
    .map(String::from)
    .to_vec();
    prop_oneof![4 => select(words), 1 => "(?s).{0,3}"]
}
