//! State shared between runs (memory pool, cache, compiled code, audit log) gives a run no
//! information about another: runs in one process, concurrent and in sequence.

use std::collections::BTreeSet;
use std::io::Read as _;

use strongroom::record::Outcome;

use crate::support::Host;
use crate::support::in_process::{InProcessHost, RunRequest};

const VALUE: &str = "LEFT-BEHIND-by-the-run-before-1234567890";

// promise: A staging directory that a run reuses was never modified by an earlier run.
// promise: A run has no access to the state of another run.
// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn run_finds_no_data_of_an_earlier_run() {
    let host = InProcessHost::new(&[("key", VALUE)]);
    let leave = "version = 1\n[secrets]\nkey = [\"get\"]\n[environment]\nMODE = \"leaving\"";
    for _ in 0..5 {
        host.run("residue", leave, &["leave", "key"]).finished().shows("left");
        // The same component, so that the pool reuses its memory if possible.
        let run = host.run("residue", "version = 1", &["look", "key"]).finished();
        run.shows("values: 0\n")
            .shows("bytes: 0\n")
            .shows("files: 0\n")
            .shows("environment: []\n")
            .shows("again: false\n");
    }
}

// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn run_finds_no_data_of_an_earlier_stopped_run() {
    let host = InProcessHost::new(&[("key", VALUE)]);
    let leave = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\noutput-bytes = \"1B\"";
    for _ in 0..3 {
        let run = host.run("residue", leave, &["leave", "key"]);
        assert_eq!(run.record.outcome, Outcome::Limit);
        host.run("residue", "version = 1", &["look", "key"]).finished().shows("values: 0\n").shows("bytes: 0\n");
    }
}

// promise: A run has no access to the state of another run.
// attack: leak: find data of an earlier run in memory, tables, globals, files or the environment ->
// all of these are new in every run, and only a staging directory that was never modified is reused
#[test]
fn memory_tables_and_globals_are_new_in_every_run() {
    let host = InProcessHost::new(&[]);
    for _ in 0..20 {
        host.run("fresh", "version = 1", &[]).finished();
    }
    // Concurrent runs, which reuse each other's memory slots.
    let runs: Vec<RunRequest> = (0..60).map(|_| ("fresh", "version = 1".to_owned(), &[][..])).collect();
    for run in host.run_all(&runs, 8) {
        run.finished();
    }
}

// attack: access: use a resource handle that the run was not given -> each run has its own handle
// table
#[test]
fn forged_resource_handle_fails() {
    let host = InProcessHost::new(&[]);
    // At the same time other runs hold streams, each in its own table.
    let mut runs: Vec<RunRequest> = (0..8)
        .map(|_| ("handles", "version = 1\n[limits]\ntime = \"500ms\"".to_owned(), &["poll", "100"][..]))
        .collect();
    runs.insert(4, ("forge", "version = 1".to_owned(), &[]));
    let run = host.run_all(&runs, 9).remove(4);
    assert_eq!(run.record.outcome, Outcome::Failed);
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("handle"), "{reason}");
}

// promise: The host identifies a run by its engine store, never by what the component says.
// attack: leak: see the values of a simultaneous run -> budgets, versions, redactor and names
// belong to one run
#[test]
fn concurrent_runs_in_one_process_see_only_their_secrets() {
    let secrets: Vec<(String, String)> =
        (0..8).map(|n| (format!("key-{n}"), format!("value-of-run-{n}-only"))).collect();
    let borrowed: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let host = InProcessHost::new(&borrowed);
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
    let runs: Vec<RunRequest> = (0..64).map(|run| ("exercise", policy(run % 8), ASK)).collect();
    let mut identities = BTreeSet::new();
    for (index, run) in host.run_all(&runs, 8).into_iter().enumerate() {
        let run = run.finished();
        assert!(identities.insert(run.record.id.to_string()));
        for n in 0..8 {
            let granted = run.shown.contains(&format!("len key-{n}: ok: 19"));
            let denied = run.shown.contains(&format!("len key-{n}: error: denied: key-{n}"));
            assert_eq!((granted, denied), (n == index % 8, n != index % 8), "run {index}:\n{}", run.shown);
        }
        let own = index % 8;
        assert!(run.shown.contains(&format!("list : ok: [\"key-{own}\"]")), "{}", run.shown);
        assert!(!run.shown.contains("value-of-run"), "{}", run.shown);
        assert_eq!(run.record.secrets.len(), 9, "{:?}", run.record.secrets);
    }
}

// promise: The reply for a name that is not granted does not depend on whether the secret exists,
// and neither the cache nor the vault is asked.
// attack: access: use a secret that was not granted, or learn whether it exists from the reply or
// its timing -> the policy decides before the cache and the vault, which are not asked, and the
// reply is the same in both cases
#[test]
fn ungranted_name_gets_the_same_answer_if_it_exists_or_not() {
    const GIVEN: &str = "given to everybody";
    let host = InProcessHost::new(&[("sky-key", VALUE), ("ski-kit", "of no interest to anybody"), ("granted", GIVEN)]);
    host.run("exercise", "version = 1\n[secrets]\nsky-key = [\"get\"]", &["len=sky-key"]).finished();
    let before = host.vault_calls.counts();
    assert_eq!(before, (1, 1));
    // One name is cached, one is only in the vault, two do not exist. Denied requests reach
    // neither, so their timing does not differ either.
    let names = ["sky-key", "ski-kit", "sock", "sack"];
    let all = "[\"get\", \"set\", \"describe\", \"delete\"]";
    let long = "x".repeat(127);
    let denied: String = names.iter().chain([&long.as_str()]).map(|name| format!("{name} = []\n")).collect();
    // No grants; another name; all names but these; prefixes that start with these names.
    let policies = [
        ("", "version = 1".to_owned()),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}")),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}\n\"s*\" = {all}\n\"x*\" = {all}\n{denied}")),
        ("granted", format!("version = 1\n[secrets]\ngranted = {all}\n\"sky-key-*\" = {all}\n\"ski-kit-*\" = {all}")),
    ];
    for (granted, policy) in &policies {
        let mut expected = None;
        for name in names {
            let args: &[&str] = if granted.is_empty() { &[name] } else { &[name, granted] };
            let run = host.run("spell", policy, args).finished();
            assert_eq!(host.vault_calls.counts(), before, "`{name}`: the cache or the vault was asked\n{policy}");
            let answers: Vec<_> = run.shown.lines().map(|line| without_name(line, name)).collect();
            // 23 spellings with 7 operations each, 6 batches each if another name is granted, and
            // one list.
            assert_eq!(answers.len(), 23 * if granted.is_empty() { 7 } else { 13 } + 1, "{}", run.shown);
            assert!(answers.iter().all(|line| line.contains(": error: ")), "{}", run.shown);
            // Identical except for the name.
            let first = expected.get_or_insert_with(|| answers.clone());
            assert_eq!(&answers, first, "{policy}");
        }
    }
    for (name, value) in [("sky-key", VALUE), ("ski-kit", "of no interest to anybody"), ("granted", GIVEN)] {
        let policy = format!("version = 1\n[secrets]\n{name} = [\"get\"]");
        let length = format!("len {name}: ok: {}", value.len());
        host.run("exercise", &policy, &[&format!("len={name}")]).finished().shows(&length);
    }
}

/// Removes the name, in any case, from an answer.
fn without_name(line: &str, name: &str) -> String {
    let name = name.to_lowercase();
    let folded = line.to_lowercase();
    // The requested spelling differs between names, so only the operation before it and the answer
    // after it are kept.
    let (request, answer) = folded.split_once("\": ").unwrap_or(("list", &folded));
    let operation = request.split(' ').next().unwrap_or_default();
    format!("{operation}: {}", answer.replace(&name, "NAME"))
}

// attack: escape: read what another run is writing -> each run has a private staging directory
#[test]
fn outputs_of_another_run_are_unreachable() {
    let host = Host::new();
    // One run sleeps with a file in its staging directory, while another explores its surroundings.
    let mut other = host.start("sleep", "version = 1", &["--output", "theirs"], &["what the other run has made"]);
    let mut printed = [0; 8];
    other.stderr.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"sleeping");
    let staged: Vec<_> = std::fs::read_dir(host.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("private").exists())
        .collect();
    let [folder] = staged.as_slice() else { panic!("not one staging directory: {staged:?}") };
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
