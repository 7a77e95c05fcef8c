//! What runs share (the pool of memories, the cache, the compiled code, the audit) tells one run nothing of another: runs in one process, at
//! once and one after the other.

use std::collections::BTreeSet;
use std::io::Read as _;

use strongroom::record::Outcome;

use crate::support::Host;
use crate::support::inside::{Inside, Work};

const VALUE: &str = "LEFT-BEHIND-by-the-run-before-1234567890";

// promise: A staging directory that a run reuses was never modified by an earlier run.
// promise: A run has no access to the state of another run.
// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn a_run_finds_nothing_of_the_one_before_it() {
    let inside = Inside::new(&[("key", VALUE)]);
    let leave = "version = 1\n[secrets]\nkey = [\"get\"]\n[environment]\nMODE = \"leaving\"";
    for _ in 0..5 {
        inside.run("residue", leave, &["leave", "key"]).finished().shows("left");
        // The same component, so that the pool gives it the same memory again where it can.
        let seen = inside.run("residue", "version = 1", &["look", "key"]).finished();
        seen.shows("values: 0\n")
            .shows("bytes: 0\n")
            .shows("files: 0\n")
            .shows("environment: []\n")
            .shows("again: false\n");
    }
}

// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn a_run_that_is_stopped_half_way_leaves_nothing_either() {
    let inside = Inside::new(&[("key", VALUE)]);
    let leave = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\noutput-bytes = \"1B\"";
    for _ in 0..3 {
        let seen = inside.run("residue", leave, &["leave", "key"]);
        assert_eq!(seen.record.outcome, Outcome::Limit);
        inside.run("residue", "version = 1", &["look", "key"]).finished().shows("values: 0\n").shows("bytes: 0\n");
    }
}

// promise: A run has no access to the state of another run.
// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn memory_tables_and_globals_are_as_new_in_every_run() {
    let inside = Inside::new(&[]);
    for _ in 0..20 {
        inside.run("fresh", "version = 1", &[]).finished();
    }
    // And in many at once, which take each other's places.
    let runs: Vec<Work> = (0..60).map(|_| ("fresh", "version = 1".to_owned(), &[][..])).collect();
    for seen in inside.run_all(&runs, 8) {
        seen.finished();
    }
}

// attack: access: use a resource handle that the run was not given -> each run has its own handle
// table
#[test]
fn a_handle_that_was_not_given_is_none() {
    let inside = Inside::new(&[]);
    // Others hold streams at this moment, each in a table of its own.
    let mut runs: Vec<Work> = (0..8)
        .map(|_| ("handles", "version = 1\n[limits]\ntime = \"500ms\"".to_owned(), &["poll", "100"][..]))
        .collect();
    runs.insert(4, ("forge", "version = 1".to_owned(), &[]));
    let seen = inside.run_all(&runs, 9).remove(4);
    assert_eq!(seen.record.outcome, Outcome::Failed);
    let reason = seen.record.reason.unwrap();
    assert!(reason.contains("handle"), "{reason}");
}

// promise: The host identifies a run by its engine store, never by what the component says.
// attack: leak: see the values of a simultaneous run -> budgets, versions, redactor and names
// belong to one run
#[test]
fn runs_at_once_in_one_process_see_only_their_own() {
    let secrets: Vec<(String, String)> =
        (0..8).map(|n| (format!("key-{n}"), format!("value-of-run-{n}-only"))).collect();
    let borrowed: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let inside = Inside::new(&borrowed);
    const ASK: &[&str] = &[
        "len=key-0",
        "len=key-1",
        "len=key-2",
        "len=key-3",
        "len=key-4",
        "len=key-5",
        "len=key-6",
        "len=key-7",
        "list",
    ];
    let policy = |n: usize| format!("version = 1\n[secrets]\nkey-{n} = [\"get\", \"list\"]");
    let runs: Vec<Work> = (0..64).map(|run| ("exercise", policy(run % 8), ASK)).collect();
    let mut identities = BTreeSet::new();
    for (run, seen) in inside.run_all(&runs, 8).into_iter().enumerate() {
        let seen = seen.finished();
        assert!(identities.insert(seen.record.id.to_string()));
        for n in 0..8 {
            let granted = seen.shown.contains(&format!("len key-{n}: ok: 19"));
            let denied = seen.shown.contains(&format!("len key-{n}: error: denied: key-{n}"));
            assert_eq!((granted, denied), (n == run % 8, n != run % 8), "run {run}:\n{}", seen.shown);
        }
        let own = run % 8;
        assert!(seen.shown.contains(&format!("list : ok: [\"key-{own}\"]")), "{}", seen.shown);
        assert!(!seen.shown.contains("value-of-run"), "{}", seen.shown);
        assert_eq!(seen.record.secrets.len(), 9, "{:?}", seen.record.secrets);
    }
}

// promise: The reply for a name that is not granted does not depend on whether the secret exists,
// and neither the cache nor the vault is asked.
// attack: access: use a secret that was not granted, or learn whether it exists from the reply or
// its timing -> the policy decides before the cache and the vault, which are not asked, and the
// reply is the same in both cases
#[test]
fn a_name_not_granted_is_answered_alike_in_every_form_operation_and_batch_and_nothing_is_asked() {
    const GIVEN: &str = "given to everybody";
    let inside = Inside::new(&[("sky-key", VALUE), ("ski-kit", "of no interest to anybody"), ("granted", GIVEN)]);
    inside.run("exercise", "version = 1\n[secrets]\nsky-key = [\"get\"]", &["len=sky-key"]).finished();
    let before = inside.asked.so_far();
    assert_eq!(before, (1, 1));
    // One in the cache, one in the vault alone, two nowhere. Without a grant there is no contact: so no difference in time either.
    let names = ["sky-key", "ski-kit", "sock", "sack"];
    let all = "[\"get\", \"set\", \"describe\", \"delete\"]";
    let long = "x".repeat(127);
    let denied: String = names.iter().chain([&long.as_str()]).map(|name| format!("{name} = []\n")).collect();
    // Nothing granted; another name; every name but these; what begins with them.
    let policies = [
        ("", "version = 1".to_owned()),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}")),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}\n\"s*\" = {all}\n\"x*\" = {all}\n{denied}")),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}\n\"sky-key-*\" = {all}\n\"ski-kit-*\" = {all}")),
    ];
    for (granted, policy) in &policies {
        let mut seen = None;
        for name in names {
            let args: &[&str] = if granted.is_empty() { &[name] } else { &[name, granted] };
            let run = inside.run("spell", policy, args).finished();
            assert_eq!(inside.asked.so_far(), before, "`{name}`: the cache or the vault was asked\n{policy}");
            let answers: Vec<_> = run.shown.lines().map(|line| nameless(line, name)).collect();
            // 23 spellings, 7 operations, and where a name is granted 6 batches with it; and the list.
            assert_eq!(answers.len(), 23 * if granted.is_empty() { 7 } else { 13 } + 1, "{}", run.shown);
            assert!(answers.iter().all(|line| line.contains(": error: ")), "{}", run.shown);
            // To the letter, but for the name itself.
            let first = seen.get_or_insert_with(|| answers.clone());
            assert_eq!(&answers, first, "{policy}");
        }
    }
    for (name, value) in [("sky-key", VALUE), ("ski-kit", "of no interest to anybody"), ("granted", GIVEN)] {
        let policy = format!("version = 1\n[secrets]\n{name} = [\"get\"]");
        let length = format!("len {name}: ok: {}", value.len());
        inside.run("exercise", &policy, &[&format!("len={name}")]).finished().shows(&length);
    }
}

/// An answer without the name that it was about, in whatever case.
fn nameless(line: &str, name: &str) -> String {
    let name = name.to_lowercase();
    let folded = line.to_lowercase();
    // What stands for a letter of the name differs from name to name: the place is told by what follows.
    let (asked, answer) = folded.split_once("\": ").unwrap_or(("list", &folded));
    let operation = asked.split(' ').next().unwrap_or_default();
    format!("{operation}: {}", answer.replace(&name, "NAME"))
}

// attack: escape: read what another run is writing -> each run has a private staging directory
#[test]
fn the_outputs_of_another_run_are_out_of_reach() {
    let host = Host::new();
    // One run stands still with a file in its private folder, while another looks around beside it.
    let mut other = host.start("sleep", "version = 1", &["--output", "theirs"], &["what the other run has made"]);
    let mut said = [0; 8];
    other.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"sleeping");
    let staged: Vec<_> = std::fs::read_dir(host.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("private").exists())
        .collect();
    let [folder] = staged.as_slice() else { panic!("where is its folder? {staged:?}") };
    let name = folder.file_name().unwrap().to_string_lossy();
    let paths = [
        format!("/output/../{name}/private"),
        format!("../{name}/private"),
        folder.join("private").display().to_string(),
    ];
    let run =
        host.run_with("escape", "version = 1", &["--output", "out"], &paths.each_ref().map(String::as_str)).finished();
    for path in &paths {
        for way in ["read", "write", "list"] {
            assert!(run.shown.contains(&format!("{way} {path}: ")), "{}", run.shown);
            assert!(!run.shown.contains(&format!("{way} {path}: DONE")), "{}", run.shown);
        }
    }
    assert_eq!(std::fs::read_to_string(folder.join("private")).unwrap(), "what the other run has made");
    other.kill().unwrap();
    other.wait().unwrap();
}
