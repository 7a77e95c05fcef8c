//! Rules over the source that no compiler checks: the layers, who exposes a value, where `unsafe` and the environment are, and that every guest
//! has a test.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{files_below, project};

/// The rooms from the bottom up. A room uses rooms of lower layers, and those of its own layer only where `SAME_LAYER` says so.
const LAYERS: &[&[&str]] = &[
    &["ids", "secret", "redact", "process"],
    &["policy", "spec", "record"],
    &["audit", "vault", "runs"],
    &["broker"],
    &["runtime"],
    &["runner"],
    &["config", "cli"],
];

const SAME_LAYER: &[(&str, &str)] = &[
    // What is redacted is a secret, under its name; a record and a specification name digests.
    ("redact", "ids"),
    ("redact", "secret"),
    ("cli", "config"),
];

/// Rooms that a room may not use although they are lower.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("runtime", "audit", "the sandbox reaches the trail through the broker alone"),
    ("config", "runtime", "settings are read without an engine"),
];

fn layer(room: &str) -> usize {
    LAYERS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("`{room}` is in no layer: add it to the table"))
}

/// The room of a source file: the first part of its path.
fn room(source: &Path, file: &Path) -> String {
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

/// Source without comments and without what is compiled for tests alone.
fn code(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => text,
    };
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test_file(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_string_lossy();
    file.components().any(|part| part.as_os_str() == "tests")
        || name == "tests"
        || name == "cases"
        || name.ends_with("_tests")
}

fn sources() -> Vec<(String, std::path::PathBuf, String)> {
    let source = project().join("host/src");
    files_below(&source)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "rs") && !is_test_file(file))
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (room(&source, &file), file, code(&text))
        })
        .collect()
}

fn uses(code: &str, room: &str) -> bool {
    code.contains(&format!("crate::{room}::"))
        || code.contains(&format!("use crate::{room};"))
        || code.contains(&format!("use crate::{room} as"))
}

#[test]
fn a_room_uses_lower_rooms_only() {
    let rooms: Vec<&str> = LAYERS.iter().flat_map(|rooms| rooms.iter().copied()).collect();
    let mut checked = 0;
    for (from, file, code) in sources() {
        if from == "lib" || from == "main" {
            continue;
        }
        assert!(
            !code.contains("use crate::{"),
            "{}: name each room in a `use` of its own, so that this test sees it",
            file.display()
        );
        for to in rooms.iter().filter(|to| **to != from && uses(&code, to)) {
            checked += 1;
            let allowed = layer(&from) > layer(to) || SAME_LAYER.contains(&(from.as_str(), to));
            assert!(allowed, "{}: `{from}` uses `{to}`, which is no lower room", file.display());
            let forbidden = FORBIDDEN.iter().find(|(a, b, _)| *a == from && b == to);
            assert!(forbidden.is_none(), "{}: {forbidden:?}", file.display());
        }
    }
    assert!(checked > 30, "only {checked} uses seen: does this test still understand the source?");
}

#[test]
fn wasmtime_stays_in_the_runtime() {
    for (room, file, code) in sources() {
        assert!(room == "runtime" || !code.contains("wasmtime"), "{} names wasmtime", file.display());
    }
}

#[test]
fn the_sdk_of_azure_stays_in_its_room() {
    for (_, file, code) in sources() {
        let is_there = file.starts_with(project().join("host/src/vault/azure"));
        for name in ["azure_core", "azure_identity", "azure_security", "reqwest"] {
            assert!(is_there || !code.contains(name), "{} names `{name}`", file.display());
        }
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    for (room, file, code) in sources() {
        let reads = ["env::var", "env::vars", "env::home_dir"].iter().any(|call| code.contains(call));
        assert!(room == "config" || !reads, "{} reads the environment", file.display());
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let with: BTreeSet<_> =
        sources().into_iter().filter(|(_, _, code)| code.contains("unsafe ")).map(|(_, file, _)| file).collect();
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with.first().unwrap().starts_with(project().join("host/src/runtime/store")), "{with:?}");
}

// promise: Every place in the source that exposes a secret value is listed with a reason.
#[test]
fn the_callers_of_expose_are_known() {
    let source = project().join("host/src");
    let callers: BTreeSet<_> = sources()
        .into_iter()
        .filter(|(_, _, code)| code.contains(".expose()") || code.contains(".expose_shared()"))
        .map(|(_, file, _)| file.strip_prefix(&source).unwrap().to_string_lossy().into_owned())
        .collect();
    let known: BTreeSet<_> = KNOWN_CALLERS.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(
        callers, known,
        "a value is exposed somewhere new, or no longer: the list has to say why each place may"
    );
}

/// Where a value leaves its wrapper, and why.
const KNOWN_CALLERS: &[(&str, &str)] = &[
    ("cli/value.rs", "the operator asked to see it"),
    ("redact/mod.rs", "its encodings are searched for"),
    ("runtime/training.rs", "it is handed to the component that the policy grants it to"),
    ("vault/azure/wire.rs", "it is sent to the vault"),
    ("vault/local/seal.rs", "it is encrypted"),
];

#[test]
fn a_grant_is_made_in_the_policy_alone() {
    for (room, file, code) in sources() {
        let makes = code.contains("Grant::new(") || code.contains("Grant {") && code.contains("impl Grant {");
        assert!(room == "policy" || !makes, "{} makes a grant", file.display());
    }
}

#[test]
fn every_guest_has_a_test() {
    let guests = project().join("tests/guests/src/bin");
    let tests: String = files_below(&project().join("tests"))
        .into_iter()
        .filter(|file| {
            file.extension().is_some_and(|end| end == "rs") && !file.starts_with(project().join("tests/guests"))
        })
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let mut count = 0;
    for guest in files_below(&guests).into_iter().chain(files_below(&project().join("tests/guests/wat"))) {
        let name = guest.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(tests.contains(&format!("\"{name}\"")), "the guest `{name}` has no test");
        count += 1;
    }
    assert!(count > 10, "only {count} guests found");
}

#[test]
fn every_case_of_redaction_names_a_test_that_exists() {
    let sources: String = files_below(&project().join("host/src"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let text = std::fs::read_to_string(project().join("docs/redaction.md")).unwrap();
    let (_, cases) = text.split_once("\n## Cases").unwrap();
    let (cases, _) = cases.split_once("\n## ").unwrap();
    let mut count = 0;
    for row in cases.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "docs/redaction.md names `{name}`, which is not there");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} cases seen");
}

#[test]
fn the_licences_of_dependencies_are_known() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(project())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        // One way out has to be allowed whole.
        let plain = licence.replace(['(', ')'], " ").replace('/', " OR ");
        let allowed = plain.split(" OR ").any(|way| way.split(" AND ").all(|one| LICENCES.contains(&one.trim())));
        assert!(
            allowed,
            "{} has the licence `{licence}`: decide whether the project may depend on it",
            package["name"]
        );
    }
}

/// Licences that may be in the program.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "0BSD",
];
